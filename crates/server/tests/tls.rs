//! TLS over real sockets, with certificates made for each test: what is served, what is refused at
//! the start, and what happens to handshakes that are none.

mod support;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ingle_server::{Config, Limits, Stop, TlsFiles, bind};
use rcgen::{CertificateParams, CertifiedKey, KeyPair, date_time_ymd};
use support::{CHAT, Reply, Server, chat, config, parse, read_until, start, until};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::version::{TLS12, TLS13};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion};

/// A folder of this test's own, removed at its end.
struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("ingle-tls-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).expect("may be");
        Self(path)
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.join(name);
        std::fs::write(&path, text).expect("may be");
        path
    }

    /// A certificate's files, `NAME.pem` and `NAME.key`.
    fn put(&self, name: &str, made: &CertifiedKey<KeyPair>) -> TlsFiles {
        TlsFiles {
            cert: self.write(&format!("{name}.pem"), &made.cert.pem()),
            key: self.write(&format!("{name}.key"), &made.signing_key.serialize_pem()),
        }
    }
}

fn made() -> CertifiedKey<KeyPair> {
    rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("can be made")
}

/// A certificate of other years.
fn dated(from: i32, until: i32) -> CertifiedKey<KeyPair> {
    let signing_key = KeyPair::generate().expect("can be made");
    let mut params = CertificateParams::new(["localhost".to_owned()]).expect("a name");
    params.not_before = date_time_ymd(from, 1, 1);
    params.not_after = date_time_ymd(until, 1, 1);
    let cert = params.self_signed(&signing_key).expect("can be made");
    CertifiedKey { cert, signing_key }
}

fn trusting(
    certificate: &CertificateDer<'static>,
    versions: &[&'static SupportedProtocolVersion],
) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    roots.add(certificate.clone()).expect("a root");
    let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(versions)
        .expect("versions that there are")
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    config
}

async fn connect(server: &Server, config: ClientConfig) -> std::io::Result<TlsStream<TcpStream>> {
    let socket = TcpStream::connect(server.address).await.expect("it listens");
    let name = ServerName::try_from("localhost").expect("a name");
    TlsConnector::from(Arc::new(config)).connect(name, socket).await
}

async fn ask(mut stream: TlsStream<TcpStream>, path: &str, body: &str) -> Reply {
    let method = if body.is_empty() { "GET" } else { "POST" };
    let request = format!(
        "{method} {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).await.expect("it reads");
    stream.flush().await.expect("it reads");
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).await.expect("an orderly end");
    parse(&bytes)
}

/// A server whose start cannot be awaited by plain HTTP.
async fn start_tls(files: TlsFiles, limits: Limits) -> Server {
    start(Config { tls: Some(files), limits, ..config() }).await
}

#[tokio::test]
async fn answers_over_tls() {
    let (folder, made) = (Folder::new("answers"), made());
    let server = start_tls(folder.put("one", &made), Limits::default()).await;
    let root = made.cert.der();
    for versions in [&[&TLS13][..], &[&TLS12]] {
        let stream = connect(&server, trusting(root, versions)).await.expect("a handshake");
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
        let reply = ask(stream, CHAT, &chat("one two", "")).await;
        let content = &reply.json()["choices"][0]["message"]["content"];
        assert_eq!((reply.status, content), (200, &"one two".into()), "{}", reply.body);
        let stream = connect(&server, trusting(root, versions)).await.expect("a handshake");
        let reply = ask(stream, CHAT, &chat("one two", r#","stream":true"#)).await;
        assert_eq!(reply.events().last(), Some(&"[DONE]"), "{}", reply.body);
    }
    // Another's certificate is none that this client knows.
    let stranger = self::made();
    let refused = connect(&server, trusting(stranger.cert.der(), &[&TLS13])).await;
    assert!(refused.is_err(), "a client believes a stranger");
}

/// Those who send no handshake, or nothing at all, hold up nobody, and are told where they can be.
#[tokio::test]
async fn handshakes_that_are_none() {
    let (folder, made) = (Folder::new("none"), made());
    let limits = Limits { handshake: Duration::from_millis(200), ..Limits::default() };
    let server = start_tls(folder.put("one", &made), limits).await;
    let mut silent = TcpStream::connect(server.address).await.expect("it listens");
    let mut noise = TcpStream::connect(server.address).await.expect("it listens");
    noise.write_all(&[22, 3, 1, 0, 4, 1, 0, 0, 0]).await.expect("open");
    let plain = server.ask("GET", "/health", "", "").await;
    assert_eq!(plain.status, 400);
    assert!(plain.body.contains("https://"), "{}", plain.body);
    let long = "x".repeat(20_000);
    let plain = server.ask("POST", CHAT, "content-type: application/json\r\n", &long).await;
    assert!(plain.body.contains("https://"), "{}", plain.body);
    let mut rest = Vec::new();
    noise.read_to_end(&mut rest).await.expect("an alert and an end");
    assert_eq!(rest.first(), Some(&21), "an alert of TLS: {rest:?}");
    let mut rest = Vec::new();
    silent.read_to_end(&mut rest).await.expect("the server closes");
    assert!(rest.is_empty(), "{rest:?}");
    let stream = connect(&server, trusting(made.cert.der(), &[&TLS13])).await.expect("a handshake");
    let text = ask(stream, "/metrics", "").await.body;
    assert!(text.contains("ingle_server_tls_handshake_failures_total 4\n"), "{text}");
    assert!(text.contains("ingle_server_tls_certificate_not_after_seconds "), "{text}");
}

#[tokio::test]
async fn the_end_is_as_orderly_as_without() {
    let (folder, made) = (Folder::new("end"), made());
    let server = start_tls(folder.put("one", &made), Limits::default()).await;
    let mut stream =
        connect(&server, trusting(made.cert.der(), &[&TLS13])).await.expect("a handshake");
    let body = chat("hold", r#","stream":true"#);
    let length = body.len();
    let request = format!(
        "POST {CHAT} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n\
         content-length: {length}\r\n\r\n{body}"
    );
    stream.write_all(request.as_bytes()).await.expect("it reads");
    stream.flush().await.expect("it reads");
    read_until(&mut stream, "held").await;
    let _shaking = TcpStream::connect(server.address).await.expect("it listens");
    server.stop.send_replace(Stop::Drain);
    until(async || TcpStream::connect(server.address).await.is_err()).await;
    server.world.released.store(true, std::sync::atomic::Ordering::SeqCst);
    read_until(&mut stream, "[DONE]").await;
    server.ended.await.expect("no panic").expect("an orderly end");
}

/// New files are taken in while the server runs; files that do not fit leave the old ones in force.
#[tokio::test]
async fn a_renewed_certificate() {
    let (folder, first, second) = (Folder::new("renewed"), made(), made());
    let limits = Limits { certificate_look: Duration::from_millis(10), ..Limits::default() };
    let server = start_tls(folder.put("one", &first), limits).await;
    let knows = async |made: &CertifiedKey<KeyPair>| {
        connect(&server, trusting(made.cert.der(), &[&TLS13])).await.is_ok()
    };
    let counted = async |made: &CertifiedKey<KeyPair>, line: &str| match connect(
        &server,
        trusting(made.cert.der(), &[&TLS13]),
    )
    .await
    {
        Ok(stream) => ask(stream, "/metrics", "").await.body.contains(line),
        Err(_) => false,
    };
    assert!(knows(&first).await && !knows(&second).await);
    folder.write("one.pem", &second.cert.pem());
    until(async || counted(&first, "ingle_server_tls_reload_failures_total 1\n").await).await;
    assert!(knows(&first).await, "a certificate without its key");
    folder.write("one.key", &second.signing_key.serialize_pem());
    until(async || counted(&second, "ingle_server_tls_reloads_total 1\n").await).await;
    assert!(!knows(&first).await);
    std::fs::remove_file(folder.0.join("one.key")).expect("is there");
    until(async || counted(&second, "ingle_server_tls_reload_failures_total 2\n").await).await;
}

/// What a start is refused for, in words.
async fn refused(cert: &Path, key: &Path) -> String {
    let files = TlsFiles { cert: cert.to_owned(), key: key.to_owned() };
    let config = Config { tls: Some(files), ..config() };
    bind(config).await.expect_err("cannot be served").to_string()
}

#[tokio::test]
async fn what_is_wrong_with_files_is_said() {
    let folder = Folder::new("wrong");
    let right = folder.put("right", &made());
    let other = folder.put("other", &made());
    let old = folder.put("old", &dated(2001, 2002));
    let early = folder.put("early", &dated(2400, 2401));
    let count = std::cell::Cell::new(0);
    let text = |text: &str| {
        count.set(count.get() + 1);
        folder.write(&format!("{}.txt", count.get()), text)
    };
    let section = |name: &str| text(&format!("-----BEGIN {name}-----\nMAA=\n-----END {name}-----"));
    let old_way = "-----BEGIN EC PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,0\n\
                   \nMAA=\n-----END EC PRIVATE KEY-----\n";
    let nowhere = folder.0.join("nowhere");
    let rows: &[(&Path, &Path, &str)] = &[
        (&right.cert, &other.key, "is not the key of"),
        (&right.key, &right.cert, "exchanged"),
        (&right.cert, &right.cert, "exchanged"),
        (&old.cert, &old.key, "it expired on 2002-01-01T00:00:00Z"),
        (&early.cert, &early.key, "is the clock right"),
        (&right.cert, &section("ENCRYPTED PRIVATE KEY"), "openssl pkey"),
        (&right.cert, &text(old_way), "openssl pkey"),
        (&right.cert, &section("PRIVATE KEY"), "cannot be used"),
        (&section("CERTIFICATE"), &right.key, "no sound certificate"),
        (&text("no certificate"), &right.key, "holds no certificate"),
        (&text("-----BEGIN CERTIFICATE-----\nMAA="), &right.key, "no sound PEM"),
        (&right.cert, &text(""), "holds no private key"),
        (&nowhere, &right.key, "cannot be read"),
        (&right.cert, &nowhere, "cannot be read"),
        (&folder.0, &right.key, "cannot be read"),
        (&text(&"x".repeat((1 << 20) + 1)), &right.key, "too many"),
    ];
    for (cert, key, words) in rows {
        let said = refused(cert, key).await;
        assert!(said.contains(words), "{words:?} is not in {said:?}");
    }
}
