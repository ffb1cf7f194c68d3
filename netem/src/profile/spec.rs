//! The shape of a profile file, and the step from it to laws.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use toml::Spanned;

use super::event::{Event, Happening, Rebinding};
use super::units;
use crate::core::{
    Capacity, Discipline, Jitter, Law, Limit, Loss, Order, Outage, OutageMode, Probability, Queue, Rate,
    Shape, Trace, UdpPolicy,
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
    pub(super) up: Option<Side>,
    pub(super) down: Option<Side>,
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
    pub(super) up: Option<Side>,
    pub(super) down: Option<Side>,
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
    outage: Vec<OutageSpec>,
    mtu: Option<u32>,
    udp: Option<UdpSpec>,
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
    /// The law that this direction means. Trace files are looked up relative to `folder`.
    pub(super) fn law(self, folder: &Path) -> Result<Law, Broken> {
        let base = Law::default();
        Ok(Law {
            delay: self.delay.map_or(base.delay, |span| span.0),
            jitter: self.jitter.map_or(base.jitter, JitterSpec::jitter),
            loss: loss(self.loss, self.burst),
            duplicate: self.duplicate.map_or(base.duplicate, |share| share.0),
            corrupt: self.corrupt.map_or(base.corrupt, |share| share.0),
            capacity: capacity(self.rate, self.trace, folder)?,
            queue: Queue {
                limit: self.queue.map_or(base.queue.limit, |limit| limit.0),
                discipline: match self.aqm {
                    Some(Aqm::Codel) => CODEL,
                    Some(Aqm::None) | None => Discipline::DropTail,
                },
            },
            outages: self.outage.into_iter().map(OutageSpec::outage).collect::<Result<_, _>>()?,
            mtu: self.mtu.unwrap_or(base.mtu),
            udp: self.udp.map_or(base.udp, UdpSpec::policy),
            draws: base.draws,
        })
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
    Outage(Outage),
    Event(Event),
}

impl EventSpec {
    /// Fails with what to write instead. `path` is the event's path as a number.
    pub(super) fn meaning(self, path: Option<usize>, folder: &Path) -> Result<Meaning, Broken> {
        let (at, every) = (self.at.0, self.every.map(|every| every.0));
        if every.is_some_and(|every| every.is_zero()) {
            return Err(wrong("it would happen without end; make `every` longer than 0"));
        }
        let what = match self.what {
            What::Outage => {
                let length = self.length.ok_or_else(|| wrong("an outage needs a `length`"))?;
                let mode = self.mode.unwrap_or(ModeSpec::Drop);
                let spec = OutageSpec { from: self.at, length, every: self.every, mode };
                return spec.outage().map(Meaning::Outage);
            }
            What::Capacity => {
                let capacity = match capacity(self.rate, self.trace, folder)? {
                    Capacity::Unlimited => return Err(wrong("a capacity needs a `rate` or a `trace`")),
                    capacity @ (Capacity::Rate(_) | Capacity::Trace(_)) => Some(capacity),
                };
                match self.direction {
                    Some(DirectionSpec::Up) => Happening::Capacity { up: capacity, down: None },
                    Some(DirectionSpec::Down) => Happening::Capacity { up: None, down: capacity },
                    None => Happening::Capacity { up: capacity.clone(), down: capacity },
                }
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

fn loss(share: Option<Share>, burst: Option<BurstSpec>) -> Loss {
    let base = share.map_or(Probability::ZERO, |share| share.0);
    match burst {
        Some(burst) => Loss::GilbertElliott {
            mean_good: burst.gap.0,
            mean_bad: burst.length.0,
            loss_good: base,
            loss_bad: burst.loss.0,
        },
        None if base == Probability::ZERO => Loss::None,
        None => Loss::Bernoulli(base),
    }
}

fn capacity(
    rate: Option<RateSpec>,
    trace: Option<Spanned<String>>,
    folder: &Path,
) -> Result<Capacity, Broken> {
    match (rate, trace) {
        (None, None) => Ok(Capacity::Unlimited),
        (Some(rate), None) => Ok(Capacity::Rate(rate.0)),
        (None, Some(path)) => super::read_trace(&folder.join(path.get_ref()))
            .map(|trace| Capacity::Trace(Arc::<Trace>::new(trace)))
            .map_err(|error| Broken { at: Some(path.span()), fix: error.to_string() }),
        (Some(_), Some(path)) => Err(Broken {
            at: Some(path.span()),
            fix: "`rate` and `trace` exclude each other; keep one".into(),
        }),
    }
}
