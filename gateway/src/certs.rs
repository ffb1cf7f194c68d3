//! A development certificate authority: what it issues, and the folder it keeps.
//!
//! Everything is ECDSA P-256 and made in memory first; [`Folder`] is the only part that writes. A fleet
//! in production brings certificates of its own authority in the same shape.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use carriageway_proto::VehicleId;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, SanType, date_time_ymd,
};
use ring::rand::{SecureRandom, SystemRandom};

/// What every vehicle's URI SAN begins with.
pub const VEHICLE_URN: &str = "urn:carriageway:vehicle:";

/// Bytes of a QUIC secret.
pub const SECRET_BYTES: usize = 32;

const DAY: u64 = 86_400;
const AUTHORITY_DAYS: u64 = 3_650;
// The most that browsers accept of a server certificate.
const SERVER_DAYS: u64 = 397;
const VEHICLE_DAYS: u64 = 825;
// A vehicle whose clock runs behind must still find its gateway's certificate good.
const BACKDATED_SECONDS: u64 = 3_600;

/// Why a certificate was not made or kept.
#[derive(Debug, thiserror::Error)]
pub enum CertError {
    /// The library refused: a host name it cannot encode, an authority it cannot read.
    #[error("{what}: {source}")]
    Make {
        /// What was being made.
        what: String,
        /// The library's reason.
        source: rcgen::Error,
    },
    /// The system has no randomness to give.
    #[error("the system's random source failed")]
    Random,
    /// Files are already there; nothing was written.
    #[error("{} already exists and is kept; choose another --dir, or move it away first", .0.display())]
    Exists(PathBuf),
    /// A file could not be read or written.
    #[error("{path}: {source}", path = path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A QUIC secret's file does not hold one.
    #[error("{} must hold {SECRET_BYTES} bytes as hexadecimal; `carriageway-gateway certs init` makes one", .0.display())]
    Secret(PathBuf),
}

impl CertError {
    fn make(what: &str) -> impl FnOnce(rcgen::Error) -> Self {
        move |source| Self::Make { what: what.to_owned(), source }
    }

    fn file(path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::File { path: path.to_owned(), source }
    }
}

/// A certificate or public key with its private key, each in PEM.
#[derive(Clone)]
pub struct Pair {
    /// The certificate; of an operator key pair, the public key.
    pub public: String,
    /// The private key, PKCS#8.
    pub private: String,
}

impl std::fmt::Debug for Pair {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pair").field("public", &self.public).finish_non_exhaustive()
    }
}

/// A certificate authority that can issue.
pub struct Authority {
    pem: Pair,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    /// A new authority, good from an hour before `now` (seconds since the Unix epoch) for ten years.
    pub fn create(now: u64) -> Result<Self, CertError> {
        let what = "making the authority";
        let key = KeyPair::generate().map_err(CertError::make(what))?;
        let mut params = params("Carriageway development CA", now, AUTHORITY_DAYS);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let certificate = params.self_signed(&key).map_err(CertError::make(what))?;
        let pem = Pair { public: certificate.pem(), private: key.serialize_pem() };
        Ok(Self { pem, issuer: Issuer::new(params, key) })
    }

    /// The authority of an earlier [`create`](Self::create).
    pub fn from_pem(pem: Pair) -> Result<Self, CertError> {
        let what = "reading the authority";
        let key = KeyPair::from_pem(&pem.private).map_err(CertError::make(what))?;
        let issuer = Issuer::from_ca_cert_pem(&pem.public, key).map_err(CertError::make(what))?;
        Ok(Self { pem, issuer })
    }

    /// Its certificate and key.
    pub fn pem(&self) -> &Pair {
        &self.pem
    }

    /// A server certificate for localhost, 127.0.0.1, ::1 and these hosts, names or addresses.
    pub fn server(&self, hosts: &[String], now: u64) -> Result<Pair, CertError> {
        let mut params = params("Carriageway gateway", now, SERVER_DAYS);
        params.subject_alt_names = server_names(hosts)?;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        self.issue(params, "making the server certificate")
    }

    /// A vehicle's client certificate: its id as the only SAN.
    pub fn vehicle(&self, id: &VehicleId, now: u64) -> Result<Pair, CertError> {
        self.client(id.as_str(), &[format!("{VEHICLE_URN}{id}")], now)
    }

    /// A client certificate with these URI SANs and no others. A gateway accepts a vehicle only with
    /// exactly one; the rest is for those who test that.
    pub fn client(&self, common_name: &str, uris: &[String], now: u64) -> Result<Pair, CertError> {
        let what = "making the client certificate";
        let mut params = params(common_name, now, VEHICLE_DAYS);
        let uris = uris.iter().map(|uri| uri.as_str().try_into().map(SanType::URI));
        params.subject_alt_names = uris.collect::<Result<_, _>>().map_err(CertError::make(what))?;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        self.issue(params, what)
    }

    fn issue(&self, mut params: CertificateParams, what: &str) -> Result<Pair, CertError> {
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate().map_err(CertError::make(what))?;
        let certificate = params.signed_by(&key, &self.issuer).map_err(CertError::make(what))?;
        Ok(Pair { public: certificate.pem(), private: key.serialize_pem() })
    }
}

/// A new key pair that signs and verifies operators' tokens (ES256).
pub fn operator_key() -> Result<Pair, CertError> {
    let key = KeyPair::generate().map_err(CertError::make("making the operators' key"))?;
    Ok(Pair { public: key.public_key_pem(), private: key.serialize_pem() })
}

/// A new secret from which a gateway derives the keys of its connection ids and stateless resets. Kept
/// across restarts, it lets vehicles notice a restart with their next packet.
pub fn quic_secret() -> Result<[u8; SECRET_BYTES], CertError> {
    let mut secret = [0; SECRET_BYTES];
    SystemRandom::new().fill(&mut secret).map_err(|_| CertError::Random)?;
    Ok(secret)
}

/// Reads the secret that [`Folder::init`] wrote: 64 hexadecimal digits and a newline.
pub fn read_quic_secret(path: &Path) -> Result<[u8; SECRET_BYTES], CertError> {
    let text = fs::read_to_string(path).map_err(CertError::file(path))?;
    from_hex(text.trim()).ok_or_else(|| CertError::Secret(path.to_owned()))
}

/// The folder of a development authority.
///
/// `ca.pem`, `ca.key`, `server.pem`, `server.key`, `operator.pub`, `operator.key`, `quic.secret`, and
/// `vehicles/<id>.pem` with `vehicles/<id>.key`. Private files have mode 0600; nothing is overwritten.
#[derive(Clone, Debug)]
pub struct Folder {
    dir: PathBuf,
}

impl Folder {
    /// The folder at this path; it need not exist.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self { dir: dir.into() }
    }

    /// A file in it.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// Fills an empty or absent folder with an authority, a server certificate for these hosts, an
    /// operators' key pair and a QUIC secret. Writes nothing if any of its files exists.
    pub fn init(&self, hosts: &[String], now: u64) -> Result<(), CertError> {
        let authority = Authority::create(now)?;
        let server = authority.server(hosts, now)?;
        let operator = operator_key()?;
        let secret = to_hex(&quic_secret()?) + "\n";
        self.write_all(&[
            ("ca.pem", PUBLIC, &authority.pem.public),
            ("ca.key", PRIVATE, &authority.pem.private),
            ("server.pem", PUBLIC, &server.public),
            ("server.key", PRIVATE, &server.private),
            ("operator.pub", PUBLIC, &operator.public),
            ("operator.key", PRIVATE, &operator.private),
            ("quic.secret", PRIVATE, &secret),
        ])
    }

    /// The authority in it.
    pub fn authority(&self) -> Result<Authority, CertError> {
        let read = |name: &str| {
            let path = self.path(name);
            fs::read_to_string(&path).map_err(CertError::file(&path))
        };
        Authority::from_pem(Pair { public: read("ca.pem")?, private: read("ca.key")? })
    }

    /// Writes a certificate for each of these vehicles. Stops at the first that exists.
    pub fn vehicles(&self, ids: impl IntoIterator<Item = VehicleId>, now: u64) -> Result<(), CertError> {
        let authority = self.authority()?;
        for id in ids {
            let pair = authority.vehicle(&id, now)?;
            let (certificate, key) = (format!("vehicles/{id}.pem"), format!("vehicles/{id}.key"));
            self.write_all(&[(&certificate, PUBLIC, &pair.public), (&key, PRIVATE, &pair.private)])?;
        }
        Ok(())
    }

    fn write_all(&self, files: &[(&str, Mode, &str)]) -> Result<(), CertError> {
        if let Some((name, ..)) = files.iter().find(|(name, ..)| self.path(name).exists()) {
            return Err(CertError::Exists(self.path(name)));
        }
        files.iter().try_for_each(|(name, mode, text)| write_new(&self.path(name), *mode, text))
    }
}

#[derive(Clone, Copy)]
struct Mode(u32);

const PUBLIC: Mode = Mode(0o644);
const PRIVATE: Mode = Mode(0o600);

fn write_new(path: &Path, mode: Mode, text: &str) -> Result<(), CertError> {
    let parent = path.parent().expect("a file of the folder has the folder as its parent");
    fs::create_dir_all(parent).map_err(CertError::file(parent))?;
    let file = OpenOptions::new().write(true).create_new(true).mode(mode.0).open(path);
    file.and_then(|mut file| file.write_all(text.as_bytes())).map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => CertError::Exists(path.to_owned()),
        _ => CertError::file(path)(error),
    })
}

fn params(common_name: &str, now: u64, days: u64) -> CertificateParams {
    let mut params = CertificateParams::default();
    let epoch = date_time_ymd(1970, 1, 1);
    params.not_before = epoch + Duration::from_secs(now.saturating_sub(BACKDATED_SECONDS));
    params.not_after = epoch + Duration::from_secs(now + days * DAY);
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common_name);
    params
}

fn server_names(hosts: &[String]) -> Result<Vec<SanType>, CertError> {
    let mut names = vec![
        dns("localhost")?,
        SanType::IpAddress(Ipv4Addr::LOCALHOST.into()),
        SanType::IpAddress(Ipv6Addr::LOCALHOST.into()),
    ];
    for host in hosts {
        let name = host.parse::<IpAddr>().map_or_else(|_| dns(host), |ip| Ok(SanType::IpAddress(ip)))?;
        if !names.contains(&name) {
            names.push(name);
        }
    }
    Ok(names)
}

fn dns(host: &str) -> Result<SanType, CertError> {
    let name = host.try_into().map_err(CertError::make(&format!("the host name {host:?}")))?;
    Ok(SanType::DnsName(name))
}

/// Bytes as lower-case hexadecimal.
pub(crate) fn to_hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digits = |byte: &u8| [byte >> 4, byte & 15].map(|half| char::from(DIGITS[usize::from(half)]));
    bytes.iter().flat_map(digits).collect()
}

fn from_hex(text: &str) -> Option<[u8; SECRET_BYTES]> {
    let mut secret = [0; SECRET_BYTES];
    if text.len() != 2 * SECRET_BYTES || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    for (place, byte) in secret.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[2 * place..2 * place + 2], 16).ok()?;
    }
    Some(secret)
}

#[cfg(test)]
mod tests;
