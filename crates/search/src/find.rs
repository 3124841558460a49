//! A question's passages: by vectors, by words, or by both, their two lists fused by the ranks that
//! a passage has in them.
//!
//! Fusion is reciprocal rank fusion (Cormack, Clarke, Büttcher: Reciprocal rank fusion outperforms
//! Condorcet and individual rank learning methods, SIGIR 2009): a passage scores the sum of
//! 1 / (60 + rank) over the lists that it is in. Cosines and BM25 are no numbers of one scale,
//! ranks are, and 60 is the paper's constant.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::time::{Duration, Instant};

use rusqlite::{Connection, OptionalExtension};

use crate::snippet::{self, Line};
use crate::store::{Store, count};
use crate::vectors::{Needle, Vectors};
use crate::walk::{self, Stamp};
use crate::{Counts, Embed, Error, Rank, Result, index, words};

/// How passages are found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// Both ways, fused.
    #[default]
    Hybrid,
    /// By what they mean: the cosine of vectors.
    Vector,
    /// By the words in them: BM25.
    Words,
}

impl Mode {
    /// Every mode, with its name.
    pub const ALL: [(&str, Self); 3] =
        [("hybrid", Self::Hybrid), ("vector", Self::Vector), ("words", Self::Words)];
}

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question<'a> {
    /// In anyone's words; 8192 bytes at most.
    pub text: &'a str,
    /// How passages are found.
    pub mode: Mode,
    /// Passages that are wanted.
    pub top: usize,
    /// Passages of one file, at most.
    pub per_file: usize,
    /// Passages that a [`Rank`] reads, if there is one.
    pub rerank: usize,
    /// Lines of a passage that are shown, at most.
    pub lines: usize,
}

impl<'a> Question<'a> {
    /// With the usual bounds.
    pub fn new(text: &'a str) -> Self {
        Self { text, mode: Mode::default(), top: 10, per_file: 1, rerank: 32, lines: 3 }
    }
}

/// What was found.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// The best first.
    pub hits: Vec<Hit>,
    /// How long it took.
    pub took: Took,
}

/// A passage that was found.
#[derive(Clone, Debug, PartialEq)]
pub struct Hit {
    /// The file, within the folder, with `/`.
    pub path: String,
    /// Lines of the file, from 1; both are part of it.
    pub lines: (u64, u64),
    /// Bytes of the file: the first, and the one behind the last.
    pub bytes: (u64, u64),
    /// The headings above the passage.
    pub heading: String,
    /// The passage.
    pub text: String,
    /// What hits are ordered by.
    pub score: f64,
    /// Where it stood in each list.
    pub placed: Placed,
    /// Whether the file is not as it was read: its lines may be others by now.
    pub stale: bool,
    /// The lines that say most about the question.
    pub snippet: Vec<Line>,
}

/// Where a passage stood in each list: its rank, from 1, and what the list is ordered by.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Placed {
    /// By cosine.
    pub vector: Option<(u32, f32)>,
    /// By BM25.
    pub words: Option<(u32, f32)>,
    /// The reranker's score.
    pub rerank: Option<f32>,
}

/// How long each part of an answer took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Took {
    /// The question's vector.
    pub embed: Duration,
    /// The closest vectors.
    pub vectors: Duration,
    /// The passages with its words.
    pub words: Duration,
    /// Reading them again, by a reranker.
    pub rerank: Duration,
    /// All of it.
    pub total: Duration,
}

/// The constant of reciprocal rank fusion.
const RRF: f64 = 60.0;
/// Passages of each list that are fused, at least.
const DEPTH: usize = 100;
/// Passages that are wanted, at most.
const TOP: usize = 1000;
/// What BM25 multiplies words by that stand in a path, a heading, a text.
const WEIGHTS: [f64; 3] = [0.5, 1.0, 1.0];

/// An index that is asked.
#[derive(Debug)]
pub struct Searcher {
    store: Store,
    vectors: Vectors,
    /// What SQLite said of the file when its vectors were read.
    version: Option<i64>,
    /// Whether the model was seen to be the index's.
    knows_model: bool,
}

impl Searcher {
    /// Opens a folder's index.
    ///
    /// # Errors
    /// Where there is none, or it cannot be read.
    pub fn open(folder: &Path, file: Option<&Path>) -> Result<Self> {
        let store = Store::open(folder, file, false)?;
        Ok(Self { store, vectors: Vectors::default(), version: None, knows_model: false })
    }

    /// How much is in it.
    ///
    /// # Errors
    /// Where it cannot be read.
    pub fn counts(&self) -> Result<Counts> {
        index::counts(&self.store)
    }

    /// The name of the model whose vectors are in it.
    ///
    /// # Errors
    /// Where it cannot be read.
    pub fn model(&self) -> Result<Option<String>> {
        self.store.about("model")
    }

    /// Answers a question from what is in the index now. The model is needed but for
    /// [`Mode::Words`].
    ///
    /// # Errors
    /// Where the question has no words or too many, the model is not the index's, or one fails.
    pub fn ask(
        &mut self,
        question: &Question<'_>,
        embed: Option<&dyn Embed>,
        rank: Option<&dyn Rank>,
    ) -> Result<Answer> {
        let began = Instant::now();
        check(question)?;
        let needle = match (question.mode, embed) {
            (Mode::Words, _) => None,
            (_, Some(embed)) => Some(self.needle(question.text, embed)?),
            (_, None) => {
                let why = "there is no model to make a vector of the question\nhint: name one with \
                           --model, or search with --mode words";
                return Err(Error::Question(why.into()));
            }
        };
        let mut took = Took { embed: began.elapsed(), ..Took::default() };
        let telling = words::telling(question.text);
        // One state of the file, whoever writes to it meanwhile.
        self.store.read(|it| it.execute_batch("BEGIN"))?;
        let found = self.find(question, needle.as_ref(), &telling, rank, &mut took);
        self.store.read(|it| it.execute_batch("ROLLBACK"))?;
        let hits = found?;
        took.total = began.elapsed();
        Ok(Answer { hits, took })
    }

    fn needle(&mut self, text: &str, embed: &dyn Embed) -> Result<Needle> {
        if !self.knows_model {
            if !index::is_model(&self.store, embed)? {
                let (path, folder) = (self.store.path.clone(), self.store.folder.clone());
                return Err(Error::Empty { path, folder });
            }
            self.knows_model = true;
        }
        let vector = embed.query(text)?;
        let fits = vector.len() == embed.dimensions();
        let needle = Needle::new(&vector).filter(|_| fits);
        needle.ok_or_else(|| index::bad(embed, "of the question"))
    }

    fn find(
        &mut self,
        question: &Question<'_>,
        needle: Option<&Needle>,
        telling: &[String],
        rank: Option<&dyn Rank>,
        took: &mut Took,
    ) -> Result<Vec<Hit>> {
        let depth = DEPTH.max(question.top * 2).max(question.rerank);
        let began = Instant::now();
        let mut lists = BTreeMap::new();
        if let Some(needle) = needle {
            self.load()?;
            for ((id, cosine), at) in self.vectors.closest(needle, depth).into_iter().zip(1..) {
                lists.entry(id).or_insert_with(Placed::default).vector = Some((at, cosine));
            }
        }
        took.vectors = began.elapsed();
        let began = Instant::now();
        if question.mode != Mode::Vector
            && let Some(query) = words::query(telling)
        {
            let listed = self.store.read(|connection| by_words(connection, &query, depth))?;
            for ((id, score), at) in listed.into_iter().zip(1..) {
                lists.entry(id).or_insert_with(Placed::default).words = Some((at, score));
            }
        }
        took.words = began.elapsed();
        let ordered = fuse(lists);
        let most = if rank.is_some() { question.rerank.max(question.top) } else { question.top };
        let mut hits = self.hits(ordered, question, telling, most)?;
        if let Some(rank) = rank {
            let began = Instant::now();
            rerank(&mut hits, question, rank)?;
            took.rerank = began.elapsed();
        }
        hits.truncate(question.top);
        Ok(hits)
    }

    /// Reads the vectors, where they are not those that were read before.
    fn load(&mut self) -> Result<()> {
        let dimensions: i64 = self.store.about("dimensions")?.unwrap_or_default();
        let version = self.store.read(|connection| {
            connection.pragma_query_value(None, "data_version", |row| row.get::<_, i64>(0))
        })?;
        if self.version == Some(version) {
            return Ok(());
        }
        let vectors = self.store.read(|connection| load(connection, dimensions.max(0) as usize))?;
        let Some(vectors) = vectors else {
            let (path, what) = (self.store.path.clone(), "vectors of another length".to_owned());
            return Err(Error::Damaged { path, what });
        };
        self.vectors = vectors;
        self.version = Some(version);
        Ok(())
    }

    /// The best of them with what stands there, no more of one file than are wanted.
    fn hits(
        &self,
        ordered: Vec<(i64, f64, Placed)>,
        question: &Question<'_>,
        telling: &[String],
        most: usize,
    ) -> Result<Vec<Hit>> {
        let mut hits = Vec::new();
        let mut of_file: HashMap<String, usize> = HashMap::new();
        for (id, score, placed) in ordered {
            if hits.len() == most {
                break;
            }
            let Some((mut hit, stamp)) = self.store.read(|it| passage(it, id))? else { continue };
            let count = of_file.entry(hit.path.clone()).or_default();
            *count += 1;
            if *count > question.per_file {
                continue;
            }
            let now = walk::full(&self.store.folder, &hit.path).metadata();
            hit.stale = now.map_or(true, |now| Stamp::of(&now) != stamp);
            // As it stands in the file, its lines can be counted.
            let verbatim = hit.bytes.1 - hit.bytes.0 == hit.text.len() as u64;
            let first = verbatim.then_some(hit.lines.0 as usize);
            hit.snippet = snippet::lines(&hit.text, first, telling, question.lines);
            hits.push(Hit { score, placed, ..hit });
        }
        Ok(hits)
    }
}

fn check(question: &Question<'_>) -> Result<()> {
    let why = if question.text.trim().is_empty() {
        "the question is empty".to_owned()
    } else if question.text.len() > words::QUESTION {
        format!("the question has more than {} bytes: ask for less at once", words::QUESTION)
    } else if question.top.max(question.rerank) > TOP {
        format!("at most {TOP} passages can be asked for")
    } else {
        return Ok(());
    };
    Err(Error::Question(why))
}

/// The passages with most of the words, the best first; of equal ones the older first.
fn by_words(
    connection: &Connection,
    query: &str,
    most: usize,
) -> rusqlite::Result<Vec<(i64, f32)>> {
    let [path, heading, text] = WEIGHTS;
    let mut statement = connection.prepare_cached(
        "SELECT rowid, bm25(words, ?, ?, ?) AS score FROM words WHERE words MATCH ?
         ORDER BY score, rowid LIMIT ?",
    )?;
    // SQLite's BM25 is negative: less is better.
    let rows = statement.query_map((path, heading, text, query, most as i64), |row| {
        Ok((row.get(0)?, -row.get::<_, f64>(1)? as f32))
    })?;
    rows.collect()
}

/// All vectors; `None` where one is of another length.
fn load(connection: &Connection, dimensions: usize) -> rusqlite::Result<Option<Vectors>> {
    let mut vectors = Vectors::new(dimensions);
    let mut statement = connection.prepare_cached("SELECT chunk, scale, codes FROM vectors")?;
    let mut rows = statement.query(())?;
    while let Some(row) = rows.next()? {
        let codes = row.get_ref(2)?.as_blob()?;
        if !vectors.push(row.get(0)?, row.get::<_, f64>(1)? as f32, codes) {
            return Ok(None);
        }
    }
    Ok(Some(vectors))
}

/// Passages with their scores, the best first; of equal ones the older first.
fn fuse(lists: BTreeMap<i64, Placed>) -> Vec<(i64, f64, Placed)> {
    let part = |rank: Option<u32>| rank.map_or(0.0, |rank| 1.0 / (RRF + f64::from(rank)));
    let scored = lists.into_iter().map(|(id, placed)| {
        let ranks = (placed.vector.map(|it| it.0), placed.words.map(|it| it.0));
        (id, part(ranks.0) + part(ranks.1), placed)
    });
    let mut ordered: Vec<_> = scored.collect();
    ordered.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    ordered
}

/// What stands at a passage's number, and how its file was when it was read.
fn passage(connection: &Connection, id: i64) -> rusqlite::Result<Option<(Hit, Stamp)>> {
    let mut statement = connection.prepare_cached(
        "SELECT path, first_line, last_line, start, stop, heading, text, bytes, modified_ns
         FROM chunks JOIN documents ON documents.id = chunks.document WHERE chunks.id = ?",
    )?;
    let found = statement.query_row([id], |row| {
        let hit = Hit {
            path: row.get(0)?,
            lines: (count(row, 1)?, count(row, 2)?),
            bytes: (count(row, 3)?, count(row, 4)?),
            heading: row.get(5)?,
            text: row.get(6)?,
            score: 0.0,
            placed: Placed::default(),
            stale: false,
            snippet: Vec::new(),
        };
        Ok((hit, Stamp { bytes: row.get(7)?, modified_ns: row.get(8)? }))
    });
    found.optional()
}

/// Orders hits by what a model says that reads each together with the question.
fn rerank(hits: &mut [Hit], question: &Question<'_>, rank: &dyn Rank) -> Result<()> {
    let texts: Vec<&str> = hits.iter().map(|hit| hit.text.as_str()).collect();
    let scores = rank.scores(question.text, &texts)?;
    if scores.len() != hits.len() || scores.iter().any(|score| score.is_nan()) {
        let model = rank.name().to_owned();
        return Err(Error::BadVectors { model, what: "no score a passage" });
    }
    for (hit, score) in hits.iter_mut().zip(scores) {
        hit.placed.rerank = Some(score);
        hit.score = f64::from(score);
    }
    // Stable: of equal ones the order is as before.
    hits.sort_by(|a, b| b.score.total_cmp(&a.score));
    Ok(())
}
