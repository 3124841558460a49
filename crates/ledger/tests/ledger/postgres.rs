//! The same promises of a Postgres server that this test makes, starts and stops: over its socket,
//! over TCP in the clear and over TLS; and what holds when a connection or the server dies.

use std::ffi::OsString;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use ingle_ledger::{Error, Ledger, Options, Place, Verdict};

use crate::kill;
use crate::promises::PROMISES;
use crate::support::{Folder, all, entry, is_whole, open, reader};

/// A server with a folder of its own, stopped when it is dropped.
struct Server {
    folder: Folder,
    programs: PathBuf,
    user: Option<(u32, u32)>,
    port: u16,
    process: Option<Child>,
    authority: PathBuf,
}

const PASSWORD: &str = "pass:word@1";
/// As a URL has it.
const ESCAPED: &str = "pass%3Aword%401";

/// Where the newest server's programs are, if any are here.
fn programs() -> Option<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten();
    let found = versions.filter_map(Result::ok).map(|entry| entry.path().join("bin"));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let on_path: Vec<PathBuf> = std::env::split_paths(&path).collect();
    let mut all: Vec<PathBuf> = found.chain(on_path).collect();
    all.retain(|folder| folder.join("initdb").is_file() && folder.join("postgres").is_file());
    all.into_iter().next()
}

/// The user and group that a server runs as where this runs as root, which servers refuse.
fn user(folder: &Path) -> Result<Option<(u32, u32)>, String> {
    use std::os::unix::fs::MetadataExt;
    let owner = std::fs::metadata(folder).map_err(|error| error.to_string())?.uid();
    if owner != 0 {
        return Ok(None);
    }
    let users = std::fs::read_to_string("/etc/passwd").map_err(|error| error.to_string())?;
    let line = users.lines().find(|line| line.starts_with("postgres:"));
    let ids = line.map(|line| line.split(':').skip(2).take(2).map(str::parse).collect::<Vec<_>>());
    match ids.as_deref() {
        Some([Ok(user), Ok(group)]) => Ok(Some((*user, *group))),
        _ => Err("this runs as root, and there is no user `postgres`".into()),
    }
}

impl Server {
    /// A server that was just made; or why there can be none.
    fn new() -> Result<Self, String> {
        let programs = programs().ok_or("PostgreSQL is not installed")?;
        let folder = Folder::new("postgres");
        let user = user(folder.path())?;
        let free = TcpListener::bind("127.0.0.1:0").and_then(|it| it.local_addr());
        let port = free.map_err(|error| error.to_string())?.port();
        let authority = folder.path().join("authority.pem");
        let mut server = Self { folder, programs, user, port, process: None, authority };
        let write = |name: &str, text: &str| {
            std::fs::write(server.folder.path().join(name), text).expect("is written");
        };
        let names = vec!["localhost".to_owned()];
        let signed = rcgen::generate_simple_self_signed(names).expect("makes a certificate");
        write("authority.pem", &signed.cert.pem());
        write("key.pem", &signed.signing_key.serialize_pem());
        write("password", PASSWORD);
        server.own();
        server.tool(
            "initdb",
            &[
                "-D",
                "data",
                "-A",
                "scram-sha-256",
                "--pwfile",
                "password",
                "-U",
                "ingle",
                "-N",
                "-E",
                "UTF8",
                "--locale=C",
            ],
        );
        server.start();
        Ok(server)
    }

    /// Gives the folder to the server's user.
    fn own(&self) {
        use std::os::unix::fs::{PermissionsExt, chown};
        let key = self.folder.path().join("key.pem");
        std::fs::set_permissions(key, PermissionsExt::from_mode(0o600)).expect("is set");
        let Some((user, group)) = self.user else { return };
        let files = std::fs::read_dir(self.folder.path()).expect("is listed");
        let files = files.map(|file| file.expect("is listed").path());
        for path in files.chain([self.folder.path().to_owned()]) {
            chown(path, Some(user), Some(group)).expect("root may");
        }
    }

    fn command(&self, program: &str) -> Command {
        use std::os::unix::process::CommandExt;
        let mut command = Command::new(self.programs.join(program));
        command.current_dir(self.folder.path()).env_clear().stdin(Stdio::null());
        if let Some((user, group)) = self.user {
            command.uid(user).gid(group);
        }
        command
    }

    fn tool(&self, program: &str, arguments: &[&str]) {
        let out = self.command(program).args(arguments).output().expect("starts");
        let said = String::from_utf8_lossy(&out.stderr).into_owned();
        assert!(out.status.success(), "{program}: {said}");
    }

    fn start(&mut self) {
        let folder = self.folder.path();
        let log = std::fs::File::create(folder.join("log")).expect("is made");
        let set = |name: &str, value: OsString| {
            let mut setting = OsString::from(format!("{name}="));
            setting.push(value);
            [OsString::from("-c"), setting]
        };
        let settings = [
            set("unix_socket_directories", folder.into()),
            set("listen_addresses", "127.0.0.1".into()),
            set("port", self.port.to_string().into()),
            set("ssl", "on".into()),
            set("ssl_cert_file", folder.join("authority.pem").into()),
            set("ssl_key_file", folder.join("key.pem").into()),
            set("fsync", "off".into()),
        ];
        let mut command = self.command("postgres");
        command.args(["-D", "data"]).args(settings.into_iter().flatten());
        self.process = Some(command.stdout(Stdio::null()).stderr(log).spawn().expect("starts"));
        let socket = folder.join(format!(".s.PGSQL.{}", self.port));
        let began = Instant::now();
        loop {
            let ready = postgres::Client::connect(&self.url("postgres"), postgres::NoTls);
            if ready.is_ok() {
                return;
            }
            if began.elapsed() > Duration::from_secs(60) {
                let log = std::fs::read_to_string(folder.join("log")).unwrap_or_default();
                panic!("{} is not there after a minute: {log}", socket.display());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Stops it, with all its connections: at once, without an orderly end.
    fn stop(&mut self) {
        if let Some(mut process) = self.process.take() {
            let _ = self.command("pg_ctl").args(["-D", "data", "stop", "-m", "immediate"]).output();
            let _ = process.wait();
        }
    }

    /// A database's URL, over the server's socket.
    fn url(&self, database: &str) -> String {
        let folder = self.folder.path().display().to_string().replace('/', "%2F");
        format!("postgres://ingle:{ESCAPED}@{folder}:{}/{database}", self.port)
    }

    /// The same over TCP.
    fn tcp(&self, database: &str, more: &str) -> String {
        format!(
            "postgres://ingle:{ESCAPED}@localhost:{}/{database}?hostaddr=127.0.0.1{more}",
            self.port
        )
    }

    fn run(&self, database: &str, sql: &str) {
        let client = postgres::Client::connect(&self.url(database), postgres::NoTls);
        client.and_then(|mut client| client.batch_execute(sql)).expect("is run");
    }

    /// A ledger's place in a database of its own.
    fn place(&self, name: &str) -> Place {
        self.run("postgres", &format!("CREATE DATABASE {name}"));
        self.url(name).parse().expect("a place")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}

/// One server for all of it: making one takes longer than the rest.
#[test]
fn a_server_keeps_all_promises() {
    let mut server = match Server::new() {
        Ok(server) => server,
        Err(why) => {
            println!("\n!!! NOT CHECKED: ledgers in Postgres: {why}\n");
            return;
        }
    };
    for (name, promise) in PROMISES {
        println!("{name}");
        promise(&server.place(&format!("promise_{name}")));
    }
    tls(&server);
    passwords(&server);
    broken_connections(&server);
    newer(&server);
    let killed = server.place("killed");
    kill::survives(&killed, &server.url("killed"), "power", 4);
    restarts(&mut server);
}

fn tls(server: &Server) {
    let name = "tls";
    server.place(name);
    let place = |more: &str| server.tcp(name, more).parse::<Place>().expect("a place");
    let open = |place: &Place, options: &Options| Ledger::open(place, options).map(drop);
    let believing = Options { authorities: Some(server.authority.clone()), ..Options::default() };
    let secure = place("&sslmode=require");
    let ledger = Ledger::open(&secure, &believing).expect("opens");
    ledger.note(&entry("a", 1)).expect("is sent").wait().expect("is written");
    let sql = "SELECT 1 / count(*) FROM pg_stat_ssl NATURAL JOIN pg_stat_activity \
               WHERE ssl AND application_name = 'ingle'";
    server.run(name, sql);
    drop(ledger);
    assert!(open(&secure, &Options::default()).is_err(), "nobody known has signed it");
    let other = server.tcp(name, "&sslmode=require").replace("localhost", "example.com");
    let other: Place = other.parse().expect("a place");
    assert!(open(&other, &believing).is_err(), "the certificate is for another name");
    assert_eq!(open(&place("&sslmode=disable"), &Options::default()), Ok(()));
    assert_eq!(open(&place(""), &Options::default()), Ok(()), "nothing leaves this machine");
}

fn passwords(server: &Server) {
    let wrong = server.url("postgres").replace(ESCAPED, "another");
    let place: Place = wrong.parse().expect("a place");
    let error = Ledger::open(&place, &Options::default()).map(drop).expect_err("is refused");
    assert!(matches!(error, Error::Unreachable { .. }), "{error}");
    assert!(!error.to_string().contains("another"), "{error}");
    let place: Place = server.url("nowhere").parse().expect("a place");
    assert!(matches!(Ledger::open(&place, &Options::default()), Err(Error::Unreachable { .. })));
}

/// A connection that the server ends is made anew, and its calls stay its own.
fn broken_connections(server: &Server) {
    let place = server.place("broken");
    let ledger = open(&place);
    ledger.begin(&entry("a", 9), &[]).expect("is sent").wait().expect("is announced");
    for round in 0..3 {
        let sql = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
                   WHERE application_name = 'ingle' AND datname = 'broken'";
        server.run("postgres", sql);
        ledger.note(&entry(format!("{round}"), 1)).expect("is sent").wait().expect("is written");
    }
    assert_eq!(open(&place).recovered().calls, 0, "it shows that it lives again");
    ledger.end(&entry("a", 3)).expect("is sent").wait().expect("is ended");
    assert_eq!(all(&place).len(), 4);
    assert!(is_whole(&place));
}

fn newer(server: &Server) {
    let place = server.place("newer");
    drop(open(&place));
    server.run("newer", "UPDATE ledger_chain SET version = 9");
    let refused = |result: ingle_ledger::Result<()>| {
        assert!(matches!(result, Err(Error::Newer { found: 9, .. })), "{result:?}");
    };
    refused(Ledger::open(&place, &Options::default()).map(drop));
    refused(ingle_ledger::Reader::open(&place, &Options::default()).map(drop));
}

#[test]
#[ignore = "measures: cargo test --release -p ingle-ledger speed -- --ignored --nocapture"]
fn speed_of_a_server() {
    let server = Server::new().expect("is installed");
    let place = server.place("speed");
    let ledger = open(&place);
    let (count, began) = (20_000_u32, Instant::now());
    let mut last = None;
    for n in 0..count {
        let ticket = ledger.note(&entry(format!("{n}"), 1)).expect("is sent");
        if n % 1000 == 0 {
            ticket.wait().expect("is written");
            continue;
        }
        last = Some(ticket);
    }
    last.map(ingle_ledger::Ticket::wait).transpose().expect("is written");
    let rate = f64::from(count) / began.elapsed().as_secs_f64();
    println!("Postgres, which does not wait for its disk: {rate:.0} calls a second");
}

/// Without its server a ledger refuses; when that is back it goes on, with all it acknowledged.
fn restarts(server: &mut Server) {
    let place = server.place("restarts");
    let ledger = open(&place);
    for n in 0..50 {
        ledger.note(&entry(format!("{n}"), 1)).expect("is sent").wait().expect("is written");
    }
    ledger.begin(&entry("under way", 9), &[]).expect("is sent").wait().expect("is announced");
    server.stop();
    let error = ledger.note(&entry("x", 1)).expect("is sent").wait().expect_err("nobody is there");
    assert!(matches!(error, Error::Unreachable { .. }), "{error}");
    let begun = ledger.begin(&entry("y", 1), &[]);
    assert!(matches!(begun, Err(Error::Unreachable { .. })), "no receipt, no call");
    server.start();
    let began = Instant::now();
    while ledger.healthy().is_err() && began.elapsed() < Duration::from_secs(30) {
        std::thread::sleep(Duration::from_millis(50));
    }
    ledger.end(&entry("under way", 2)).expect("is sent").wait().expect("is ended");
    assert_eq!(all(&place).len(), 51);
    let Ok(Verdict::Whole(whole)) = reader(&place).verify(None) else { panic!("is whole") };
    assert_eq!(whole.missed.calls, 1, "the ledger says what it misses");
    assert!(is_whole(&place) && reader(&place).announced().expect("is read").is_empty());
}
