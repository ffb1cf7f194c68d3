//! Whether a configuration makes sense, beyond its shape.

use std::fmt;
use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use carriageway_proto::{Class, MAX_FRAME, Policy, PolicyTable};
use carriageway_transport::settings::line_of;
use rustls::crypto::ring::sign::any_supported_type;
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use x509_parser::parse_x509_certificate;

use super::{ClassOverride, Config, Limits};
use crate::auth::{self, Verifier};
use crate::certs;
use crate::serve::SHORTEST_DRAIN;

/// Something in a configuration that would go wrong later.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The dotted key.
    pub key: String,
    /// The file and line it came from, where it came from a file.
    pub place: Option<(PathBuf, usize)>,
    /// What is wrong.
    pub what: String,
    /// What to do.
    pub fix: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some((file, line)) = &self.place {
            write!(f, "{}:{line}: ", file.display())?;
        }
        write!(f, "{}: {}; {}", self.key, self.what, self.fix)
    }
}

impl Config {
    /// Looks for what would go wrong later: unreadable files, a key of another certificate, ports that
    /// collide, limits and lifetimes of nothing. Opens files, but no sockets.
    pub fn check(&self) -> Result<(), Vec<Problem>> {
        let mut findings = Findings::default();
        addresses(self, &mut findings);
        server_identity(self, &mut findings);
        authorities(self, &mut findings);
        tokens(self, &mut findings);
        limits(&self.limits, &mut findings);
        for (key, number) in [
            ("commands.operator_rate", self.commands.operator_rate),
            ("commands.operator_burst", self.commands.operator_burst),
        ] {
            if number == 0 {
                findings.add(
                    key,
                    "no operator could send a command",
                    "give it a number above 0, such as 100",
                );
            }
        }
        if self.store.path.file_name().is_none() || self.store.path.is_dir() {
            findings.add("store.path", "it names no file", "name a file, such as state/gateway.db");
        }
        if self.store.max_bytes == 0 {
            findings.add("store.max_bytes", "nothing could be kept", "give it room, such as 1073741824");
        }
        if self.drain.deadline() < SHORTEST_DRAIN {
            findings.add(
                "drain.deadline_ms",
                "nothing could finish before the goodbyes",
                "give it some seconds, such as 10000, and at least 2000",
            );
        }
        if !(1_000..=10_000).contains(&self.lease.ttl_ms) {
            let what = "shorter, and a lost renewal or two end the lease; longer, and nobody else can drive";
            findings.add("lease.ttl_ms", what, "give it 1000 to 10000");
        }
        for (name, change) in &self.classes {
            class(name, *change, &mut findings);
        }
        if let Some(Err(error)) = self.quic.secret.as_deref().map(certs::read_quic_secret) {
            findings.add(
                "quic.secret",
                error,
                "name a file made by `carriageway-gateway certs init`, or none",
            );
        }
        if self.log.check().is_err() {
            findings.add(
                "log.filter",
                "cannot be read",
                "write a level, or pairs such as `carriageway_gateway=debug,warn`",
            );
        }
        findings.placed(self.file.as_deref())
    }
}

#[derive(Default)]
struct Findings(Vec<Problem>);

impl Findings {
    fn add(&mut self, key: impl Into<String>, what: impl fmt::Display, fix: impl Into<String>) {
        self.0.push(Problem { key: key.into(), place: None, what: what.to_string(), fix: fix.into() });
    }

    fn placed(mut self, file: Option<&Path>) -> Result<(), Vec<Problem>> {
        let text = file.and_then(|file| Some((file, fs::read_to_string(file).ok()?)));
        for problem in &mut self.0 {
            let place =
                |(file, text): &(&Path, String)| Some((file.to_path_buf(), line_of(text, &problem.key)?));
            problem.place = text.as_ref().and_then(place);
        }
        if self.0.is_empty() { Ok(()) } else { Err(self.0) }
    }
}

fn addresses(config: &Config, findings: &mut Findings) {
    let listen = &config.listen;
    if listen.udp.is_empty() {
        findings.add("listen.udp", "no vehicle could connect over QUIC", "name at least one address");
    }
    for (place, one) in listen.udp.iter().enumerate() {
        if let Some(other) = listen.udp[..place].iter().find(|other| collide(**other, *one)) {
            findings.add("listen.udp", format!("{one} and {other} are the same port"), "remove one of them");
        }
    }
    if collide(listen.tcp, listen.internal) {
        let what = format!("{} is also where listen.tcp is", listen.internal);
        findings.add("listen.internal", what, "give health and metrics a port of their own");
    }
}

fn collide(one: SocketAddr, other: SocketAddr) -> bool {
    let same_host = one.ip() == other.ip() || one.ip().is_unspecified() || other.ip().is_unspecified();
    one.port() != 0 && one.port() == other.port() && one.is_ipv4() == other.is_ipv4() && same_host
}

fn server_identity(config: &Config, findings: &mut Findings) {
    let tls = &config.tls;
    let chain = certificates("tls.cert", &tls.cert, findings);
    let key = readable("tls.key", &tls.key, findings).and_then(|()| {
        let key = PrivateKeyDer::from_pem_file(&tls.key).ok().and_then(|key| any_supported_type(&key).ok());
        if key.is_none() {
            findings.add(
                "tls.key",
                format!("{} holds no private key", tls.key.display()),
                "name a PEM file of PKCS#8, ECDSA P-256 by preference",
            );
        }
        key
    });
    let Some(chain) = chain else { return };
    if let Some(gone) = chain.first().and_then(|cert| ended_for(cert, auth::unix_now())) {
        let what = format!("the certificate ended {} days ago", gone / 86_400);
        findings.add(
            "tls.cert",
            what,
            "renew it; for development move the folder away and run `carriageway-gateway certs init`",
        );
    }
    if let Some(key) = key
        && CertifiedKey::new(chain, key).keys_match().is_err()
    {
        let what = format!("it is not the key of the certificate in {}", tls.cert.display());
        findings.add("tls.key", what, "name the two files that were made together");
    }
}

fn authorities(config: &Config, findings: &mut Findings) {
    certificates("tls.ca", &config.tls.ca, findings);
}

/// Seconds since the end of this certificate, if that has come.
fn ended_for(certificate: &CertificateDer<'_>, now: u64) -> Option<u64> {
    let (_, certificate) = parse_x509_certificate(certificate).ok()?;
    let end = u64::try_from(certificate.validity().not_after.timestamp()).ok()?;
    now.checked_sub(end)
}

fn certificates(key: &str, path: &Path, findings: &mut Findings) -> Option<Vec<CertificateDer<'static>>> {
    readable(key, path, findings)?;
    let chain: Result<Vec<_>, _> = CertificateDer::pem_file_iter(path).and_then(Iterator::collect);
    match chain {
        Ok(chain) if !chain.is_empty() => Some(chain),
        Ok(_) | Err(_) => {
            findings.add(
                key,
                format!("{} holds no certificate", path.display()),
                "name a PEM file with BEGIN CERTIFICATE",
            );
            None
        }
    }
}

fn readable(key: &str, path: &Path, findings: &mut Findings) -> Option<()> {
    let error = match File::open(path).and_then(|file| file.metadata()) {
        Ok(about) if about.is_file() => return Some(()),
        Ok(_) => "it is no file".to_owned(),
        Err(error) => error.to_string(),
    };
    let whole = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let fix = "name an existing file, or run `carriageway-gateway certs init` for development ones";
    findings.add(key, format!("cannot read {}: {error}", whole.display()), fix);
    None
}

fn tokens(config: &Config, findings: &mut Findings) {
    let auth = &config.auth;
    if readable("auth.public_key", &auth.public_key, findings).is_some()
        && let Err(error) = Verifier::from_config(auth)
    {
        findings.add("auth.public_key", error, "name the public half of the key that signs tokens");
    }
    if auth.audience.is_empty() {
        findings.add(
            "auth.audience",
            "tokens for anybody would be accepted",
            "name this gateway, such as \"carriageway\"",
        );
    }
    if auth.issuer.as_deref() == Some("") {
        findings.add("auth.issuer", "no token has an empty issuer", "name the issuer, or remove the line");
    }
}

fn limits(limits: &Limits, findings: &mut Findings) {
    let all = [
        ("vehicles", limits.vehicles),
        ("tcp_connections", limits.tcp_connections),
        ("body_bytes", limits.body_bytes),
        ("command_records", limits.command_records),
        ("event_streams", limits.event_streams),
        ("event_backlog", limits.event_backlog),
        ("pending_handshakes", limits.pending_handshakes),
        ("handshake_ms", limits.handshake_ms),
        ("request_ms", limits.request_ms),
    ];
    for (name, _) in all.iter().filter(|(_, limit)| *limit == 0) {
        findings.add(
            format!("limits.{name}"),
            "a limit of 0 refuses everything",
            "give it a number above 0, or remove the line for the default",
        );
    }
}

fn class(name: &str, change: ClassOverride, findings: &mut Findings) {
    let Ok(class) = name.parse::<Class>() else {
        let names = Class::ALL.map(Class::name).join(", ");
        findings.add(format!("classes.{name}"), "there is no such class", format!("use one of {names}"));
        return;
    };
    let policy = change.onto(PolicyTable::defaults()[class]);
    let mut add =
        |field: &str, what: &str, fix: &str| findings.add(format!("classes.{name}.{field}"), what, fix);
    nothing(&policy, &mut add);
    if policy.queue_bytes < MAX_FRAME as u32 {
        add("queue_bytes", "the largest frame would never fit", "give it at least 65536");
    }
    if class == Class::Safety && policy.rate_per_second.is_some() {
        add("rate_per_second", "an emergency stop must never be held back", "remove the line");
    }
    if class == Class::Safety && !policy.duplicate_window.is_zero() {
        add("duplicate_window_ms", "an emergency stop must never count as a repeat", "remove the line");
    }
    if policy.queue_offline && !PolicyTable::defaults()[class].queue_offline {
        add("queue_offline", "what moves or stops a vehicle must never be kept for later", "remove the line");
    }
    let safety = PolicyTable::defaults()[Class::Safety].priority;
    if class != Class::Session && class != Class::Safety && policy.priority >= safety {
        add("priority", "it would compete with an emergency stop", "stay below the priority of safety, 60");
    }
}

fn nothing(policy: &Policy, add: &mut impl FnMut(&str, &str, &str)) {
    if policy.ttl.is_some_and(|ttl| ttl.is_zero()) {
        add(
            "ttl_ms",
            "with a ttl of 0 every command has expired before it is sent",
            "give it at least some hundreds, or remove the line for the default",
        );
    }
    let counts = [
        ("rate_per_second", policy.rate_per_second.unwrap_or(1)),
        ("burst", policy.burst),
        ("in_flight", policy.in_flight),
        ("queue_frames", policy.queue_frames),
    ];
    for (field, _) in counts.iter().filter(|(_, count)| *count == 0) {
        add(
            field,
            "with 0 no command ever passes",
            "give it a number above 0, or remove the line for the default",
        );
    }
}
