//! What a service manager hears, on a socket as systemd would give one.
#![cfg(unix)]

mod support;

use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use ingle_protocol::Fault;
use ingle_server::{Config, Manager, Progress, Slot, Stop, bind};
use support::{Script, World, config};
use tokio::sync::mpsc::{Receiver, channel};
use tokio::sync::{oneshot, watch};

/// Passes what is said on as it comes, up to the end: a socket that nobody reads drops datagrams.
fn hear(socket: UnixDatagram) -> Receiver<String> {
    socket.set_read_timeout(Some(Duration::from_secs(60))).expect("may be");
    let (sender, receiver) = channel(10_000);
    std::thread::spawn(move || {
        let mut bytes = [0; 1024];
        while let Ok(length) = socket.recv(&mut bytes) {
            let line = String::from_utf8(bytes[..length].to_vec()).expect("UTF-8");
            if sender.blocking_send(line).is_err() {
                return;
            }
        }
    });
    receiver
}

/// What is said up to the line that is waited for.
async fn up_to(receiver: &mut Receiver<String>, last: &str) -> Vec<String> {
    let mut said = Vec::new();
    while said.last().is_none_or(|line| line != last) {
        said.push(receiver.recv().await.unwrap_or_else(|| panic!("{last:?} is not in {said:?}")));
    }
    said
}

/// Serves with this manager, loads in steps, the last of them once that line was heard, and ends;
/// what is said from start to end.
async fn life(socket: UnixDatagram, manager: Manager, awaited: &str) -> Vec<String> {
    let mut heard = hear(socket);
    let (go, gone) = oneshot::channel();
    let bound = bind(Config { manager, ..config() }).await.expect("a free port");
    let (stop, stopped) = watch::channel(Stop::Run);
    let load = move |slot: &Slot| {
        let report = |phase: &str, done| {
            slot.report(Progress { phase: phase.to_owned(), done, total: Some(200) });
        };
        report("fetching", 3);
        report("fetching", 4);
        report("load\nREADY=1", 200);
        gone.blocking_recv().map_err(|error| Fault::ours(error.to_string()))?;
        slot.fill(std::sync::Arc::new(Script(World::default().into())));
        Ok::<_, Fault>(())
    };
    let ended = tokio::spawn(bound.serve(load, stopped));
    let mut said = up_to(&mut heard, awaited).await;
    go.send(()).expect("the loader waits");
    said.extend(up_to(&mut heard, "STATUS=ready").await);
    stop.send_replace(Stop::Drain);
    ended.await.expect("no panic").expect("an orderly end");
    said.extend(up_to(&mut heard, "STATUS=stopping: running answers may finish").await);
    said
}

const ALIVE: &str = "WATCHDOG=1";

const LIFE: [&str; 7] = [
    "STATUS=fetching 1 %",
    "STATUS=fetching 2 %",
    "STATUS=load READY=1 100 %",
    "READY=1",
    "STATUS=ready",
    "STOPPING=1",
    "STATUS=stopping: running answers may finish",
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_life_is_told() {
    let path = std::env::temp_dir().join(format!("ingle-notify-{}", std::process::id()));
    let socket = UnixDatagram::bind(&path).expect("may be");
    let manager = Manager { socket: Some(path.clone().into()), watchdog: None };
    let said = life(socket, manager, LIFE[2]).await;
    std::fs::remove_file(path).expect("is there");
    assert_eq!(said, LIFE);
}

#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn abstract_names_and_signs_of_life() {
    use std::os::linux::net::SocketAddrExt;
    let name = format!("ingle-notify-{}", std::process::id());
    let address = std::os::unix::net::SocketAddr::from_abstract_name(&name).expect("a name");
    let socket = UnixDatagram::bind_addr(&address).expect("may be");
    let watchdog = Some(Duration::from_millis(2));
    let manager = Manager { socket: Some(format!("@{name}").into()), watchdog };
    let (alive, said): (Vec<_>, Vec<_>) =
        life(socket, manager, ALIVE).await.into_iter().partition(|line| line == ALIVE);
    assert_eq!(said, LIFE);
    assert!(!alive.is_empty());
}

/// A reload begins and ends, for a manager that waits for it; before all is ready nobody is told.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reload_is_told() {
    let path = std::env::temp_dir().join(format!("ingle-reload-{}", std::process::id()));
    let socket = UnixDatagram::bind(&path).expect("may be");
    let mut heard = hear(socket);
    let manager = Manager { socket: Some(path.clone().into()), watchdog: None };
    let bound = bind(Config { manager: manager.clone(), ..config() }).await.expect("a free port");
    bound.control().reloading(Some(3));
    bound.control().reloaded();
    drop(bound);
    let (_server, control) = support::start_with(Config { manager, ..config() }).await;
    up_to(&mut heard, "STATUS=ready").await;
    control.reloading(None);
    control.reloading(Some(5));
    control.reloaded();
    let said = up_to(&mut heard, "READY=1").await;
    assert_eq!(said, ["RELOADING=1\nMONOTONIC_USEC=5", "READY=1"]);
    std::fs::remove_file(path).expect("is there");
}

/// Where nobody listens, nothing changes.
#[tokio::test]
async fn nobody_is_told_in_vain() {
    for socket in ["/nowhere/at/all", "@ingle-nobody", ""] {
        let manager = Manager { socket: Some(socket.into()), watchdog: None };
        let server = support::start(Config { manager, ..config() }).await;
        assert_eq!(server.get("/health").await.status, 200, "{socket}");
    }
}
