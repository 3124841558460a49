//! The socket: bind first, load behind it, serve, and end in order.
//!
//! An end has two steps. At the first nothing new is accepted and what runs may finish, for a
//! bounded time. At the second, or when that time is over, streams get a last event that says why,
//! and connections are closed.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::stalling::Stalling;
use crate::{Config, Control, Error, Slot, State, batches, router};

/// How a server is told to end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stop {
    /// Not at all.
    #[default]
    Run,
    /// Accept nothing new; what runs may finish within the bound.
    Drain,
    /// At once.
    Now,
}

/// Whether a server could listen there now.
///
/// # Errors
/// What the system says against it.
pub fn can_listen(address: SocketAddr) -> std::io::Result<()> {
    std::net::TcpListener::bind(address).map(drop)
}

/// A server that listens and is not yet served.
#[derive(Debug)]
pub struct Bound {
    listener: TcpListener,
    state: Arc<State>,
    address: SocketAddr,
}

/// Checks the configuration and takes the address.
pub async fn bind(config: Config) -> Result<Bound, Error> {
    config.check()?;
    let listen = config.listen;
    let state = State::new(config)?;
    let failed = |error| Error::Bind { address: listen, error };
    let listener = TcpListener::bind(listen).await.map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    Ok(Bound { listener, state: Arc::new(state), address })
}

impl Bound {
    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The same, as clients call it.
    pub fn url(&self) -> String {
        let scheme = if self.state.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://{}", self.address)
    }

    /// A hold on its configuration, for as long as it runs.
    pub fn control(&self) -> Control {
        Control::new(&self.state)
    }

    /// Serves until `stop` says otherwise or its sender is gone. `load` runs on a thread of its own
    /// meanwhile and fills the slot; if it fails, so does this.
    pub async fn serve<E: std::fmt::Display>(
        self,
        load: impl FnOnce(&Slot) -> Result<(), E> + Send + 'static,
        mut stop: watch::Receiver<Stop>,
    ) -> Result<(), Error> {
        let Self { listener, state, .. } = self;
        let failed = spawn_load(Arc::clone(&state), load)?;
        let mut failed = std::pin::pin!(failed);
        let routes = router(Arc::clone(&state));
        let room = Arc::new(Semaphore::new(state.config().limits.connections));
        let mut connections = JoinSet::new();
        let _background = background(&state);
        let mut work = JoinSet::new();
        work.spawn(batches::work(Arc::clone(&state)));
        loop {
            let permit = Arc::clone(&room).acquire_owned();
            let accept = async { (permit.await, listener.accept().await) };
            tokio::select! {
                biased;
                error = &mut failed => return Err(Error::Load(error)),
                () = reached(&mut stop, Stop::Drain) => break,
                Some(_) = connections.join_next() => {}
                (permit, accepted) = accept => match accepted {
                    Ok((stream, _)) => {
                        let connection = connection(stream, routes.clone(), Arc::clone(&state));
                        connections.spawn(async move {
                            connection.await;
                            drop(permit);
                        });
                    }
                    Err(error) => {
                        // Out of file descriptors, as a rule: wait for some to come free.
                        tracing::warn!(%error, "a connection could not be accepted");
                        tokio::time::sleep(Duration::from_millis(50)).await;
                    }
                },
            }
        }
        drop(listener);
        // Lines of batches wait for the next start: nobody is there to wait for them.
        work.abort_all();
        end(&state, &mut connections, stop).await;
        if let Some(tracer) = state.tracer.clone() {
            // Bounded by itself.
            drop(tokio::task::spawn_blocking(move || tracer.finish()).await);
        }
        Ok(())
    }
}

/// Loads on a thread; what is returned waits for its error, for ever if there is none.
pub(crate) fn spawn_load<E: std::fmt::Display>(
    state: Arc<State>,
    load: impl FnOnce(&Slot) -> Result<(), E> + Send + 'static,
) -> Result<impl Future<Output = String>, Error> {
    let (sender, receiver) = oneshot::channel();
    let work = move || {
        let outcome = load(&state.slot);
        // The server may have ended meanwhile; then nobody asks.
        drop(sender.send(outcome.map_err(|error| error.to_string())));
    };
    let thread = std::thread::Builder::new().name("load".to_owned()).spawn(work);
    thread.map_err(|error| Error::Load(error.to_string()))?;
    Ok(async {
        match receiver.await {
            Ok(Ok(())) => std::future::pending().await,
            Ok(Err(error)) => error,
            Err(_) => "a bug stopped the loading".to_owned(),
        }
    })
}

/// What goes on beside the connections, and ends when this is dropped.
fn background(state: &Arc<State>) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    if let Some(tls) = &state.tls {
        tasks.spawn(Arc::clone(tls).watch(state.config().limits.certificate_look));
    }
    if let Some(patience) = state.config().manager.watchdog {
        tasks.spawn(show_life(Arc::clone(state), patience / 2));
    }
    tasks
}

/// Tells the service manager again and again that the server lives: that its tasks run, and that
/// its models can be asked, for which their locks have to come free.
async fn show_life(state: Arc<State>, every: Duration) {
    loop {
        let seen = Arc::clone(&state);
        let look = move || seen.slot.provider().map(|provider| provider.models().len());
        if tokio::task::spawn_blocking(look).await.is_ok() {
            state.slot.notify().alive();
        }
        tokio::time::sleep(every).await;
    }
}

/// Serves one connection to its end, over TLS where the server speaks it.
async fn connection(stream: TcpStream, routes: Router, state: Arc<State>) {
    let limits = state.config().limits.clone();
    // Tokens are small packets that should not wait for one another.
    let _ = stream.set_nodelay(true);
    let Some(tls) = &state.tls else {
        return converse(Stalling::new(stream, limits.stall), routes, &state).await;
    };
    let mut stop = state.stop.subscribe();
    let shaken = tokio::select! {
        shaken = tls.accept(stream, &limits) => shaken,
        () = reached(&mut stop, Stop::Drain) => return,
    };
    match shaken {
        Ok(stream) => converse(stream, routes, &state).await,
        Err(error) => tracing::debug!(%error, "a connection came to no TLS"),
    }
}

/// Speaks HTTP to the end; when the server drains, the answer under way is the last.
async fn converse(
    io: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    routes: Router,
    state: &State,
) {
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(state.config().limits.head_read)
        .serve_connection(TokioIo::new(io), TowerToHyperService::new(routes));
    let mut connection = std::pin::pin!(connection);
    let mut stop = state.stop.subscribe();
    let ended = tokio::select! {
        ended = &mut connection => ended,
        () = reached(&mut stop, Stop::Drain) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended early");
    }
}

async fn end(state: &State, connections: &mut JoinSet<()>, mut stop: watch::Receiver<Stop>) {
    state.slot.notify().stopping();
    state.stop.send_replace(Stop::Drain);
    let all_done = async {
        while connections.join_next().await.is_some() {}
        state.responses.idle().await;
    };
    let drain = state.config().limits.drain;
    tokio::select! {
        _ = timeout(drain, all_done) => {}
        () = reached(&mut stop, Stop::Now) => {}
    }
    state.stop.send_replace(Stop::Now);
    // Long enough to write a last event, too short to be waited for.
    let last = async {
        while connections.join_next().await.is_some() {}
        state.responses.idle().await;
    };
    let _ = timeout(Duration::from_secs(1), last).await;
    connections.shutdown().await;
    if let Some(log) = &state.live().log {
        log.flush();
    }
}

/// Waits for the end to come to `step`; whoever could tell being gone, it has.
pub(crate) async fn reached(stop: &mut watch::Receiver<Stop>, step: Stop) {
    drop(stop.wait_for(|stop| *stop >= step).await);
}

/// Follows the process's signals: the first SIGINT or SIGTERM drains, the second ends at once; and
/// SIGHUP is one of them where it ends the server.
pub fn signals(hangup_ends: bool) -> std::io::Result<watch::Receiver<Stop>> {
    let (sender, receiver) = watch::channel(Stop::Run);
    let mut wait = Signals::new(hangup_ends)?;
    tokio::spawn(async move {
        for stop in [Stop::Drain, Stop::Now] {
            wait.next().await;
            sender.send_replace(stop);
        }
        // Whoever waits keeps its receiver; the last word stands.
        sender.closed().await;
    });
    Ok(receiver)
}

#[cfg(unix)]
struct Signals(Vec<tokio::signal::unix::Signal>);

#[cfg(unix)]
impl Signals {
    fn new(hangup_ends: bool) -> std::io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        let hangup = hangup_ends.then(SignalKind::hangup);
        let kinds = [SignalKind::interrupt(), SignalKind::terminate()].into_iter().chain(hangup);
        kinds.map(signal).collect::<std::io::Result<_>>().map(Self)
    }

    async fn next(&mut self) {
        let any = self.0.iter_mut().map(|signal| Box::pin(signal.recv()));
        futures_util::future::select_all(any).await;
    }
}

#[cfg(not(unix))]
struct Signals;

#[cfg(not(unix))]
impl Signals {
    fn new(_: bool) -> std::io::Result<Self> {
        Ok(Self)
    }

    async fn next(&mut self) {
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending().await
        }
    }
}
