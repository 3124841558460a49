//! What the tests share: a folder that is gone after its test, and models that are arithmetic.

use std::cell::Cell;
use std::path::PathBuf;
use std::time::SystemTime;

use ingle_protocol::Fault;
use ingle_search::{Embed, Hit, Index, Progress, Question, Rank, Report, Searcher, Settings};

/// Counts words in buckets that their hashes choose: texts with the same words are close.
#[derive(Clone, Debug)]
pub(crate) struct Hashing {
    pub(crate) name: String,
    pub(crate) dimensions: usize,
    pub(crate) seed: u64,
}

impl Hashing {
    pub(crate) fn new(seed: u64) -> Self {
        Self { name: format!("hashing-{seed}"), dimensions: 256, seed }
    }

    fn vector(&self, text: &str) -> Vec<f32> {
        let mut vector = vec![0.01; self.dimensions];
        let lower = text.to_lowercase();
        for word in lower.split(|c: char| !c.is_alphanumeric()).filter(|word| word.len() > 3) {
            // FNV-1a (Fowler, Noll, Vo).
            let hash = word.bytes().fold(0xcbf2_9ce4_8422_2325 ^ self.seed, |hash, byte| {
                (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
            });
            vector[(hash >> 20) as usize % self.dimensions] += 1.0;
        }
        vector
    }
}

impl Embed for Hashing {
    fn name(&self) -> &str {
        &self.name
    }

    fn dimensions(&self) -> usize {
        self.dimensions
    }

    fn documents(&self, texts: &[&str]) -> Result<Vec<Vec<f32>>, Fault> {
        Ok(texts.iter().map(|text| self.vector(text)).collect())
    }

    fn query(&self, text: &str) -> Result<Vec<f32>, Fault> {
        Ok(self.vector(text))
    }
}

/// Likes long passages.
pub(crate) struct Longest;

impl Rank for Longest {
    fn name(&self) -> &str {
        "longest"
    }

    fn scores(&self, _question: &str, texts: &[&str]) -> Result<Vec<f32>, Fault> {
        Ok(texts.iter().map(|text| text.len() as f32).collect())
    }
}

/// Ends an update once it was asked so often whether to.
pub(crate) struct Stops {
    asked: Cell<u32>,
    after: u32,
}

impl Stops {
    pub(crate) fn after(after: u32) -> Self {
        Self { asked: Cell::new(0), after }
    }
}

impl Progress for Stops {
    fn cancelled(&self) -> bool {
        self.asked.set(self.asked.get() + 1);
        self.asked.get() > self.after
    }
}

/// A folder of this name and this process in the system's folder for such.
#[derive(Debug)]
pub(crate) struct Folder(pub(crate) PathBuf);

impl Folder {
    pub(crate) fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("ingle-search-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).expect("the system's folder for such can be written to");
        Self(path)
    }

    pub(crate) fn put(&self, path: &str, text: &str) {
        let path = self.0.join(path);
        std::fs::create_dir_all(path.parent().expect("is within the folder")).expect("is made");
        std::fs::write(path, text).expect("is written");
    }

    pub(crate) fn remove(&self, path: &str) {
        std::fs::remove_file(self.0.join(path)).expect("is removed");
    }

    pub(crate) fn rename(&self, from: &str, to: &str) {
        std::fs::rename(self.0.join(from), self.0.join(to)).expect("is moved");
    }

    pub(crate) fn modified(&self, path: &str) -> SystemTime {
        let known = self.0.join(path).metadata().expect("is there");
        known.modified().expect("has a time")
    }

    pub(crate) fn set_modified(&self, path: &str, time: SystemTime) {
        let file = std::fs::File::options().append(true).open(self.0.join(path));
        file.and_then(|file| file.set_modified(time)).expect("is set");
    }

    /// Makes the index agree with the folder.
    pub(crate) fn update(&self) -> Report {
        let mut index = Index::open(&self.0, None).expect("opens");
        index.update(&Settings::default(), &Hashing::new(1), &mut ()).expect("updates")
    }

    pub(crate) fn ask(&self, question: &Question<'_>) -> Vec<Hit> {
        let mut searcher = Searcher::open(&self.0, None).expect("opens");
        searcher.ask(question, Some(&Hashing::new(1)), None).expect("answers").hits
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
