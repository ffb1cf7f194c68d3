//! Credentials that are wrong say what is wrong.

use carriageway_transport::identity::{Identity, IdentityError};
use carriageway_transport::tls::{self, Authority, Credentials, Pem, TlsError};
use rcgen::SanType;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use crate::support::{Ca, uri};

fn identity(names: Vec<SanType>) -> Result<Identity, IdentityError> {
    let (certificate, _) = Ca::new("ca").issue_pem(names);
    Identity::from_certificate(&CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap())
}

#[test]
fn identity_is_exactly_one_uri() {
    let id = "truck-7".parse().unwrap();
    assert_eq!(identity(vec![uri("urn:carriageway:vehicle:truck-7")]), Ok(Identity::Vehicle(id)));
    assert_eq!(identity(vec![]), Err(IdentityError::NoName), "a common name alone");
    let two = vec![uri("urn:carriageway:vehicle:a"), uri("urn:carriageway:vehicle:b")];
    assert_eq!(identity(two), Err(IdentityError::Ambiguous(2)));
    let mixed = vec![uri("urn:carriageway:vehicle:a"), SanType::DnsName("a.example".try_into().unwrap())];
    assert_eq!(identity(mixed), Err(IdentityError::Ambiguous(2)));
    for other in ["https://example.org", "urn:carriageway:operator:a", "URN:carriageway:vehicle:a"] {
        assert!(matches!(identity(vec![uri(other)]), Err(IdentityError::NoVehicle(_))), "{other}");
    }
    let dns = vec![SanType::DnsName("urn.example".try_into().unwrap())];
    assert!(matches!(identity(dns), Err(IdentityError::NoVehicle(_))));
    for bad in ["", "a/b", "a%20b", &"x".repeat(65)] {
        let name = uri(&format!("urn:carriageway:vehicle:{bad}"));
        assert!(matches!(identity(vec![name]), Err(IdentityError::BadId(_))), "{bad:?}");
    }
}

#[test]
fn garbage_is_no_identity() {
    assert!(matches!(Identity::from_certificate(b"not DER"), Err(IdentityError::Unreadable(_))));
    assert_eq!(Identity::from_chain::<Vec<u8>>(&[]), Err(IdentityError::NoCertificate));
}

#[test]
fn errors_name_the_file() {
    let ca = Ca::new("ca");
    let (certificate, key) = ca.issue_pem(vec![uri("urn:carriageway:vehicle:a")]);
    let certificate = Pem::from_text("vehicle.pem", certificate);
    let key = Pem::from_text("vehicle.key", key);

    let missing = Pem::read("no/such.pem".as_ref()).unwrap_err();
    assert!(matches!(missing, TlsError::Unreadable { .. }) && missing.to_string().contains("no/such.pem"));
    let swapped = Credentials::new(&key, &certificate).unwrap_err();
    assert!(matches!(swapped, TlsError::NoCertificate { .. }) && swapped.to_string().contains("vehicle.key"));
    let no_key = Credentials::new(&certificate, &certificate).unwrap_err();
    assert!(matches!(no_key, TlsError::NoKey { .. }) && no_key.to_string().contains("vehicle.pem"));
    let torn = Pem::from_text("torn.pem", "-----BEGIN CERTIFICATE-----\n!!!\n-----END CERTIFICATE-----\n");
    assert!(Authority::new(&torn).unwrap_err().to_string().contains("torn.pem"));

    let (_, other_key) = ca.issue_pem(vec![uri("urn:carriageway:vehicle:b")]);
    let crossed = Credentials::new(&certificate, &Pem::from_text("other.key", other_key)).unwrap();
    let error = tls::quic_client(&ca.authority(), crossed).unwrap_err();
    assert!(matches!(error, TlsError::Mismatch { .. }) && error.to_string().contains("other.key"), "{error}");
}

#[test]
fn configurations_are_strict() {
    let ca = Ca::new("ca");
    let server = tls::quic_server(&ca.authority(), ca.gateway()).unwrap();
    assert_eq!(server.alpn_protocols, [carriageway_proto::ALPN]);
    assert_eq!((server.max_early_data_size, server.send_tls13_tickets), (0, 0));
    assert!(!server.send_half_rtt_data);
    let client = tls::tcp_client(&ca.authority(), ca.vehicle("a")).unwrap();
    assert_eq!(client.alpn_protocols, [tls::HTTP_ALPN]);
    assert!(!client.enable_early_data);
}
