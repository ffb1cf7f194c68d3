//! TUN devices: IP packets in and out, one per read and write, no offloads, gone when the file is closed.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt;

use rustix::ioctl::{Setter, ioctl};

/// Where TUN devices are made.
pub(super) const DEVICE: &str = "/dev/net/tun";

const IFNAMSIZ: usize = 16;
/// `_IOW('T', 202, int)`, in fact a `struct ifreq`.
const TUNSETIFF: rustix::ioctl::Opcode = 0x4004_54ca;
/// `_IOW('T', 226, int)`.
const TUNSETCARRIER: rustix::ioctl::Opcode = 0x4004_54e2;
/// IP packets, not Ethernet frames.
const IFF_TUN: u16 = 0x1;
/// No four bytes of packet information in front. No `IFF_VNET_HDR` either: with segmentation offload the unit of loss would be a
/// superpacket, which flatters TCP.
const IFF_NO_PI: u16 = 0x1000;

/// `struct ifreq` as far as `TUNSETIFF` reads it.
#[repr(C)]
struct IfReq {
    name: [u8; IFNAMSIZ],
    flags: u16,
    rest: [u8; 22],
}

/// A device in the network namespace of the thread that made it.
pub(super) struct Tun(File);

impl Tun {
    /// Makes device `name`, at most 15 ASCII characters.
    pub(super) fn make(name: &str) -> io::Result<Self> {
        // O_NONBLOCK has the same value on all architectures that Rust's Linux targets with a TUN driver are tested on.
        let flags = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
        let file = OpenOptions::new().read(true).write(true).custom_flags(flags).open(DEVICE)?;
        let mut request = IfReq { name: [0; IFNAMSIZ], flags: IFF_TUN | IFF_NO_PI, rest: [0; 22] };
        if name.len() >= IFNAMSIZ {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("interface name `{name}` is too long"),
            ));
        }
        request.name[..name.len()].copy_from_slice(name.as_bytes());
        #[allow(unsafe_code, reason = "making a TUN device is an ioctl")]
        // SAFETY: TUNSETIFF reads a `struct ifreq`, 40 bytes, which `IfReq` lays out, and writes the name back into it.
        unsafe {
            ioctl(&file, Setter::<TUNSETIFF, IfReq>::new(request))?;
        }
        Ok(Self(file))
    }

    /// Reads one packet; `None` if there is none.
    pub(super) fn read(&self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        match (&self.0).read(buffer) {
            Ok(length) => Ok(Some(length)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Hands one packet to the kernel.
    pub(super) fn write(&self, packet: &[u8]) -> io::Result<()> {
        (&self.0).write(packet).map(|_| ())
    }

    /// Plugs the cable in or pulls it.
    pub(super) fn set_carrier(&self, on: bool) -> io::Result<()> {
        #[allow(unsafe_code, reason = "a TUN's carrier is an ioctl")]
        // SAFETY: TUNSETCARRIER reads an `int`.
        unsafe {
            Ok(ioctl(&self.0, Setter::<TUNSETCARRIER, i32>::new(i32::from(on)))?)
        }
    }
}

impl AsFd for Tun {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
