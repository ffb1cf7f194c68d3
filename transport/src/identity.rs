//! Who a peer is: read from its certificate alone, never from what it sends.

use std::fmt;

use carriageway_proto::VehicleId;
use carriageway_proto::id::IdError;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;

/// What a vehicle's URI begins with; its id follows.
pub const VEHICLE_URN: &str = "urn:carriageway:vehicle:";

/// The peer of a connection, proven by the certificate it presented.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Identity {
    /// A vehicle.
    Vehicle(VehicleId),
}

/// Why a certificate gives no identity. The sentence is fit to be sent to the peer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// No certificate was presented.
    #[error("no certificate was presented; a vehicle must present its own")]
    NoCertificate,
    /// Not a certificate.
    #[error("the certificate cannot be read: {0}")]
    Unreadable(String),
    /// No subject alternative name: a common name alone is no identity.
    #[error("the certificate has no subject alternative name; it needs exactly one, {VEHICLE_URN}<id>")]
    NoName,
    /// More than one subject alternative name: which one is meant is not ours to guess.
    #[error("the certificate has {0} subject alternative names; it needs exactly one, {VEHICLE_URN}<id>")]
    Ambiguous(usize),
    /// A name of another type, or a URI that is no vehicle's.
    #[error("the certificate names {0:?}, which is no vehicle; it needs {VEHICLE_URN}<id>")]
    NoVehicle(String),
    /// A vehicle's URI with an id that breaks the rules.
    #[error("the certificate's vehicle id {0}")]
    BadId(#[source] IdError),
}

impl Identity {
    /// Reads the identity from a DER-encoded X.509 certificate. It must have exactly one subject
    /// alternative name, the URI `urn:carriageway:vehicle:<id>`. Whether the certificate is to be
    /// trusted is TLS's business and must have been decided before.
    pub fn from_certificate(der: &[u8]) -> Result<Self, IdentityError> {
        let (_, certificate) =
            X509Certificate::from_der(der).map_err(|e| IdentityError::Unreadable(e.to_string()))?;
        let extension =
            certificate.subject_alternative_name().map_err(|e| IdentityError::Unreadable(e.to_string()))?;
        let names = extension.map_or(&[][..], |extension| &extension.value.general_names);
        match names {
            [] => Err(IdentityError::NoName),
            [GeneralName::URI(uri)] => Self::from_uri(uri),
            [other] => Err(IdentityError::NoVehicle(cut(&other.to_string()))),
            several => Err(IdentityError::Ambiguous(several.len())),
        }
    }

    /// Reads the identity from the chain that TLS gave after the handshake, the peer's own
    /// certificate first.
    pub fn from_chain<C: AsRef<[u8]>>(chain: &[C]) -> Result<Self, IdentityError> {
        Self::from_certificate(chain.first().ok_or(IdentityError::NoCertificate)?.as_ref())
    }

    /// The vehicle, where it is one.
    pub fn vehicle(&self) -> Option<&VehicleId> {
        match self {
            Self::Vehicle(id) => Some(id),
        }
    }

    fn from_uri(uri: &str) -> Result<Self, IdentityError> {
        let id = uri.strip_prefix(VEHICLE_URN).ok_or_else(|| IdentityError::NoVehicle(cut(uri)))?;
        id.parse().map(Self::Vehicle).map_err(IdentityError::BadId)
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Vehicle(id) => write!(f, "vehicle {id}"),
        }
    }
}

/// A name from a stranger's certificate, short enough for a close reason.
fn cut(name: &str) -> String {
    name.chars().take(80).collect()
}
