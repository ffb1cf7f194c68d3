//! The little that the emulator knows about IP packets.

use crate::core::Kind;

const IPV6_HEADER: usize = 40;
const PROTOCOL_TCP: u8 = 6;
const PROTOCOL_UDP: u8 = 17;

/// What an IP packet carries.
pub(super) fn kind(packet: &[u8]) -> Kind {
    let protocol = match packet.first().map(|byte| byte >> 4) {
        Some(4) => packet.get(9),
        Some(6) => packet.get(6),
        Some(_) | None => None,
    };
    match protocol {
        Some(&PROTOCOL_TCP) => Kind::Tcp,
        Some(&PROTOCOL_UDP) => Kind::Udp,
        Some(_) | None => Kind::Other,
    }
}

/// Flips the bit that `choice` picks behind the IP header, so that the packet still arrives and a checksum finds it.
pub(super) fn corrupt(packet: &mut [u8], choice: u64) {
    let header = match packet.first() {
        Some(first) if first >> 4 == 4 => usize::from(first & 15) * 4,
        Some(_) | None => IPV6_HEADER,
    };
    let Some(body) = packet.get_mut(header..) else { return };
    let bits = body.len() as u64 * 8;
    if bits == 0 {
        return;
    }
    let bit = choice % bits;
    body[(bit / 8) as usize] ^= 1 << (bit % 8);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn protocols_are_told_apart() {
        let mut packet = [0_u8; 28];
        packet[0] = 0x45;
        packet[9] = 17;
        assert_eq!(kind(&packet), Kind::Udp);
        packet[9] = 6;
        assert_eq!(kind(&packet), Kind::Tcp);
        packet[0] = 0x60;
        packet[6] = 17;
        assert_eq!(kind(&packet), Kind::Udp);
        assert_eq!(kind(&[]), Kind::Other);
    }

    #[test]
    fn one_bit_flips_behind_the_header() {
        let mut packet = [0_u8; 28];
        packet[0] = 0x45;
        for choice in 0..100 {
            let mut hit = packet;
            corrupt(&mut hit, choice);
            assert_eq!(hit[..20], packet[..20]);
            assert_eq!(hit.iter().zip(packet).map(|(a, b)| (a ^ b).count_ones()).sum::<u32>(), 1);
        }
        corrupt(&mut packet[..20], 3);
        corrupt(&mut [], 3);
    }
}
