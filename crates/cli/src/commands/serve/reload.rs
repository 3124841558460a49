//! A server's settings and keys are read again when a file of theirs has changed, and on SIGHUP.
//! What is wrong with them is told, and the old ones hold. What can hold at once does; what wants
//! a restart is told by name.

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};

use ingle_backend::clock::monotonic_micros;
use ingle_server::Control;
use serde_json::json;

use super::gateway::Door;
use super::models::Models;
use super::settings::Settings;
use crate::ui::{Style, Ui};

/// How often files are looked at.
const LOOK: Duration = Duration::from_secs(1);

/// What is watched, and who is told.
pub(super) struct Watch {
    pub(super) argv: Vec<OsString>,
    pub(super) settings: Settings,
    pub(super) control: Control,
    pub(super) models: Arc<OnceLock<Arc<Models>>>,
    pub(super) door: Arc<Door>,
    pub(super) json: bool,
    pub(super) quiet: bool,
}

/// A file as it is seen from the outside: when it was written, and how long it is.
type Stamp = Option<(Option<SystemTime>, u64)>;

fn stamps(files: &[PathBuf]) -> Vec<Stamp> {
    let stamp = |path: &PathBuf| {
        let file = std::fs::metadata(path).ok()?;
        Some((file.modified().ok(), file.len()))
    };
    files.iter().map(stamp).collect()
}

impl Watch {
    /// Until the runtime ends.
    pub(super) async fn run(mut self) {
        if !self.settings.are_read_again() {
            return;
        }
        let Ok(mut hangup) = Hangup::new() else { return };
        let mut seen = stamps(&self.settings.files);
        loop {
            let told = tokio::select! {
                () = hangup.next() => true,
                () = tokio::time::sleep(LOOK) => false,
            };
            let now = stamps(&self.settings.files);
            if told {
                self.control.reopen();
            } else if now == seen {
                continue;
            }
            let files = self.settings.files.clone();
            self.control.reloading(monotonic_micros());
            // Files, and maybe a keyring that waits for its user: not on a thread of requests'.
            let outcome = tokio::task::block_in_place(|| self.read());
            self.control.reloaded();
            self.tell(&outcome);
            // As it was before it was read: what changed meanwhile is read again.
            seen = if files == self.settings.files { now } else { stamps(&self.settings.files) };
        }
    }

    /// What changed, at once and not until a restart.
    fn read(&mut self) -> anyhow::Result<(Vec<String>, Vec<String>)> {
        let read = || {
            let settings = Settings::read(&self.argv)?;
            let config = super::config(&settings)?;
            Ok((settings, config))
        };
        let (settings, config) = read().inspect_err(|_: &anyhow::Error| self.control.broken())?;
        let held = self.door.read().inspect_err(|_| self.control.broken())?;
        self.control.apply(config)?;
        // All that could be wrong was found: both hold, or neither.
        self.door.hold(held);
        if let Some(models) = self.models.get() {
            models.fleet().keep(settings.args.keep_alive);
        }
        let changed = settings.changed(&self.settings);
        self.settings = settings;
        Ok(changed)
    }

    fn tell(&self, outcome: &anyhow::Result<(Vec<String>, Vec<String>)>) {
        let ui = Ui::new(self.json, self.quiet);
        let event = match outcome {
            Ok((changed, restart)) => {
                let list = |names: &[String]| match names {
                    [] => "nothing".to_owned(),
                    names => names.join(", "),
                };
                ui.note(format_args!("settings were read again; changed: {}", list(changed)));
                if !restart.is_empty() {
                    ui.err(Style::Cyan, format_args!("wants a restart: {}", list(restart)));
                }
                json!({ "event": "reloaded", "changed": changed, "restart": restart })
            }
            Err(error) => {
                ui.err(Style::Red, "the new settings are wrong, and the old ones hold:");
                ui.error(error);
                json!({ "event": "reload-refused", "error": error.to_string() })
            }
        };
        if ui.json {
            // Who reads no more is told no more.
            let _ = ui.object(&event);
        }
    }
}

#[cfg(unix)]
struct Hangup(tokio::signal::unix::Signal);

#[cfg(unix)]
impl Hangup {
    fn new() -> std::io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self(signal(SignalKind::hangup())?))
    }

    async fn next(&mut self) {
        self.0.recv().await;
    }
}

/// There is no such signal; files are looked at anyway.
#[cfg(not(unix))]
struct Hangup;

#[cfg(not(unix))]
impl Hangup {
    fn new() -> std::io::Result<Self> {
        Ok(Self)
    }

    async fn next(&mut self) {
        std::future::pending().await
    }
}
