//! A server that runs elsewhere, asked by whoever watches over it or over what it was given: one
//! question, one JSON answer. Absent: what may be asked, but for `/health`; streams; trying again.

use std::time::Duration;

use serde_json::Value;
use ureq::Body;
use ureq::http::Response;

/// The most bytes of an answer.
const ANSWER_MAX: u64 = 16 << 20;

/// What a server says of itself.
#[derive(Clone, Debug, PartialEq)]
pub struct Health {
    /// Whether it takes requests.
    pub well: bool,
    /// What it says, as `/health` has it.
    pub told: Value,
}

/// A server, and how it is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remote {
    /// Its base address, such as `http://127.0.0.1:8080`.
    pub url: String,
    /// A key of it, where it wants one.
    pub key: Option<String>,
    /// For a whole answer.
    pub patience: Duration,
    /// Takes whatever certificate it shows, which is right for this machine's own server alone: its
    /// certificate is for the name that others call it by.
    pub believe: bool,
}

impl Remote {
    /// What is found at a path: the status and the JSON that comes with it.
    ///
    /// # Errors
    /// Why there was no answer.
    pub fn get(&self, path: &str) -> Result<(u16, Value), String> {
        let call = self.agent().get(self.address(path));
        let call =
            self.bearer().iter().fold(call, |call, value| call.header("authorization", value));
        self.answer(call.call())
    }

    /// The same, where something is to be done there and no more is to be said.
    ///
    /// # Errors
    /// Why there was no answer.
    pub fn post(&self, path: &str) -> Result<(u16, Value), String> {
        let call = self.agent().post(self.address(path));
        let call =
            self.bearer().iter().fold(call, |call, value| call.header("authorization", value));
        self.answer(call.send_empty())
    }

    /// How it is.
    ///
    /// # Errors
    /// Why there was no answer, or that it is none of a server of this sort.
    pub fn health(&self) -> Result<Health, String> {
        let (status, told) = self.get("/health")?;
        match told["status"].is_string() {
            true => Ok(Health { well: status == 200, told }),
            false => Err(self.stranger()),
        }
    }

    fn address(&self, path: &str) -> String {
        format!("{}{path}", self.url.trim_end_matches('/'))
    }

    fn bearer(&self) -> Option<String> {
        self.key.as_ref().map(|key| format!("Bearer {key}"))
    }

    fn stranger(&self) -> String {
        format!("{} answers, but not as Ingle does", self.url)
    }

    fn agent(&self) -> ureq::Agent {
        let tls = ureq::tls::TlsConfig::builder()
            .root_certs(ureq::tls::RootCerts::PlatformVerifier)
            .disable_verification(self.believe)
            .build();
        let config = ureq::Agent::config_builder()
            .tls_config(tls)
            .proxy(None)
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .timeout_global(Some(self.patience));
        config.build().new_agent()
    }

    fn answer(&self, answer: Result<Response<Body>, ureq::Error>) -> Result<(u16, Value), String> {
        let silent = |error| format!("{} does not answer: {error}", self.url);
        let mut answer = answer.map_err(silent)?;
        let status = answer.status().as_u16();
        let text = answer.body_mut().with_config().limit(ANSWER_MAX).read_to_string();
        let told = text.ok().and_then(|text| serde_json::from_str::<Value>(&text).ok());
        told.map(|told| (status, told)).ok_or_else(|| self.stranger())
    }
}
