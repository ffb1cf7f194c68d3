use std::os::unix::fs::PermissionsExt;

use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use super::*;
use crate::cli;

const NOW: u64 = 1_800_000_000;

/// Parses a certificate back and hands it to `look`.
fn parsed<T>(pem: &str, look: impl FnOnce(&X509Certificate<'_>) -> T) -> T {
    let der = CertificateDer::from_pem_slice(pem.as_bytes()).unwrap();
    look(&X509Certificate::from_der(&der).unwrap().1)
}

fn names(certificate: &X509Certificate<'_>) -> Vec<String> {
    let names = certificate.subject_alternative_name().unwrap().unwrap();
    let text = |name: &GeneralName<'_>| match name {
        GeneralName::DNSName(name) => format!("dns {name}"),
        GeneralName::URI(name) => format!("uri {name}"),
        GeneralName::IPAddress(bytes) => format!("ip {bytes:?}"),
        other => panic!("an unexpected kind of name: {other:?}"),
    };
    names.value.general_names.iter().map(text).collect()
}

fn life(certificate: &X509Certificate<'_>) -> (i64, i64) {
    let validity = certificate.validity();
    (validity.not_before.timestamp(), validity.not_after.timestamp())
}

#[test]
fn a_vehicle_has_exactly_its_urn_and_may_only_be_a_client() {
    let authority = Authority::create(NOW).unwrap();
    let pair = authority.vehicle(&"truck-7".parse().unwrap(), NOW).unwrap();
    parsed(&pair.public, |vehicle| {
        assert_eq!(names(vehicle), ["uri urn:carriageway:vehicle:truck-7"]);
        let usage = vehicle.extended_key_usage().unwrap().unwrap().value;
        assert!(usage.client_auth && !usage.server_auth && !usage.any);
        assert!(!vehicle.is_ca());
        let (begin, end) = life(vehicle);
        assert!(begin < NOW.cast_signed() && end > (NOW + 365 * DAY).cast_signed());
        parsed(&authority.pem().public, |ca| {
            vehicle.verify_signature(Some(ca.public_key())).unwrap();
            assert_eq!(vehicle.issuer(), ca.subject());
        });
    });
}

#[test]
fn the_server_answers_to_localhost_and_its_hosts_once_each() {
    let authority = Authority::create(NOW).unwrap();
    let hosts = ["gw.example.org", "192.0.2.7", "localhost", "::1"].map(str::to_owned);
    let pair = authority.server(&hosts, NOW).unwrap();
    parsed(&pair.public, |server| {
        let v6 = format!("ip {:?}", Ipv6Addr::LOCALHOST.octets());
        let expected = ["dns localhost", "ip [127, 0, 0, 1]", &v6, "dns gw.example.org", "ip [192, 0, 2, 7]"];
        assert_eq!(names(server), expected);
        let usage = server.extended_key_usage().unwrap().unwrap().value;
        assert!(usage.server_auth && !usage.client_auth);
        assert_eq!(life(server).1, (NOW + SERVER_DAYS * DAY).cast_signed());
    });
    assert!(matches!(authority.server(&["bücher".into()], NOW), Err(CertError::Make { .. })));
}

#[test]
fn the_authority_signs_certificates_and_no_further_authorities() {
    let authority = Authority::create(NOW).unwrap();
    parsed(&authority.pem().public, |ca| {
        let constraints = ca.basic_constraints().unwrap().unwrap().value;
        assert!(constraints.ca && constraints.path_len_constraint == Some(0));
        assert!(ca.key_usage().unwrap().unwrap().value.key_cert_sign());
    });
}

#[test]
fn an_authority_goes_on_from_its_files() {
    let first = Authority::create(NOW).unwrap();
    let again = Authority::from_pem(first.pem().clone()).unwrap();
    let pair = again.vehicle(&"one".parse().unwrap(), NOW).unwrap();
    parsed(&first.pem().public, |ca| {
        parsed(&pair.public, |vehicle| vehicle.verify_signature(Some(ca.public_key())).unwrap());
    });
    let mixed = Pair { public: first.pem().public.clone(), private: "nothing".into() };
    assert!(Authority::from_pem(mixed).is_err());
}

#[test]
fn init_fills_a_folder_once_and_keeps_private_files_private() {
    let dir = tempfile::tempdir().unwrap();
    let folder = Folder::new(dir.path().join("certs"));
    folder.init(&[], NOW).unwrap();
    for (name, mode) in [
        ("ca.pem", 0o644),
        ("ca.key", 0o600),
        ("server.pem", 0o644),
        ("server.key", 0o600),
        ("operator.pub", 0o644),
        ("operator.key", 0o600),
        ("quic.secret", 0o600),
    ] {
        let found = fs::metadata(folder.path(name)).unwrap().permissions().mode() & 0o777;
        // The umask may take rights from a public file, never add any to a private one.
        assert_eq!(found & !mode, 0, "{name}: {found:o}");
    }
    let before = fs::read(folder.path("server.key")).unwrap();
    fs::remove_file(folder.path("ca.pem")).unwrap();
    assert!(matches!(folder.init(&[], NOW), Err(CertError::Exists(_))));
    assert!(!folder.path("ca.pem").exists(), "a refused init writes nothing");
    assert_eq!(fs::read(folder.path("server.key")).unwrap(), before);
}

#[test]
fn the_quic_secret_is_random_and_read_back() {
    let dir = tempfile::tempdir().unwrap();
    let (one, two) = (Folder::new(dir.path().join("one")), Folder::new(dir.path().join("two")));
    one.init(&[], NOW).unwrap();
    two.init(&[], NOW).unwrap();
    let secret = read_quic_secret(&one.path("quic.secret")).unwrap();
    assert_ne!(secret, read_quic_secret(&two.path("quic.secret")).unwrap());
    for bad in ["", "ab", &"x".repeat(64), &"+f".repeat(32), &"ü".repeat(32)] {
        fs::write(one.path("bad"), bad).unwrap();
        assert!(matches!(read_quic_secret(&one.path("bad")), Err(CertError::Secret(_))), "{bad:?}");
    }
}

#[test]
fn a_fleet_gets_its_certificates_and_none_twice() {
    let dir = tempfile::tempdir().unwrap();
    let folder = Folder::new(dir.path());
    folder.init(&[], NOW).unwrap();
    let ids = ["a", "b", "c"].map(|id| id.parse().unwrap());
    folder.vehicles(ids.clone(), NOW).unwrap();
    for id in &ids {
        let pem = fs::read_to_string(folder.path(&format!("vehicles/{id}.pem"))).unwrap();
        assert_eq!(parsed(&pem, names), [format!("uri {VEHICLE_URN}{id}")]);
    }
    assert!(matches!(folder.vehicles(ids, NOW), Err(CertError::Exists(_))));
}

/// What the `certs` and `token` commands print, run with these arguments.
fn printed<T: clap::Args>(arguments: &[&str], run: impl FnOnce(T, &mut Vec<u8>)) -> String {
    let command = T::augment_args(clap::Command::new("test"));
    let matches = command.try_get_matches_from(arguments).unwrap();
    let mut out = Vec::new();
    run(T::from_arg_matches(&matches).unwrap(), &mut out);
    String::from_utf8(out).unwrap()
}

#[test]
fn the_commands_make_a_folder_whose_token_its_verifier_accepts() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().to_str().unwrap();
    let run = |certs: cli::certs::Certs, out: &mut Vec<u8>| assert!(certs.run(out).is_ok());
    printed(&["test", "init", "--dir", path, "--host", "gw.example.org"], run);
    printed(&["test", "vehicle", "truck-7", "truck-8", "--dir", path], run);
    printed(&["test", "vehicles", "sim", "3", "--dir", path], run);
    for file in ["truck-7.pem", "truck-8.key", "sim-1.pem", "sim-3.key"] {
        assert!(dir.path().join("vehicles").join(file).exists(), "{file}");
    }

    let key = dir.path().join("operator.key");
    let arguments = [
        "test",
        "new",
        "--key",
        key.to_str().unwrap(),
        "--sub",
        "demo",
        "--scope",
        "observe",
        "--vehicles",
        "*",
    ];
    let token = printed(&arguments, |token: cli::token::Token, out: &mut Vec<u8>| {
        token.run(out).unwrap();
    });
    let auth = crate::config::Auth { public_key: dir.path().join("operator.pub"), ..Default::default() };
    let verifier = crate::auth::Verifier::from_config(&auth).unwrap();
    let demo = verifier.verify(token.trim_end(), crate::auth::unix_now()).unwrap();
    assert_eq!(demo.name, "demo");
}
