//! A ledger in a Postgres database, which several machines may share. Connections to others are
//! encrypted with rustls. A process that writes shows that it lives by an advisory lock, which the
//! server takes back when its connection ends.
//!
//! A connection that is lost is made anew before the next group. If it was lost for good and others
//! have taken this process for dead meanwhile, its open calls have their entries already, at the
//! worst they could cost, and ending them says so.

use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use postgres::config::{Host, SslMode};
use postgres::error::SqlState;
use postgres::types::{ToSql, Type};
use postgres::{Client, Config, NoTls, Statement};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::journal::Journal;
use crate::ledger::Durability;
use crate::row::Cell;
use crate::sqlite::Left;
use crate::store::{Linked, NAMES, Sql};
use crate::{Error, Hash, Options, Result};

/// The steps that made the tables, each of which leaves what is there already.
const STEPS: &[&str] =
    &[include_str!("schema/postgres.sql"), include_str!("schema/postgres-2.sql")];
/// Their version.
const VERSION: u32 = STEPS.len() as u32;
/// Who makes the tables holds this lock: the bytes "IngleLdg".
const MAKING: i64 = 0x496e_676c_654c_6467;
/// How long a server may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// Rows of one statement, the most that fit first.
const CHUNKS: &[usize] = &[256, 32, 1];

/// A database that is written to, or one moment of it that is read.
pub(crate) struct Remote {
    place: String,
    config: Config,
    tls: Option<MakeRustlsConnect>,
    durability: Durability,
    writes: bool,
    client: Option<Client>,
    statements: HashMap<String, Statement>,
    /// Empty of who only reads.
    process: String,
    /// Whether this connection holds the lock that says that this process lives.
    shows_life: bool,
}

impl Remote {
    /// Opens a ledger to be written, and makes its tables where there are none.
    pub(crate) fn open(url: &str, place: String, options: &Options) -> Result<Self> {
        let mut remote = Self { writes: true, ..Self::new(url, place, options)? };
        remote.reach()?;
        remote.make()?;
        let named = remote.rows("SELECT CAST(gen_random_uuid() AS TEXT)", &[])?;
        remote.process = named.first().map_or("", |row| row[0].text()).to_owned();
        Ok(remote)
    }

    /// Opens a ledger to be read as it is now.
    pub(crate) fn snapshot(url: &str, place: String, options: &Options) -> Result<Self> {
        let mut remote = Self::new(url, place, options)?;
        remote.reach()?;
        remote.batch("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")?;
        let sql = "SELECT 1 WHERE to_regclass('ledger_chain') IS NOT NULL";
        if remote.rows(sql, &[])?.is_empty() {
            return Err(Error::Absent { place: remote.place });
        }
        remote.check()?;
        Ok(remote)
    }

    fn new(url: &str, place: String, options: &Options) -> Result<Self> {
        let wrong = |error: postgres::Error| Error::Place { what: format!("{place}: {error}") };
        let mut config: Config = url.parse().map_err(wrong)?;
        config.application_name("ingle").connect_timeout(PATIENCE).tcp_user_timeout(PATIENCE * 3);
        let encrypted = match config.get_ssl_mode() {
            SslMode::Disable => false,
            SslMode::Require => true,
            _ => !is_near(&config),
        };
        if encrypted {
            config.ssl_mode(SslMode::Require);
        }
        let tls = encrypted.then(|| secure(&place, options)).transpose()?;
        Ok(Self {
            place,
            config,
            tls,
            durability: options.durability,
            writes: false,
            client: None,
            statements: HashMap::new(),
            process: String::new(),
            shows_life: false,
        })
    }

    /// Makes a connection, where there is none.
    fn reach(&mut self) -> Result<()> {
        if self.client.as_ref().is_some_and(|client| !client.is_closed()) {
            return Ok(());
        }
        self.statements.clear();
        self.shows_life = false;
        let client = match &self.tls {
            Some(tls) => self.config.connect(tls.clone()),
            None => self.config.connect(NoTls),
        };
        self.client = Some(client.map_err(|error| fault(&self.place, &error))?);
        let waits = match self.durability {
            Durability::Power => "on",
            Durability::Process => "off",
        };
        // One that stands still with the head of the chain in its hand is not waited for for ever.
        let most = if self.writes { "30s" } else { "0" };
        self.batch(&format!(
            "SET lock_timeout = '10s'; SET synchronous_commit = {waits}; \
             SET idle_in_transaction_session_timeout = '{most}'"
        ))
    }

    /// Makes the tables, one process at a time.
    fn make(&mut self) -> Result<()> {
        let lock = format!("BEGIN; SELECT pg_advisory_xact_lock({MAKING})");
        self.batch(&lock)?;
        for step in STEPS {
            self.batch(step)?;
        }
        self.check()?;
        self.batch("COMMIT")
    }

    fn check(&mut self) -> Result<()> {
        let rows = self.rows("SELECT version FROM ledger_chain", &[])?;
        let found = rows.first().map_or(0, |row| row[0].count());
        let found = u32::try_from(found).unwrap_or(u32::MAX);
        if found > VERSION {
            return Err(Error::Newer { place: self.place.clone(), found, known: VERSION });
        }
        Ok(())
    }

    /// Takes the lock that says that this process lives. The server may not have noticed yet that
    /// an earlier connection ended; that one says it then.
    fn show_life(&mut self) -> Result<()> {
        if self.shows_life || self.process.is_empty() {
            return Ok(());
        }
        let sql = "SELECT CASE WHEN pg_try_advisory_lock($1) THEN 1 ELSE 0 END";
        let rows = self.rows(sql, &[lock_of(&self.process)])?;
        self.shows_life = rows.first().is_some_and(|row| row[0].int() == 1);
        Ok(())
    }

    fn batch(&mut self, sql: &str) -> Result<()> {
        self.ask(|client, _| client.batch_execute(sql))
    }

    /// Asks the server something; a connection that breaks at it is given up.
    fn ask<T>(
        &mut self,
        work: impl FnOnce(&mut Client, &mut Statements) -> std::result::Result<T, postgres::Error>,
    ) -> Result<T> {
        let Some(client) = self.client.as_mut() else {
            let (place, what) = (self.place.clone(), "the connection was lost".into());
            return Err(Error::Unreachable { place, what });
        };
        let outcome = work(client, &mut self.statements);
        let outcome = outcome.map_err(|error| fault(&self.place, &error));
        if let Err(Error::Unreachable { .. }) = &outcome {
            self.client = None;
        }
        outcome
    }
}

type Statements = HashMap<String, Statement>;

/// A statement is prepared once a connection. There are as many as the code has.
fn prepared(
    client: &mut Client,
    statements: &mut Statements,
    sql: &str,
) -> std::result::Result<Statement, postgres::Error> {
    if let Some(known) = statements.get(sql) {
        return Ok(known.clone());
    }
    let statement = client.prepare(sql)?;
    statements.insert(sql.to_owned(), statement.clone());
    Ok(statement)
}

impl Sql for Remote {
    fn begin(&mut self) -> Result<()> {
        self.reach()?;
        self.show_life()?;
        self.batch("BEGIN")
    }

    fn commit(&mut self) -> Result<()> {
        self.batch("COMMIT")
    }

    fn rollback(&mut self) {
        // A connection that was lost has rolled it back.
        let _ = self.batch("ROLLBACK");
    }

    fn run(&mut self, sql: &str, cells: &[Cell]) -> Result<u64> {
        let parameters: Vec<_> = cells.iter().map(parameter).collect();
        self.ask(|client, statements| {
            let statement = prepared(client, statements, sql)?;
            client.execute(&statement, &parameters)
        })
    }

    fn rows(&mut self, sql: &str, cells: &[Cell]) -> Result<Vec<Vec<Cell>>> {
        let parameters: Vec<_> = cells.iter().map(parameter).collect();
        self.ask(|client, statements| {
            let statement = prepared(client, statements, sql)?;
            let rows = client.query(&statement, &parameters)?;
            rows.iter().map(|row| (0..row.len()).map(|at| cell(row, at)).collect()).collect()
        })
    }

    fn insert(&mut self, rows: &[Linked<'_>]) -> Result<()> {
        let mut rest = rows;
        while !rest.is_empty() {
            let fits = CHUNKS.iter().find(|size| **size <= rest.len()).copied().unwrap_or(1);
            let (now, later) = rest.split_at(fits);
            let parameters: Vec<_> = now.iter().flat_map(Linked::cells).map(parameter).collect();
            let sql = insertion(fits);
            self.ask(|client, statements| {
                let statement = prepared(client, statements, &sql)?;
                client.execute(&statement, &parameters)
            })?;
            rest = later;
        }
        Ok(())
    }

    fn hold(&self) -> &'static str {
        " FOR UPDATE"
    }

    fn process(&self) -> &str {
        &self.process
    }

    fn lives(&mut self, process: &str) -> Result<bool> {
        let sql = "SELECT CASE WHEN pg_try_advisory_xact_lock($1) THEN 1 ELSE 0 END";
        let rows = self.rows(sql, &[lock_of(process)])?;
        Ok(rows.first().is_none_or(|row| row[0].int() == 0))
    }

    fn place(&self) -> String {
        self.place.clone()
    }

    fn journal(&mut self) -> Result<Option<Journal>> {
        // What the server has is all that others on other machines could bring in.
        Ok(None)
    }

    fn left(&mut self) -> Result<Vec<Left>> {
        Ok(Vec::new())
    }

    fn sync(&mut self) -> Result<()> {
        Ok(())
    }
}

impl fmt::Debug for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Remote({})", self.place)
    }
}

fn insertion(rows: usize) -> String {
    let width = NAMES.len();
    let row = |row: usize| {
        let places: Vec<String> = (1..=width).map(|at| format!("${}", row * width + at)).collect();
        format!("({})", places.join(", "))
    };
    let rows: Vec<String> = (0..rows).map(row).collect();
    format!("INSERT INTO ledger_entries ({}) VALUES {}", NAMES.join(", "), rows.join(", "))
}

/// The advisory lock of a process: a number of its name.
fn lock_of(process: &str) -> Cell {
    let Hash(bytes) = Hash::default().link(process);
    let first = bytes.first_chunk().copied().unwrap_or_default();
    Cell::Int(i64::from_be_bytes(first))
}

static NONE: Option<i64> = None;

fn parameter(cell: &Cell) -> &(dyn ToSql + Sync) {
    match cell {
        Cell::Null => &NONE,
        Cell::Int(int) => int,
        Cell::Text(text) => text,
        Cell::Bytes(bytes) => bytes,
    }
}

fn cell(row: &postgres::Row, at: usize) -> std::result::Result<Cell, postgres::Error> {
    let kind = row.columns()[at].type_();
    Ok(if *kind == Type::INT8 {
        row.try_get::<_, Option<i64>>(at)?.map_or(Cell::Null, Cell::Int)
    } else if *kind == Type::INT4 {
        row.try_get::<_, Option<i32>>(at)?.map_or(Cell::Null, |int| Cell::Int(int.into()))
    } else if *kind == Type::BYTEA {
        row.try_get::<_, Option<Vec<u8>>>(at)?.map_or(Cell::Null, Cell::Bytes)
    } else {
        row.try_get::<_, Option<String>>(at)?.map_or(Cell::Null, Cell::Text)
    })
}

/// Whether all hosts are this machine.
fn is_near(config: &Config) -> bool {
    let near = |host: &Host| match host {
        Host::Tcp(name) => {
            let bare = name.trim_start_matches('[').trim_end_matches(']');
            name == "localhost" || bare.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
        }
        #[cfg(unix)]
        Host::Unix(_) => true,
    };
    // Where addresses are given they are what is called, whatever the names are.
    match config.get_hostaddrs() {
        [] => config.get_hosts().iter().all(near),
        addresses => addresses.iter().all(IpAddr::is_loopback),
    }
}

/// Encryption with the system's authorities, or those of a file.
fn secure(place: &str, options: &Options) -> Result<MakeRustlsConnect> {
    let wrong = |what: String| Error::Other { place: place.to_owned(), what };
    let mut roots = RootCertStore::empty();
    match &options.authorities {
        None => {
            let known = rustls_native_certs::load_native_certs();
            roots.add_parsable_certificates(known.certs);
        }
        Some(path) => {
            let told = |why: &dyn fmt::Display| wrong(format!("{}: {why}", path.display()));
            for one in CertificateDer::pem_file_iter(path).map_err(|error| told(&error))? {
                roots.add(one.map_err(|error| told(&error))?).map_err(|error| told(&error))?;
            }
        }
    }
    if roots.is_empty() {
        let hint = "no authority is known that could have signed the server's certificate";
        return Err(wrong(format!("{hint}\nhint: name a file with its authorities")));
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| wrong(error.to_string()))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(MakeRustlsConnect::new(config))
}

/// Sorts what the server says, or that it says nothing.
fn fault(place: &str, error: &postgres::Error) -> Error {
    let place = place.to_owned();
    let Some(said) = error.as_db_error() else {
        let source = std::error::Error::source(error).map(|source| format!(": {source}"));
        return Error::Unreachable {
            place,
            what: format!("{error}{}", source.unwrap_or_default()),
        };
    };
    let what = said.message().to_owned();
    let is = |codes: &[&SqlState]| codes.contains(&said.code());
    if is(&[&SqlState::DISK_FULL, &SqlState::OUT_OF_MEMORY]) {
        Error::Full { place }
    } else if is(&[&SqlState::LOCK_NOT_AVAILABLE, &SqlState::T_R_DEADLOCK_DETECTED]) {
        Error::Held { place }
    } else if said.code().code().starts_with("57P") || said.code().code().starts_with("08") {
        // It goes down, comes up, or breaks the connection off.
        Error::Unreachable { place, what }
    } else if said.code().code().starts_with("28") || is(&[&SqlState::UNDEFINED_DATABASE]) {
        Error::Unreachable { place, what }
    } else {
        Error::Other { place, what }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_near_needs_no_encryption() {
        let check = |url: &str, expect: bool| {
            let config: Config = url.parse().expect("a URL");
            assert_eq!(is_near(&config), expect, "{url}");
        };
        check("postgres://localhost/x", true);
        check("postgres://127.0.0.1:99/x", true);
        check("postgres://[::1]/x", true);
        check("postgres:///x?host=/run/pg", true);
        check("postgres://db.example/x", false);
        check("postgres://localhost,db.example/x", false);
        check("postgres://localhost.example/x", false);
        check("postgres://localhost/x?hostaddr=192.0.2.1", false);
    }

    #[test]
    fn the_url_has_a_say_in_encryption() {
        let check = |url: &str, expect: bool| {
            let remote = Remote::new(url, "here".into(), &Options::default());
            assert_eq!(remote.map(|remote| remote.tls.is_some()), Ok(expect), "{url}");
        };
        check("postgres://localhost/x", false);
        check("postgres://db.example/x?sslmode=disable", false);
        if rustls_native_certs::load_native_certs().certs.is_empty() {
            println!("NOT CHECKED: this machine knows no authorities");
            return;
        }
        check("postgres://localhost/x?sslmode=require", true);
        check("postgres://db.example/x", true);
        check("postgres://db.example/x?sslmode=prefer", true);
    }

    #[test]
    fn no_error_tells_a_password() {
        let url = "postgres://a:secret@db.example/x?what=secret";
        let error = Remote::new(url, "postgres://db.example/x".into(), &Options::default());
        let said = error.map(drop).expect_err("an unknown parameter").to_string();
        assert!(!said.contains("secret") && said.contains("db.example"), "{said}");
    }
}
