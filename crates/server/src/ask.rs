//! A server asked how it is, by whoever watches over it: `/health`, and no other question. Absent:
//! being a client of anything else.

use std::time::Duration;

use serde_json::Value;

/// The most bytes of an answer.
const ANSWER_MAX: u64 = 1 << 20;

/// What a server says of itself.
#[derive(Clone, Debug, PartialEq)]
pub struct Health {
    /// Whether it takes requests.
    pub well: bool,
    /// What it says, as `/health` has it.
    pub told: Value,
}

/// Asks the server at a base address, such as `http://127.0.0.1:8080`. `believe` takes whatever
/// certificate it shows, which is right for this machine's own server alone: its certificate is
/// for the name that others call it by.
///
/// # Errors
/// Why there was no answer.
pub fn health(url: &str, patience: Duration, believe: bool) -> Result<Health, String> {
    let tls = ureq::tls::TlsConfig::builder()
        .root_certs(ureq::tls::RootCerts::PlatformVerifier)
        .disable_verification(believe)
        .build();
    let config = ureq::Agent::config_builder()
        .tls_config(tls)
        .proxy(None)
        .http_status_as_error(false)
        .max_redirects(0)
        .max_redirects_will_error(false)
        .timeout_global(Some(patience));
    let agent = config.build().new_agent();
    let mut answer = agent
        .get(format!("{}/health", url.trim_end_matches('/')))
        .call()
        .map_err(|error| format!("{url} does not answer: {error}"))?;
    let well = answer.status().as_u16() == 200;
    let text = answer.body_mut().with_config().limit(ANSWER_MAX).read_to_string();
    let told = text.ok().and_then(|text| serde_json::from_str::<Value>(&text).ok());
    match told {
        Some(told) if told["status"].is_string() => Ok(Health { well, told }),
        _ => Err(format!("{url} answers, but not as Ingle does")),
    }
}
