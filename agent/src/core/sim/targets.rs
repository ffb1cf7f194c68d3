//! Which targets the simulated vehicle takes, in which class, and when they are reached.

use carriageway_proto::{Class, Reason, Value};

use super::body::{DOORS, not_permitted, out_of_range};
use super::{DRIVE, NEUTRAL, PARK, Refusal, Simulated};
use crate::core::vehicle::{EMERGENCY_STOP, Target as Wanted};

/// Something that can be brought into a state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Target {
    Window(usize),
    Door(usize),
    Lock(usize),
    LowBeam,
    HighBeam,
    Hazard,
    Horn,
    Temperature,
    Climate,
    ChargeLimit,
    Gear,
    EmergencyStop,
}

impl Target {
    /// The thing of a VSS path.
    fn of(path: &str) -> Option<Self> {
        match path {
            EMERGENCY_STOP => Some(Self::EmergencyStop),
            "Vehicle.Body.Horn.IsActive" => Some(Self::Horn),
            "Vehicle.Body.Lights.Beam.High.IsOn" => Some(Self::HighBeam),
            "Vehicle.Body.Lights.Beam.Low.IsOn" => Some(Self::LowBeam),
            "Vehicle.Body.Lights.Hazard.IsSignaling" => Some(Self::Hazard),
            "Vehicle.Cabin.HVAC.IsAirConditioningActive" => Some(Self::Climate),
            "Vehicle.Cabin.HVAC.Station.Row1.Driver.Temperature" => Some(Self::Temperature),
            "Vehicle.Powertrain.TractionBattery.Charging.ChargeLimit" => Some(Self::ChargeLimit),
            "Vehicle.Powertrain.Transmission.SelectedGear" => Some(Self::Gear),
            other => Self::of_door(other.strip_prefix("Vehicle.Cabin.Door.")?),
        }
    }

    fn of_door(path: &str) -> Option<Self> {
        let (index, door) = DOORS.iter().enumerate().find(|(_, door)| path.starts_with(**door))?;
        match &path[door.len()..] {
            ".Window.Position" => Some(Self::Window(index)),
            ".IsOpen" => Some(Self::Door(index)),
            ".IsLocked" => Some(Self::Lock(index)),
            _ => None,
        }
    }

    /// The class in which a state of `path` can be desired: a horn that lasts is none.
    pub(super) fn lasting(path: &str) -> Option<Class> {
        Self::of(path).filter(|thing| *thing != Self::Horn).map(Self::class)
    }

    /// The class whose policy holds for it: no other may carry it.
    fn class(self) -> Class {
        match self {
            Self::Window(_)
            | Self::Door(_)
            | Self::Lock(_)
            | Self::LowBeam
            | Self::HighBeam
            | Self::Hazard
            | Self::Horn => Class::Body,
            Self::Temperature | Self::Climate => Class::Comfort,
            Self::ChargeLimit => Class::Config,
            Self::Gear => Class::Drive,
            Self::EmergencyStop => Class::Safety,
        }
    }
}

impl Simulated {
    /// Starts on the way to `wanted`, if everything allows it.
    pub(super) fn begin(&mut self, wanted: &Wanted) -> Result<Target, Refusal> {
        let unsupported = |why: String| Refusal::new(Reason::Unsupported, why);
        let thing = Target::of(wanted.path.as_str())
            .ok_or_else(|| unsupported(format!("{} takes no target here", wanted.path)))?;
        if wanted.class != thing.class() {
            return Err(unsupported(format!("{} takes commands of class {}", wanted.path, thing.class())));
        }
        self.set(thing, &wanted.value)?;
        Ok(thing)
    }

    /// Does what was begun hold now?
    pub(super) fn is_reached(&self, thing: Target) -> bool {
        let body = &self.body;
        match thing {
            Target::Window(door) => body.windows[door].is_there(),
            Target::Door(door) => body.doors[door].is_there(),
            Target::Lock(door) => body.locks[door].busy == 0.0,
            Target::Horn => body.horn == 0.0,
            Target::EmergencyStop => self.latched && self.motion.stands(),
            Target::LowBeam
            | Target::HighBeam
            | Target::Hazard
            | Target::Temperature
            | Target::Climate
            | Target::ChargeLimit
            | Target::Gear => true,
        }
    }

    fn set(&mut self, thing: Target, value: &Value) -> Result<(), Refusal> {
        let stands = self.motion.stands();
        let body = &mut self.body;
        match thing {
            Target::Window(door) => body.move_window(door, number(value)?),
            Target::Door(door) => body.move_door(door, truth(value)?, stands),
            Target::Lock(door) => body.lock(door, truth(value)?),
            Target::LowBeam => switch(&mut body.lights.low_beam, value),
            Target::HighBeam => switch(&mut body.lights.high_beam, value),
            Target::Hazard => switch(&mut body.lights.hazard, value),
            Target::Horn => truth(value).map(|on| body.sound(on)),
            Target::Climate => switch(&mut body.climate_on, value),
            Target::Temperature => body.warm(integer(value)?),
            Target::ChargeLimit => self.limit_charge(integer(value)?),
            Target::Gear => self.shift(integer(value)?, stands),
            Target::EmergencyStop => self.stop_or_release(truth(value)?),
        }
    }

    fn limit_charge(&mut self, percent: i64) -> Result<(), Refusal> {
        if !(20..=100).contains(&percent) {
            return out_of_range("the charge limit is 20 to 100 percent");
        }
        self.battery.charge_limit = percent;
        Ok(())
    }

    fn shift(&mut self, gear: i64, stands: bool) -> Result<(), Refusal> {
        if ![NEUTRAL, PARK, DRIVE].contains(&gear) {
            return out_of_range("gears are 0 (neutral), 126 (park) and 127 (drive)");
        }
        if self.latched && gear == DRIVE {
            return not_permitted("the emergency stop is latched");
        }
        if !stands && gear != self.gear {
            return not_permitted("the gear changes only while the vehicle stands");
        }
        self.gear = gear;
        Ok(())
    }

    fn stop_or_release(&mut self, stop: bool) -> Result<(), Refusal> {
        if !stop {
            return not_permitted("the emergency stop is latched; only a re-arm under a lease releases it");
        }
        self.latched = true;
        Ok(())
    }
}

fn switch(place: &mut bool, value: &Value) -> Result<(), Refusal> {
    *place = truth(value)?;
    Ok(())
}

fn truth(value: &Value) -> Result<bool, Refusal> {
    match value {
        Value::Bool(truth) => Ok(*truth),
        Value::Int(_) | Value::Float(_) | Value::Text(_) => wrong_kind("true or false"),
    }
}

fn integer(value: &Value) -> Result<i64, Refusal> {
    match value {
        Value::Int(integer) => Ok(*integer),
        // JSON does not tell 21 from 21.0.
        Value::Float(number) if number.fract() == 0.0 && number.abs() < 1e9 => Ok(*number as i64),
        Value::Float(_) | Value::Bool(_) | Value::Text(_) => wrong_kind("a whole number"),
    }
}

fn number(value: &Value) -> Result<f64, Refusal> {
    value.as_f64().map_or_else(|| wrong_kind("a number"), Ok)
}

fn wrong_kind<T>(wanted: &str) -> Result<T, Refusal> {
    Err(Refusal::new(Reason::Unsupported, format!("the target must be {wanted}")))
}
