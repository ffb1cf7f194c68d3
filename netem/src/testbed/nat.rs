//! A NAT that changes its ports at an exact moment, by rewriting packets: no conntrack, which would take the same port again.
//!
//! Until the first rebinding ports pass unchanged. From then on each rebinding shifts all of a vehicle's ports by the same
//! amount, which keeps them distinct; what comes back to a port that was not used since the last rebinding is dropped.

use std::collections::BTreeSet;

use crate::profile::Rebinding;

const PROTOCOL_TCP: u8 = 6;
const PROTOCOL_UDP: u8 = 17;
/// Ports below this one stay what they are.
const FIRST_PORT: u32 = 1024;
/// The ports that are shifted among themselves.
const PORTS: u32 = 65_536 - FIRST_PORT;
/// By how much one rebinding shifts them: coprime to the number of ports, so that the same one comes back late.
const SHIFT: u32 = 20_011;
const TCP_SYN: u8 = 0x02;
/// Where the checksum is, behind the IP header.
const UDP_CHECKSUM: usize = 6;
const TCP_CHECKSUM: usize = 16;
const TCP_FLAGS: usize = 13;
/// More fragments flag and fragment offset.
const FRAGMENT: u16 = 0x3FFF;

/// What a packet may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Pass,
    Drop,
}

/// The NAT of one wire.
#[derive(Debug, Default)]
pub(super) struct Nat {
    rebindings: u32,
    how: Rebinding,
    /// Protocol and outer port of what was used since the last rebinding.
    open: BTreeSet<(u8, u16)>,
}

impl Nat {
    /// Forgets all ports.
    pub(super) fn rebind(&mut self, how: Rebinding) {
        self.rebindings += 1;
        self.how = how;
        self.open.clear();
    }

    /// A packet leaves the vehicle's network: its source port changes.
    pub(super) fn outbound(&mut self, packet: &mut [u8]) -> Verdict {
        let Some(transport) = self.concerned(packet) else { return Verdict::Pass };
        let inner = transport.port(packet, 0);
        let outer = self.shifted(inner, SHIFT);
        let known = self.open.contains(&(transport.protocol, outer));
        if !known && self.how == Rebinding::Silent && transport.continues_tcp(packet) {
            return Verdict::Drop;
        }
        self.open.insert((transport.protocol, outer));
        transport.set_port(packet, 0, outer);
        Verdict::Pass
    }

    /// A packet comes from the network: its destination port changes back.
    pub(super) fn inbound(&self, packet: &mut [u8]) -> Verdict {
        let Some(transport) = self.concerned(packet) else { return Verdict::Pass };
        let outer = transport.port(packet, 2);
        if !self.open.contains(&(transport.protocol, outer)) {
            return Verdict::Drop;
        }
        transport.set_port(packet, 2, self.shifted(outer, PORTS - SHIFT));
        Verdict::Pass
    }

    /// Where the ports of `packet` are, if this NAT has anything to do with it.
    fn concerned(&self, packet: &[u8]) -> Option<Transport> {
        if self.rebindings == 0 { None } else { Transport::find(packet) }
    }

    fn shifted(&self, port: u16, by: u32) -> u16 {
        let port = u32::from(port);
        if port < FIRST_PORT {
            return port as u16;
        }
        let shift = u64::from(by) * u64::from(self.rebindings) % u64::from(PORTS);
        (FIRST_PORT + (port - FIRST_PORT + shift as u32) % PORTS) as u16
    }
}

/// A UDP or TCP header of an unfragmented IPv4 packet.
#[derive(Clone, Copy)]
struct Transport {
    protocol: u8,
    /// Where it begins.
    at: usize,
}

impl Transport {
    fn find(packet: &[u8]) -> Option<Self> {
        let first = *packet.first()?;
        let (at, protocol) = (usize::from(first & 15) * 4, *packet.get(9)?);
        let whole = u16::from_be_bytes([*packet.get(6)?, *packet.get(7)?]) & FRAGMENT == 0;
        let length = match protocol {
            PROTOCOL_UDP => 8,
            PROTOCOL_TCP => 20,
            _ => return None,
        };
        (first >> 4 == 4 && whole && packet.len() >= at + length).then_some(Self { protocol, at })
    }

    fn port(self, packet: &[u8], offset: usize) -> u16 {
        word(packet, self.at + offset)
    }

    /// A TCP segment that does not begin a connection.
    fn continues_tcp(self, packet: &[u8]) -> bool {
        self.protocol == PROTOCOL_TCP && packet[self.at + TCP_FLAGS] & TCP_SYN == 0
    }

    /// Writes a port and mends the checksum (RFC 1624, equation 3). A UDP checksum of zero means that there is none.
    fn set_port(self, packet: &mut [u8], offset: usize, port: u16) {
        let old = self.port(packet, offset);
        packet[self.at + offset..][..2].copy_from_slice(&port.to_be_bytes());
        let at = self.at + if self.protocol == PROTOCOL_UDP { UDP_CHECKSUM } else { TCP_CHECKSUM };
        let checksum = word(packet, at);
        if self.protocol == PROTOCOL_UDP && checksum == 0 {
            return;
        }
        let mut sum = u32::from(!checksum) + u32::from(!old) + u32::from(port);
        sum = (sum & 0xFFFF) + (sum >> 16);
        sum = (sum & 0xFFFF) + (sum >> 16);
        let mended = match (self.protocol, !(sum as u16)) {
            (PROTOCOL_UDP, 0) => 0xFFFF,
            (_, mended) => mended,
        };
        packet[at..][..2].copy_from_slice(&mended.to_be_bytes());
    }
}

fn word(packet: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([packet[at], packet[at + 1]])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An IPv4 packet with ports and a correct transport checksum over a pseudo header of zeros.
    fn packet(protocol: u8, source: u16, destination: u16, flags: u8) -> Vec<u8> {
        let mut packet = vec![0_u8; 20 + 20];
        (packet[0], packet[9]) = (0x45, protocol);
        packet[20..22].copy_from_slice(&source.to_be_bytes());
        packet[22..24].copy_from_slice(&destination.to_be_bytes());
        packet[20 + TCP_FLAGS] = flags;
        let at = 20 + if protocol == PROTOCOL_UDP { UDP_CHECKSUM } else { TCP_CHECKSUM };
        let checksum = !sum(&packet);
        packet[at..at + 2].copy_from_slice(&checksum.to_be_bytes());
        packet
    }

    fn sum(packet: &[u8]) -> u16 {
        let mut sum: u32 =
            packet[20..].chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum();
        while sum > 0xFFFF {
            sum = (sum & 0xFFFF) + (sum >> 16);
        }
        sum as u16
    }

    #[test]
    fn before_the_first_rebinding_nothing_changes() {
        let mut nat = Nat::default();
        let mut sent = packet(PROTOCOL_UDP, 5000, 443, 0);
        assert_eq!(nat.outbound(&mut sent), Verdict::Pass);
        assert_eq!(sent, packet(PROTOCOL_UDP, 5000, 443, 0));
        assert_eq!(nat.inbound(&mut sent), Verdict::Pass);
    }

    #[test]
    fn ports_change_there_and_back_with_sound_checksums() {
        let mut nat = Nat::default();
        for _ in 0..5 {
            nat.rebind(Rebinding::Reset);
            for inner in [1024, 5000, 65_535] {
                let mut sent = packet(PROTOCOL_UDP, inner, 443, 0);
                assert_eq!(nat.outbound(&mut sent), Verdict::Pass);
                let outer = word(&sent, 20);
                assert!(outer != inner && outer >= 1024);
                assert_eq!(sum(&sent), 0xFFFF);
                let mut answer = packet(PROTOCOL_UDP, 443, outer, 0);
                assert_eq!(nat.inbound(&mut answer), Verdict::Pass);
                assert_eq!((word(&answer, 22), sum(&answer)), (inner, 0xFFFF));
            }
        }
    }

    #[test]
    fn the_old_port_is_forgotten() {
        let mut nat = Nat::default();
        nat.rebind(Rebinding::Silent);
        assert_eq!(nat.inbound(&mut packet(PROTOCOL_UDP, 443, 5000, 0)), Verdict::Drop);
    }

    #[test]
    fn silence_swallows_old_tcp_connections_and_lets_new_ones_through() {
        let mut nat = Nat::default();
        nat.rebind(Rebinding::Silent);
        assert_eq!(nat.outbound(&mut packet(PROTOCOL_TCP, 5000, 443, 0x10)), Verdict::Drop);
        assert_eq!(nat.outbound(&mut packet(PROTOCOL_TCP, 5001, 443, TCP_SYN)), Verdict::Pass);
        assert_eq!(nat.outbound(&mut packet(PROTOCOL_TCP, 5001, 443, 0x10)), Verdict::Pass);
        nat.rebind(Rebinding::Reset);
        assert_eq!(nat.outbound(&mut packet(PROTOCOL_TCP, 5001, 443, 0x10)), Verdict::Pass);
    }

    #[test]
    fn short_and_foreign_packets_pass() {
        let mut nat = Nat::default();
        nat.rebind(Rebinding::Silent);
        for length in 0..40 {
            let mut short = packet(PROTOCOL_TCP, 5000, 443, TCP_SYN);
            short.truncate(length);
            assert_eq!(nat.outbound(&mut short), Verdict::Pass);
        }
    }
}
