//! The few requests of rtnetlink that a testbed needs, so that no `ip` program is: addresses, routes, rules, links up and down.
//! Layouts from `linux/rtnetlink.h`, `linux/if_link.h` and `linux/fib_rules.h`.

use std::io;
use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;

use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};

const REQUEST_AND_ACK: u16 = 0x1 | 0x4;
const CREATE: u16 = 0x400;
/// With it, what is there already is replaced: asking twice is asking once.
const REPLACE: u16 = 0x100;
const NLMSG_ERROR: u16 = 2;

const RTM_NEWLINK: u16 = 16;
const RTM_NEWADDR: u16 = 20;
const RTM_DELADDR: u16 = 21;
const RTM_NEWROUTE: u16 = 24;
const RTM_DELROUTE: u16 = 25;
const RTM_NEWRULE: u16 = 32;

const AF_INET: u8 = 2;
const IFF_UP: u32 = 1;
const IFLA_MTU: u16 = 4;
const IFLA_TXQLEN: u16 = 13;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const RTA_DST: u16 = 1;
const RTA_OIF: u16 = 4;
const RTA_PRIORITY: u16 = 6;
const RTA_PREFSRC: u16 = 7;
const RTA_TABLE: u16 = 15;
const FRA_SRC: u16 = 2;
const FRA_PRIORITY: u16 = 6;
const FRA_TABLE: u16 = 15;
const RTPROT_STATIC: u8 = 4;
const RT_SCOPE_LINK: u8 = 253;
const RTN_UNICAST: u8 = 1;
const FR_ACT_TO_TBL: u8 = 1;

/// The main routing table.
pub(super) const MAIN_TABLE: u32 = 254;

/// A connection to the kernel's routing, in the network namespace of the thread that opens it.
pub(super) struct Netlink {
    socket: OwnedFd,
    sequence: u32,
}

/// A route out of an interface, without gateway.
#[derive(Clone, Copy, Debug)]
pub(super) struct Route {
    /// Destination and prefix length; `0.0.0.0/0` is the default route.
    pub(super) to: (Ipv4Addr, u8),
    pub(super) interface: u32,
    pub(super) source: Option<Ipv4Addr>,
    /// Smaller wins.
    pub(super) metric: u32,
    pub(super) table: u32,
}

impl Netlink {
    pub(super) fn open() -> io::Result<Self> {
        // Protocol 0 is NETLINK_ROUTE.
        let socket =
            rustix::net::socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, None)?;
        rustix::net::connect(&socket, &SocketAddrNetlink::new(0, 0))?;
        Ok(Self { socket, sequence: 0 })
    }

    /// The index of an interface by its name.
    pub(super) fn index(&self, name: &str) -> io::Result<u32> {
        Ok(rustix::net::netdevice::name_to_index(&self.socket, name)?)
    }

    /// Brings an interface up or down.
    pub(super) fn set_up(&mut self, interface: u32, up: bool) -> io::Result<()> {
        let flags = if up { IFF_UP } else { 0 };
        self.request(RTM_NEWLINK, 0, &link_header(interface, flags, IFF_UP))
    }

    /// Sets the MTU and the length of the transmit queue.
    pub(super) fn set_sizes(&mut self, interface: u32, mtu: u32, queue: u32) -> io::Result<()> {
        let mut body = link_header(interface, 0, 0);
        attribute(&mut body, IFLA_MTU, &mtu.to_ne_bytes());
        attribute(&mut body, IFLA_TXQLEN, &queue.to_ne_bytes());
        self.request(RTM_NEWLINK, 0, &body)
    }

    /// Adds `local` as a point-to-point address with `peer` at the other end.
    pub(super) fn add_address(&mut self, interface: u32, local: Ipv4Addr, peer: Ipv4Addr) -> io::Result<()> {
        self.request(RTM_NEWADDR, CREATE | REPLACE, &address_body(interface, local, peer))
    }

    /// Takes an address away again, and the routes that use it.
    pub(super) fn remove_address(
        &mut self,
        interface: u32,
        local: Ipv4Addr,
        peer: Ipv4Addr,
    ) -> io::Result<()> {
        self.request(RTM_DELADDR, 0, &address_body(interface, local, peer))
    }

    pub(super) fn add_route(&mut self, route: Route) -> io::Result<()> {
        self.request(RTM_NEWROUTE, CREATE | REPLACE, &route.body())
    }

    pub(super) fn remove_route(&mut self, route: Route) -> io::Result<()> {
        self.request(RTM_DELROUTE, 0, &route.body())
    }

    /// Packets from `source` look into `table` first.
    pub(super) fn add_source_rule(&mut self, source: Ipv4Addr, table: u32, priority: u32) -> io::Result<()> {
        let mut body = vec![AF_INET, 0, 32, 0, 0, 0, 0, FR_ACT_TO_TBL, 0, 0, 0, 0];
        attribute(&mut body, FRA_SRC, &source.octets());
        attribute(&mut body, FRA_TABLE, &table.to_ne_bytes());
        attribute(&mut body, FRA_PRIORITY, &priority.to_ne_bytes());
        self.request(RTM_NEWRULE, CREATE, &body)
    }

    /// Sends one request and waits for the kernel's verdict.
    fn request(&mut self, kind: u16, flags: u16, body: &[u8]) -> io::Result<()> {
        self.sequence += 1;
        let mut message = Vec::with_capacity(16 + body.len());
        message.extend((16 + body.len() as u32).to_ne_bytes());
        message.extend(kind.to_ne_bytes());
        message.extend((REQUEST_AND_ACK | flags).to_ne_bytes());
        message.extend(self.sequence.to_ne_bytes());
        message.extend(0_u32.to_ne_bytes());
        message.extend(body);
        rustix::net::send(&self.socket, &message, SendFlags::empty())?;
        let mut answer = [0_u8; 4096];
        let (length, _) = rustix::net::recv(&self.socket, &mut answer[..], RecvFlags::empty())?;
        verdict(&answer[..length])
    }
}

impl Route {
    fn body(self) -> Vec<u8> {
        // The table field has 8 bits; the attribute below holds the number.
        let mut body =
            vec![AF_INET, self.to.1, 0, 0, 0, RTPROT_STATIC, RT_SCOPE_LINK, RTN_UNICAST, 0, 0, 0, 0];
        if self.to.1 > 0 {
            attribute(&mut body, RTA_DST, &self.to.0.octets());
        }
        attribute(&mut body, RTA_OIF, &self.interface.to_ne_bytes());
        attribute(&mut body, RTA_PRIORITY, &self.metric.to_ne_bytes());
        attribute(&mut body, RTA_TABLE, &self.table.to_ne_bytes());
        if let Some(source) = self.source {
            attribute(&mut body, RTA_PREFSRC, &source.octets());
        }
        body
    }
}

fn link_header(interface: u32, flags: u32, change: u32) -> Vec<u8> {
    let mut body = vec![0; 4];
    body.extend(interface.to_ne_bytes());
    body.extend(flags.to_ne_bytes());
    body.extend(change.to_ne_bytes());
    body
}

fn address_body(interface: u32, local: Ipv4Addr, peer: Ipv4Addr) -> Vec<u8> {
    let mut body = vec![AF_INET, 32, 0, 0];
    body.extend(interface.to_ne_bytes());
    attribute(&mut body, IFA_LOCAL, &local.octets());
    attribute(&mut body, IFA_ADDRESS, &peer.octets());
    body
}

/// Appends one attribute, padded to four bytes.
fn attribute(body: &mut Vec<u8>, kind: u16, value: &[u8]) {
    body.extend((4 + value.len() as u16).to_ne_bytes());
    body.extend(kind.to_ne_bytes());
    body.extend(value);
    body.resize(body.len().next_multiple_of(4), 0);
}

/// Reads an acknowledgement: an error message whose number is zero.
fn verdict(answer: &[u8]) -> io::Result<()> {
    let (Some(kind), Some(number)) = (answer.get(4..6), answer.get(16..20)) else {
        return Err(io::ErrorKind::UnexpectedEof.into());
    };
    let kind = u16::from_ne_bytes(kind.try_into().expect("two bytes were taken"));
    let number = i32::from_ne_bytes(number.try_into().expect("four bytes were taken"));
    match (kind, number) {
        (NLMSG_ERROR, 0) => Ok(()),
        (NLMSG_ERROR, number) => Err(io::Error::from_raw_os_error(-number)),
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
}
