//! UDP sockets on the emulated link.

use std::io::{self, IoSliceMut};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use carriageway_netem::core::Direction;
use quinn::udp::{RecvMeta, Transmit};
use quinn::{AsyncUdpSocket, UdpPoller};

use super::network::{Datagram, Network, Payload};

/// Datagrams that one call may hand over: what quinn finds on Linux (UDP_MAX_SEGMENTS), which sends them on as single
/// packets at once where the device cannot.
const SEGMENTS: usize = 64;

/// An open socket; it closes when it is dropped.
#[derive(Debug)]
pub(super) struct Socket {
    network: Network,
    address: SocketAddr,
    /// Which way it sends.
    direction: Direction,
}

impl Socket {
    pub(super) fn open(network: Network, address: SocketAddr, direction: Direction) -> Self {
        network.open(address);
        Self { network, address, direction }
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        self.network.close(self.address);
    }
}

impl AsyncUdpSocket for Socket {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Box::pin(Writable)
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        let segment = transmit.segment_size.unwrap_or(transmit.contents.len()).max(1);
        for bytes in transmit.contents.chunks(segment) {
            let payload = Payload::Udp { ecn: transmit.ecn, bytes: Bytes::copy_from_slice(bytes) };
            let datagram = Datagram { from: self.address, to: transmit.destination, payload };
            self.network.send(self.direction, datagram);
        }
        Ok(())
    }

    fn poll_recv(
        &self,
        context: &mut Context<'_>,
        buffers: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        let (from, ecn, bytes) = loop {
            let Datagram { from, payload, .. } = ready!(self.network.poll_receive(self.address, context));
            // Nobody sends anything else to a port of UDP.
            if let Payload::Udp { ecn, bytes } = payload {
                break (from, ecn, bytes);
            }
        };
        // As the kernel does, what does not fit is cut off.
        let length = bytes.len().min(buffers[0].len());
        buffers[0][..length].copy_from_slice(&bytes[..length]);
        meta[0] = RecvMeta { addr: from, len: length, stride: length, ecn, dst_ip: Some(self.address.ip()) };
        Poll::Ready(Ok(1))
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.address)
    }

    fn max_transmit_segments(&self) -> usize {
        SEGMENTS
    }

    fn may_fragment(&self) -> bool {
        false
    }
}

/// The link takes everything at once; what it cannot carry it drops.
#[derive(Debug)]
struct Writable;

impl UdpPoller for Writable {
    fn poll_writable(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
