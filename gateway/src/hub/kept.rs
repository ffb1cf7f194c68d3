//! A command's record as a document of the store: JSON, so that a person with `sqlite3` can read it.

use std::time::Duration;

use carriageway_proto::time::micros;
use carriageway_proto::{BootId, Moment, Phase, Reason, Value};
use serde::{Deserialize, Serialize};

use crate::core::commands::{CommandId, Kept, OnOffline, Record, Request, Restored, Step};
use crate::core::lease::NotDriving;

/// A document that is no record.
#[derive(Debug, thiserror::Error)]
#[error(
    "the store's record of command {id} cannot be read: {why}; move the store away, and treat the commands in it as unknown"
)]
pub struct BadRecord {
    id: CommandId,
    why: String,
}

#[derive(Serialize, Deserialize)]
struct Document {
    boot: [u8; 16],
    vehicle: String,
    key: String,
    class: String,
    path: String,
    value: Target,
    ttl_us: u64,
    operator: String,
    on_offline: String,
    accepted_us: u64,
    may_have_left: bool,
    timeline: Vec<Reached>,
}

#[derive(Serialize, Deserialize)]
enum Target {
    Bool(bool),
    Int(i64),
    /// Its bits: JSON has no way to write down every number.
    FloatBits(u64),
    Text(String),
}

#[derive(Serialize, Deserialize)]
struct Reached {
    phase: String,
    at_us: u64,
    reason: Option<String>,
    detail: String,
}

/// The document of a record, whose moments are by the clock of `boot`.
pub(super) fn write(kept: &Kept, boot: BootId) -> Vec<u8> {
    let Record { request, ttl, accepted, timeline, .. } = &kept.record;
    let timeline = timeline.iter().map(|step| Reached {
        phase: step.phase.name().into(),
        at_us: step.at.as_micros(),
        reason: step.reason.map(|reason| reason.name().into()),
        detail: step.detail.clone(),
    });
    let document = Document {
        boot: *boot.as_bytes(),
        vehicle: request.vehicle.to_string(),
        key: request.key.to_string(),
        class: request.class.name().into(),
        path: request.path.to_string(),
        value: match &request.value {
            Value::Bool(boolean) => Target::Bool(*boolean),
            Value::Int(integer) => Target::Int(*integer),
            Value::Float(number) => Target::FloatBits(number.to_bits()),
            Value::Text(text) => Target::Text(text.clone()),
        },
        ttl_us: micros(*ttl),
        operator: request.operator.clone(),
        on_offline: request.on_offline.name().into(),
        accepted_us: accepted.as_micros(),
        may_have_left: kept.may_have_left,
        timeline: timeline.collect(),
    };
    serde_json::to_vec(&document).expect("text and numbers are always JSON")
}

/// The records of these documents, read at a gateway whose host runs as `boot`.
pub(super) fn read_all(documents: &[([u8; 16], Vec<u8>)], boot: BootId) -> Result<Vec<Restored>, BadRecord> {
    let one = |(id, document): &([u8; 16], Vec<u8>)| {
        let id = CommandId::from_bytes(*id);
        read(id, document, boot).map_err(|why| BadRecord { id, why })
    };
    documents.iter().map(one).collect()
}

fn read(id: CommandId, document: &[u8], boot: BootId) -> Result<Restored, String> {
    let document: Document = serde_json::from_slice(document).map_err(|error| error.to_string())?;
    let bad = |what: &str, why: &dyn std::fmt::Display| format!("its {what}: {why}");
    let request = Request {
        vehicle: document.vehicle.parse().map_err(|e| bad("vehicle", &e))?,
        key: document.key.parse().map_err(|e| bad("key", &e))?,
        class: document.class.parse().map_err(|e| bad("class", &e))?,
        path: document.path.parse().map_err(|e| bad("path", &e))?,
        value: match document.value {
            Target::Bool(boolean) => Value::Bool(boolean),
            Target::Int(integer) => Value::Int(integer),
            Target::FloatBits(bits) => Value::Float(f64::from_bits(bits)),
            Target::Text(text) => Value::Text(text),
        },
        ttl: None,
        operator: document.operator,
        on_offline: OnOffline::from_name(&document.on_offline)
            .ok_or_else(|| bad("on_offline", &document.on_offline))?,
        drives: Err(NotDriving::NoLease),
    };
    let timeline = document.timeline.into_iter().map(step).collect::<Result<_, _>>()?;
    let (ttl, accepted) = (Duration::from_micros(document.ttl_us), Moment::from_micros(document.accepted_us));
    let record = Record::restored(id, request, ttl, accepted, timeline);
    let kept = Kept { record, may_have_left: document.may_have_left };
    Ok(Restored { kept, is_same_boot: document.boot == *boot.as_bytes() })
}

fn step(reached: Reached) -> Result<Step, String> {
    let Reached { phase, at_us, reason, detail } = reached;
    let phase = Phase::from_name(&phase).ok_or_else(|| format!("there is no phase {phase:?}"))?;
    let reason = reason.as_deref().and_then(Reason::from_name);
    Ok(Step { phase, at: Moment::from_micros(at_us), reason, detail })
}

#[cfg(test)]
mod tests {
    use carriageway_proto::Class;

    use super::*;

    #[test]
    fn a_record_comes_back_as_it_was() {
        let at = Moment::from_micros(7_000_000);
        for value in [Value::Bool(true), Value::Int(-5), Value::Float(0.1), Value::Text("a \"b\"".into())] {
            let request = Request {
                vehicle: "truck".parse().unwrap(),
                key: "k-1".parse().unwrap(),
                class: Class::Comfort,
                path: "A.B".parse().unwrap(),
                value,
                ttl: None,
                operator: "ada".into(),
                on_offline: OnOffline::Queue,
                drives: Err(NotDriving::NoLease),
            };
            let timeline = vec![
                Step { phase: Phase::Created, at, reason: None, detail: String::new() },
                Step { phase: Phase::Rejected, at, reason: Some(Reason::Busy), detail: "no room".into() },
            ];
            let id = CommandId::from_bytes([3; 16]);
            let record = Record::restored(id, request, Duration::from_millis(1_500), at, timeline);
            let kept = Kept { record, may_have_left: true };
            let boot = BootId::from_bytes([9; 16]);
            let documents = [(id.to_bytes(), write(&kept, boot))];
            let here = Restored { kept: kept.clone(), is_same_boot: true };
            assert_eq!(read_all(&documents, boot).unwrap(), [here]);
            let elsewhere = BootId::from_bytes([8; 16]);
            assert!(!read_all(&documents, elsewhere).unwrap()[0].is_same_boot);
        }
    }

    #[test]
    fn a_damaged_record_is_named_not_skipped() {
        let error = read_all(&[([1; 16], b"{}".to_vec())], BootId::from_bytes([9; 16])).unwrap_err();
        assert!(error.to_string().contains(&"01".repeat(16)), "{error}");
    }
}
