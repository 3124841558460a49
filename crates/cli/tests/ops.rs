//! What those meet who run a server for others: its health from outside, its word to the service
//! manager, TLS, and the files of `deploy/`, as far as they can be held without what they are for.
#![cfg(unix)]
#![allow(clippy::print_stderr, reason = "a skipped test says so")]

mod support;

use std::fs;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use support::certificate::Certificate;
use support::server::{Server, serve};
use support::{run, tiny};

fn read(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[test]
fn health_is_asked_from_outside() {
    let plain = Server::start(&[&tiny()]);
    assert_eq!(run(&["health", &plain.url]).answer(), "ok\n");
    let json = run(&["health", &plain.url, "--json"]).json();
    assert_eq!(json["models"][0]["status"], "ready");
    let certificate = Certificate::new("health");
    let tls = Server::start(&[&[tiny().as_str()], &certificate.flags()[..]].concat());
    assert!(tls.url.starts_with("https://"), "{}", tls.url);
    assert_eq!(run(&["health", &tls.url, "--insecure"]).answer(), "ok\n");
    run(&["health", &tls.url]).refused(1, &["does not answer", "certificate"]);
    let as_plain = tls.url.replace("https", "http");
    run(&["health", &as_plain]).refused(1, &["not as Ingle does"]);
    run(&["health", "http://127.0.0.1:9"]).refused(1, &["does not answer"]);
    run(&["health", "not a URL"]).refused(1, &["not a URL"]);
}

#[test]
fn curl_over_tls() {
    let certificate = Certificate::new("curl");
    let server = Server::start(&[&[tiny().as_str()], &certificate.flags()[..]].concat());
    let url = server.url.replace("127.0.0.1", "localhost");
    let mut curl = Command::new("curl");
    curl.args(["--silent", "--show-error", "--fail", "--cacert", &certificate.cert]);
    curl.arg(format!("{url}/v1/models"));
    match curl.output() {
        Ok(said) => {
            let text = String::from_utf8_lossy(&said.stdout);
            assert!(text.contains("qwen2"), "{text}{}", String::from_utf8_lossy(&said.stderr));
        }
        Err(error) => eprintln!("SKIPPED, there is no curl: {error}"),
    }
}

/// What the manager hears before `last`, and `last`.
fn heard(socket: &UnixDatagram, last: &str) -> Vec<String> {
    let mut said = Vec::<String>::new();
    while said.last().is_none_or(|line| line != last) {
        let mut bytes = [0; 1024];
        let length = socket.recv(&mut bytes).unwrap_or_else(|error| panic!("{error}: {said:?}"));
        said.push(String::from_utf8(bytes[..length].to_vec()).expect("UTF-8"));
    }
    said
}

#[test]
fn the_service_manager_is_told() {
    let path = std::env::temp_dir().join(format!("ingle-manager-{}", std::process::id()));
    let socket = UnixDatagram::bind(&path).expect("may be");
    socket.set_read_timeout(Some(Duration::from_secs(60))).expect("may be");
    let name = path.to_str().expect("UTF-8").to_owned();
    let reader =
        std::thread::spawn(move || (heard(&socket, "STATUS=ready"), heard(&socket, "STOPPING=1")));
    let mut server = Server::start_with(&[&tiny()], &[("NOTIFY_SOCKET", &name)]);
    server.signal("TERM");
    assert!(server.wait().success());
    let (start, end) = reader.join().expect("no panic");
    fs::remove_file(path).expect("is there");
    assert_eq!(start.iter().filter(|line| *line == "READY=1").count(), 1, "{start:?}");
    assert!(start.iter().all(|line| line.contains("=")) && start.len() >= 2, "{start:?}");
    assert_eq!(end, ["STOPPING=1"]);
}

#[test]
fn what_the_command_line_refuses() {
    let nowhere = "/nowhere/at.all";
    let rows: &[(&[&str], i32, &str)] = &[
        (&["--tls-cert", nowhere], 2, "--tls-key"),
        (&["--tls-key", nowhere], 2, "--tls-cert"),
        (&["--tls-cert", nowhere, "--tls-key", nowhere], 1, "cannot be read"),
        (&["--otlp-endpoint", "localhost:4317"], 2, "no address of a collector"),
        (&["--otlp-endpoint", "http://a.example", "--otlp-headers", "x"], 2, "name=value"),
        (&["--otlp-headers", "x=y"], 2, "--otlp-endpoint"),
    ];
    for (arguments, code, words) in rows {
        let said = serve(&[&["--port", "0"], *arguments].concat()).output().expect("runs");
        let text = String::from_utf8_lossy(&said.stderr);
        assert_eq!(said.status.code(), Some(*code), "{arguments:?}: {text}");
        assert!(text.contains(words), "{arguments:?}: {text}");
    }
}

/// The flags that a file's lines give to `ingle serve`.
fn flags(text: &str) -> Vec<&str> {
    let words = text.split(|c: char| c.is_whitespace() || "=\"[],".contains(c));
    words.filter(|word| word.starts_with("--") && word.len() > 2).collect()
}

/// Nothing here can build a container or start a service: names, paths and flags are held.
#[test]
fn deployed_files_name_what_there_is() {
    let help = run(&["serve", "--help"]).out;
    let lines = |path: &str, words: &[&str]| -> Vec<String> {
        let text = read(path);
        let told = text.lines().filter(|line| words.iter().any(|word| line.contains(word)));
        told.map(str::to_owned).collect()
    };
    let files = [
        ("deploy/systemd/ingle.service", &["ExecStart=", "INGLE_FLAGS="][..], 2),
        ("deploy/Containerfile", &["CMD [\"serve", "# -e INGLE"], 2),
        ("deploy/compose.yaml", &["command:"], 1),
    ];
    for (path, words, least) in files {
        let lines = lines(path, words);
        let flags: Vec<&str> = lines.iter().flat_map(|line| flags(line)).collect();
        assert!(flags.len() >= least, "{path}: {flags:?}");
        for flag in flags {
            assert!(help.contains(flag), "{path}: `ingle serve` has no {flag}");
        }
    }
    let container = read("deploy/Containerfile");
    let manifest = read("Cargo.toml");
    let version = manifest.lines().find_map(|line| line.strip_prefix("rust-version = "));
    let image = format!("/rust:{}-", version.expect("is set").trim_matches('"'));
    assert!(container.contains(&image), "it builds with {image}");
    assert!(read("crates/cli/Cargo.toml").contains("[[bin]]\nname = \"ingle\""));
    assert!(container.contains("-p ingle-cli --bin ingle"));
    assert!(container.contains("\"ingle\", \"health\"") && run(&["--help"]).out.contains("health"));
    assert!(container.contains("INGLE_HOME=/models") && container.contains("VOLUME [\"/models\"]"));
    assert!(container.contains("USER 10001"), "not as root");
    let unit = read("deploy/systemd/ingle.service");
    for line in
        ["Type=notify", "Type=notify-reload", "DynamicUser=yes", "Environment=INGLE_HOME=%S/ingle"]
    {
        assert!(unit.lines().any(|other| other == line), "the unit lacks {line}");
    }
    // What models may take is read from a file there.
    assert!(!unit.lines().any(|line| line.starts_with("ProcSubset")), "/proc/meminfo is needed");
}

#[test]
fn systemd_finds_nothing_wrong_with_the_unit() {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("unit");
    fs::create_dir_all(&folder).expect("may be");
    let unit = folder.join("ingle.service");
    let text = read("deploy/systemd/ingle.service");
    let text = text.replace("/usr/local/bin/ingle", env!("CARGO_BIN_EXE_ingle"));
    let text = text.replace("Documentation=file:///usr/share/doc/ingle/DEPLOY.md\n", "");
    fs::write(&unit, text).expect("may be");
    match Command::new("systemd-analyze").arg("verify").arg(&unit).output() {
        Ok(said) => {
            let text = String::from_utf8_lossy(&said.stderr);
            // One before 253 does not know this type, says so, and keeps the one above it.
            let known = |line: &&str| !line.ends_with("ignoring: notify-reload");
            let text: String = text.lines().filter(known).collect();
            assert!(said.status.success() && !text.contains("ingle.service"), "{text}");
        }
        Err(error) => eprintln!("SKIPPED, there is no systemd-analyze: {error}"),
    }
}
