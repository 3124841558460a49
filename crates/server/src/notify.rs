//! What a service manager is told: systemd's protocol (sd_notify(3)), datagrams of lines to the
//! socket that the environment names. Nothing is ever waited for, and nothing depends on whether
//! anyone listens. Absent: other service managers, and anything that they could tell us.

use std::ffi::OsString;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// The service manager that started this process, if one did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Manager {
    /// Its socket: a path, or `@` and an abstract name.
    pub socket: Option<OsString>,
    /// It restarts this process where it hears nothing for so long.
    pub watchdog: Option<Duration>,
}

impl Manager {
    /// What the environment says: `NOTIFY_SOCKET`, `WATCHDOG_USEC`, `WATCHDOG_PID`.
    pub fn of_environment() -> Self {
        let number = |name| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
        let meant = number("WATCHDOG_PID").is_none_or(|id| id == u64::from(std::process::id()));
        let watchdog = number("WATCHDOG_USEC").filter(|micros| *micros > 0 && meant);
        Self {
            socket: std::env::var_os("NOTIFY_SOCKET").filter(|name| !name.is_empty()),
            watchdog: watchdog.map(Duration::from_micros),
        }
    }
}

/// Tells the manager; nobody, where there is none.
#[derive(Debug, Default)]
pub(crate) struct Notify {
    socket: Option<OsString>,
    /// The status last told: said again only when it is another.
    status: Mutex<String>,
}

impl Notify {
    pub(crate) fn new(manager: &Manager) -> Self {
        Self { socket: manager.socket.clone(), status: Mutex::default() }
    }

    /// What is being done, for `systemctl status`.
    pub(crate) fn status(&self, text: &str) {
        let mut last = self.status.lock().unwrap_or_else(PoisonError::into_inner);
        if self.socket.is_some() && *last != text {
            // A line each; what comes from outside (a file's name) must not begin another.
            let line = text.replace(char::is_control, " ");
            self.send(&format!("STATUS={line}"));
            text.clone_into(&mut last);
        }
    }

    /// Requests are answered from now on.
    pub(crate) fn ready(&self) {
        self.send("READY=1");
        self.status("ready");
    }

    /// Settings are being read again, since a time of the system's monotonic clock: by that the
    /// manager knows that it is the reload it asked for.
    pub(crate) fn reloading(&self, monotonic_micros: u64) {
        self.send(&format!("RELOADING=1\nMONOTONIC_USEC={monotonic_micros}"));
    }

    /// They were.
    pub(crate) fn reloaded(&self) {
        self.send("READY=1");
    }

    /// The end has begun.
    pub(crate) fn stopping(&self) {
        self.send("STOPPING=1");
        self.status("stopping: running answers may finish");
    }

    /// Still alive.
    pub(crate) fn alive(&self) {
        self.send("WATCHDOG=1");
    }

    fn send(&self, lines: &str) {
        let Some(name) = &self.socket else { return };
        if let Err(error) = send(name, lines.as_bytes()) {
            tracing::debug!(%error, lines, "the service manager was not told");
        }
    }
}

#[cfg(unix)]
fn send(name: &std::ffi::OsStr, bytes: &[u8]) -> std::io::Result<()> {
    let socket = std::os::unix::net::UnixDatagram::unbound()?;
    socket.set_nonblocking(true)?;
    #[cfg(target_os = "linux")]
    {
        use std::os::linux::net::SocketAddrExt;
        use std::os::unix::ffi::OsStrExt;
        use std::os::unix::net::SocketAddr;
        if let Some(hidden) = name.as_bytes().strip_prefix(b"@") {
            let address = SocketAddr::from_abstract_name(hidden)?;
            return socket.send_to_addr(bytes, &address).map(drop);
        }
    }
    socket.send_to(bytes, name).map(drop)
}

#[cfg(not(unix))]
fn send(_: &std::ffi::OsStr, _: &[u8]) -> std::io::Result<()> {
    Err(std::io::ErrorKind::Unsupported.into())
}
