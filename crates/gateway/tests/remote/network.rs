//! Real sockets on loopback: plain, TLS, and through a proxy. Nothing here depends on how long
//! anything takes.

use std::net::SocketAddr;
use std::sync::Arc;

use ingle_gateway::remote::net::{Net, Proxy};
use ingle_gateway::remote::{Remote, Upstream, World, kind};
use ingle_protocol::End;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring::default_provider;
use tokio_rustls::rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

use super::upstream::{Heard, call, plan, request};

const ANSWER: &str = r#"{"choices":[{"index":0,"message":{"content":"hi"},"finish_reason":"stop"}],"usage":{"prompt_tokens":7,"completion_tokens":3}}"#;

/// Reads one head, byte by byte, and gives it.
async fn read_head(stream: &mut (impl AsyncRead + Unpin)) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.expect("a request"));
    }
    String::from_utf8(head).expect("UTF-8")
}

/// Answers one request.
async fn answer(mut stream: impl AsyncRead + AsyncWrite + Unpin) {
    let head = read_head(&mut stream).await;
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    let mut body = vec![0; length.and_then(|text| text.parse().ok()).expect("a length")];
    stream.read_exact(&mut body).await.expect("a body");
    let head = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
        ANSWER.len()
    );
    stream.write_all(head.as_bytes()).await.expect("it listens");
    stream.write_all(ANSWER.as_bytes()).await.expect("it listens");
    stream.flush().await.expect("it listens");
    // Until the other end closes it.
    let _ = stream.read_u8().await;
}

async fn listen() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
    let address = listener.local_addr().expect("it is bound");
    (listener, address)
}

/// A certificate for a name, as PEM, and who answers with it.
fn certificate(name: &str) -> (String, TlsAcceptor) {
    let made = rcgen::generate_simple_self_signed(vec![name.to_owned()]).expect("a certificate");
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
    let config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .expect("ring has TLS 1.3")
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .expect("the key is the certificate's");
    (made.cert.pem(), TlsAcceptor::from(Arc::new(config)))
}

async fn ask(net: Net, url: String) -> Heard {
    let upstream =
        Upstream { url, retries: 0, ..Upstream::new("a", kind("compatible").expect("a row")) };
    let remote = Remote::new(Handle::current(), vec![upstream], World::new(Arc::new(net)))
        .expect("the settings are right");
    call(&remote, request(), plan(&["a"])).await
}

fn reason(heard: &Heard) -> &str {
    heard.outcome.route.first().map_or("", |step| step.reason.as_str())
}

#[tokio::test]
async fn a_server_on_loopback_is_asked() {
    let (listener, address) = listen().await;
    let serve = async { answer(listener.accept().await.expect("somebody comes").0).await };
    let asked = ask(Net::new(None), format!("http://{address}/v1"));
    let heard = tokio::select! {
        heard = asked => heard,
        () = serve => panic!("it was not heard"),
    };
    assert_eq!((heard.told.as_str(), heard.outcome.end), ("hi", End::Stop));
    assert!(!heard.outcome.left_machine() && heard.outcome.bytes_out > 0);
}

#[tokio::test]
async fn nobody_there_is_told_at_once() {
    let (listener, address) = listen().await;
    drop(listener);
    let heard = ask(Net::new(None), format!("http://{address}")).await;
    assert_eq!(reason(&heard), "it refuses connections");
    assert_eq!((heard.outcome.bytes_out, heard.outcome.hosts.len()), (0, 0));
}

#[tokio::test]
async fn tls_trusts_whom_it_is_told_to() {
    let (pem, acceptor) = certificate("localhost");
    let (other, _) = certificate("localhost");
    let (listener, address) = listen().await;
    let url = format!("https://localhost:{}", address.port());
    let serve = async {
        loop {
            let (socket, _) = listener.accept().await.expect("somebody comes");
            if let Ok(stream) = acceptor.accept(socket).await {
                answer(stream).await;
            }
        }
    };
    let asked = async {
        let trusting = |pem: &str| Net::trusting(pem.as_bytes(), None).expect("certificates");
        let heard = ask(trusting(&other), url.clone()).await;
        assert!(reason(&heard).contains("invalid peer certificate"), "{}", reason(&heard));
        assert_eq!((heard.outcome.end, heard.outcome.bytes_out), (End::Failed, 0));
        let heard = ask(trusting(&pem), url.clone()).await;
        assert_eq!((heard.told.as_str(), heard.outcome.left_machine()), ("hi", false));
        // A name that the certificate does not have.
        let heard = ask(trusting(&pem), url.replace("localhost", "127.0.0.1")).await;
        assert!(reason(&heard).contains("invalid peer certificate"), "{}", reason(&heard));
    };
    tokio::select! {
        () = asked => {}
        () = serve => unreachable!("it serves for ever"),
    }
    assert!(Net::trusting(b"no PEM", None).is_err());
}

#[tokio::test]
async fn a_proxy_gives_a_tunnel_or_says_why_not() {
    let (pem, acceptor) = certificate("api.example");
    let (listener, address) = listen().await;
    let serve = async {
        for said in ["407 Authenticate", "200 Connected"] {
            let (mut socket, _) = listener.accept().await.expect("somebody comes");
            let head = read_head(&mut socket).await;
            assert!(head.starts_with("CONNECT api.example:443 HTTP/1.1\r\n"), "{head}");
            // me:secret
            assert!(head.contains("Proxy-Authorization: Basic bWU6c2VjcmV0\r\n"), "{head}");
            let said = format!("HTTP/1.1 {said}\r\n\r\n");
            socket.write_all(said.as_bytes()).await.expect("it listens");
            if said.contains("200") {
                answer(acceptor.accept(socket).await.expect("TLS")).await;
            }
        }
        std::future::pending::<()>().await;
    };
    let asked = async {
        let proxy = Proxy::new(&format!("http://me:secret@{address}"), "").expect("a proxy");
        let net = Net::trusting(pem.as_bytes(), Some(proxy)).expect("certificates");
        let heard = ask(net.clone(), "https://api.example/v1".into()).await;
        let refused = "there is no connection to it: the proxy refused a tunnel: 407";
        assert_eq!(reason(&heard), refused);
        let heard = ask(net, "https://api.example/v1".into()).await;
        assert_eq!((heard.told.as_str(), heard.outcome.hosts), ("hi", vec!["api.example".into()]));
    };
    tokio::select! {
        () = asked => {}
        () = serve => unreachable!("it serves for ever"),
    }
}
