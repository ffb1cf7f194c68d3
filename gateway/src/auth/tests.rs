use jsonwebtoken::{EncodingKey, Header, encode};
use serde_json::{Value, json};

use super::*;
use crate::certs::{Pair, operator_key};

const NOW: u64 = 1_800_000_000;

/// A verifier, the key it trusts, and a token's claims to spoil.
struct World {
    key: Pair,
    verifier: Verifier,
    claims: Value,
}

impl World {
    fn new() -> Self {
        let key = operator_key().unwrap();
        let verifier = Verifier::new(key.public.as_bytes(), "carriageway", None).unwrap();
        let claims = json!({
            "sub": "ada", "aud": "carriageway", "exp": NOW + 60,
            "scope": "observe command:body", "vehicles": ["one"],
        });
        Self { key, verifier, claims }
    }

    fn with(mut self, claim: &str, value: Value) -> Self {
        self.claims[claim] = value;
        self
    }

    fn without(mut self, claim: &str) -> Self {
        self.claims.as_object_mut().unwrap().remove(claim);
        self
    }

    fn token(&self) -> String {
        self.token_under(&Header::new(Algorithm::ES256))
    }

    fn token_under(&self, header: &Header) -> String {
        let key = EncodingKey::from_ec_pem(self.key.private.as_bytes()).unwrap();
        encode(header, &self.claims, &key).unwrap()
    }

    fn verdict(&self) -> Result<Operator, AuthError> {
        self.verifier.verify(&self.token(), NOW)
    }
}

/// Base64url without padding, so that tests can forge what no library would write.
fn base64url(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let word =
            chunk.iter().fold(0_u32, |word, byte| word << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for place in 0..=chunk.len() {
            text.push(char::from(ALPHABET[(word >> (18 - 6 * place)) as usize & 63]));
        }
    }
    text
}

#[test]
fn a_good_token_names_its_operator_and_what_was_granted() {
    let ada = World::new().verdict().unwrap();
    assert_eq!((ada.name.as_str(), ada.expires_unix), ("ada", NOW + 60));
    let (one, two) = ("one".parse().unwrap(), "two".parse().unwrap());
    assert!(ada.may(Permission::Command(carriageway_proto::Class::Body), &one));
    assert!(!ada.may(Permission::Command(carriageway_proto::Class::Safety), &one));
    assert!(!ada.may(Permission::Observe, &two));
}

#[test]
fn a_token_without_scope_or_vehicles_opens_nothing() {
    let one = "one".parse().unwrap();
    let ada = World::new().without("scope").verdict().unwrap();
    assert!(!ada.may(Permission::Observe, &one));
    let ada = World::new().without("vehicles").verdict().unwrap();
    assert!(!ada.may(Permission::Observe, &one));
}

#[test]
fn minted_tokens_are_accepted() {
    let World { key, verifier, .. } = World::new();
    let grant = Grant {
        sub: "demo".into(),
        aud: "carriageway".into(),
        iss: None,
        iat: NOW,
        exp: NOW + 1,
        scope: "command:*".into(),
        vehicles: vec!["*".into()],
    };
    let token = mint(&key.private, &grant).unwrap();
    assert_eq!(verifier.verify(&token, NOW).unwrap().vehicles, Vehicles::All);
    assert!(matches!(mint("no key", &grant), Err(MintError::Key)));
}

#[test]
fn an_ed25519_key_verifies_eddsa_and_nothing_else() {
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
    let verifier = Verifier::new(key.public_key_pem().as_bytes(), "carriageway", None).unwrap();
    let world = World::new();
    assert_eq!(verifier.verify(&world.token(), NOW), Err(AuthError::Algorithm));
    let seed = EncodingKey::from_ed_pem(key.serialize_pem().as_bytes()).unwrap();
    let token = encode(&Header::new(Algorithm::EdDSA), &world.claims, &seed).unwrap();
    assert_eq!(verifier.verify(&token, NOW).unwrap().name, "ada");
    assert_eq!(world.verifier.verify(&token, NOW), Err(AuthError::Algorithm));
}

#[test]
fn a_token_ends_on_time_with_at_most_the_leeway() {
    let world = World::new();
    let token = world.token();
    let end = NOW + 60;
    assert!(world.verifier.verify(&token, end + LEEWAY - 1).is_ok());
    assert_eq!(world.verifier.verify(&token, end + LEEWAY), Err(AuthError::Expired { ago: LEEWAY }));
    assert_eq!(world.verifier.verify(&token, u64::MAX), Err(AuthError::Expired { ago: u64::MAX - end }));
}

#[test]
fn a_token_is_not_good_before_its_time() {
    let verdict = World::new().with("nbf", json!(NOW + 30)).verdict();
    assert_eq!(verdict, Err(AuthError::NotYet { ahead: 30 }));
    assert!(World::new().with("nbf", json!(NOW + LEEWAY)).verdict().is_ok());
}

#[test]
fn required_claims_must_be_there_and_of_their_type() {
    for claim in ["exp", "aud", "sub"] {
        assert_eq!(World::new().without(claim).verdict(), Err(AuthError::Claim(claim)));
        assert_eq!(World::new().with(claim, Value::Null).verdict(), Err(AuthError::Claim(claim)));
    }
    for (claim, value) in [
        ("exp", json!("tomorrow")),
        ("exp", json!(-1)),
        ("sub", json!(7)),
        ("sub", json!("")),
        ("sub", json!("a\nb")),
        ("sub", json!("x".repeat(129))),
        ("scope", json!(["observe"])),
        ("vehicles", json!("*")),
        ("vehicles", json!(["a/b"])),
    ] {
        let verdict = World::new().with(claim, value.clone()).verdict();
        assert!(matches!(verdict, Err(AuthError::Malformed(_))), "{claim}: {value}: {verdict:?}");
    }
}

#[test]
fn audience_and_issuer_must_fit() {
    assert_eq!(World::new().with("aud", json!("elsewhere")).verdict(), Err(AuthError::Audience));
    assert_eq!(World::new().with("aud", json!([])).verdict(), Err(AuthError::Audience));
    assert!(World::new().with("aud", json!(["elsewhere", "carriageway"])).verdict().is_ok());

    let mut world = World::new();
    world.verifier = Verifier::new(world.key.public.as_bytes(), "carriageway", Some("us")).unwrap();
    assert_eq!(world.verdict(), Err(AuthError::Claim("iss")));
    assert_eq!(world.with("iss", json!("them")).verdict(), Err(AuthError::Issuer));
}

#[test]
fn the_none_algorithm_is_refused_with_and_without_a_signature() {
    let world = World::new();
    let payload = world.token().split('.').nth(1).unwrap().to_owned();
    for name in ["none", "None", "NONE", "nOnE", ""] {
        let header = base64url(json!({ "alg": name, "typ": "JWT" }).to_string().as_bytes());
        for signature in ["", "AAAA"] {
            let token = format!("{header}.{payload}.{signature}");
            assert_eq!(world.verifier.verify(&token, NOW), Err(AuthError::Algorithm), "{name:?}");
        }
    }
    let header = base64url(br#"{"typ":"JWT"}"#);
    assert_eq!(world.verifier.verify(&format!("{header}.{payload}."), NOW), Err(AuthError::Algorithm));
}

#[test]
fn the_public_key_is_no_shared_secret() {
    let world = World::new();
    for algorithm in [Algorithm::HS256, Algorithm::HS384, Algorithm::HS512] {
        let secret = EncodingKey::from_secret(world.key.public.as_bytes());
        let token = encode(&Header::new(algorithm), &world.claims, &secret).unwrap();
        assert_eq!(world.verifier.verify(&token, NOW), Err(AuthError::Algorithm), "{algorithm:?}");
    }
}

#[test]
fn a_token_cannot_bring_its_own_key() {
    let (world, other) = (World::new(), World::new());
    let mut header = Header::new(Algorithm::ES256);
    header.kid = Some("../../operator.pub".into());
    header.jku = Some("https://elsewhere.example/keys".into());
    assert_eq!(world.verifier.verify(&other.token_under(&header), NOW), Err(AuthError::Signature));
    assert!(world.verifier.verify(&world.token_under(&header), NOW).is_ok(), "kid and jku mean nothing here");
}

#[test]
fn a_token_that_asks_for_unknown_extensions_is_refused() {
    let world = World::new();
    let mut header = Header::new(Algorithm::ES256);
    header.crit = Some(vec!["b64".into()]);
    assert!(matches!(world.verifier.verify(&world.token_under(&header), NOW), Err(AuthError::Malformed(_))));
}

#[test]
fn any_change_to_a_token_breaks_it() {
    let world = World::new();
    let token = world.token();
    let [header, _, signature]: [&str; 3] = token.split('.').collect::<Vec<_>>().try_into().unwrap();
    let richer = base64url(world.claims.to_string().replace("command:body", "command:*").as_bytes());
    assert_eq!(
        world.verifier.verify(&format!("{header}.{richer}.{signature}"), NOW),
        Err(AuthError::Signature)
    );
    for place in 0..token.len() {
        let mut bytes = token.clone().into_bytes();
        // Base64's last character may hold bits that nobody reads, but the decoder insists on zeros.
        bytes[place] = if bytes[place] == b'A' { b'B' } else { b'A' };
        let changed = String::from_utf8(bytes).unwrap();
        assert!(world.verifier.verify(&changed, NOW).is_err(), "byte {place}");
    }
}

#[test]
fn garbage_is_refused_without_a_word_of_it_in_the_error() {
    let verifier = World::new().verifier;
    for garbage in ["", ".", "..", "secret-part", "secret-part.b.c", "a.b.c.d", "ü.ü.ü", "e30.e30.e30", "\0"]
    {
        let error = verifier.verify(garbage, NOW).unwrap_err();
        assert!(!error.to_string().contains("secret-part"), "{error}");
    }
    let long = "a".repeat(MAX_TOKEN + 1);
    assert!(matches!(verifier.verify(&long, NOW), Err(AuthError::Malformed(_))));
}

#[test]
fn the_header_is_read_in_one_way_only() {
    assert_eq!(bearer(Some("Bearer abc")), Ok("abc"));
    assert_eq!(bearer(Some("bearer  abc ")), Ok("abc"));
    assert_eq!(bearer(None), Err(AuthError::Missing));
    assert_eq!(bearer(Some("Bearer ")), Err(AuthError::Missing));
    assert_eq!(bearer(Some("Bearer")), Err(AuthError::Missing));
    for other in ["Basic YTpi", "abc", "", "Bearer2 abc"] {
        assert!(matches!(bearer(Some(other)), Err(AuthError::Malformed(_))), "{other:?}");
    }
}

#[test]
fn a_verifier_needs_a_public_key_of_a_fitting_kind() {
    let p384 = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap();
    let p256 = operator_key().unwrap();
    for pem in [p384.public_key_pem(), p256.private, "nothing".into(), String::new()] {
        assert!(Verifier::new(pem.as_bytes(), "carriageway", None).is_none());
    }
    let absent = Auth { public_key: "/nonexistent/operator.pub".into(), ..Auth::default() };
    assert!(matches!(Verifier::from_config(&absent), Err(KeyError::Read { .. })));
}
