//! What orders and events do to a running testbed.

use std::io;
use std::sync::Mutex;

use super::engine::{Answer, Command, Which};
use super::excuse::Excuse;
use super::sides::Sides;
use super::{Config, OrderError, setup};
use crate::core::{Capacity, Moment, UdpPolicy};
use crate::orders::Orders;
use crate::profile::Rebinding;
use crate::realtime::Awake;

/// Why the locks are never poisoned.
pub(super) const SOUND: &str = "nobody panics while counting drops or naming a path";

/// What the director shares with the owner.
pub(super) struct Inner {
    pub(super) config: Config,
    /// The experiment, for reports.
    pub(super) description: serde_json::Value,
    pub(super) start: Moment,
    pub(super) orders: Orders<Command, Answer>,
    pub(super) sides: Sides,
    /// Held while it runs.
    pub(super) awake: Option<Awake>,
    pub(super) excuse: Mutex<Excuse>,
    /// The path that an event or an order preferred last.
    pub(super) preferred: Mutex<Option<usize>>,
}

impl Inner {
    pub(super) fn set_udp(&self, path: Option<usize>, policy: UdpPolicy) -> Result<(), OrderError> {
        self.order(Command::Udp(on(path), policy))
    }

    pub(super) fn set_capacity(
        &self,
        path: Option<usize>,
        capacities: [Option<Capacity>; 2],
    ) -> Result<(), OrderError> {
        self.order(Command::Capacity(on(path), capacities))
    }

    pub(super) fn rebind_nat(&self, path: Option<usize>, how: Rebinding) -> Result<(), OrderError> {
        self.order(Command::Rebind(on(path), how))
    }

    pub(super) fn set_carrier(&self, path: usize, carrier: bool) -> Result<(), OrderError> {
        self.excused(path, carrier, || self.order(Command::Carrier(on(Some(path)), carrier)))
    }

    pub(super) fn set_link(&self, path: usize, up: bool) -> Result<(), OrderError> {
        self.excused(path, up, || {
            self.in_vehicles(path, move |name, vehicle| setup::set_up(name, vehicle, path, up))
        })?;
        self.prefer_again(path, up)
    }

    /// Cuts a path or brings it back, and notes that its device may drop packets meanwhile.
    fn excused(
        &self,
        path: usize,
        present: bool,
        act: impl FnOnce() -> Result<(), OrderError>,
    ) -> Result<(), OrderError> {
        let name = &self.config.scenario.paths[path].name;
        let note = || self.excuse.lock().expect(SOUND).change(name, present, &self.sides.device_drops());
        if present {
            act().inspect(|()| note())
        } else {
            note();
            act()
        }
    }

    pub(super) fn set_address(&self, path: usize, present: bool) -> Result<(), OrderError> {
        self.in_vehicles(path, move |name, vehicle| setup::set_address(name, vehicle, path, present))?;
        self.prefer_again(path, present)
    }

    pub(super) fn prefer(&self, path: usize) -> Result<(), OrderError> {
        let names: Vec<_> = self.config.scenario.paths.iter().map(|path| path.name.clone()).collect();
        self.in_vehicles(path, move |_, vehicle| setup::prefer(&names, vehicle, path))?;
        *self.preferred.lock().expect(SOUND) = Some(path);
        Ok(())
    }

    /// The kernel forgets routes with the interface or the address: a preference outlives both.
    fn prefer_again(&self, path: usize, present: bool) -> Result<(), OrderError> {
        let preferred = *self.preferred.lock().expect(SOUND);
        if present && preferred == Some(path) { self.prefer(path) } else { Ok(()) }
    }

    pub(super) fn order(&self, command: Command) -> Result<(), OrderError> {
        match self.orders.ask(command)? {
            Answer::Done | Answer::Stats(_) => Ok(()),
            Answer::Failed(why) => Err(OrderError::Refused(why)),
        }
    }

    /// Does the same to path `path` in every vehicle's namespace.
    fn in_vehicles(
        &self,
        path: usize,
        act: impl Fn(&str, usize) -> io::Result<()> + Clone + Send + 'static,
    ) -> Result<(), OrderError> {
        for (vehicle, namespace) in self.sides.vehicles.iter().enumerate() {
            let (act, name) = (act.clone(), self.config.scenario.paths[path].name.clone());
            namespace.within(move || act(&name, vehicle)).map_err(OrderError::Refused)?;
        }
        Ok(())
    }
}

/// All vehicles.
pub(super) const fn on(path: Option<usize>) -> Which {
    Which { vehicle: None, path }
}
