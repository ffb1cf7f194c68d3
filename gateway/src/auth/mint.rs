//! Making tokens: for the command line, for tests and for the benchmark.

use jsonwebtoken::errors::Error as JwtError;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde::Serialize;

/// What a new token says.
#[derive(Clone, Debug, Serialize)]
pub struct Grant {
    /// The operator's name.
    pub sub: String,
    /// The gateway's audience.
    pub aud: String,
    /// The issuer, where the gateway asks for one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub iss: Option<String>,
    /// When it was made, in seconds since the Unix epoch.
    pub iat: u64,
    /// When it ends, in seconds since the Unix epoch.
    pub exp: u64,
    /// Space-separated permissions: `observe`, `command:<class>`, `command:*`, `drive`.
    pub scope: String,
    /// Ids of vehicles, or `*` for all.
    pub vehicles: Vec<String>,
}

/// Why no token was made.
#[derive(Debug, thiserror::Error)]
pub enum MintError {
    /// The key's PEM is neither of the two kinds.
    #[error(
        "the signing key is neither an ECDSA P-256 nor an Ed25519 private key in PKCS#8 PEM; `carriageway-gateway certs init` makes one"
    )]
    Key,
    /// The library refused to sign.
    #[error("the token could not be signed: {0}")]
    Sign(#[from] JwtError),
}

/// Signs a token with a PKCS#8 PEM key: ES256 with ECDSA P-256, EdDSA with Ed25519.
pub fn mint(private_key_pem: &str, grant: &Grant) -> Result<String, MintError> {
    let pem = private_key_pem.as_bytes();
    let (algorithm, key) = EncodingKey::from_ec_pem(pem)
        .map(|key| (Algorithm::ES256, key))
        .or_else(|_| EncodingKey::from_ed_pem(pem).map(|key| (Algorithm::EdDSA, key)))
        .map_err(|_| MintError::Key)?;
    Ok(encode(&Header::new(algorithm), grant, &key)?)
}
