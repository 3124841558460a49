//! Making an index agree with its folder. Only what differs is read, and only what is new is given
//! to the model; each file is one transaction, so that a run which was killed goes on where it
//! stopped.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use rusqlite::Connection;
use sha2::{Digest, Sha256};

use crate::chunk::{self, Chunk, Chunking};
use crate::store::{self, Known, Passage, Store};
use crate::text::Text;
use crate::vectors::{self, Quantised};
use crate::walk::{self, Found, Limits, Skip, Stamp};
use crate::{Embed, Error, Result};

/// How a folder is taken in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// What is taken in, at most.
    pub limits: Limits,
    /// How long passages are.
    pub chunking: Chunking,
}

/// Hears how far an update is, and may end it.
pub trait Progress {
    /// So many files are to be looked at.
    fn begin(&mut self, files: u64) {
        let _ = files;
    }

    /// So many of them are done.
    fn advance(&mut self, files_done: u64) {
        let _ = files_done;
    }

    /// Whether to end it; what is done stays done.
    fn cancelled(&self) -> bool {
        false
    }
}

/// Nobody listens.
impl Progress for () {}

/// What an update did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Files that were not known.
    pub new: u64,
    /// Files whose contents had changed.
    pub changed: u64,
    /// Files that are gone, or are documents no longer.
    pub deleted: u64,
    /// Files that were as before.
    pub unchanged: u64,
    /// Files that are no documents, by reason.
    pub skipped: BTreeMap<Skip, u64>,
    /// Passages that the model read.
    pub embedded: u64,
    /// Whether it was ended before all was done.
    pub cancelled: bool,
}

impl Report {
    /// Whether the index is other than before.
    pub fn changes(&self) -> bool {
        self.new + self.changed + self.deleted > 0
    }
}

/// How much is in an index.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Files that can be searched.
    pub documents: u64,
    /// Their passages.
    pub passages: u64,
}

/// An index that is being made or brought up to date.
#[derive(Debug)]
pub struct Index {
    store: Store,
}

/// Passages that the model is given at once.
const BATCH: usize = 128;
/// A file that was changed so shortly before it was read may have been changed after it, within the
/// same tick of its file system's clock: it is read again next time.
const TICK_NS: i64 = 2_000_000_000;
/// What the model is asked to make a vector of, to know it again.
const PROBE: &str = "The library opens at nine, and its oldest map shows the harbour.";
/// Vectors of the probe that are at least so close are of the same model, whatever it is called.
const SAME: f32 = 0.99;

impl Index {
    /// Opens a folder's index; makes it where it is not there. It lies in the folder itself, or in
    /// the file that is named.
    ///
    /// # Errors
    /// Where the file is damaged, another program's or version's, or cannot be written.
    pub fn open(folder: &Path, file: Option<&Path>) -> Result<Self> {
        Ok(Self { store: Store::open(folder, file, true)? })
    }

    /// Removes a folder's index, if there is one. Nobody may have it open.
    ///
    /// # Errors
    /// Where it is another program's, or cannot be removed.
    pub fn remove(folder: &Path, file: Option<&Path>) -> Result<()> {
        Store::remove(folder, file)
    }

    /// The index's file.
    pub fn path(&self) -> &Path {
        &self.store.path
    }

    /// The folder that it is of.
    pub fn folder(&self) -> &Path {
        &self.store.folder
    }

    /// The name of the model whose vectors are in it, if any are.
    ///
    /// # Errors
    /// Where it cannot be read.
    pub fn model(&self) -> Result<Option<String>> {
        self.store.about("model")
    }

    /// How much is in it.
    ///
    /// # Errors
    /// Where it cannot be read.
    pub fn counts(&self) -> Result<Counts> {
        counts(&self.store)
    }

    /// Makes the index agree with the folder.
    ///
    /// # Errors
    /// Where the model is not the index's, passages were cut by another rule, the model fails, or
    /// something cannot be read or written. What was done until then stays done.
    pub fn update(
        &mut self,
        settings: &Settings,
        embed: &dyn Embed,
        progress: &mut dyn Progress,
    ) -> Result<Report> {
        self.agree_on(settings.chunking)?;
        if !is_model(&self.store, embed)? {
            claim(&self.store, embed)?;
        }
        let walked = walk::walk(&self.store.folder, &settings.limits)?;
        let known = self.store.read(store::documents)?;
        let now_ns = now_ns();
        let mut update = Update {
            store: &mut self.store,
            embed,
            settings,
            report: Report { skipped: walked.skipped.clone(), ..Report::default() },
            waiting: Vec::new(),
            passages: 0,
        };
        let settled =
            |found: &&Found| known.get(&found.path).is_some_and(|known| is_settled(known, found));
        let todo: Vec<&Found> = walked.found.iter().filter(|found| !settled(found)).collect();
        update.report.unchanged = (walked.found.len() - todo.len()) as u64;
        progress.begin(todo.len() as u64);
        for (found, done) in todo.into_iter().zip(0..) {
            progress.advance(done - update.waiting.len() as u64);
            update.file(found, known.get(&found.path), now_ns, progress)?;
            if progress.cancelled() {
                break;
            }
        }
        update.flush(progress)?;
        if progress.cancelled() {
            return Ok(Report { cancelled: true, ..update.report });
        }
        let there: BTreeSet<&str> = walked.found.iter().map(|found| found.path.as_str()).collect();
        update.sweep(known.keys().filter(|path| !there.contains(path.as_str())))?;
        update.tell_skipped()
    }

    /// Passages of one index are cut by one rule.
    fn agree_on(&self, chunking: Chunking) -> Result<()> {
        let Chunking { bytes, overlap } = chunking.sane();
        let rule = format!("{bytes} bytes, {overlap} shared");
        match self.store.about::<String>("chunking")? {
            Some(found) if found != rule => {
                let (path, folder) = (self.store.path.clone(), self.store.folder.clone());
                Err(Error::OtherChunking { path, folder, found })
            }
            Some(_) => Ok(()),
            None => self.store.set_about("chunking", &rule),
        }
    }
}

pub(crate) fn counts(store: &Store) -> Result<Counts> {
    store.read(|connection| {
        let sql = "SELECT (SELECT count(*) FROM documents WHERE skipped IS NULL),
                          (SELECT count(*) FROM chunks)";
        connection.query_row(sql, (), |row| {
            Ok(Counts { documents: store::count(row, 0)?, passages: store::count(row, 1)? })
        })
    })
}

/// Whether the index's vectors are of this model; false where it has none yet. What counts is not
/// the model's name but what it makes of a text.
///
/// # Errors
/// Where they are another's.
pub(crate) fn is_model(store: &Store, embed: &dyn Embed) -> Result<bool> {
    let Some(found) = store.about::<String>("model")? else { return Ok(false) };
    let known: Vec<u8> = store.about("probe")?.unwrap_or_default();
    let known = known.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes));
    let known: Vec<f32> = known.collect();
    let same = known.len() == embed.dimensions() && {
        let probe = probe(embed)?;
        known.iter().zip(&probe).map(|(a, b)| a * b).sum::<f32>() >= SAME
    };
    if same {
        return Ok(true);
    }
    let (path, folder) = (store.path.clone(), store.folder.clone());
    Err(Error::OtherModel { path, folder, found, given: embed.name().to_owned() })
}

/// Makes the index this model's.
fn claim(store: &Store, embed: &dyn Embed) -> Result<()> {
    let probe: Vec<u8> = probe(embed)?.iter().flat_map(|x| x.to_le_bytes()).collect();
    store.set_about("dimensions", &(embed.dimensions() as i64))?;
    store.set_about("probe", &probe)?;
    // Last: with it, the index has its model.
    store.set_about("model", &embed.name())
}

fn probe(embed: &dyn Embed) -> Result<Vec<f32>> {
    let made = embed.documents(&[PROBE])?;
    let vector = made.first().filter(|vector| vector.len() == embed.dimensions());
    vector.and_then(|vector| vectors::unit(vector)).ok_or_else(|| bad(embed, "of one text"))
}

pub(crate) fn bad(embed: &dyn Embed, what: &'static str) -> Error {
    Error::BadVectors { model: embed.name().to_owned(), what }
}

/// Whether a file is surely as it was read.
fn is_settled(known: &Known, found: &Found) -> bool {
    let quiet = known.checked_ns.saturating_sub(known.stamp.modified_ns) > TICK_NS;
    known.stamp == found.stamp && known.kind == found.kind.name() && quiet
}

fn now_ns() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}

/// An update under way.
struct Update<'a> {
    store: &'a mut Store,
    embed: &'a dyn Embed,
    settings: &'a Settings,
    report: Report,
    /// Files whose passages have no vectors yet.
    waiting: Vec<Waiting>,
    /// Their passages.
    passages: usize,
}

struct Waiting {
    found: Found,
    is_new: bool,
    checked_ns: i64,
    sha256: Vec<u8>,
    chunks: Vec<Chunk>,
}

impl Update<'_> {
    /// Looks at a file that may have changed.
    fn file(
        &mut self,
        found: &Found,
        known: Option<&Known>,
        checked_ns: i64,
        progress: &dyn Progress,
    ) -> Result<()> {
        let (bytes, stamp) = match read(&self.store.folder, found, &self.settings.limits) {
            Ok(read) => read,
            Err(why) => return self.leave_out(found, known, why),
        };
        let found = Found { stamp, ..found.clone() };
        let sha256 = Sha256::digest(&bytes).to_vec();
        let kind = found.kind;
        if let Some(same) = known.filter(|it| it.sha256 == sha256 && it.kind == kind.name()) {
            self.report.unchanged += 1;
            return self.store.write(|change| store::touch(change, same.id, &stamp, checked_ns));
        }
        let is_new = known.is_none();
        let Some(text) = Text::read(kind, &bytes) else {
            self.count(is_new);
            let none = Err(Skip::Binary.key());
            return self
                .store
                .write(|change| store::replace(change, &found, checked_ns, &sha256, none));
        };
        // The same text under another name, as of a file that was moved, has its vectors already.
        let twin = self.store.read(|it| store::twin(it, kind.name(), &sha256))?;
        if let Some(passages) = twin {
            self.count(is_new);
            return self
                .store
                .write(|it| store::replace(it, &found, checked_ns, &sha256, Ok(&passages)));
        }
        let chunks = chunk::chunks(&text, kind, self.settings.chunking, &bytes);
        self.passages += chunks.len();
        self.waiting.push(Waiting { found, is_new, checked_ns, sha256, chunks });
        if self.passages >= BATCH { self.flush(progress) } else { Ok(()) }
    }

    fn count(&mut self, is_new: bool) {
        if is_new {
            self.report.new += 1;
        } else {
            self.report.changed += 1;
        }
    }

    /// A file that cannot be read is not searched as it was before, either.
    fn leave_out(&mut self, found: &Found, known: Option<&Known>, why: Skip) -> Result<()> {
        *self.report.skipped.entry(why).or_default() += 1;
        if known.is_some() {
            self.report.deleted += 1;
            self.store.write(|change| store::forget(change, &found.path))?;
        }
        Ok(())
    }

    /// Gives the waiting files their vectors, and puts each in, in a transaction of its own.
    fn flush(&mut self, progress: &dyn Progress) -> Result<()> {
        let waiting = std::mem::take(&mut self.waiting);
        self.passages = 0;
        let texts: Vec<String> =
            waiting.iter().flat_map(|file| &file.chunks).map(Chunk::read).collect();
        let mut vectors = Vec::with_capacity(texts.len());
        for batch in texts.chunks(BATCH) {
            if progress.cancelled() {
                break;
            }
            vectors.extend(self.vectors(batch)?);
        }
        let mut vectors = vectors.into_iter();
        for file in waiting {
            // Where it was cancelled, the first files alone have all of theirs.
            if vectors.len() < file.chunks.len() {
                break;
            }
            self.count(file.is_new);
            let chunks = file.chunks.into_iter();
            let passages: Vec<Passage> = chunks.zip(vectors.by_ref()).collect();
            let (found, checked, sha256) = (&file.found, file.checked_ns, &file.sha256);
            self.store.write(|it| store::replace(it, found, checked, sha256, Ok(&passages)))?;
        }
        Ok(())
    }

    fn vectors(&mut self, texts: &[String]) -> Result<Vec<Quantised>> {
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        let made = self.embed.documents(&texts)?;
        if made.len() != texts.len() {
            return Err(bad(self.embed, "too few or too many of them"));
        }
        self.report.embedded += made.len() as u64;
        let fits = |vector: &&Vec<f32>| vector.len() == self.embed.dimensions();
        let rounded = made.iter().map(|vector| {
            let rounded = Some(vector).filter(fits).and_then(|vector| vectors::quantise(vector));
            rounded.ok_or_else(|| bad(self.embed, "one without a length"))
        });
        rounded.collect()
    }

    /// Takes out what is no longer there.
    fn sweep<'b>(&mut self, gone: impl Iterator<Item = &'b String>) -> Result<()> {
        for path in gone {
            self.store.write(|change| store::forget(change, path))?;
            self.report.deleted += 1;
        }
        Ok(())
    }

    /// Files that were read and found to be no text are told each time.
    fn tell_skipped(mut self) -> Result<Report> {
        let sql = "SELECT count(*) FROM documents WHERE skipped IS NOT NULL";
        let binary =
            |connection: &Connection| connection.query_row(sql, (), |row| store::count(row, 0));
        let binary = self.store.read(binary)?;
        if binary > 0 {
            *self.report.skipped.entry(Skip::Binary).or_default() += binary;
        }
        Ok(self.report)
    }
}

/// A file's bytes, and its stamp as of before they were read.
fn read(
    folder: &Path,
    found: &Found,
    limits: &Limits,
) -> std::result::Result<(Vec<u8>, Stamp), Skip> {
    let file = File::open(walk::full(folder, &found.path)).map_err(|_| Skip::Unreadable)?;
    let known = file.metadata().map_err(|_| Skip::Unreadable)?;
    if !known.is_file() {
        return Err(Skip::Special);
    }
    let mut bytes = Vec::new();
    // It may have grown since it was found.
    let read = file.take(limits.file_bytes + 1).read_to_end(&mut bytes);
    match read {
        Err(_) => Err(Skip::Unreadable),
        Ok(count) if count as u64 > limits.file_bytes => Err(Skip::Large),
        Ok(_) => Ok((bytes, Stamp::of(&known))),
    }
}
