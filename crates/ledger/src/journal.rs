//! What a ledger was told and its tables do not have yet: records in two files that take turns, so
//! that taking one down is one write to the end of a file. A record says its length and its digest;
//! records are numbered without a gap, and reading stops where one is torn or missing. Absent: when
//! they come into the tables (`desk.rs`), and whose files are the dead's (`sqlite/left.rs`).

use std::fs::{self, File};
use std::io::{BufReader, Read, Write};
use std::path::{Path, PathBuf};

use crate::row::{Row, missed_body, read_missed};
use crate::store::{Announce, Content, Op, read_reserved, write_reserved};
use crate::{Hash, Result};

/// A file of this size is left for the other one, as soon as that has nothing that is wanted.
const TURN_BYTES: u64 = 4 << 20;
/// How a record begins: its length behind this head (4 bytes), the head of its digest (8), its
/// number (8). Numbers are little-endian; the digest is over all that follows it.
const HEAD: usize = 4 + 8 + 8;
/// A record's longest, in bytes: one that says more is torn.
const RECORD_BYTES: usize = 1 << 30;

/// The names of a journal's two files: those of its process, with these behind.
pub(crate) const TURNS: [&str; 2] = ["0", "1"];

/// A journal that is written.
#[derive(Debug)]
pub(crate) struct Journal {
    turns: [Turn; 2],
    now: usize,
    /// The last record's number.
    seq: u64,
    record: Vec<u8>,
}

/// One of the two files.
#[derive(Debug)]
struct Turn {
    path: PathBuf,
    file: File,
    bytes: u64,
    /// The number of its last record.
    last: u64,
    /// Whether behind its last record there is a piece of one that could not be written.
    torn: bool,
}

/// The paths of the journal of a process, whose sign of life this is.
pub(crate) fn paths(sign: &Path) -> [PathBuf; 2] {
    TURNS.map(|turn| sign.with_extension(turn))
}

impl Journal {
    /// Makes the two files, with `open`: empty, private, written at their ends.
    pub(crate) fn new(sign: &Path, open: impl Fn(&Path) -> Result<File>) -> Result<Self> {
        let turn = |path: PathBuf| {
            let file = open(&path)?;
            Ok(Turn { path, file, bytes: 0, last: 0, torn: false })
        };
        let [first, second] = paths(sign);
        let turns = [turn(first)?, turn(second)?];
        Ok(Self { turns, now: 0, seq: 0, record: Vec::new() })
    }

    /// Takes one down; returns its number. It survives the end of this process from here on.
    ///
    /// # Errors
    /// Where the disk refuses: nothing of it is kept then.
    pub(crate) fn put(&mut self, op: &Op) -> std::io::Result<u64> {
        write_record(&mut self.record, self.seq + 1, op);
        let turn = &mut self.turns[self.now];
        turn.put(&self.record)?;
        self.seq += 1;
        turn.last = self.seq;
        // One that was large is no measure of the next.
        self.record.shrink_to(64 << 10);
        Ok(self.seq)
    }

    /// Whether the files may change places once all up to `through` is safe elsewhere.
    pub(crate) fn may_turn(&self, through: u64) -> bool {
        self.turns[self.now].bytes >= TURN_BYTES && self.turns[1 - self.now].last <= through
    }

    /// Begins the other file anew, and goes on there; stays where it is if that cannot be.
    pub(crate) fn turn(&mut self) {
        let other = &mut self.turns[1 - self.now];
        if other.file.set_len(0).is_ok() {
            (other.bytes, other.torn) = (0, false);
            self.now = 1 - self.now;
        }
    }

    /// Removes both files, once all that they have is elsewhere.
    pub(crate) fn remove(&self) -> std::io::Result<()> {
        self.turns.iter().try_for_each(|turn| fs::remove_file(&turn.path))
    }
}

impl Turn {
    fn put(&mut self, record: &[u8]) -> std::io::Result<()> {
        if self.torn {
            self.mend()?;
        }
        self.torn = true;
        if let Err(error) = self.file.write_all(record) {
            // Where this fails, too, it is tried before the next.
            let _ = self.mend();
            return Err(error);
        }
        self.torn = false;
        self.bytes += record.len() as u64;
        Ok(())
    }

    fn mend(&mut self) -> std::io::Result<()> {
        self.file.set_len(self.bytes)?;
        self.torn = false;
        Ok(())
    }
}

/// A record as it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) seq: u64,
    /// Its fields, each behind its length.
    fields: Vec<u8>,
}

/// The records of a journal, in their order, up to the first that is torn or missing.
#[derive(Debug)]
pub(crate) struct Records {
    turns: Vec<Turned>,
    next: Option<u64>,
}

/// One file, and the record that is read next.
#[derive(Debug)]
struct Turned {
    head: Option<Record>,
    behind: BufReader<File>,
}

impl Records {
    /// Reads the files of the journal of a process, as far as they are there.
    pub(crate) fn open(sign: &Path) -> std::io::Result<Self> {
        let mut turns = Vec::new();
        for path in paths(sign) {
            match File::open(path) {
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                file => {
                    let mut behind = BufReader::new(file?);
                    turns.push(Turned { head: read_record(&mut behind), behind });
                }
            }
        }
        Ok(Self { turns, next: None })
    }
}

impl Iterator for Records {
    type Item = Record;

    fn next(&mut self) -> Option<Record> {
        let seq = |turn: &&mut Turned| turn.head.as_ref().map_or(u64::MAX, |head| head.seq);
        let first = self.turns.iter_mut().min_by_key(seq)?;
        let record = first.head.take()?;
        first.head = read_record(&mut first.behind);
        if self.next.is_some_and(|next| next != record.seq) {
            self.turns.clear();
            return None;
        }
        self.next = Some(record.seq + 1);
        Some(record)
    }
}

/// Writes what is told into a record: its kind is the first field.
fn write_record(record: &mut Vec<u8>, seq: u64, op: &Op) {
    record.clear();
    record.resize(4 + 8, 0);
    record.extend(seq.to_le_bytes());
    let mut put = |field: &[u8]| {
        // A field is far shorter than this counts: a request's body is bounded.
        record.extend((field.len() as u32).to_le_bytes());
        record.extend_from_slice(field);
    };
    let mut put_row = |kind: &[u8], row: &Row| {
        put(kind);
        put(row.body.text().as_bytes());
    };
    match op {
        Op::Begin(call) | Op::Amend(call) => {
            let anew = matches!(op, Op::Amend(_));
            put_row(if anew { b"amend" } else { b"begin" }, &call.row);
            put(write_reserved(&call.reserved).text().as_bytes());
        }
        Op::End(row) => put_row(b"end", row),
        Op::Note(row) => put_row(b"note", row),
        Op::Gap(missed) => {
            put(b"gap");
            put(missed_body(missed).as_bytes());
        }
        Op::Content(content) => {
            put(b"content");
            put(content.id.as_bytes());
            put(&content.at_ms.to_le_bytes());
            put(&content.bytes);
        }
    }
    let bytes = (record.len() - HEAD) as u32;
    let digest = Hash::digest(&record[4 + 8..]);
    record[..4].copy_from_slice(&bytes.to_le_bytes());
    record[4..4 + 8].copy_from_slice(&digest.0[..8]);
}

/// Reads the next record; `None` where there is none, or no whole one.
fn read_record(from: &mut impl Read) -> Option<Record> {
    let mut head = [0; HEAD];
    from.read_exact(&mut head).ok()?;
    let (bytes, rest) = head.split_first_chunk::<4>()?;
    let (digest, seq) = rest.split_first_chunk::<8>()?;
    let bytes = u32::from_le_bytes(*bytes) as usize;
    let mut covered = seq.to_vec();
    // What a torn length promises is not believed before it has come.
    from.take(bytes.min(RECORD_BYTES) as u64).read_to_end(&mut covered).ok()?;
    let whole = covered.len() == 8 + bytes && Hash::digest(&covered).0.starts_with(digest);
    let seq = u64::from_le_bytes(seq.try_into().ok()?);
    whole.then(|| Record { seq, fields: covered.split_off(8) })
}

impl Record {
    /// What was told; `None` where it is nothing that this knows.
    pub(crate) fn op(&self) -> Option<Op> {
        let row = |body: &[u8]| Row::read(text(body)?).map(Box::new);
        let announce = |body: &[u8], reserved: &[u8]| {
            let reserved = read_reserved(text(reserved)?);
            Some(Box::new(Announce { row: *row(body)?, reserved }))
        };
        Some(match *self.fields()?.as_slice() {
            [b"begin", body, reserved] => Op::Begin(announce(body, reserved)?),
            [b"amend", body, reserved] => Op::Amend(announce(body, reserved)?),
            [b"end", body] => Op::End(row(body)?),
            [b"note", body] => Op::Note(row(body)?),
            [b"gap", body] => Op::Gap(read_missed(text(body)?)?),
            [b"content", id, at_ms, bytes] => Op::Content(Box::new(Content {
                id: text(id)?.to_owned(),
                at_ms: u64::from_le_bytes(at_ms.try_into().ok()?),
                bytes: bytes.to_vec(),
            })),
            _ => return None,
        })
    }

    fn fields(&self) -> Option<Vec<&[u8]>> {
        let (mut fields, mut rest) = (Vec::new(), &*self.fields);
        while !rest.is_empty() {
            let (bytes, behind) = rest.split_first_chunk::<4>()?;
            let (field, behind) = behind.split_at_checked(u32::from_le_bytes(*bytes) as usize)?;
            fields.push(field);
            rest = behind;
        }
        Some(fields)
    }
}

fn text(bytes: &[u8]) -> Option<&str> {
    std::str::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests;
