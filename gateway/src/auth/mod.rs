//! Operators' tokens: JSON Web Tokens (RFC 7519) under a fixed algorithm list.
//!
//! The key in the configuration decides the algorithm; the token's header has no say in it and can only
//! agree (RFC 8725, sections 3.1 and 3.2). No error here carries any part of a token.

mod mint;
mod operator;

use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use jsonwebtoken::errors::{Error as JwtError, ErrorKind};
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header};
use serde::Deserialize;

pub use mint::{Grant, MintError, mint};
pub use operator::{Operator, Permission, Scopes, Vehicles};

use crate::config::Auth;

/// The longest token looked at, in bytes: room for about a hundred vehicle ids.
pub const MAX_TOKEN: usize = 8 * 1024;

/// How far clocks of issuer and gateway may differ, in seconds.
pub const LEEWAY: u64 = 5;

const MAX_NAME: usize = 128;

/// Why a token was not accepted, in a sentence for people. Each answers 401.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AuthError {
    /// No `Authorization` header.
    #[error("no token was sent; send it as `Authorization: Bearer <token>`")]
    Missing,
    /// Not a token, or one with claims of a wrong shape.
    #[error("the token cannot be read: {0}")]
    Malformed(&'static str),
    /// `none`, a shared-secret algorithm, or another than that of the gateway's key.
    #[error(
        "the token's algorithm is not accepted here; it must be signed with ES256 or EdDSA by the gateway's key"
    )]
    Algorithm,
    /// Tampered with, or signed by another key.
    #[error(
        "the token's signature does not fit; it was changed, or signed by a key this gateway does not trust"
    )]
    Signature,
    /// A claim that every token must have is absent.
    #[error("the token has no `{0}` claim, which is required")]
    Claim(&'static str),
    /// Its time is over.
    #[error("the token ended {ago} s ago; ask for a new one")]
    Expired {
        /// Seconds since its `exp`.
        ago: u64,
    },
    /// Its time has not begun.
    #[error("the token is good only {ahead} s from now; check the clock of whoever issued it")]
    NotYet {
        /// Seconds until its `nbf`.
        ahead: u64,
    },
    /// Made for somebody else.
    #[error("the token was made for another audience than this gateway")]
    Audience,
    /// Made by somebody else.
    #[error("the token was made by another issuer than this gateway trusts")]
    Issuer,
}

impl AuthError {
    /// The reason as one word, for metrics and machines.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Malformed(_) => "malformed",
            Self::Algorithm => "algorithm",
            Self::Signature => "signature",
            Self::Claim(_) => "claim",
            Self::Expired { .. } => "expired",
            Self::NotYet { .. } => "not-yet",
            Self::Audience => "audience",
            Self::Issuer => "issuer",
        }
    }
}

/// Why tokens cannot be verified at all: the operator of the gateway must act.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The file cannot be read.
    #[error("cannot read {path}: {source}", path = path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file holds something else than a public key of the two kinds.
    #[error(
        "{path} holds neither an ECDSA P-256 nor an Ed25519 public key in PEM (BEGIN PUBLIC KEY)",
        path = path.display()
    )]
    Kind {
        /// The file.
        path: PathBuf,
    },
}

/// Checks tokens against one public key, audience and, where configured, issuer.
#[derive(Clone, Debug)]
pub struct Verifier {
    key: DecodingKey,
    validation: Validation,
}

#[derive(Deserialize)]
struct Claims {
    sub: Option<String>,
    exp: Option<u64>,
    nbf: Option<u64>,
    #[serde(default)]
    scope: String,
    #[serde(default)]
    vehicles: Vec<String>,
}

impl Verifier {
    /// The verifier that a configuration describes; reads the public key's file.
    pub fn from_config(auth: &Auth) -> Result<Self, KeyError> {
        let path = &auth.public_key;
        let pem = std::fs::read(path).map_err(|source| KeyError::Read { path: path.clone(), source })?;
        Self::new(&pem, &auth.audience, auth.issuer.as_deref())
            .ok_or_else(|| KeyError::Kind { path: path.clone() })
    }

    /// The verifier for this public key in PEM; `None` where it is neither ECDSA P-256 nor Ed25519.
    pub fn new(public_key_pem: &[u8], audience: &str, issuer: Option<&str>) -> Option<Self> {
        let (algorithm, key) = public_key(public_key_pem)?;
        let mut validation = Validation::new(algorithm);
        validation.set_audience(&[audience]);
        validation.set_required_spec_claims(&["exp", "aud", "sub"]);
        // Times are judged here against the caller's clock; the library would ask its own.
        validation.validate_exp = false;
        validation.validate_nbf = false;
        if let Some(issuer) = issuer {
            validation.set_issuer(&[issuer]);
            validation.required_spec_claims.insert("iss".into());
        }
        Some(Self { key, validation })
    }

    /// Who sent this token, at a time in seconds since the Unix epoch. `bearer` is the token alone;
    /// see [`bearer`].
    pub fn verify(&self, bearer: &str, now_unix_seconds: u64) -> Result<Operator, AuthError> {
        if bearer.len() > MAX_TOKEN {
            return Err(AuthError::Malformed("it is longer than 8 KiB"));
        }
        let header = decode_header(bearer).map_err(|error| header_error(&error))?;
        if header.crit.is_some() {
            return Err(AuthError::Malformed("it asks for extensions that nobody here knows (crit)"));
        }
        let claims = decode::<Claims>(bearer, &self.key, &self.validation)
            .map_err(|error| token_error(&error))?
            .claims;
        operator(claims, now_unix_seconds)
    }
}

/// The token of an `Authorization` header's value.
pub fn bearer(header: Option<&str>) -> Result<&str, AuthError> {
    let header = header.ok_or(AuthError::Missing)?;
    let (scheme, token) = header.split_once(' ').unwrap_or((header, ""));
    if !scheme.eq_ignore_ascii_case("bearer") {
        return Err(AuthError::Malformed("the Authorization header does not begin with `Bearer `"));
    }
    match token.trim() {
        "" => Err(AuthError::Missing),
        token => Ok(token),
    }
}

/// The wall clock, in whole seconds since the Unix epoch.
#[expect(clippy::disallowed_methods, reason = "a token's end is a date of the outside world")]
pub fn unix_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

fn public_key(pem: &[u8]) -> Option<(Algorithm, DecodingKey)> {
    // An uncompressed point of P-256 has 65 bytes; ES256 knows no other curve.
    let is_p256 = |key: &DecodingKey| key.try_get_as_bytes().is_ok_and(|point| point.len() == 65);
    let ec = DecodingKey::from_ec_pem(pem).ok().filter(is_p256).map(|key| (Algorithm::ES256, key));
    ec.or_else(|| DecodingKey::from_ed_pem(pem).ok().map(|key| (Algorithm::EdDSA, key)))
}

fn header_error(error: &JwtError) -> AuthError {
    match error.kind() {
        // JSON of the wrong content: an `alg` that the library does not know, such as `none`, or no `alg`.
        ErrorKind::Json(json) if json.is_data() => AuthError::Algorithm,
        _ => AuthError::Malformed("it is not a signed JSON Web Token"),
    }
}

fn token_error(error: &JwtError) -> AuthError {
    match error.kind() {
        ErrorKind::InvalidAlgorithm => AuthError::Algorithm,
        ErrorKind::InvalidSignature | ErrorKind::Base64(_) => AuthError::Signature,
        ErrorKind::InvalidAudience => AuthError::Audience,
        ErrorKind::InvalidIssuer => AuthError::Issuer,
        ErrorKind::MissingRequiredClaim(claim) => missing(claim),
        ErrorKind::Json(_) => AuthError::Malformed("one of its claims has the wrong type"),
        _ => AuthError::Malformed("it is not a signed JSON Web Token"),
    }
}

fn missing(claim: &str) -> AuthError {
    match claim {
        "exp" => AuthError::Claim("exp"),
        "aud" => AuthError::Claim("aud"),
        "iss" => AuthError::Claim("iss"),
        _ => AuthError::Claim("sub"),
    }
}

fn check_times(exp: u64, nbf: Option<u64>, now: u64) -> Result<(), AuthError> {
    if exp.saturating_add(LEEWAY) <= now {
        return Err(AuthError::Expired { ago: now - exp });
    }
    match nbf {
        Some(begin) if begin > now.saturating_add(LEEWAY) => Err(AuthError::NotYet { ahead: begin - now }),
        Some(_) | None => Ok(()),
    }
}

fn operator(claims: Claims, now: u64) -> Result<Operator, AuthError> {
    let expires_unix = claims.exp.ok_or(AuthError::Claim("exp"))?;
    check_times(expires_unix, claims.nbf, now)?;
    let name = claims.sub.ok_or(AuthError::Claim("sub"))?;
    if name.is_empty() || name.len() > MAX_NAME || name.chars().any(char::is_control) {
        return Err(AuthError::Malformed("its `sub` must be 1 to 128 printable characters"));
    }
    let vehicles = Vehicles::parse(&claims.vehicles)
        .map_err(|_| AuthError::Malformed("its `vehicles` holds something that is not a vehicle id"))?;
    Ok(Operator { name, scopes: Scopes::parse(&claims.scope), vehicles, expires_unix })
}

#[cfg(test)]
mod tests;
