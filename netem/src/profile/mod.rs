//! Links by name: profiles that come with the program, profile files, and links described on the spot.
//!
//! A profile is TOML; each number in the ones that come with the program has its source or its reason beside it.

mod event;
mod reader;
mod spec;
pub mod units;
mod write;

use std::fs;
use std::io::{self, BufRead, Read};
use std::path::{Path as FilePath, PathBuf};
use std::sync::Arc;
use std::time::Duration;

pub use event::{Agenda, Event, Happening, Rebinding};
use reader::Reader;

use crate::core::{
    Capacity, Direction, Jitter, Law, Limit, Loss, Order, Probability, Rate, Shape, Trace, TraceError,
    Unsound,
};

/// A link: both directions and what it stands for.
#[derive(Clone, Debug, PartialEq)]
pub struct Profile {
    /// Its name, or the path it was read from.
    pub name: String,
    /// One sentence: what it stands for.
    pub summary: String,
    /// From the vehicle into the network.
    pub up: Law,
    /// From the network to the vehicle.
    pub down: Law,
}

/// A profile that comes with the program.
#[derive(Clone, Copy, Debug)]
pub struct BuiltIn {
    /// Its name.
    pub name: &'static str,
    /// Its TOML.
    pub text: &'static str,
}

/// Embeds `profiles/NAME.toml`.
macro_rules! built_in {
    ($($name:literal),+ $(,)?) => {
        [$(BuiltIn { name: $name, text: include_str!(concat!("../../profiles/", $name, ".toml")) }),+]
    };
}

/// The path of a file that names none.
const FIRST_PATH: &str = "lte0";

/// The profiles that come with the program, mildest first.
pub const BUILT_IN: [BuiltIn; 12] = built_in![
    "clean",
    "lossy-5",
    "lte-good",
    "5g-nsa",
    "lte-edge",
    "lte-bufferbloat",
    "wifi-congested",
    "satellite",
    "tunnel",
    "handover-lte-wifi",
    "nat-rebind",
    "udp-blocked",
];

/// Changes to a profile, each to both directions.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Tweak {
    /// One-way propagation delay.
    pub delay: Option<Duration>,
    /// Largest addition to the delay (uniform, in order).
    pub jitter: Option<Duration>,
    /// Independent loss; replaces whatever the profile loses.
    pub loss: Option<Probability>,
    /// Capacity; replaces a trace.
    pub rate: Option<Rate>,
    /// Queue limit.
    pub queue: Option<Limit>,
}

/// One network interface of every vehicle.
#[derive(Clone, Debug, PartialEq)]
pub struct Path {
    /// Interface name in the vehicle, like `lte0`.
    pub name: String,
    /// The link behind it.
    pub profile: Profile,
}

/// One or several paths and what happens on them.
#[derive(Clone, Debug, PartialEq)]
pub struct Scenario {
    /// One sentence: what it stands for.
    pub summary: String,
    /// At least one, best first.
    pub paths: Vec<Path>,
    /// What happens.
    pub events: Vec<Event>,
}

/// Why there is no such link. Each is one line that names the place and the fix.
#[derive(Debug, thiserror::Error)]
pub enum ProfileError {
    /// Neither a built-in name nor a file.
    #[error(
        "{name}: no such profile; `carriageway-netem profiles` lists them, or give the path of a .toml file"
    )]
    Unknown {
        /// What was asked for.
        name: String,
    },
    /// The file cannot be read.
    #[error("{path}: cannot be read: {why}; check the path and its permissions", path = .path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        why: io::Error,
    },
    /// The file is read but means nothing.
    #[error("{file}:{line}: {key}{message}")]
    Broken {
        /// The file, or the profile's name.
        file: String,
        /// Counted from one.
        line: usize,
        /// `key: `, or empty.
        key: String,
        /// What is wrong and what to write instead.
        message: String,
    },
    /// It is more than a link.
    #[error(
        "{name}: this is more than a link: it has {what}, which would be lost here; use it as the whole --profile"
    )]
    NotALink {
        /// What was asked for.
        name: String,
        /// What it has besides.
        what: &'static str,
    },
    /// A change on top of a profile leaves something that can only be a mistake.
    #[error("{name}, {direction}: {why}", direction = .direction.name())]
    Unsound {
        /// The profile.
        name: String,
        /// Which way.
        direction: Direction,
        /// What, and what to write instead.
        why: Unsound,
    },
    /// A trace file means nothing.
    #[error("{path}: {why}", path = .path.display())]
    Trace {
        /// The file.
        path: PathBuf,
        /// Where and why.
        why: TraceError,
    },
}

impl Profile {
    /// A perfect link under `name`, to be changed by hand or by [`Self::tweaked`].
    pub fn perfect(name: &str) -> Self {
        Self { name: name.into(), summary: "a perfect link".into(), up: Law::default(), down: Law::default() }
    }

    /// A built-in profile by name, else a file by path. Fails for what has several paths or events: they would be lost.
    pub fn find(name: &str) -> Result<Self, ProfileError> {
        let Scenario { mut paths, events, .. } = Scenario::find(name)?;
        let not_a_link = |what| Err(ProfileError::NotALink { name: name.into(), what });
        if paths.len() > 1 {
            return not_a_link("several paths");
        }
        if events.is_empty() { Ok(paths.remove(0).profile) } else { not_a_link("events") }
    }

    /// Fails if something about the link can only be a mistake.
    pub fn check(&self) -> Result<(), ProfileError> {
        let check = |direction| {
            let unsound = |why| ProfileError::Unsound { name: self.name.clone(), direction, why };
            self.law(direction).check().map_err(unsound)
        };
        Direction::BOTH.into_iter().try_for_each(check)
    }

    /// The law of one direction.
    pub const fn law(&self, direction: Direction) -> &Law {
        match direction {
            Direction::Up => &self.up,
            Direction::Down => &self.down,
        }
    }

    /// The law of one direction, to be changed.
    pub const fn law_mut(&mut self, direction: Direction) -> &mut Law {
        match direction {
            Direction::Up => &mut self.up,
            Direction::Down => &mut self.down,
        }
    }

    /// The same link with `tweak` applied to both directions.
    #[must_use]
    pub fn tweaked(mut self, tweak: &Tweak) -> Self {
        for law in [&mut self.up, &mut self.down] {
            tweak.apply(law);
        }
        self
    }

    /// The same link with recorded capacity in both directions.
    #[must_use]
    pub fn with_traces(mut self, up: Trace, down: Trace) -> Self {
        self.up.capacity = Capacity::Trace(Arc::new(up));
        self.down.capacity = Capacity::Trace(Arc::new(down));
        self
    }
}

impl Tweak {
    fn apply(&self, law: &mut Law) {
        law.delay = self.delay.unwrap_or(law.delay);
        if let Some(spread) = self.jitter {
            law.jitter = Jitter { spread, shape: Shape::Uniform, order: Order::Kept };
        }
        if let Some(share) = self.loss {
            law.loss = if share == Probability::ZERO { Loss::None } else { Loss::Bernoulli(share) };
        }
        if let Some(rate) = self.rate {
            law.capacity = Capacity::Rate(rate);
        }
        law.queue.limit = self.queue.unwrap_or(law.queue.limit);
    }
}

impl Scenario {
    /// One path `lte0`, and nothing happens.
    pub fn new(profile: Profile) -> Self {
        let summary = profile.summary.clone();
        Self { summary, paths: vec![Path { name: FIRST_PATH.into(), profile }], events: Vec::new() }
    }

    /// As TOML, with all that is in effect: bases resolved, defaults named. A trace, whose file is not known here, is a comment.
    pub fn to_toml(&self) -> String {
        write::scenario(self)
    }

    /// Only this path, with what happens on it.
    #[must_use]
    pub fn only(mut self, path: usize) -> Self {
        self.events.retain(|event| event.path.is_none_or(|other| other == path));
        self.events.iter_mut().for_each(|event| event.path = event.path.map(|_| 0));
        self.paths = self.paths.drain(path..=path).collect();
        self
    }

    /// A built-in profile by name, else a file by path.
    pub fn find(name: &str) -> Result<Self, ProfileError> {
        if let Some(found) = BUILT_IN.iter().find(|profile| profile.name == name) {
            return Self::parse(found.name, found.text, FilePath::new(""));
        }
        let path = FilePath::new(name);
        if path.extension().is_none_or(|extension| extension != "toml") {
            return Err(ProfileError::Unknown { name: name.into() });
        }
        let text = read(path)?;
        Self::parse(name, &text, path.parent().unwrap_or(FilePath::new("")))
    }

    /// Reads TOML. `file` is its name in errors; trace files are looked up relative to `folder`.
    pub fn parse(file: &str, text: &str, folder: &FilePath) -> Result<Self, ProfileError> {
        Reader { file, text, folder }.scenario()
    }
}

/// Longest line of a trace that is worth reading: far more than the digits of a time.
const LONGEST_LINE: u64 = 64;
/// Longest profile file: a thousand times the ones that come with the program.
const LONGEST_FILE: u64 = 1 << 20;

/// Reads a mahimahi trace, line by line: what is none ends at its first line.
pub fn read_trace(path: &FilePath) -> Result<Trace, ProfileError> {
    let unreadable = |why| ProfileError::Unreadable { path: path.into(), why };
    let mut reader = io::BufReader::new(fs::File::open(path).map_err(unreadable)?);
    let mut failure = None;
    let lines = std::iter::from_fn(|| {
        let mut line = Vec::new();
        match (&mut reader).take(LONGEST_LINE).read_until(b'\n', &mut line) {
            Ok(0) => None,
            Ok(_) => Some(String::from_utf8_lossy(&line).into_owned()),
            Err(why) => {
                failure = Some(why);
                None
            }
        }
    });
    let trace = Trace::gather(lines);
    match failure {
        Some(why) => Err(unreadable(why)),
        None => trace.map_err(|why| ProfileError::Trace { path: path.into(), why }),
    }
}

fn read(path: &FilePath) -> Result<String, ProfileError> {
    let unreadable = |why| ProfileError::Unreadable { path: path.into(), why };
    let mut text = String::new();
    let file = fs::File::open(path).map_err(unreadable)?;
    file.take(LONGEST_FILE + 1).read_to_string(&mut text).map_err(unreadable)?;
    if text.len() as u64 > LONGEST_FILE {
        return Err(unreadable(io::Error::other("more than a mebibyte is no profile")));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::Draws;

    fn error(text: &str) -> String {
        Scenario::parse("my.toml", text, FilePath::new("")).unwrap_err().to_string()
    }

    #[test]
    fn every_built_in_profile_is_sound() {
        for BuiltIn { name, text } in BUILT_IN {
            let profile = Scenario::find(name).unwrap();
            assert!(!profile.summary.is_empty());
            for line in text.lines().filter(|line| line.contains('=') && !line.starts_with("summary")) {
                assert!(line.contains('#'), "{name}: `{line}` has no source beside it");
            }
        }
    }

    #[test]
    fn a_broken_profile_names_line_key_and_fix() {
        let unknown = error("summary = 'x'\n[up]\ndely = '4ms'\n");
        assert!(
            unknown.starts_with("my.toml:3: dely: unknown field `dely`, expected one of `delay`"),
            "{unknown}"
        );
        assert_eq!(
            error("summary = 'x'\n[up]\ndelay = '4'\n"),
            "my.toml:3: delay: `4` has no known unit; write a time with its unit, like `40ms`, `1.5s` or `200us`"
        );
        assert_eq!(
            error("summary = 'x'\n[down]\nrate = '1 Mbit/s'\ntrace = 'a'\n"),
            "my.toml:4: trace: `rate` and `trace` exclude each other; keep one"
        );
        let missing = error("summary = 'x'\n[down]\ntrace = '/nowhere/a.down'\n");
        assert!(missing.starts_with("my.toml:3: trace: /nowhere/a.down: cannot be read"), "{missing}");
        assert!(!missing.contains('\n'));
        let syntax = error("summary = 'x'\n[up\n");
        assert!(syntax.starts_with("my.toml:2: ") && !syntax.contains('\n'), "{syntax}");
    }

    #[test]
    fn a_base_keeps_what_is_not_named() {
        let parse = |text| Scenario::parse("my.toml", text, FilePath::new("")).unwrap();
        let base = Profile::find("lte-edge").unwrap();
        let mine = parse("summary = 'x'\nlike = 'lte-edge'\n[up]\nloss = '1 %'\n").paths.remove(0).profile;
        assert_eq!(mine.down, base.down);
        let Loss::GilbertElliott { loss_good, .. } = mine.up.loss else { panic!("bursts are kept") };
        assert!((loss_good.get() - 0.01).abs() < 1e-12);
        assert_eq!(Law { loss: base.up.loss, ..mine.up }, base.up);
        let tunnel =
            parse("summary = 'x'\nlike = 'tunnel'\n[up]\nrate = '1 Mbit/s'\n").paths.remove(0).profile;
        assert_eq!(tunnel.up.outages, Profile::find("tunnel").unwrap().up.outages);
        let none = parse("summary = 'x'\nlike = 'tunnel'\n[up]\noutage = []\ndraws = 'index'\n")
            .paths
            .remove(0)
            .profile;
        assert!(none.up.outages.is_empty());
        assert_eq!(none.up.draws, Draws::ByIndex);
    }

    #[test]
    fn events_are_carried_over_or_asked_for() {
        let text = "summary = 'x'\n[[path]]\nname = 'a'\n[[path]]\nname = 'b'\nlike = 'nat-rebind'\n";
        let scenario = Scenario::parse("my.toml", text, FilePath::new("")).unwrap();
        let [event] = &scenario.events[..] else { panic!("{scenario:?}") };
        assert_eq!((event.path, &event.what), (Some(1), &Happening::Rebind(Rebinding::Silent)));
        assert!(Profile::find("nat-rebind").unwrap_err().to_string().contains("it has events"));
        assert!(Profile::find("handover-lte-wifi").unwrap_err().to_string().contains("it has several paths"));
        assert!(
            error("summary = 'x'\nlike = 'handover-lte-wifi'\n")
                .contains("my.toml:2: like: `handover-lte-wifi` has several")
        );
    }

    #[test]
    fn an_event_has_its_own_keys_only() {
        let event = |rest: &str| format!("summary = 'x'\n[[event]]\nat = '1s'\n{rest}");
        let stray = error(&event("do = 'udp-block'\nlength = '1s'\n"));
        assert!(stray.contains("`length` means nothing to this event"), "{stray}");
        let text = event("do = 'outage'\nlength = '1s'\ndirection = 'up'\n");
        let profile = Scenario::parse("my.toml", &text, FilePath::new("")).unwrap().paths.remove(0).profile;
        assert_eq!((profile.up.outages.len(), profile.down.outages.len()), (1, 0));
    }

    #[test]
    fn what_can_only_be_a_mistake_is_refused_where_it_stands() {
        let refused = |key: &str| error(&format!("summary = 'x'\n[up]\n{key}\n"));
        assert_eq!(
            refused("mtu = 100000"),
            "my.toml:2: an MTU of 100000 does not exist; write one from 68 to 65535"
        );
        assert!(refused("queue = '1 kB'").contains("has no room for a packet of 1500"));
        assert!(refused("burst = { length = '0', gap = '0', loss = '1 %' }").contains("at least 1 ms"));
        assert!(refused("jitter = { spread = '2min' }").contains("more than a minute"));
        let hold = "{ from = '0', length = '2s', every = '3s', mode = 'hold' }";
        let other = "{ from = '1s', length = '2s', every = '3s', mode = 'hold' }";
        assert!(refused(&format!("outage = [{hold}, {other}]")).contains("leave no gap"));
    }

    #[test]
    fn what_never_ends_is_no_trace() {
        let error = read_trace(FilePath::new("/dev/zero")).unwrap_err().to_string();
        assert!(error.starts_with("/dev/zero: line 1: "), "{error:?}");
    }

    #[test]
    fn an_unknown_name_says_where_to_look() {
        assert!(Profile::find("lte-godo").unwrap_err().to_string().contains("`carriageway-netem profiles`"));
    }

    #[test]
    fn a_tweak_replaces_what_it_names() {
        let tweak = Tweak { rate: units::rate("2 Mbit/s").ok(), ..Tweak::default() };
        let profile = Profile::find("lte-edge").unwrap();
        let tweaked = profile.clone().tweaked(&tweak);
        assert_eq!(tweaked.up.delay, profile.up.delay);
        assert_eq!(tweaked.down.capacity, Capacity::Rate(units::rate("2 Mbit/s").unwrap()));
    }
}
