//! What is done inside a fresh namespace: interfaces, addresses, routes, kernel settings.

use std::fs;
use std::io;
use std::net::Ipv4Addr;

use rustix::io::Errno;

use super::netlink::{MAIN_TABLE, Netlink, Route};
use super::plan;
use super::tun::Tun;

/// Packets that may wait for the emulator's attention; far more than it ever lets wait, so that the device drops none.
const DEVICE_QUEUE: u32 = 10_000;
/// Metric of a vehicle's first path; each further one is this much worse.
const METRIC_STEP: u32 = 100;
/// Metric of a route that an event prefers.
const PREFERRED_METRIC: u32 = 1;
/// Table of a vehicle's first path, for packets that already have its source address.
const FIRST_TABLE: u32 = 1000;
const ANYWHERE: (Ipv4Addr, u8) = (Ipv4Addr::UNSPECIFIED, 0);

/// Kernel settings of a namespace, each with its reason.
const SETTINGS: [(&str, &str); 6] = [
    // No router solicitations: they would take capacity that nobody asked for.
    ("ipv6/conf/all/disable_ipv6", "1"),
    ("ipv6/conf/default/disable_ipv6", "1"),
    // A run must not know what an earlier connection learned.
    ("ipv4/tcp_no_metrics_save", "1"),
    // Answers may leave by another path than questions came.
    ("ipv4/conf/all/rp_filter", "0"),
    ("ipv4/conf/default/rp_filter", "0"),
    // A path without carrier is no way out.
    ("ipv4/conf/all/ignore_routes_with_linkdown", "1"),
];

/// What [`prepare`] sets, for reports.
pub(super) fn settings() -> impl Iterator<Item = (&'static str, &'static str)> {
    SETTINGS.into_iter()
}

/// Prepares the namespace that the calling thread is in: settings and loopback. Gives the settings that the kernel refused: some
/// are read-only in containers and missing in some kernels, and a run without them is a little less clean.
pub(super) fn prepare(server: Option<Ipv4Addr>) -> io::Result<Vec<String>> {
    let set = |(name, value)| {
        let written = fs::write(format!("/proc/sys/net/{name}"), value);
        written.err().map(|why| format!("net/{name}={value}: {why}"))
    };
    let unset = SETTINGS.into_iter().filter_map(set).collect();
    let mut netlink = Netlink::open()?;
    let lo = netlink.index("lo")?;
    netlink.set_up(lo, true)?;
    if let Some(address) = server {
        netlink.add_address(lo, address, address)?;
    }
    Ok(unset)
}

/// Makes the vehicle's end of a path, in the namespace that the calling thread is in.
pub(super) fn vehicle_end(vehicle: usize, path: usize, name: &str, mtu: u32) -> io::Result<Tun> {
    let tun = Tun::make(name)?;
    let mut netlink = Netlink::open()?;
    let (local, peer) = (plan::vehicle_address(vehicle, path), plan::net_address(vehicle, path));
    bring_up(&mut netlink, name, mtu, local, peer)?;
    vehicle_routes(&mut netlink, name, vehicle, path)?;
    netlink.add_source_rule(local, table(path), table(path))?;
    Ok(tun)
}

/// Makes the other end, in the namespace that the calling thread is in.
pub(super) fn net_end(vehicle: usize, path: usize, name: &str, mtu: u32) -> io::Result<Tun> {
    let interface = plan::net_interface(vehicle, name);
    let tun = Tun::make(&interface)?;
    let mut netlink = Netlink::open()?;
    let local = plan::net_address(vehicle, path);
    bring_up(&mut netlink, &interface, mtu, local, local)?;
    // A server that is bound to no address answers from the one that it is known by.
    let (to, source) = ((plan::vehicle_address(vehicle, path), 32), Some(plan::SERVER));
    let interface = netlink.index(&interface)?;
    netlink.add_route(Route { to, interface, source, metric: METRIC_STEP, table: MAIN_TABLE })?;
    Ok(tun)
}

/// The ways out of a vehicle over one path: by metric for everybody, and by table for those who have its address.
fn vehicle_routes(netlink: &mut Netlink, name: &str, vehicle: usize, path: usize) -> io::Result<()> {
    let interface = netlink.index(name)?;
    let source = Some(plan::vehicle_address(vehicle, path));
    let metric = METRIC_STEP * (1 + path as u32);
    netlink.add_route(Route { to: ANYWHERE, interface, source, metric, table: MAIN_TABLE })?;
    netlink.add_route(Route { to: ANYWHERE, interface, source, metric, table: table(path) })
}

/// Gives the vehicle its address on a path back, or takes it away together with the routes that use it.
pub(super) fn set_address(name: &str, vehicle: usize, path: usize, present: bool) -> io::Result<()> {
    let mut netlink = Netlink::open()?;
    let interface = netlink.index(name)?;
    let (local, peer) = (plan::vehicle_address(vehicle, path), plan::net_address(vehicle, path));
    if present {
        netlink.add_address(interface, local, peer)?;
        // An interface that is down gets its routes when it comes up.
        unless(Errno::NETDOWN, vehicle_routes(&mut netlink, name, vehicle, path))
    } else {
        unless(Errno::ADDRNOTAVAIL, netlink.remove_address(interface, local, peer))
    }
}

/// Makes one path the preferred way out of a vehicle, by a route that is better than all others.
pub(super) fn prefer(names: &[String], vehicle: usize, path: usize) -> io::Result<()> {
    let mut netlink = Netlink::open()?;
    for (other, name) in names.iter().enumerate() {
        let interface = netlink.index(name)?;
        let source = Some(plan::vehicle_address(vehicle, other));
        let route = Route { to: ANYWHERE, interface, source, metric: PREFERRED_METRIC, table: MAIN_TABLE };
        if other == path {
            netlink.add_route(route)?;
        } else {
            // It is there only if this path was preferred before.
            let _ = netlink.remove_route(route);
        }
    }
    Ok(())
}

/// Brings the vehicle's interface up or down.
pub(super) fn set_up(name: &str, vehicle: usize, path: usize, up: bool) -> io::Result<()> {
    let mut netlink = Netlink::open()?;
    let interface = netlink.index(name)?;
    netlink.set_up(interface, up)?;
    // The kernel forgot the routes when the interface went down.
    if up { vehicle_routes(&mut netlink, name, vehicle, path) } else { Ok(()) }
}

/// Success also if the kernel says `expected`: there is nothing to do.
fn unless(expected: Errno, done: io::Result<()>) -> io::Result<()> {
    match done {
        Err(error) if error.raw_os_error() == Some(expected.raw_os_error()) => Ok(()),
        done => done,
    }
}

fn table(path: usize) -> u32 {
    FIRST_TABLE + path as u32
}

fn bring_up(netlink: &mut Netlink, name: &str, mtu: u32, local: Ipv4Addr, peer: Ipv4Addr) -> io::Result<()> {
    let interface = netlink.index(name)?;
    netlink.set_sizes(interface, mtu, DEVICE_QUEUE)?;
    netlink.add_address(interface, local, peer)?;
    netlink.set_up(interface, true)
}

/// Packets that the devices of the calling thread's namespace dropped, on the way in or out, by interface.
pub(super) fn device_drops() -> io::Result<Vec<(String, u64)>> {
    let table = fs::read_to_string("/proc/thread-self/net/dev")?;
    Ok(table.lines().filter_map(drops_of).collect())
}

/// A line of `/proc/net/dev`: the name, then eight counters for receiving and eight for sending: bytes, packets, errors, drops, ...
fn drops_of(line: &str) -> Option<(String, u64)> {
    let (name, counters) = line.split_once(':')?;
    let counters: Vec<u64> = counters.split_whitespace().filter_map(|number| number.parse().ok()).collect();
    Some((name.trim().to_owned(), counters.get(3)? + counters.get(11)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drops_in_both_directions_count() {
        let line = "  lte0: 84 1 0 2 0 0 0 0 840 10 0 5 0 0 0 0";
        assert_eq!(drops_of(line), Some(("lte0".into(), 7)));
        assert_eq!(drops_of(" face |bytes packets errs drop"), None);
    }
}
