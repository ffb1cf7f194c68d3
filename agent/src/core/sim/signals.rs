//! The simulated vehicle's signals, by COVESA VSS 5, and which of them are worth sending.

use std::sync::LazyLock;
use std::time::Duration;

use carriageway_proto::{Moment, SignalPath, Value};

use super::body::DOORS;
use super::{DRIVE, Simulated};
use crate::core::vehicle::EMERGENCY_STOP;

/// Every value is repeated this often, changed or not: a lost one is not resent by itself.
const REPEAT: Duration = Duration::from_secs(1);

const COMMON: [&str; 29] = [
    "Vehicle.Speed",
    "Vehicle.CurrentLocation.Latitude",
    "Vehicle.CurrentLocation.Longitude",
    "Vehicle.CurrentLocation.Heading",
    "Vehicle.Acceleration.Longitudinal",
    "Vehicle.AngularVelocity.Yaw",
    "Vehicle.Chassis.SteeringWheel.Angle",
    "Vehicle.Chassis.Accelerator.PedalPosition",
    "Vehicle.Chassis.Brake.PedalPosition",
    "Vehicle.TraveledDistance",
    "Vehicle.IsMoving",
    "Vehicle.Powertrain.TractionBattery.StateOfCharge.Current",
    "Vehicle.Powertrain.TractionBattery.CurrentPower",
    "Vehicle.Powertrain.TractionBattery.Range",
    "Vehicle.Powertrain.TractionBattery.Charging.ChargeLimit",
    "Vehicle.Powertrain.Transmission.SelectedGear",
    "Vehicle.Chassis.ParkingBrake.IsEngaged",
    "Vehicle.Body.Horn.IsActive",
    "Vehicle.Body.Lights.Beam.Low.IsOn",
    "Vehicle.Body.Lights.Beam.High.IsOn",
    "Vehicle.Body.Lights.Hazard.IsSignaling",
    "Vehicle.Body.Lights.Brake.IsActive",
    "Vehicle.Body.Lights.DirectionIndicator.Left.IsSignaling",
    "Vehicle.Body.Lights.DirectionIndicator.Right.IsSignaling",
    "Vehicle.Cabin.HVAC.AmbientAirTemperature",
    "Vehicle.Cabin.HVAC.IsAirConditioningActive",
    "Vehicle.Cabin.HVAC.Station.Row1.Driver.Temperature",
    "Vehicle.Exterior.AirTemperature",
    EMERGENCY_STOP,
];

const PER_DOOR: [&str; 4] = ["IsOpen", "IsLocked", "Window.Position", "Window.IsOpen"];

/// Signals of one vehicle.
const COUNT: usize = COMMON.len() + DOORS.len() * PER_DOOR.len();

static PATHS: LazyLock<Vec<SignalPath>> = LazyLock::new(|| {
    let of_doors = DOORS
        .iter()
        .flat_map(|door| PER_DOOR.iter().map(move |signal| format!("Vehicle.Cabin.Door.{door}.{signal}")));
    let texts = COMMON.iter().map(|path| (*path).to_owned()).chain(of_doors);
    texts.map(|text| text.parse().expect("the paths above are VSS paths")).collect()
});

/// The vehicle as it is, in the order of [`PATHS`]; rounded to what a sensor would tell, so that
/// noise below it is no change.
pub(super) fn values(vehicle: &Simulated) -> [Value; COUNT] {
    let Simulated { motion, body, battery, .. } = vehicle;
    let (latitude, longitude) = vehicle.road.on_globe(motion.at);
    let turning = motion.steering_wheel();
    let (throttle, brake) = vehicle.pedals();
    let common = [
        rounded(motion.speed * 3.6, 0.01),
        rounded(latitude, 1e-7),
        rounded(longitude, 1e-7),
        rounded(motion.course(), 0.1),
        rounded(motion.acceleration, 0.01),
        rounded(motion.yaw_rate.to_degrees(), 0.01),
        rounded(turning, 0.1),
        Value::Int(throttle.round() as i64),
        Value::Int(brake.round() as i64),
        rounded(motion.driven / 1_000.0, 0.01),
        Value::Bool(!motion.stands()),
        rounded(battery.percent(), 0.01),
        rounded(-battery.power, 100.0),
        rounded(battery.range(), 100.0),
        Value::Int(battery.charge_limit),
        Value::Int(vehicle.gear),
        Value::Bool(vehicle.latched && motion.stands() || vehicle.gear != DRIVE),
        Value::Bool(body.horn > 0.0),
        Value::Bool(body.lights.low_beam),
        Value::Bool(body.lights.high_beam),
        Value::Bool(body.lights.hazard),
        Value::Text(if motion.acceleration < -0.5 { "ACTIVE" } else { "INACTIVE" }.into()),
        Value::Bool(turning > 90.0),
        Value::Bool(turning < -90.0),
        rounded(body.cabin, 0.1),
        Value::Bool(body.climate_on),
        Value::Int(body.wish),
        rounded(body.outside, 0.1),
        Value::Bool(vehicle.latched),
    ];
    let doors = (0..DOORS.len()).flat_map(|door| {
        let (window, door_travel) = (body.windows[door].position, body.doors[door].position);
        [
            Value::Bool(door_travel > 0.0),
            Value::Bool(body.locks[door].locked),
            Value::Int(window.round() as i64),
            Value::Bool(window > 0.0),
        ]
    });
    let mut all = common.into_iter().chain(doors);
    std::array::from_fn(|_| all.next().expect("as many values as paths"))
}

fn rounded(value: f64, step: f64) -> Value {
    // By division where the step is below one: 1/1e-7 is exact enough, n * 1e-7 is not.
    let near = if step < 1.0 {
        let per_one = (1.0 / step).round();
        (value * per_one).round() / per_one
    } else {
        (value / step).round() * step
    };
    // Adding zero makes -0 a plain zero.
    Value::Float(near + 0.0)
}

/// What was said last, and when.
#[derive(Debug, Default)]
pub(super) struct Signals {
    said: Vec<(Value, Moment)>,
}

impl Signals {
    /// Appends the values that changed or are due to be repeated.
    pub(super) fn changed(
        &mut self,
        now: Moment,
        values: [Value; COUNT],
        changed: &mut Vec<(SignalPath, Value)>,
    ) {
        if self.said.is_empty() {
            self.said = values.iter().map(|value| (value.clone(), now)).collect();
            changed.extend(PATHS.iter().cloned().zip(values));
            return;
        }
        for ((said, path), value) in self.said.iter_mut().zip(PATHS.iter()).zip(values) {
            if said.0 != value || now.since(said.1) >= REPEAT {
                *said = (value.clone(), now);
                changed.push((path.clone(), value));
            }
        }
    }
}
