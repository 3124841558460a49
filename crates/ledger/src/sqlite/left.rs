//! The journals that lie beside a ledger: those of processes that died, held while somebody brings
//! them in, and those of the living, which who reads waits for. Absent: what a journal says, and
//! what becomes of it in the tables.

use std::fs::{self, File, TryLockError};
use std::io::{Error as Failure, ErrorKind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rusqlite::{Connection, OptionalExtension};

use super::{fault, open_private, sign_of};
use crate::journal::{Records, TURNS, paths};
use crate::store::Op;
use crate::{Error, Result};

/// What a living process has taken down is waited for as long, by who reads.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often it is looked for.
const LOOK: Duration = Duration::from_millis(2);

/// The journal of a process that died. Who has this is the only one who brings it in.
#[derive(Debug)]
pub(crate) struct Left {
    process: String,
    sign: PathBuf,
    _held: File,
}

impl Left {
    pub(crate) fn process(&self) -> &str {
        &self.process
    }

    /// What it was told, in its order, each with its number. What this does not know ends it, as
    /// what is torn does: a newer ledger is not opened.
    pub(crate) fn records(&self) -> Result<impl Iterator<Item = (u64, Op)> + use<>> {
        let records = Records::open(&self.sign).map_err(|error| failed(&self.sign, &error))?;
        Ok(records.map_while(|record| Some((record.seq, record.op()?))))
    }

    /// Removes it, and the sign of life behind it.
    pub(crate) fn remove(&self) -> Result<()> {
        let [first, second] = paths(&self.sign);
        [&first, &second, &self.sign].into_iter().try_for_each(|path| match fs::remove_file(path) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(failed(path, &error)),
            _ => Ok(()),
        })
    }
}

fn failed(path: &Path, error: &Failure) -> Error {
    Error::disk(&path.display().to_string(), error)
}

/// Whether a process has a journal, its sign of life being this.
pub(super) fn has_journal(sign: &Path) -> bool {
    paths(sign).iter().any(|path| path.exists())
}

/// The names of the processes that have a journal beside this ledger.
fn processes(ledger: &Path) -> Result<Vec<String>> {
    let folder = sign_of(ledger, "").with_file_name("");
    let entries = match fs::read_dir(&folder) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(|error| failed(&folder, &error))?,
    };
    let mut names = Vec::new();
    for entry in entries {
        let path = entry.map_err(|error| failed(&folder, &error))?.path();
        let known = path.extension().is_some_and(|turn| TURNS.iter().any(|it| turn == *it));
        let name = path.file_stem().and_then(|name| name.to_str()).filter(|_| known);
        names.extend(
            name.filter(|name| sign_of(ledger, name) == path.with_extension("")).map(str::to_owned),
        );
    }
    names.sort_unstable();
    names.dedup();
    Ok(names)
}

/// The journals beside a ledger.
#[derive(Debug, Default)]
struct Journals {
    /// Of those who died.
    left: Vec<Left>,
    /// Of the others: their names, and their signs of life.
    living: Vec<(String, PathBuf)>,
}

impl Journals {
    fn beside(ledger: &Path) -> Result<Self> {
        let mut all = Self::default();
        for process in processes(ledger)? {
            let sign = sign_of(ledger, &process);
            let held = open_private(&sign)?;
            match held.try_lock() {
                // Somebody else may have brought it in meanwhile.
                Ok(()) if has_journal(&sign) => all.left.push(Left { process, sign, _held: held }),
                Ok(()) => drop(fs::remove_file(&sign)),
                Err(TryLockError::WouldBlock) => all.living.push((process, sign)),
                Err(TryLockError::Error(error)) => return Err(failed(&sign, &error)),
            }
        }
        Ok(all)
    }
}

/// The journals of those who died.
pub(super) fn of_the_dead(ledger: &Path) -> Result<Vec<Left>> {
    Journals::beside(ledger).map(|journals| journals.left)
}

/// Waits until the tables have what living processes had taken down when this was asked, so that
/// who was told that a call is kept finds it.
pub(super) fn wait_for_the_living(ledger: &Path, connection: &Connection) -> Result<()> {
    let until = Instant::now() + PATIENCE;
    for (process, sign) in Journals::beside(ledger)?.living {
        let Ok(records) = Records::open(&sign) else { continue };
        let last = records.last().map_or(0, |record| record.seq);
        let sql = "SELECT through FROM ledger_journals WHERE process = ?1";
        let mark = || -> rusqlite::Result<u64> {
            let mark: Option<i64> = connection
                .prepare_cached(sql)?
                .query_row([&process], |row| row.get(0))
                .optional()?;
            Ok(mark.and_then(|mark| u64::try_from(mark).ok()).unwrap_or(0))
        };
        // One that goes meanwhile takes its journal with it.
        while mark().map_err(|error| fault(ledger, &error))? < last
            && has_journal(&sign)
            && Instant::now() < until
        {
            std::thread::sleep(LOOK);
        }
    }
    Ok(())
}
