//! What those who run a server for others tell it: its certificate, and who gets its traces. Each
//! flag that speaks of traces has the variable that OpenTelemetry gave it. Absent: what either
//! does.

use std::path::PathBuf;

use clap::Args as ClapArgs;
use ingle_server::{Collector, Config, Error, Manager, TlsFiles};

/// A server among others.
#[derive(Clone, Debug, ClapArgs)]
#[command(next_help_heading = "Running it for others")]
pub(super) struct OpsArgs {
    /// Speak TLS alone, with this certificate: PEM, the server's own first, then those that lead
    /// to one which clients know; a changed file is taken in while the server runs
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,

    /// The certificate's private key: PEM, without a password
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,

    /// Send traces to the OpenTelemetry collector at this address, such as
    /// `http://localhost:4318`: when each request came, for which model, what it took; never what
    /// was asked or answered. Nothing is sent without it
    #[arg(long, value_name = "URL", env = "OTEL_EXPORTER_OTLP_ENDPOINT")]
    otlp_endpoint: Option<String>,

    /// Headers that the collector wants, as `name=value,name=value`, values percent-encoded
    #[arg(long, value_name = "HEADERS", requires = "otlp_endpoint")]
    #[arg(env = "OTEL_EXPORTER_OTLP_HEADERS", hide_env_values = true)]
    otlp_headers: Option<String>,

    /// What traces call this server [default: ingle]
    #[arg(long, value_name = "NAME", env = "OTEL_SERVICE_NAME")]
    otlp_service: Option<String>,
}

impl OpsArgs {
    /// The configuration with what these flags say, and with who started the process.
    pub(super) fn on(&self, config: Config) -> Result<Config, Error> {
        let tls = self.tls_cert.clone().zip(self.tls_key.clone());
        Ok(Config {
            tls: tls.map(|(cert, key)| TlsFiles { cert, key }),
            traces: self.collector()?,
            manager: Manager::of_environment(),
            ..config
        })
    }

    fn collector(&self) -> Result<Option<Collector>, Error> {
        let endpoint = self.otlp_endpoint.as_deref().filter(|endpoint| !endpoint.is_empty());
        let Some(endpoint) = endpoint else { return Ok(None) };
        let headers = self.otlp_headers.as_deref().unwrap_or_default();
        let mut collector = Collector::new(endpoint)?.with_headers(headers)?;
        if let Some(service) = &self.otlp_service {
            collector.service.clone_from(service);
        }
        Ok(Some(collector))
    }
}
