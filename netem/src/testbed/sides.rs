//! The namespaces of a testbed and the devices in them.

use std::net::Ipv4Addr;

use super::excuse::Drops;
use super::tun::Tun;
use super::wire::Plan;
use super::{Config, Namespace, SERVER, StartError, refused, setup};
use crate::profile::{Path, Profile};

/// The namespaces and how they could be set.
pub(super) struct Sides {
    pub(super) net: Namespace,
    pub(super) vehicles: Vec<Namespace>,
    /// Kernel settings that were refused, each with what the kernel said.
    pub(super) unset: Vec<String>,
}

impl Sides {
    pub(super) fn make(vehicles: usize) -> Result<Self, StartError> {
        let (net, mut unset) = namespace("net", Some(SERVER))?;
        let mut made = Vec::with_capacity(vehicles);
        for number in 1..=vehicles {
            let (vehicle, failed) = namespace(&format!("vehicle-{number}"), None)?;
            made.push(vehicle);
            unset.extend(failed);
        }
        unset.sort_unstable();
        unset.dedup();
        Ok(Self { net, vehicles: made, unset })
    }

    /// Packets that the devices have dropped so far, for whatever reason, by side and interface.
    pub(super) fn device_drops(&self) -> Drops {
        let sides = self.vehicles.iter().map(Some).chain([None]).enumerate();
        let by_side = sides.map(|(number, vehicle)| {
            let side = vehicle.map(|_| number);
            let drops = vehicle.unwrap_or(&self.net).within(setup::device_drops).unwrap_or_default();
            drops.into_iter().map(move |(interface, drops)| ((side, interface), drops))
        });
        by_side.flatten().collect()
    }
}

/// A namespace, and the kernel settings that it refused.
fn namespace(name: &str, server: Option<Ipv4Addr>) -> Result<(Namespace, Vec<String>), StartError> {
    let namespace = Namespace::make(name).map_err(refused("making a network namespace".into()))?;
    let unset = namespace
        .within(move || setup::prepare(server))
        .map_err(refused("preparing a network namespace".into()))?;
    Ok((namespace, unset))
}

/// Makes the devices of every wire.
pub(super) fn plans(config: &Config, sides: &Sides) -> Result<Vec<Plan>, StartError> {
    let mut plans = Vec::new();
    for (vehicle, namespace) in sides.vehicles.iter().enumerate() {
        for (path, Path { name, profile }) in config.scenario.paths.iter().enumerate() {
            let ends = ends(namespace, &sides.net, (vehicle, path), name, profile)?;
            let laws = [profile.up.clone(), profile.down.clone()];
            let seed = config.seed.of_link(plans.len() as u64);
            plans.push(Plan { vehicle, path, ends, laws, seed });
        }
    }
    Ok(plans)
}

fn ends(
    vehicle_side: &Namespace,
    net: &Namespace,
    (vehicle, path): (usize, usize),
    name: &str,
    profile: &Profile,
) -> Result<[Tun; 2], StartError> {
    let (near, far) = (name.to_owned(), name.to_owned());
    let (up, down) = (profile.up.mtu, profile.down.mtu);
    let refused = |end: &str| refused(format!("making the {end} of {name}"));
    Ok([
        vehicle_side
            .within(move || setup::vehicle_end(vehicle, path, &near, up))
            .map_err(refused("vehicle's end"))?,
        net.within(move || setup::net_end(vehicle, path, &far, down)).map_err(refused("far end"))?,
    ])
}
