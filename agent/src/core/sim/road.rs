//! A closed road: waypoints on the globe, rounded corners, and how fast each metre may be driven.

use std::f64::consts::{PI, TAU};

/// Mean radius of the Earth, in metres (IUGG).
const EARTH_RADIUS: f64 = 6_371_008.8;

/// Distance between two samples of the road, in metres: a corner of 12 m radius turns 10 degrees in it.
const STEP: f64 = 2.0;

/// Lateral acceleration that passengers find calm, in m/s2.
const CALM_LATERAL: f64 = 1.8;

/// Braking that passengers find calm, in m/s2; corners and lights are approached with it.
pub(super) const CALM_BRAKING: f64 = 1.6;

/// Sharpest corner, in metres of radius: what a car of 2.8 m wheelbase drives with its wheels at 14 degrees.
const CORNER_RADIUS: f64 = 14.0;

/// A point in the plane, in metres: east and north of the road's origin.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Point {
    /// Metres east.
    pub east: f64,
    /// Metres north.
    pub north: f64,
}

impl Point {
    pub(super) fn minus(self, other: Self) -> Self {
        Self { east: self.east - other.east, north: self.north - other.north }
    }

    pub(super) fn along(self, direction: f64, metres: f64) -> Self {
        Self { east: self.east + metres * direction.cos(), north: self.north + metres * direction.sin() }
    }

    pub(super) fn length(self) -> f64 {
        self.east.hypot(self.north)
    }

    /// Direction, in radians, anticlockwise from east.
    pub(super) fn direction(self) -> f64 {
        self.north.atan2(self.east)
    }
}

/// A waypoint: degrees north, degrees east, and the speed limit from here on, in km/h.
pub type Waypoint = (f64, f64, f64);

/// Around the Tiergarten in Berlin, some 9 km: from the Brandenburg Gate along the Strasse des 17. Juni with
/// the roundabout at the Grosser Stern, to Ernst-Reuter-Platz, by Hardenbergstrasse and Budapester
/// Strasse, then Tiergartenstrasse to Potsdamer Platz and by Ebertstrasse back. Written by hand and
/// approximate: right by some ten metres, one lane, no claim to be a map.
pub const TIERGARTEN: &[Waypoint] = &[
    (52.51640, 13.37620, 30.0),
    (52.51618, 13.37230, 50.0),
    (52.51555, 13.36190, 50.0),
    (52.51500, 13.35260, 40.0),
    (52.51525, 13.35140, 30.0),
    (52.51543, 13.35010, 30.0),
    (52.51515, 13.34880, 30.0),
    (52.51470, 13.34750, 50.0),
    (52.51420, 13.33900, 50.0),
    (52.51355, 13.33100, 50.0),
    (52.51310, 13.32450, 40.0),
    (52.51270, 13.32260, 30.0),
    (52.51190, 13.32310, 40.0),
    (52.50960, 13.32720, 50.0),
    (52.50700, 13.33170, 40.0),
    (52.50565, 13.33400, 30.0),
    (52.50530, 13.33650, 40.0),
    (52.50630, 13.34120, 50.0),
    (52.50640, 13.34480, 50.0),
    (52.50730, 13.34880, 40.0),
    (52.50900, 13.35080, 40.0),
    (52.50945, 13.35400, 50.0),
    (52.50960, 13.36100, 50.0),
    (52.51020, 13.36800, 50.0),
    (52.51010, 13.37100, 40.0),
    (52.50960, 13.37480, 30.0),
    (52.51010, 13.37680, 40.0),
    (52.51350, 13.37720, 40.0),
];

/// Distances along [`TIERGARTEN`] of its traffic lights, as shares of the whole.
const LIGHTS: [f64; 4] = [0.12, 0.40, 0.62, 0.93];

/// One place on the road.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    /// Where.
    pub at: Point,
    /// Which way the road runs, in radians, anticlockwise from east.
    pub direction: f64,
    /// The speed to drive here, in m/s: the limit, the curve, and what lies ahead.
    pub speed: f64,
}

/// A closed road, ready to drive on. Shared between all vehicles on it.
#[derive(Debug)]
pub struct Road {
    origin: Waypoint,
    samples: Vec<Sample>,
    spacing: f64,
    lights: Vec<f64>,
}

impl Road {
    /// The road around the Tiergarten.
    pub fn tiergarten() -> Self {
        Self::new(TIERGARTEN)
    }

    /// The closed road through `waypoints`, of which there are three or more.
    pub fn new(waypoints: &[Waypoint]) -> Self {
        let origin = waypoints[0];
        let corners: Vec<Point> = waypoints.iter().map(|waypoint| flat(origin, *waypoint)).collect();
        let limits: Vec<f64> = waypoints.iter().map(|(_, _, limit)| limit / 3.6).collect();
        let outline = rounded(&corners, &limits);
        let (samples, spacing) = sampled(&outline);
        let length = spacing * samples.len() as f64;
        let lights = LIGHTS.iter().map(|share| share * length).collect();
        let mut road = Self { origin, samples, spacing, lights };
        road.slow_down_in_time();
        road
    }

    /// Length of one lap, in metres.
    pub fn length(&self) -> f64 {
        self.spacing * self.samples.len() as f64
    }

    /// The place `metres` along the lap, counted round and round.
    pub fn sample(&self, metres: f64) -> Sample {
        self.samples[self.index(metres)]
    }

    /// Where the place lies exactly, between samples, too.
    pub fn point(&self, metres: f64) -> Point {
        let index = self.index(metres);
        let rest = metres.rem_euclid(self.length()) - index as f64 * self.spacing;
        let Sample { at, .. } = self.samples[index];
        let next = self.samples[(index + 1) % self.samples.len()].at;
        let share = rest / self.spacing;
        Point {
            east: at.east + (next.east - at.east) * share,
            north: at.north + (next.north - at.north) * share,
        }
    }

    /// The place nearest to `here`, looked for from a little before to a little after `from`, in metres.
    pub fn nearest(&self, here: Point, from: f64) -> f64 {
        let start = self.index(from - 3.0 * STEP);
        let count = self.samples.len();
        let distance = |index: &usize| self.samples[index % count].at.minus(here).length();
        let nearest = (start..start + 12)
            .min_by(|a, b| distance(a).total_cmp(&distance(b)))
            .expect("there are twelve to choose from");
        let Sample { at, direction, .. } = self.samples[nearest % count];
        let off = here.minus(at);
        let ahead = off.east * direction.cos() + off.north * direction.sin();
        (nearest as f64 * self.spacing + ahead).rem_euclid(self.length())
    }

    /// Metres to the next traffic light after the place at `metres`, and its number.
    pub fn next_light(&self, metres: f64) -> (usize, f64) {
        let here = metres.rem_euclid(self.length());
        let ahead = |light: &f64| (light - here).rem_euclid(self.length());
        let distances = self.lights.iter().map(ahead).enumerate();
        distances.min_by(|(_, a), (_, b)| a.total_cmp(b)).expect("a road has lights")
    }

    /// Degrees north and east of a point.
    pub fn on_globe(&self, point: Point) -> (f64, f64) {
        let (latitude, longitude, _) = self.origin;
        let north = (point.north / EARTH_RADIUS).to_degrees();
        let east = (point.east / (EARTH_RADIUS * latitude.to_radians().cos())).to_degrees();
        (latitude + north, longitude + east)
    }

    fn index(&self, metres: f64) -> usize {
        let lap = metres.rem_euclid(self.length());
        ((lap / self.spacing) as usize).min(self.samples.len() - 1)
    }

    /// Lowers each speed so that calm braking reaches the slower places behind it in time.
    fn slow_down_in_time(&mut self) {
        let count = self.samples.len();
        for round in (0..2 * count).rev() {
            let next = self.samples[(round + 1) % count].speed;
            let here = &mut self.samples[round % count].speed;
            *here = here.min((next * next + 2.0 * CALM_BRAKING * self.spacing).sqrt());
        }
    }
}

/// Metres east and north of `origin`, on a plane that touches the globe there: wrong by a millimetre at 5 km.
fn flat((latitude, longitude, _): Waypoint, (north, east, _): Waypoint) -> Point {
    Point {
        east: (east - longitude).to_radians() * EARTH_RADIUS * latitude.to_radians().cos(),
        north: (north - latitude).to_radians() * EARTH_RADIUS,
    }
}

/// An angle brought between -pi and pi.
pub(super) fn wrapped(angle: f64) -> f64 {
    (angle + PI).rem_euclid(TAU) - PI
}

/// A vertex of the outline with the speed allowed there, in m/s.
type Vertex = (Point, f64);

/// The polygon with each corner replaced by an arc as wide as the streets beside it allow.
fn rounded(corners: &[Point], limits: &[f64]) -> Vec<Vertex> {
    let count = corners.len();
    let mut outline = Vec::new();
    for (index, corner) in corners.iter().enumerate() {
        let before = corner.minus(corners[(index + count - 1) % count]);
        let after = corners[(index + 1) % count].minus(*corner);
        let turn = wrapped(after.direction() - before.direction());
        let half = (turn.abs() / 2.0).tan();
        let room = 0.45 * before.length().min(after.length());
        let radius = (room.min(40.0) / half.max(1e-6)).clamp(CORNER_RADIUS, 400.0);
        let cut = (radius * half).min(room);
        let speed = limits[index].min((CALM_LATERAL * cut / half.max(1e-6)).sqrt());
        arc(&mut outline, *corner, before.direction(), turn, cut, speed);
        outline.push((outline.last().expect("the arc has points").0, limits[index]));
    }
    outline
}

/// Appends the arc that leaves the straight `cut` metres before `corner` and meets the next as far behind.
fn arc(outline: &mut Vec<Vertex>, corner: Point, direction: f64, turn: f64, cut: f64, speed: f64) {
    let pieces = (turn.abs() / 0.05).ceil().max(1.0) as usize;
    let start = corner.along(direction, -cut);
    let radius = cut / (turn.abs() / 2.0).tan().max(1e-9);
    for piece in 0..=pieces {
        let angle = turn.abs() * piece as f64 / pieces as f64;
        let forward = start.along(direction, radius * angle.sin());
        let side = direction + PI / 2.0 * turn.signum();
        outline.push((forward.along(side, radius * (1.0 - angle.cos())), speed));
    }
}

/// Samples at equal distances along the closed outline, and that distance.
fn sampled(outline: &[Vertex]) -> (Vec<Sample>, f64) {
    let edges: Vec<(Vertex, f64, f64)> = outline
        .iter()
        .zip(outline.iter().cycle().skip(1))
        .map(|(from, to)| (*from, to.0.minus(from.0).direction(), to.0.minus(from.0).length()))
        .filter(|(_, _, length)| *length > 1e-9)
        .collect();
    let length: f64 = edges.iter().map(|(_, _, length)| length).sum();
    let count = (length / STEP).round();
    let spacing = length / count;
    let mut samples = Vec::with_capacity(count as usize);
    let mut passed = 0.0;
    for ((from, speed), direction, length) in edges {
        while (samples.len() as f64) * spacing < passed + length && samples.len() < count as usize {
            let at = from.along(direction, samples.len() as f64 * spacing - passed);
            samples.push(Sample { at, direction, speed });
        }
        passed += length;
    }
    (samples, spacing)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_road_is_closed_smooth_and_of_a_plausible_length() {
        let road = Road::tiergarten();
        assert!((8_000.0..11_000.0).contains(&road.length()), "{} m", road.length());
        let count = road.samples.len();
        for (index, sample) in road.samples.iter().enumerate() {
            let next = road.samples[(index + 1) % count];
            let gap = next.at.minus(sample.at).length();
            assert!(gap < 2.1 && gap > 1.0, "a gap of {gap} m at {index}");
            let bend = wrapped(next.direction - sample.direction).abs();
            assert!(bend < 0.2, "a bend of {bend} at {index}: {:?}", road.on_globe(sample.at));
            assert!(sample.speed > 2.0 && sample.speed <= 50.0 / 3.6);
        }
    }

    #[test]
    fn projection_goes_there_and_back() {
        let road = Road::tiergarten();
        for waypoint in TIERGARTEN {
            let (north, east) = road.on_globe(flat(TIERGARTEN[0], *waypoint));
            assert!((north - waypoint.0).abs() < 1e-9 && (east - waypoint.1).abs() < 1e-9);
        }
    }

    #[test]
    fn corners_can_be_reached_with_calm_braking() {
        let road = Road::tiergarten();
        for (index, sample) in road.samples.iter().enumerate() {
            let next = road.samples[(index + 1) % road.samples.len()].speed;
            let braking = (sample.speed.powi(2) - next.powi(2)) / (2.0 * road.spacing);
            assert!(braking <= CALM_BRAKING + 1e-6, "{braking} m/s2 at {index}");
        }
    }
}
