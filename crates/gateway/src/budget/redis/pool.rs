//! A few connections to one server, made when they are needed and kept for the next who asks. One
//! that breaks is thrown away, and another is made. Absent: what is asked.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use redis::{Client, Connection, RedisError, RedisResult};

use crate::budget::{Place, Refusal};

/// Connections at once, at most. Who finds them all busy waits.
const CONNECTIONS_MAX: usize = 16;
/// How long a connection may take to be made, a busy one to come free, and an answer to come.
const PATIENCE: Duration = Duration::from_secs(5);

/// Connections to one server.
pub(super) struct Pool {
    place: Place,
    client: Client,
    idle: Mutex<Idle>,
    freed: Condvar,
}

#[derive(Default)]
struct Idle {
    connections: Vec<Connection>,
    /// Those and the busy ones.
    made: usize,
}

/// A connection in use, whose room is given back whatever becomes of it.
struct Busy<'a> {
    pool: &'a Pool,
    connection: Option<Connection>,
    fresh: bool,
}

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        let mut idle = self.pool.idle();
        match self.connection.take() {
            Some(connection) => idle.connections.push(connection),
            None => idle.made -= 1,
        }
        drop(idle);
        self.pool.freed.notify_one();
    }
}

impl Pool {
    /// Without any connection yet.
    pub(super) fn new(place: &Place) -> Result<Self, Refusal> {
        let client = Client::open(place.info.clone());
        let client = client.map_err(|error| broken(place, &told(&error)))?;
        let (place, idle, freed) = (place.clone(), Mutex::default(), Condvar::new());
        Ok(Self { place, client, idle, freed })
    }

    /// Where it leads.
    pub(super) fn place(&self) -> &Place {
        &self.place
    }

    /// Asks the server something. Where a connection that was kept turns out to be dead, as after
    /// the server was started anew, it asks once more over a new one: what is asked has to be the
    /// same when it is done twice.
    pub(super) fn ask<T>(
        &self,
        work: impl Fn(&mut Connection) -> RedisResult<T>,
    ) -> Result<T, Refusal> {
        self.attempt(true, work)
    }

    /// The same, for what would not be the same when it is done twice: it is asked once at most.
    pub(super) fn once<T>(
        &self,
        work: impl Fn(&mut Connection) -> RedisResult<T>,
    ) -> Result<T, Refusal> {
        self.attempt(false, work)
    }

    fn attempt<T>(
        &self,
        again: bool,
        work: impl Fn(&mut Connection) -> RedisResult<T>,
    ) -> Result<T, Refusal> {
        loop {
            let mut busy = self.take()?;
            let connection = busy.connection.as_mut().expect("it was just made or kept");
            let error = match work(connection) {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            // The server said no, and the connection is whole.
            if error.code().is_some() && !error.is_io_error() && !error.is_unrecoverable_error() {
                return Err(broken(&self.place, &told(&error)));
            }
            busy.connection = None;
            if busy.fresh || error.is_timeout() {
                return Err(broken(&self.place, &told(&error)));
            }
            // What was kept as long is as dead.
            let mut idle = self.idle();
            idle.made -= idle.connections.len();
            idle.connections.clear();
            if !again {
                return Err(broken(&self.place, &told(&error)));
            }
        }
    }

    fn take(&self) -> Result<Busy<'_>, Refusal> {
        let none = |idle: &mut Idle| idle.connections.is_empty() && idle.made >= CONNECTIONS_MAX;
        let waited = self.freed.wait_timeout_while(self.idle(), PATIENCE, none);
        let (mut idle, waited) = waited.unwrap_or_else(PoisonError::into_inner);
        if waited.timed_out() && none(&mut idle) {
            let what = format!("all {CONNECTIONS_MAX} connections to it are busy");
            return Err(broken(&self.place, &what));
        }
        if let Some(connection) = idle.connections.pop() {
            return Ok(Busy { pool: self, connection: Some(connection), fresh: false });
        }
        idle.made += 1;
        drop(idle);
        let mut busy = Busy { pool: self, connection: None, fresh: true };
        let made = self.make().map_err(|error| broken(&self.place, &told(&error)))?;
        busy.connection = Some(made);
        Ok(busy)
    }

    fn make(&self) -> RedisResult<Connection> {
        let connection = self.client.get_connection_with_timeout(PATIENCE)?;
        connection.set_read_timeout(Some(PATIENCE))?;
        connection.set_write_timeout(Some(PATIENCE))?;
        Ok(connection)
    }

    fn idle(&self) -> MutexGuard<'_, Idle> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// That a place fails, and how.
pub(super) fn broken(place: &Place, what: &str) -> Refusal {
    Refusal::Broken(format!("{place}: {what}"))
}

fn told(error: &RedisError) -> String {
    if error.is_timeout() {
        return format!("it did not answer within {} s", PATIENCE.as_secs());
    }
    error.to_string()
}
