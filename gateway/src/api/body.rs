//! Reading a request's body: bounded in size and time, and strict about what it holds.

use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use axum::http::{HeaderMap, StatusCode};
use bytes::Bytes;
use carriageway_proto::{Class, SignalPath, Value};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::problem::Problem;
use crate::core::commands::OnOffline;

/// How much and how long.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Most bytes of a body.
    pub bytes: usize,
    /// Longest time for it to arrive.
    pub time: Duration,
}

/// What a command's body says, checked.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct CommandBody {
    /// Its class.
    pub class: Class,
    /// Its target.
    pub path: SignalPath,
    /// The state to reach.
    pub value: Value,
    /// Its ttl, if it names one.
    pub ttl: Option<Duration>,
    /// What to do while the vehicle is not connected.
    pub on_offline: OnOffline,
}

/// Any value in any field: what it must be is said by name below.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    class: serde_json::Value,
    path: serde_json::Value,
    value: serde_json::Value,
    ttl_ms: Option<serde_json::Value>,
    on_offline: Option<serde_json::Value>,
}

/// Reads and checks a command's body.
pub(super) async fn command(request: Request, limits: Limits) -> Result<CommandBody, Problem> {
    json_content(request.headers())?;
    let bytes = read(request, limits).await?;
    parse(&bytes)
}

pub(super) fn json_content(headers: &HeaderMap) -> Result<(), Problem> {
    let kind = headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    if kind.eq_ignore_ascii_case("application/json") {
        return Ok(());
    }
    Err(Problem::new(
        StatusCode::UNSUPPORTED_MEDIA_TYPE,
        "unsupported-media-type",
        "The body is of another kind",
        "send JSON and say so: `Content-Type: application/json`",
    ))
}

/// The whole body. One that says it is too long is refused unread.
pub(super) async fn read(request: Request, limits: Limits) -> Result<Bytes, Problem> {
    let told =
        request.headers().get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    if told.is_some_and(|told| told > limits.bytes as u64) {
        return Err(too_large(limits));
    }
    let body: Limited<Body> = Limited::new(request.into_body(), limits.bytes);
    match tokio::time::timeout(limits.time, body.collect()).await {
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(too_large(limits)),
        Ok(Err(_)) => Err(Problem::new(
            StatusCode::BAD_REQUEST,
            "body-broken-off",
            "The body did not arrive",
            "the connection failed while the body was sent; send the request again with the same key",
        )),
        Err(_) => Err(Problem::new(
            StatusCode::REQUEST_TIMEOUT,
            "body-too-slow",
            "The body took too long",
            format!("a body must arrive within {} ms", limits.time.as_millis()),
        )),
    }
}

/// A request whose body was here too late for what it asks.
pub(super) fn too_late() -> Problem {
    Problem::new(
        StatusCode::REQUEST_TIMEOUT,
        "body-too-slow",
        "The body took too long",
        "it came so slowly that it may not be meant any more, or the gateway's clock went backwards meanwhile; nothing was done; ask again",
    )
}

fn too_large(limits: Limits) -> Problem {
    let detail = format!("a body may have at most {} bytes", limits.bytes);
    Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "body-too-large", "The body is too large", detail)
}

fn parse(bytes: &[u8]) -> Result<CommandBody, Problem> {
    let raw: Raw = json(bytes)?;
    Ok(CommandBody {
        class: class(&raw.class)?,
        path: path(&raw.path)?,
        value: value(raw.value)?,
        ttl: raw.ttl_ms.as_ref().map(ttl).transpose()?,
        on_offline: raw.on_offline.as_ref().map(on_offline).transpose()?.unwrap_or_default(),
    })
}

/// Reads JSON of a known shape.
pub(super) fn json<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    serde_json::from_slice(bytes).map_err(|error| match error.classify() {
        serde_json::error::Category::Data => Problem::invalid("invalid-field", error.to_string()),
        serde_json::error::Category::Io
        | serde_json::error::Category::Syntax
        | serde_json::error::Category::Eof => Problem::new(
            StatusCode::BAD_REQUEST,
            "invalid-json",
            "The body is not JSON",
            format!("the body is not JSON: {error}"),
        ),
    })
}

fn text<'a>(slug: &'static str, field: &str, value: &'a serde_json::Value) -> Result<&'a str, Problem> {
    value.as_str().ok_or_else(|| Problem::invalid(slug, format!("`{field}` must be text")))
}

fn class(value: &serde_json::Value) -> Result<Class, Problem> {
    let allowed = "`class` must be one of safety, drive, body, comfort, config, diagnostics";
    let class = text("invalid-class", "class", value)?.parse::<Class>().ok();
    class.filter(|class| class.is_command()).ok_or_else(|| Problem::invalid("invalid-class", allowed))
}

fn path(value: &serde_json::Value) -> Result<SignalPath, Problem> {
    text("invalid-path", "path", value)?
        .parse()
        .map_err(|error| Problem::invalid("invalid-path", format!("`path` {error}")))
}

pub(super) fn value(value: serde_json::Value) -> Result<Value, Problem> {
    let invalid = |why: &str| Problem::invalid("invalid-value", format!("`value` {why}"));
    match value {
        serde_json::Value::Bool(boolean) => Ok(Value::Bool(boolean)),
        serde_json::Value::Number(number) => number
            .as_i64()
            .map(Value::Int)
            .or_else(|| number.as_f64().filter(|_| !number.is_u64()).map(Value::Float))
            .ok_or_else(|| invalid("is a whole number beyond 64 bits with sign")),
        serde_json::Value::String(text) if text.len() <= Value::MAX_TEXT => Ok(Value::Text(text)),
        serde_json::Value::String(_) => Err(invalid("must have at most 512 bytes")),
        serde_json::Value::Null | serde_json::Value::Array(_) | serde_json::Value::Object(_) => {
            Err(invalid("must be true, false, a number or text"))
        }
    }
}

fn ttl(value: &serde_json::Value) -> Result<Duration, Problem> {
    let millis = value.as_u64().ok_or_else(|| {
        Problem::invalid("invalid-ttl", "`ttl_ms` must be a whole number of milliseconds above 0")
    })?;
    Ok(Duration::from_millis(millis))
}

fn on_offline(value: &serde_json::Value) -> Result<OnOffline, Problem> {
    let named = value.as_str().and_then(OnOffline::from_name);
    named.ok_or_else(|| Problem::invalid("invalid-on-offline", "`on_offline` must be `fail` or `queue`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(body: &str) -> (&'static str, String) {
        let problem = parse(body.as_bytes()).unwrap_err();
        (problem.slug, problem.detail)
    }

    #[test]
    fn a_command_is_read_and_absent_is_not_zero() {
        let body = parse(br#"{"class":"body","path":"A.B","value":50}"#).unwrap();
        assert_eq!(body.value, Value::Int(50));
        assert_eq!((body.class, body.ttl), (Class::Body, None));
        let body = parse(br#"{"class":"body","path":"A.B","value":0.5,"ttl_ms":700}"#).unwrap();
        assert_eq!((body.value, body.ttl), (Value::Float(0.5), Some(Duration::from_millis(700))));
    }

    #[test]
    fn a_number_does_not_come_out_as_its_neighbour() {
        let body = parse(br#"{"class":"body","path":"A.B","value":0.0050000010000000004}"#).unwrap();
        assert_eq!(body.value, Value::Float(0.005_000_001_000_000_000_4));
    }

    #[test]
    fn every_refusal_names_the_field() {
        for (body, slug, field) in [
            (r#"{"class":"body","path":"A.B","value":1,"tll_ms":5}"#, "invalid-field", "tll_ms"),
            (r#"{"class":"body","path":"A.B"}"#, "invalid-field", "value"),
            (r#"{"class":"body","class":"drive","path":"A.B","value":1}"#, "invalid-field", "class"),
            (r#"{"class":7,"path":"A.B","value":1}"#, "invalid-class", "class"),
            (r#"{"class":"bulk","path":"A.B","value":1}"#, "invalid-class", "class"),
            (r#"{"class":"body","path":"A..B","value":1}"#, "invalid-path", "path"),
            (r#"{"class":"body","path":"A.B","value":null}"#, "invalid-value", "value"),
            (r#"{"class":"body","path":"A.B","value":18446744073709551615}"#, "invalid-value", "value"),
            (r#"{"class":"body","path":"A.B","value":1,"ttl_ms":-1}"#, "invalid-ttl", "ttl_ms"),
            (r#"{"class":"body","path":"A.B","value":1,"ttl_ms":"5s"}"#, "invalid-ttl", "ttl_ms"),
            (
                r#"{"class":"body","path":"A.B","value":1,"on_offline":"wait"}"#,
                "invalid-on-offline",
                "on_offline",
            ),
        ] {
            let (got, detail) = refused(body);
            assert_eq!(got, slug, "{body}");
            assert!(detail.contains(field), "{detail}");
        }
        assert_eq!(refused("{").0, "invalid-json");
        assert_eq!(refused("[]").0, "invalid-field");
        let deep = "[".repeat(100_000);
        assert_eq!(refused(&deep).0, "invalid-json", "nesting is bounded");
    }
}
