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
    /// One that was just made and runs; or why there can be none.
    pub(crate) fn new(settings: &[&str]) -> Result<Self, String> {
        let mut server = Self::made(settings)?;
        server.start();
        Ok(server)
    }

    /// One that speaks TLS at a port, too, with a certificate for `localhost` that only
    /// [`Server::authority`] vouches for; or why there can be none.
    pub(crate) fn with_tls() -> Result<(Self, String), String> {
        let port = free_port()?;
        let given = port.to_string();
        let files = ["--tls-cert-file", "cert.pem", "--tls-key-file", "key.pem"];
        let more = ["--tls-ca-cert-file", "cert.pem", "--tls-auth-clients", "no"];
        let settings = [&["--tls-port", given.as_str()][..], &files, &more].concat();
        let mut server = Self::made(&settings)?;
        let names = vec!["localhost".to_owned()];
        let signed = rcgen::generate_simple_self_signed(names).expect("makes a certificate");
        let write = |name: &str, text: &str| std::fs::write(server.folder.join(name), text);
        write("cert.pem", &signed.cert.pem()).expect("is written");
        write("key.pem", &signed.signing_key.serialize_pem()).expect("is written");
        server.launch()?;
        Ok((server, format!("rediss://:{ESCAPED}@localhost:{port}")))
    }

    /// The certificate of the one that speaks TLS.
    pub(crate) fn authority(&self) -> PathBuf {
        self.folder.join("cert.pem")
    }

    fn made(settings: &[&str]) -> Result<Self, String> {
        static MADE: AtomicU32 = AtomicU32::new(0);
        let found = Command::new("redis-server").arg("--version").output();
        found.map_err(|error| format!("redis-server cannot be started: {error}"))?;
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let name = format!("ingle-budgets-{}-{number}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&folder).map_err(|error| error.to_string())?;
        let port = free_port()?;
        let settings = settings.iter().map(|it| (*it).to_owned()).collect();
        Ok(Self { folder, port, settings, process: None })
    }

    /// Starts it, with what it kept on the disk.
    pub(crate) fn start(&mut self) {
        self.launch().unwrap_or_else(|why| panic!("{why}"));
    }

    fn launch(&mut self) -> Result<(), String> {
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
            let Err(error) = said.map(|_: String| ()) else { return Ok(()) };
            let log = || std::fs::read_to_string(self.folder.join("log")).unwrap_or_default();
            let ended = self.process.as_mut().and_then(|it| it.try_wait().expect("it is ours"));
            if let Some(status) = ended {
                return Err(format!("the server ended: {status}: {}", log()));
            }
            if began.elapsed() > Duration::from_secs(60) {
                return Err(format!("the server is not there after a minute: {error}: {}", log()));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Kills it.
    pub(crate) fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().and_then(|()| process.wait()).expect("it is ours");
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

fn free_port() -> Result<u16, String> {
    let free = TcpListener::bind("127.0.0.1:0").and_then(|it| it.local_addr());
    Ok(free.map_err(|error| error.to_string())?.port())
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}
