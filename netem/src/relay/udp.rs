//! UDP through the relay: one upstream socket per client address, as a NAT would have.

use std::collections::BTreeMap;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use super::engine::{Ports, Source};
use super::link::{Cargo, FlowId};
use super::{Forward, Rebinding, socket};
use crate::core::{Direction, Moment};
use crate::poller::EventFlags;

/// A flow without packets is forgotten after this long; RFC 4787 asks NATs for at least two minutes.
const IDLE: Duration = Duration::from_mins(2);
/// Datagrams read from one socket before others get their turn.
const TURN: usize = 64;
/// Largest UDP payload.
const LARGEST: usize = 65_535;

/// All UDP sockets of a relay.
pub(super) struct Udp {
    listeners: Vec<(UdpSocket, SocketAddr)>,
    by_client: BTreeMap<(usize, SocketAddr), FlowId>,
    flows: BTreeMap<FlowId, Flow>,
    buffer: Box<[u8]>,
    most_flows: usize,
    pub(super) refused_flows: u64,
    pub(super) unsent: u64,
}

struct Flow {
    listener: usize,
    client: SocketAddr,
    upstream: UdpSocket,
    /// The socket before a silent rebinding: kept open so that the kernel does not answer for it.
    forgotten: Option<UdpSocket>,
    last_used: Moment,
}

impl Udp {
    pub(super) fn listen(forwards: &[Forward], most_flows: usize) -> io::Result<Self> {
        let bind = |forward: &Forward| Ok((socket::udp_listener(forward.listen)?, forward.upstream));
        Ok(Self {
            listeners: forwards.iter().map(bind).collect::<io::Result<_>>()?,
            by_client: BTreeMap::new(),
            flows: BTreeMap::new(),
            buffer: vec![0; LARGEST].into(),
            most_flows,
            refused_flows: 0,
            unsent: 0,
        })
    }

    pub(super) fn watch(&self, ports: &Ports) -> io::Result<()> {
        for (index, (listener, _)) in self.listeners.iter().enumerate() {
            ports.watch(listener, Source::UdpListener(index), EventFlags::IN)?;
        }
        Ok(())
    }

    pub(super) fn addresses(&self) -> io::Result<Vec<SocketAddr>> {
        self.listeners.iter().map(|(listener, _)| listener.local_addr()).collect()
    }

    pub(super) fn flow_count(&self) -> usize {
        self.flows.len()
    }

    /// Takes datagrams from clients.
    pub(super) fn on_listener(&mut self, index: usize, now: Moment, ports: &mut Ports) {
        for _ in 0..TURN {
            // An error concerns one earlier datagram (a refused port, say); the next one may be fine.
            let Ok((length, client)) = self.listeners[index].0.recv_from(&mut self.buffer) else { return };
            let Some(id) = self.flow_of(index, client, now, ports) else { continue };
            let parcel = (id, Cargo::Datagram(self.buffer[..length].into()));
            // What is dropped is counted by the link.
            let _ = ports.links.push(now, Direction::Up, ip_size(length, client), parcel);
        }
    }

    /// Takes datagrams from upstream.
    pub(super) fn on_flow(&mut self, id: FlowId, now: Moment, ports: &mut Ports) {
        let Some(flow) = self.flows.get_mut(&id) else { return };
        flow.last_used = now;
        for _ in 0..TURN {
            let length = match flow.upstream.recv(&mut self.buffer) {
                Ok(length) => length,
                // Nobody listens upstream at the moment: the client will notice by silence.
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => continue,
                Err(_) => return,
            };
            let parcel = (id, Cargo::Datagram(self.buffer[..length].into()));
            let _ = ports.links.push(now, Direction::Down, ip_size(length, flow.client), parcel);
        }
    }

    /// Hands a datagram to the socket at the far end.
    pub(super) fn deliver(&mut self, id: FlowId, direction: Direction, copies: u8, bytes: &[u8]) {
        let Some(flow) = self.flows.get(&id) else { return };
        for _ in 0..copies {
            let sent = match direction {
                Direction::Up => flow.upstream.send(bytes),
                Direction::Down => self.listeners[flow.listener].0.send_to(bytes, flow.client),
            };
            let full = sent.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock);
            self.unsent += u64::from(full);
        }
    }

    /// Gives every flow a new port upstream. One that gets none keeps its old one and is counted among the refused.
    pub(super) fn rebind(&mut self, how: Rebinding, ports: &Ports) {
        for (id, flow) in &mut self.flows {
            let fresh = socket::udp_to(self.listeners[flow.listener].1);
            let fresh = fresh.and_then(|fresh| {
                ports.watch(&fresh, Source::UdpFlow(*id), EventFlags::IN)?;
                Ok(fresh)
            });
            let Ok(fresh) = fresh else {
                self.refused_flows += 1;
                continue;
            };
            let old = std::mem::replace(&mut flow.upstream, fresh);
            flow.forgotten = match how {
                Rebinding::Silent => {
                    ports.unwatch(&old);
                    Some(old)
                }
                Rebinding::Reset => None,
            };
        }
    }

    /// Forgets flows that have been idle for long.
    pub(super) fn expire(&mut self, now: Moment, ports: &mut Ports) {
        let idle = |flow: &Flow| now.since(flow.last_used) >= IDLE;
        let gone: Vec<_> = self.flows.iter().filter(|(_, flow)| idle(flow)).map(|(id, _)| *id).collect();
        for id in gone {
            if let Some(flow) = self.flows.remove(&id) {
                self.by_client.remove(&(flow.listener, flow.client));
                ports.links.remove_flow(id);
            }
        }
    }

    fn flow_of(
        &mut self,
        listener: usize,
        client: SocketAddr,
        now: Moment,
        ports: &mut Ports,
    ) -> Option<FlowId> {
        if let Some(id) = self.by_client.get(&(listener, client)) {
            self.flows.get_mut(id)?.last_used = now;
            return Some(*id);
        }
        let Some(upstream) = self.open(listener) else {
            self.refused_flows += 1;
            return None;
        };
        let id = ports.new_flow(now);
        if ports.watch(&upstream, Source::UdpFlow(id), EventFlags::IN).is_err() {
            ports.links.remove_flow(id);
            self.refused_flows += 1;
            return None;
        }
        self.flows.insert(id, Flow { listener, client, upstream, forgotten: None, last_used: now });
        self.by_client.insert((listener, client), id);
        Some(id)
    }

    fn open(&self, listener: usize) -> Option<UdpSocket> {
        if self.flows.len() >= self.most_flows {
            return None;
        }
        socket::udp_to(self.listeners[listener].1).ok()
    }
}

/// Bytes on the emulated link: the payload with its UDP and IP headers.
fn ip_size(payload: usize, peer: SocketAddr) -> u32 {
    let headers = if peer.is_ipv4() { 28 } else { 48 };
    payload as u32 + headers
}
