//! Who a vehicle is: its certificate and key, from files.

use std::path::{Path, PathBuf};

use carriageway_proto::VehicleId;
use carriageway_transport::identity::{Identity, IdentityError};
use carriageway_transport::tls::{Credentials, Pem, TlsError};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

/// A vehicle's id with the files that prove it.
#[derive(Clone, Debug)]
pub struct Proven {
    /// From the certificate.
    pub id: VehicleId,
    /// Certificate and key.
    pub credentials: Credentials,
}

/// Why files give no identity. Each names the file and what to do.
#[derive(Debug, thiserror::Error)]
pub enum ProofError {
    /// A file is not what TLS needs.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The certificate names no vehicle.
    #[error("{}: {source}; make one with `carriageway-gateway certs vehicle <id>`", path.display())]
    Nameless {
        /// The certificate's file.
        path: PathBuf,
        /// What is wrong with it.
        source: IdentityError,
    },
    /// A directory that cannot be read.
    #[error("cannot read the directory {}: {source}; make certificates with `carriageway-gateway certs init`", path.display())]
    NoDirectory {
        /// The directory.
        path: PathBuf,
        /// The operating system's word.
        source: std::io::Error,
    },
    /// Fewer certificates than vehicles.
    #[error("{} vehicles need as many certificates, but {} holds {found}; make more with `carriageway-gateway certs vehicle <id>`", wanted, path.display())]
    TooFew {
        /// The directory.
        path: PathBuf,
        /// Certificates in it.
        found: usize,
        /// Vehicles.
        wanted: usize,
    },
    /// A pattern that gives every vehicle the same file.
    #[error("the pattern {0:?} has no {{id}} in it, which stands for 1, 2, 3 ...")]
    NoPlace(String),
    /// Two files for one vehicle.
    #[error("two of the certificates are for vehicle {0}; each simulated vehicle needs its own")]
    Twice(VehicleId),
}

/// Reads a vehicle's certificate and key.
pub fn read(certificate: &Path, key: &Path) -> Result<Proven, ProofError> {
    let credentials = Credentials::new(&Pem::read(certificate)?, &Pem::read(key)?)?;
    let nameless = |source| ProofError::Nameless { path: certificate.into(), source };
    let own = CertificateDer::from_pem_file(certificate)
        .map_err(|e| nameless(IdentityError::Unreadable(e.to_string())))?;
    let Identity::Vehicle(id) = Identity::from_certificate(&own).map_err(nameless)?;
    Ok(Proven { id, credentials })
}

/// The first `count` vehicles of a directory, by name: `<name>.pem` with `<name>.key`.
pub fn from_directory(path: &Path, count: usize) -> Result<Vec<Proven>, ProofError> {
    let unreadable = |source| ProofError::NoDirectory { path: path.into(), source };
    let entries = std::fs::read_dir(path).map_err(unreadable)?;
    let mut files: Vec<PathBuf> = entries
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .filter(|file| file.extension().is_some_and(|extension| extension == "pem"))
        .collect();
    files.sort();
    if files.len() < count {
        return Err(ProofError::TooFew { path: path.into(), found: files.len(), wanted: count });
    }
    all_different(files.iter().take(count).map(|file| read(file, &file.with_extension("key"))))
}

/// Vehicles 1 to `count`, by a pattern such as `certs/vehicles/sim-{id}.pem`; each key beside its certificate, as
/// `.key`.
pub fn from_pattern(pattern: &str, count: usize) -> Result<Vec<Proven>, ProofError> {
    if !pattern.contains("{id}") {
        return Err(ProofError::NoPlace(pattern.into()));
    }
    all_different((1..=count).map(|number| {
        let file = PathBuf::from(pattern.replace("{id}", &number.to_string()));
        read(&file, &file.with_extension("key"))
    }))
}

fn all_different(read: impl Iterator<Item = Result<Proven, ProofError>>) -> Result<Vec<Proven>, ProofError> {
    let mut ids = std::collections::BTreeSet::new();
    read.map(|proven| {
        let proven = proven?;
        if ids.insert(proven.id.clone()) { Ok(proven) } else { Err(ProofError::Twice(proven.id)) }
    })
    .collect()
}
