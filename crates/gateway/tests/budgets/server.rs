//! A Redis server of this test's own: made, stopped and started again in a folder of its own.

use std::fs::File;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use ingle_gateway::budget::{Place, Redis};

/// It needs one, in clients' first words.
pub(crate) const PASSWORD: &str = "pass:word@1";
/// As a URL has it.
const ESCAPED: &str = "pass%3Aword%401";

/// A server, stopped when it is dropped.
pub(crate) struct Server {
    folder: PathBuf,
    port: u16,
    settings: Vec<String>,
    process: Option<Child>,
}

impl Server {
    /// One that was just made; or why there can be none.
    pub(crate) fn new(settings: &[&str]) -> Result<Self, String> {
        static MADE: AtomicU32 = AtomicU32::new(0);
        let found = Command::new("redis-server").arg("--version").output();
        found.map_err(|error| format!("redis-server cannot be started: {error}"))?;
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let name = format!("ingle-budgets-{}-{number}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&folder).map_err(|error| error.to_string())?;
        let free = TcpListener::bind("127.0.0.1:0").and_then(|it| it.local_addr());
        let port = free.map_err(|error| error.to_string())?.port();
        let settings = settings.iter().map(|it| (*it).to_owned()).collect();
        let mut server = Self { folder, port, settings, process: None };
        server.start();
        Ok(server)
    }

    /// Starts it, with what it kept on the disk.
    pub(crate) fn start(&mut self) {
        let log = File::create(self.folder.join("log")).expect("is made");
        let mut command = Command::new("redis-server");
        command.arg("--dir").arg(&self.folder).arg("--unixsocket").arg(self.folder.join("socket"));
        command.args(["--port", &self.port.to_string(), "--bind", "127.0.0.1"]);
        command.args(["--requirepass", PASSWORD, "--save", ""]).args(&self.settings);
        command.stdin(Stdio::null()).stdout(log).stderr(Stdio::null());
        self.process = Some(command.spawn().expect("starts"));
        let client = redis::Client::open(self.url()).expect("a URL");
        let began = Instant::now();
        loop {
            let said = client.get_connection().and_then(|mut it| redis::cmd("PING").query(&mut it));
            let Err(error) = said.map(|_: String| ()) else { return };
            if began.elapsed() > Duration::from_secs(60) {
                let log = std::fs::read_to_string(self.folder.join("log")).unwrap_or_default();
                panic!("the server is not there after a minute: {error}: {log}");
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Kills it.
    pub(crate) fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().and_then(|()| process.wait()).expect("it runs");
        }
    }

    /// Its URL, over its socket.
    pub(crate) fn url(&self) -> String {
        format!("redis+unix://{}?pass={ESCAPED}", self.folder.join("socket").display())
    }

    /// The same over TCP, where its port or another's.
    pub(crate) fn tcp(&self, port: Option<u16>) -> String {
        format!("redis://:{ESCAPED}@127.0.0.1:{}/0", port.unwrap_or(self.port))
    }

    /// Its port.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Budgets there, as they are.
    pub(crate) fn open(&self) -> Redis {
        let place: Place = self.url().parse().expect("a place");
        Redis::open(&place).expect("it answers")
    }

    /// Budgets there, all forgotten.
    pub(crate) fn empty(&self) -> Redis {
        let _: String = self.ask(&["FLUSHALL"]);
        self.open()
    }

    /// Asks it anything.
    pub(crate) fn ask<T: redis::FromRedisValue>(&self, words: &[&str]) -> T {
        let client = redis::Client::open(self.url()).expect("a URL");
        let mut connection = client.get_connection().expect("it answers");
        let mut command = redis::cmd(words[0]);
        command.arg(&words[1..]);
        command.query(&mut connection).expect("it does that")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}
