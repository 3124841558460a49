//! A provider's key out of the system's keyring: a session bus, GNOME's keyring and its own tool to
//! put a key there, all of them the test's own. Where they are not installed, it says so.
#![cfg(target_os = "linux")]
#![allow(clippy::print_stderr, reason = "a skipped test says so")]

mod support;

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};

use serde_json::json;
use support::place::Place;
use support::server::{Server, serve};
use support::until;
use support::upstream::{Upstream, well};

const KEY: &str = "sk-in-the-keyring-0123456789";

/// A bus and a keyring on it, ended when dropped.
struct Session {
    bus: Child,
    keyring: Child,
    address: String,
}

impl Drop for Session {
    fn drop(&mut self) {
        for child in [&mut self.keyring, &mut self.bus] {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Session {
    /// What is missing, where it cannot be started.
    fn start(home: &str) -> Result<Self, String> {
        let needs = ["dbus-daemon", "gnome-keyring-daemon", "secret-tool"];
        let missing = |name: &&str| {
            let found = Command::new(name).arg("--version").output();
            !found.is_ok_and(|output| output.status.success() || !output.stderr.is_empty())
        };
        if let Some(name) = needs.iter().find(|name| missing(name)) {
            return Err(format!("there is no {name}"));
        }
        let mut bus = Command::new("dbus-daemon")
            .args(["--session", "--nofork", "--nopidfile", "--print-address"])
            .arg(format!("--address=unix:path={home}/bus"))
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| error.to_string())?;
        let mut address = String::new();
        let told = bus.stdout.take().expect("is piped");
        BufReader::new(told).read_line(&mut address).expect("UTF-8");
        let address = address.trim().to_owned();
        let mut keyring = Command::new("gnome-keyring-daemon")
            .args(["--foreground", "--unlock", "--components=secrets"])
            .arg(format!("--control-directory={home}/control"))
            .envs(environment(home, &address))
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| error.to_string())?;
        // The password of a keyring that is made now.
        keyring.stdin.take().expect("is piped").write_all(b"password").expect("is read");
        Ok(Self { bus, keyring, address })
    }

    /// Puts a key there; whether that went well.
    fn store(&self, home: &str, user: &str, key: &str) -> bool {
        let mut child = Command::new("secret-tool")
            .args(["store", "--label=test", "service", "ingle", "username", user])
            .envs(environment(home, &self.address))
            .stdin(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("is installed");
        let _ = child.stdin.take().expect("is piped").write_all(key.as_bytes());
        child.wait().expect("is ours").success()
    }
}

fn environment(home: &str, address: &str) -> [(&'static str, String); 4] {
    [
        ("DBUS_SESSION_BUS_ADDRESS", address.to_owned()),
        ("HOME", home.to_owned()),
        ("XDG_DATA_HOME", home.to_owned()),
        ("XDG_RUNTIME_DIR", home.to_owned()),
    ]
}

fn policy(url: &str, key: &str) -> String {
    format!(
        "default_class = \"open\"\n[classes.open]\nproviders = [\"far\"]\n\
         [providers.far]\nkind = \"openai\"\nurl = \"{url}/v1\"\nkey = \"{key}\"\n"
    )
}

#[test]
fn a_key_comes_from_the_keyring() {
    // A socket's path is short, which a build's folder need not be.
    let place = Place(std::env::temp_dir().join(format!("ingle-ring-{}", std::process::id())));
    std::fs::create_dir_all(&place.0).expect("a folder");
    let home = place.0.to_str().expect("UTF-8").to_owned();
    let session = match Session::start(&home) {
        Ok(session) => session,
        Err(why) => return eprintln!("NOT CHECKED: keys in the system's keyring: {why}"),
    };
    until(|| session.store(&home, "far", KEY));
    let upstream = Upstream::start(well);
    let policy = |key: &str| place.policy(&policy(&upstream.url, key));
    let rules = policy("keyring:ingle/far");
    let own = environment(&home, &session.address);
    let bus = [(own[0].0, own[0].1.as_str())];
    let flags = ["--no-local", "--no-ledger"];
    let mut server = place.start(&flags, &bus);
    let ask = |server: &Server| {
        let turns = json!([{ "role": "user", "content": "Hello." }]);
        let body = json!({ "model": "far/m", "messages": turns });
        let said = server.ask("POST", "/v1/chat/completions", &body.to_string());
        assert_eq!(said.status, 200, "{}", said.body);
        upstream.asked().pop().expect("it came").head
    };
    assert!(ask(&server).contains(&format!("Bearer {KEY}")), "{:?}", upstream.asked());
    // Another one holds once the policy is read again, under the service's usual name, too.
    until(|| session.store(&home, "far", "sk-of-another-day-0123456789"));
    policy("keyring:far");
    server.signal("HUP");
    while server.event()["event"] != "reloaded" {}
    assert!(ask(&server).contains("Bearer sk-of-another-day-0123456789"));
    drop(server);

    // What is not there, and a keyring that is not there, are told of, with what to do.
    let refused = |bus: &str, expect: &str| {
        let mut command = serve(&flags);
        command.args(["--policy", &rules]).env("DBUS_SESSION_BUS_ADDRESS", bus);
        let said = command.output().expect("runs");
        let said = String::from_utf8_lossy(&said.stderr).into_owned();
        assert!(said.contains(expect) && !said.contains("sk-"), "{said}");
    };
    policy("keyring:ingle/nobody");
    refused(&session.address, "secret-tool store --label=ingle service ingle username nobody");
    refused(&format!("unix:path={home}/nothing"), "no keyring answers");
}
