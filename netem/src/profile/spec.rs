//! The shape of a profile file, and the step from it to laws.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use toml::Spanned;

use super::event::{Event, Happening, Rebinding};
use super::units;
use crate::core::{
    Capacity, Direction, Discipline, Draws, Jitter, Law, Limit, Loss, Order, Outage, OutageMode, Probability,
    Queue, Rate, Shape, Trace, UdpPolicy,
};

/// Target and interval of `CoDel` where a profile only says `codel` (RFC 8289, section 4.2 and 4.3).
const CODEL: Discipline =
    Discipline::CoDel { target: Duration::from_millis(5), interval: Duration::from_millis(100) };

/// Bytes that may pass a throttle at once: ten packets.
const THROTTLE_BURST: u64 = 15_000;

/// A file: one link, or several paths, and what happens.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct File {
    pub(super) summary: String,
    pub(super) like: Option<Spanned<String>>,
    pub(super) up: Option<Spanned<Side>>,
    pub(super) down: Option<Spanned<Side>>,
    #[serde(default)]
    pub(super) path: Vec<PathSpec>,
    #[serde(default)]
    pub(super) event: Vec<Spanned<EventSpec>>,
}

/// One of several paths.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PathSpec {
    pub(super) name: Spanned<String>,
    pub(super) like: Option<Spanned<String>>,
    pub(super) up: Option<Spanned<Side>>,
    pub(super) down: Option<Spanned<Side>>,
}

/// Something that happens.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct EventSpec {
    at: Span,
    every: Option<Span>,
    pub(super) path: Option<String>,
    #[serde(rename = "do")]
    what: What,
    length: Option<Span>,
    mode: Option<ModeSpec>,
    rate: Option<RateSpec>,
    trace: Option<Spanned<String>>,
    direction: Option<DirectionSpec>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum What {
    Outage,
    Capacity,
    UdpBlock,
    UdpPass,
    UdpThrottle,
    NatRebind,
    NatRebindReset,
    LinkDown,
    LinkUp,
    CarrierOff,
    CarrierOn,
    RemoveAddress,
    AddAddress,
    Prefer,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum DirectionSpec {
    Up,
    Down,
}

/// One direction.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Side {
    delay: Option<Span>,
    jitter: Option<JitterSpec>,
    loss: Option<Share>,
    burst: Option<BurstSpec>,
    duplicate: Option<Share>,
    corrupt: Option<Share>,
    rate: Option<RateSpec>,
    trace: Option<Spanned<String>>,
    queue: Option<LimitSpec>,
    aqm: Option<Aqm>,
    outage: Option<Vec<OutageSpec>>,
    mtu: Option<u32>,
    udp: Option<UdpSpec>,
    draws: Option<DrawsSpec>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct JitterSpec {
    spread: Span,
    #[serde(default)]
    shape: ShapeSpec,
    #[serde(default)]
    reorder: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum ShapeSpec {
    #[default]
    Uniform,
    Exponential,
}

/// Bad periods of mean length `length`, with a mean of `gap` between them.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct BurstSpec {
    length: Span,
    gap: Span,
    loss: Share,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Aqm {
    None,
    Codel,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct OutageSpec {
    from: Span,
    length: Span,
    every: Option<Span>,
    mode: ModeSpec,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum ModeSpec {
    Drop,
    Hold,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum DrawsSpec {
    Slot,
    Index,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum UdpSpec {
    Pass,
    Block,
    Throttle(RateSpec),
}

/// A string that one of the unit parsers understands, parsed when the file is read so that the error has its line.
macro_rules! measured {
    ($name:ident, $type:ty, $parse:path) => {
        #[derive(Clone, Copy, Debug, Deserialize)]
        #[serde(try_from = "String")]
        struct $name($type);

        impl TryFrom<String> for $name {
            type Error = String;

            fn try_from(text: String) -> Result<Self, String> {
                $parse(&text).map(Self)
            }
        }
    };
}

measured!(Span, Duration, units::duration);
measured!(RateSpec, Rate, units::rate);
measured!(LimitSpec, Limit, units::limit);
measured!(Share, Probability, units::share);

/// A rule that spans several keys is broken: what to do, and where in the text if one place is to blame.
pub(super) struct Broken {
    pub(super) at: Option<std::ops::Range<usize>>,
    pub(super) fix: String,
}

impl Side {
    /// `base` with the keys that this direction names. Trace files are looked up relative to `folder`.
    pub(super) fn law(self, base: Law, folder: &Path) -> Result<Law, Broken> {
        let law = Law {
            delay: self.delay.map_or(base.delay, |span| span.0),
            jitter: self.jitter.map_or(base.jitter, JitterSpec::jitter),
            loss: loss(base.loss, self.loss, self.burst),
            duplicate: self.duplicate.map_or(base.duplicate, |share| share.0),
            corrupt: self.corrupt.map_or(base.corrupt, |share| share.0),
            capacity: capacity(self.rate, self.trace, folder)?.unwrap_or(base.capacity),
            queue: Queue {
                limit: self.queue.map_or(base.queue.limit, |limit| limit.0),
                discipline: self.aqm.map_or(base.queue.discipline, Aqm::discipline),
            },
            outages: match self.outage {
                Some(outages) => outages.into_iter().map(OutageSpec::outage).collect::<Result<_, _>>()?,
                None => base.outages,
            },
            mtu: self.mtu.unwrap_or(base.mtu),
            udp: self.udp.map_or(base.udp, UdpSpec::policy),
            draws: self.draws.map_or(base.draws, DrawsSpec::draws),
        };
        law.check().map_err(|unsound| wrong(&unsound.to_string()))?;
        Ok(law)
    }
}

impl Aqm {
    const fn discipline(self) -> Discipline {
        match self {
            Self::Codel => CODEL,
            Self::None => Discipline::DropTail,
        }
    }
}

impl DrawsSpec {
    const fn draws(self) -> Draws {
        match self {
            Self::Slot => Draws::BySlot,
            Self::Index => Draws::ByIndex,
        }
    }
}

impl JitterSpec {
    fn jitter(self) -> Jitter {
        let shape = match self.shape {
            ShapeSpec::Uniform => Shape::Uniform,
            ShapeSpec::Exponential => Shape::Exponential,
        };
        Jitter { spread: self.spread.0, shape, order: if self.reorder { Order::Free } else { Order::Kept } }
    }
}

impl OutageSpec {
    fn outage(self) -> Result<Outage, Broken> {
        let (from, length, every) = (self.from.0, self.length.0, self.every.map(|every| every.0));
        if every.is_some_and(|every| every <= length) {
            return Err(Broken {
                at: None,
                fix: "an outage comes again before it ends; make `every` longer than `length`".into(),
            });
        }
        Ok(Outage { from, length, every, mode: self.mode.mode() })
    }
}

impl ModeSpec {
    const fn mode(self) -> OutageMode {
        match self {
            Self::Drop => OutageMode::Drop,
            Self::Hold => OutageMode::Hold,
        }
    }
}

/// What an event in a file means: part of the laws, or something to do.
pub(super) enum Meaning {
    /// In this direction, or in both.
    Outage(Outage, Option<Direction>),
    Event(Event),
}

impl EventSpec {
    /// Fails with what to write instead. `path` is the event's path as a number.
    pub(super) fn meaning(self, path: Option<usize>, folder: &Path) -> Result<Meaning, Broken> {
        let (at, every) = (self.at.0, self.every.map(|every| every.0));
        if every.is_some_and(|every| every.is_zero()) {
            return Err(wrong("it would happen without end; make `every` longer than 0"));
        }
        if let Some(stray) = self.stray() {
            return Err(wrong(&format!("`{stray}` means nothing to this event; take it out")));
        }
        let direction = self.direction.map(DirectionSpec::direction);
        let what = match self.what {
            What::Outage => {
                let length = self.length.ok_or_else(|| wrong("an outage needs a `length`"))?;
                let mode = self.mode.unwrap_or(ModeSpec::Drop);
                let spec = OutageSpec { from: self.at, length, every: self.every, mode };
                return spec.outage().map(|outage| Meaning::Outage(outage, direction));
            }
            What::Capacity => {
                let capacity = capacity(self.rate, self.trace, folder)?;
                let capacity = capacity.ok_or_else(|| wrong("a capacity needs a `rate` or a `trace`"))?;
                let towards = |way| direction.is_none_or(|only| only == way).then(|| capacity.clone());
                Happening::Capacity { up: towards(Direction::Up), down: towards(Direction::Down) }
            }
            What::UdpThrottle => {
                let rate = self.rate.ok_or_else(|| wrong("a throttle needs a `rate`"))?;
                Happening::Udp(UdpSpec::Throttle(rate).policy())
            }
            What::UdpBlock => Happening::Udp(UdpPolicy::Block),
            What::UdpPass => Happening::Udp(UdpPolicy::Pass),
            What::NatRebind => Happening::Rebind(Rebinding::Silent),
            What::NatRebindReset => Happening::Rebind(Rebinding::Reset),
            What::LinkDown => Happening::Link { up: false },
            What::LinkUp => Happening::Link { up: true },
            What::CarrierOff => Happening::Carrier { on: false },
            What::CarrierOn => Happening::Carrier { on: true },
            What::RemoveAddress => Happening::Address { present: false },
            What::AddAddress => Happening::Address { present: true },
            What::Prefer => Happening::Prefer,
        };
        if what.needs_interfaces() && path.is_none() {
            return Err(wrong("say on which `path`"));
        }
        Ok(Meaning::Event(Event { at, every, path, what }))
    }
}

impl EventSpec {
    /// A key that is there and means nothing to what happens.
    fn stray(&self) -> Option<&'static str> {
        let known: &[&str] = match self.what {
            What::Outage => &["length", "mode", "direction"],
            What::Capacity => &["rate", "trace", "direction"],
            What::UdpThrottle => &["rate"],
            What::UdpBlock
            | What::UdpPass
            | What::NatRebind
            | What::NatRebindReset
            | What::LinkDown
            | What::LinkUp
            | What::CarrierOff
            | What::CarrierOn
            | What::RemoveAddress
            | What::AddAddress
            | What::Prefer => &[],
        };
        let present = [
            ("length", self.length.is_some()),
            ("mode", self.mode.is_some()),
            ("rate", self.rate.is_some()),
            ("trace", self.trace.is_some()),
            ("direction", self.direction.is_some()),
        ];
        present.into_iter().find(|(key, there)| *there && !known.contains(key)).map(|(key, _)| key)
    }
}

impl DirectionSpec {
    const fn direction(self) -> Direction {
        match self {
            Self::Up => Direction::Up,
            Self::Down => Direction::Down,
        }
    }
}

fn wrong(fix: &str) -> Broken {
    Broken { at: None, fix: fix.into() }
}

impl UdpSpec {
    const fn policy(self) -> UdpPolicy {
        match self {
            Self::Pass => UdpPolicy::Pass,
            Self::Block => UdpPolicy::Block,
            Self::Throttle(rate) => UdpPolicy::Throttle { rate: rate.0, burst: THROTTLE_BURST },
        }
    }
}

/// `base` with another share outside bursts, or other bursts.
fn loss(base: Loss, share: Option<Share>, burst: Option<BurstSpec>) -> Loss {
    let outside = match base {
        Loss::None => Probability::ZERO,
        Loss::Bernoulli(share) => share,
        Loss::GilbertElliott { loss_good, .. } => loss_good,
    };
    let outside = share.map_or(outside, |share| share.0);
    match (burst, base) {
        (Some(burst), _) => Loss::GilbertElliott {
            mean_good: burst.gap.0,
            mean_bad: burst.length.0,
            loss_good: outside,
            loss_bad: burst.loss.0,
        },
        (None, Loss::GilbertElliott { mean_good, mean_bad, loss_bad, .. }) => {
            Loss::GilbertElliott { mean_good, mean_bad, loss_good: outside, loss_bad }
        }
        (None, Loss::None | Loss::Bernoulli(_)) if outside == Probability::ZERO => Loss::None,
        (None, Loss::None | Loss::Bernoulli(_)) => Loss::Bernoulli(outside),
    }
}

/// The capacity that is named, if one is.
fn capacity(
    rate: Option<RateSpec>,
    trace: Option<Spanned<String>>,
    folder: &Path,
) -> Result<Option<Capacity>, Broken> {
    match (rate, trace) {
        (None, None) => Ok(None),
        (Some(rate), None) => Ok(Some(Capacity::Rate(rate.0))),
        (None, Some(path)) => super::read_trace(&folder.join(path.get_ref()))
            .map(|trace| Some(Capacity::Trace(Arc::<Trace>::new(trace))))
            .map_err(|error| Broken { at: Some(path.span()), fix: error.to_string() }),
        (Some(_), Some(path)) => Err(Broken {
            at: Some(path.span()),
            fix: "`rate` and `trace` exclude each other; keep one".into(),
        }),
    }
}
