//! What str0m leaves to others: DTLS by dimpl on RustCrypto, digests by ring.
//!
//! str0m's own provider of this kind is not published for this version, and those that are bring a second provider of
//! cryptography that this tree excludes. There is no media: dimpl offers SRTP's profiles in each handshake and cannot be told not
//! to, but the keys that come of it end here. str0m therefore never asks for a cipher of SRTP, and there is none.

use std::fmt;
use std::sync::{Arc, LazyLock};
use std::time::Instant;

use dimpl::crypto::rust_crypto;
use ring::{digest, hmac};
use str0m::DATAGRAM_MTU_TARGET;
use str0m::crypto::dtls::{
    DtlsCert, DtlsImplError, DtlsInstance, DtlsOutput, DtlsProvider, DtlsVersion, ProtocolVersion,
};
use str0m::crypto::{
    CryptoError, CryptoProvider, Sha1HmacProvider, Sha1Provider, Sha256Provider, SrtpProvider,
    SupportedAeadAes128Gcm, SupportedAeadAes256Gcm, SupportedAes128CmSha1_80,
};

/// All of it.
pub(super) fn provider() -> CryptoProvider {
    CryptoProvider {
        srtp_provider: &NoMedia,
        sha1_hmac_provider: &Ring,
        sha1_provider: &Ring,
        sha256_provider: &Ring,
        dtls_provider: &Dimpl,
    }
}

/// Fails where DTLS cannot be had. To be called before time counts: the library tries each of its algorithms once.
pub(super) fn prove() -> Result<(), dimpl::Error> {
    CONFIG.as_ref().map(drop).map_err(Clone::clone)
}

/// Of all connections. ICE has proven that the other end is where it says, so the server asks for no cookie.
static CONFIG: LazyLock<Result<Arc<dimpl::Config>, dimpl::Error>> = LazyLock::new(|| {
    let config = dimpl::Config::builder()
        .with_crypto_provider(rust_crypto::default_provider())
        .use_server_cookie(false)
        .mtu(DATAGRAM_MTU_TARGET);
    config.build().map(Arc::new)
});

/// Digests.
#[derive(Debug)]
struct Ring;

impl Sha1HmacProvider for Ring {
    fn sha1_hmac(&self, key: &[u8], payloads: &[&[u8]]) -> [u8; 20] {
        let mut context = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, key));
        for payload in payloads {
            context.update(payload);
        }
        context.sign().as_ref().try_into().expect("SHA-1 has 20 bytes")
    }
}

impl Sha1Provider for Ring {
    fn sha1(&self, data: &[u8]) -> [u8; 20] {
        let digest = digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, data);
        digest.as_ref().try_into().expect("SHA-1 has 20 bytes")
    }
}

impl Sha256Provider for Ring {
    fn sha256(&self, data: &[u8]) -> [u8; 32] {
        digest::digest(&digest::SHA256, data).as_ref().try_into().expect("SHA-256 has 32 bytes")
    }
}

/// DTLS.
#[derive(Debug)]
struct Dimpl;

impl DtlsProvider for Dimpl {
    /// None: each end shows the certificate that the run has made for it.
    fn generate_certificate(&self) -> Option<DtlsCert> {
        None
    }

    /// The size of packets is str0m's default, which nothing here changes.
    fn new_dtls(
        &self,
        certificate: &DtlsCert,
        now: Instant,
        version: DtlsVersion,
        _mtu: Option<usize>,
    ) -> Result<Box<dyn DtlsInstance>, CryptoError> {
        let config = CONFIG.as_ref().map_err(|error| CryptoError::DtlsImpl(error.clone()))?.clone();
        let certificate = certificate.clone();
        let dtls = match version {
            DtlsVersion::Dtls12 => dimpl::Dtls::new_12(config, certificate, now),
            DtlsVersion::Dtls13 => dimpl::Dtls::new_13(config, certificate, now),
            DtlsVersion::Auto => dimpl::Dtls::new_auto(config, certificate, now),
            other => return Err(CryptoError::Other(format!("dimpl has no {other}"))),
        };
        Ok(Box::new(Association { dtls, now }))
    }
}

/// One connection's DTLS.
struct Association {
    dtls: dimpl::Dtls,
    /// As it was last told.
    now: Instant,
}

impl fmt::Debug for Association {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Association").finish_non_exhaustive()
    }
}

impl DtlsInstance for Association {
    fn set_active(&mut self, active: bool) {
        self.dtls.set_active(active);
    }

    fn handle_packet(&mut self, packet: &[u8]) -> Result<(), DtlsImplError> {
        self.dtls.handle_packet(packet)
    }

    fn poll_output<'a>(&mut self, buffer: &'a mut [u8]) -> DtlsOutput<'a> {
        match self.dtls.poll_output(buffer) {
            // Keys for media, of which there is none. What else there is it asks for at once.
            DtlsOutput::KeyingMaterial(..) => DtlsOutput::Timeout(self.now),
            output => output,
        }
    }

    fn handle_timeout(&mut self, now: Instant) -> Result<(), DtlsImplError> {
        self.now = now;
        self.dtls.handle_timeout(now)
    }

    fn send_application_data(&mut self, data: &[u8]) -> Result<usize, DtlsImplError> {
        self.dtls.send_application_data(data)
    }

    fn is_active(&self) -> bool {
        self.dtls.is_active()
    }

    fn protocol_version(&self) -> Option<ProtocolVersion> {
        self.dtls.protocol_version()
    }

    fn is_closing(&self) -> bool {
        self.dtls.is_closing()
    }

    fn is_closed(&self) -> bool {
        self.dtls.is_closed()
    }

    fn close(&mut self) -> Result<(), DtlsImplError> {
        self.dtls.close()
    }
}

/// SRTP, none of whose profiles are there.
#[derive(Debug)]
struct NoMedia;

fn refuse() -> ! {
    panic!("str0m is given no keys for media, so it asks for no cipher")
}

impl SrtpProvider for NoMedia {
    fn aes_128_cm_sha1_80(&self) -> &'static dyn SupportedAes128CmSha1_80 {
        refuse()
    }

    fn aead_aes_128_gcm(&self) -> &'static dyn SupportedAeadAes128Gcm {
        refuse()
    }

    fn aead_aes_256_gcm(&self) -> &'static dyn SupportedAeadAes256Gcm {
        refuse()
    }

    fn srtp_aes_128_ecb_round(&self, _key: &[u8], _input: &[u8], _output: &mut [u8]) {
        refuse()
    }

    fn srtp_aes_256_ecb_round(&self, _key: &[u8], _input: &[u8], _output: &mut [u8]) {
        refuse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(bytes: &[u8]) -> String {
        let digits = bytes.iter().map(|byte| format!("{byte:02x}"));
        digits.collect::<Vec<_>>().concat()
    }

    #[test]
    fn digests_are_those_of_the_standards() {
        // FIPS 180-4's example, and RFC 2202's second case.
        assert_eq!(hex(&Ring.sha1(b"abc")), "a9993e364706816aba3e25717850c26c9cd0d89d");
        assert_eq!(
            hex(&Ring.sha256(b"abc")),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
        let parts: [&[u8]; 2] = [b"what do ya want ", b"for nothing?"];
        assert_eq!(hex(&Ring.sha1_hmac(b"Jefe", &parts)), "effcdf6ae5eb2fa2d27416d5f184df9c259a7c79");
    }
}
