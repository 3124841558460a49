//! Google's tokens for a service account: what is asserted and signed, and what comes back (RFC
//! 7523, as Google's "Using OAuth 2.0 for server to server applications" has it). Pure but for the
//! salt of a signature that needs none: the time is an argument, and who posts it is `attempt.rs`.
//! Absent: workload identity and metadata servers.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::SystemRandom;
use ring::rsa::KeyPair;
use ring::signature::RSA_PKCS1_SHA256;
use serde_json::{Value, json};
use tokio_rustls::rustls::pki_types::PrivateKeyDer;
use tokio_rustls::rustls::pki_types::pem::PemObject;

use super::keys::Secret;
use super::net::Target;

const SCOPE: &str = "https://www.googleapis.com/auth/cloud-platform";
/// Seconds that an assertion holds, which is the most.
const HOLDS_S: u64 = 3600;
/// A token is not used in its last minute.
const SPARE_MS: u64 = 60_000;

/// A service account.
#[derive(Debug)]
pub(super) struct Account {
    email: String,
    key: KeyPair,
    /// Where tokens are had.
    uri: String,
    pub(super) target: Target,
    pub(super) path: String,
    /// Its own project.
    pub(super) project: String,
}

/// A token, and until when it is used, in milliseconds since 1970.
#[derive(Clone, Debug)]
pub(super) struct Token {
    pub(super) secret: Secret,
    pub(super) until_ms: u64,
}

impl Account {
    /// Reads the JSON file that Google gives for an account. An error says what is wrong with it,
    /// and nothing of what is in it.
    pub(super) fn read(json: &Secret) -> Result<Self, String> {
        let wrong = |what: &str| format!("its key is no service account's JSON file: {what}");
        let read: Value = serde_json::from_str(json.text()).map_err(|_| wrong("it is no JSON"))?;
        let field = |name: &str| {
            let text = read[name].as_str().map(str::to_owned);
            text.ok_or_else(|| wrong(&format!("`{name}` is missing")))
        };
        let pem = zeroize::Zeroizing::new(field("private_key")?);
        let der = PrivateKeyDer::from_pem_slice(pem.as_bytes())
            .map_err(|_| wrong("`private_key` is no PEM"))?;
        let key = match &der {
            PrivateKeyDer::Pkcs8(der) => KeyPair::from_pkcs8(der.secret_pkcs8_der()),
            PrivateKeyDer::Pkcs1(der) => KeyPair::from_der(der.secret_pkcs1_der()),
            _ => return Err(wrong("`private_key` is not RSA's")),
        };
        let key = key.map_err(|_| wrong("`private_key` is not RSA's of 2048 to 4096 bits"))?;
        let uri = field("token_uri")?;
        let (target, path) =
            Target::of(&uri).map_err(|why| wrong(&format!("`token_uri`: {why}")))?;
        let project = read["project_id"].as_str().unwrap_or_default().to_owned();
        if !target.tls {
            return Err(wrong("`token_uri` has to begin with https://"));
        }
        Ok(Self { email: field("client_email")?, key, uri, target, path, project })
    }

    /// The form that is posted to have a token.
    pub(super) fn form(&self, now_ms: u64) -> Result<String, String> {
        let now_s = now_ms / 1000;
        let head = json!({ "alg": "RS256", "typ": "JWT" });
        let claims = json!({
            "iss": self.email,
            "scope": SCOPE,
            "aud": self.uri,
            "iat": now_s,
            "exp": now_s + HOLDS_S,
        });
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let said = format!("{}.{}", part(&head), part(&claims));
        let mut signature = vec![0; self.key.public().modulus_len()];
        self.key
            .sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), said.as_bytes(), &mut signature)
            .map_err(|_| "the service account's key signs nothing".to_owned())?;
        let assertion = format!("{said}.{}", URL_SAFE_NO_PAD.encode(signature));
        let grant = "urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Ajwt-bearer";
        Ok(format!("grant_type={grant}&assertion={assertion}"))
    }
}

/// The token of an answer, whose body is hostile.
pub(super) fn read(body: &str, now_ms: u64) -> Result<Token, String> {
    let wrong = "the answer to a service account holds no token".to_owned();
    let read: Value = serde_json::from_str(body).map_err(|_| wrong.clone())?;
    let text = read["access_token"].as_str().filter(|text| {
        !text.is_empty() && text.len() < 8192 && text.bytes().all(|byte| byte.is_ascii_graphic())
    });
    let seconds = read["expires_in"].as_u64().unwrap_or(0).min(HOLDS_S);
    let until_ms = (now_ms + seconds * 1000).saturating_sub(SPARE_MS);
    Ok(Token { secret: Secret::new(text.ok_or(wrong)?), until_ms })
}

#[cfg(test)]
mod tests {
    use ring::signature::{KeyPair as _, RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};

    use super::*;

    fn account(change: impl FnOnce(&mut Value)) -> Result<Account, String> {
        let key = include_str!("../../tests/data/throwaway-rsa.pem");
        let mut json = json!({
            "client_email": "a@b.example",
            "private_key": key,
            "token_uri": "https://oauth2.example/token",
            "project_id": "mine",
        });
        change(&mut json);
        Account::read(&Secret::new(json.to_string()))
    }

    #[test]
    fn what_is_asserted_is_signed() {
        let account = account(|_| {}).expect("an account");
        assert_eq!((account.path.as_str(), account.project.as_str()), ("/token", "mine"));
        let form = account.form(1_700_000_000_123).expect("it signs");
        let assertion = form.rsplit('=').next().expect("an assertion");
        let (said, signature) = assertion.rsplit_once('.').expect("three parts");
        let claims = said.split('.').nth(1).and_then(|part| URL_SAFE_NO_PAD.decode(part).ok());
        let claims: Value =
            serde_json::from_slice(&claims.expect("base64")).expect("claims are JSON");
        assert_eq!(claims["iat"], 1_700_000_000);
        assert_eq!(claims["exp"], 1_700_003_600);
        assert_eq!(claims["aud"], "https://oauth2.example/token");
        let public = account.key.public_key().as_ref().to_vec();
        let signature = URL_SAFE_NO_PAD.decode(signature).expect("base64");
        UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, public)
            .verify(said.as_bytes(), &signature)
            .expect("the signature is the account's");
    }

    #[test]
    fn what_is_no_account_is_refused_without_its_words() {
        let check = |change: &dyn Fn(&mut Value), expect: &str| {
            let refused = account(|json| change(json)).expect_err(expect);
            assert!(refused.contains(expect) && !refused.contains("BEGIN"), "{refused}");
        };
        check(&|json| drop(json["private_key"].take()), "`private_key` is missing");
        check(&|json| json["private_key"] = "-----BEGIN".into(), "is no PEM");
        check(&|json| json["token_uri"] = "http://a/token".into(), "https://");
        check(&|json| json["client_email"] = 1.into(), "`client_email` is missing");
        check(&|json| *json = Value::Null, "is missing");
    }

    #[test]
    fn tokens_are_read() {
        let check = |body: &str, expect: Option<(&str, u64)>| {
            let told = read(body, 1_000_000).ok();
            let told = told.as_ref().map(|token| (token.secret.text(), token.until_ms));
            assert_eq!(told, expect, "{body}");
        };
        check(r#"{"access_token":"a","expires_in":100}"#, Some(("a", 1_040_000)));
        check(r#"{"access_token":"a","expires_in":1e9}"#, Some(("a", 940_000)));
        check(r#"{"access_token":"a","expires_in":999999999}"#, Some(("a", 4_540_000)));
        check(r#"{"access_token":"a b"}"#, None);
        check(r#"{"access_token":""}"#, None);
        check("[]", None);
        check("no", None);
    }
}
