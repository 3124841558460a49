//! What is done to a ledger's tables, said once for all databases: groups of rows, recovery,
//! removal, pages and sums. A database is a [`Sql`]; its SQL is what SQLite and Postgres share.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt::Debug;
use std::sync::LazyLock;

use ingle_protocol::wire::{entry, rfc3339};
use ingle_protocol::{End, Entry};

use crate::journal::Journal;
use crate::row::{CALLS, COLUMNS, Cell, Row, content_body, missed_body, pruned_body};
use crate::sqlite::Left;
use crate::{Anchor, By, Error, Hash, Missed, Pruned, Recovered, Reserved, Result, Spend};

/// Rows that are read at once.
const PAGE: u64 = 256;
/// Rows that are removed in one transaction.
const REMOVED: u64 = 20_000;
/// What a journal has that is brought in at once.
const ADOPTED: usize = 512;
/// Contents that are read at once: each may be large.
const CONTENTS: u64 = 8;
/// Rows of a report.
const GROUPS: u64 = 10_000;

/// A database, and at most one transaction in it. Parameters are `$1`, `$2`, and so on, each used
/// once and in this order.
pub(crate) trait Sql: Debug + Send {
    /// Begins to write; who else does waits.
    fn begin(&mut self) -> Result<()>;
    /// Ends a transaction: all of it is kept when this returns.
    fn commit(&mut self) -> Result<()>;
    /// Ends a transaction: none of it is kept.
    fn rollback(&mut self);
    /// Runs one statement; tells how many rows it changed.
    fn run(&mut self, sql: &str, cells: &[Cell]) -> Result<u64>;
    /// Runs a query.
    fn rows(&mut self, sql: &str, cells: &[Cell]) -> Result<Vec<Vec<Cell>>>;
    /// Puts rows behind the chain's end.
    fn insert(&mut self, rows: &[Linked<'_>]) -> Result<()>;
    /// What a query ends with that holds the row it reads until the transaction ends.
    fn hold(&self) -> &'static str;
    /// This process's name among those that write.
    fn process(&self) -> &str;
    /// Whether a process of that name lives.
    fn lives(&mut self, process: &str) -> Result<bool>;
    /// The ledger's place, as errors tell it.
    fn place(&self) -> String;
    /// A journal for this process, where what it is told is kept by one.
    fn journal(&mut self) -> Result<Option<Journal>>;
    /// The journals that processes left which died, each held against others who would bring it in.
    fn left(&mut self) -> Result<Vec<Left>>;
    /// Waits until the disk has all that was committed.
    fn sync(&mut self) -> Result<()>;
}

/// A row with its place in the chain.
#[derive(Debug)]
pub(crate) struct Linked<'a> {
    pub(crate) seq: Cell,
    pub(crate) prev: Cell,
    pub(crate) hash: Cell,
    pub(crate) row: &'a Row,
}

impl Linked<'_> {
    /// All of it, in the order of the table.
    pub(crate) fn cells(&self) -> impl Iterator<Item = &Cell> {
        let Self { seq, prev, hash, row } = self;
        [seq, prev, hash].into_iter().chain(&row.cells).chain([&row.body])
    }
}

/// A row as it was read.
#[derive(Clone, Debug)]
pub(crate) struct Kept {
    pub(crate) seq: u64,
    pub(crate) prev: Option<Hash>,
    pub(crate) hash: Option<Hash>,
    pub(crate) row: Row,
}

/// Content as it is kept beside a row.
#[derive(Clone, Debug)]
pub(crate) struct Beside {
    pub(crate) seq: u64,
    pub(crate) id: String,
    /// What the row says.
    pub(crate) body: String,
    pub(crate) bytes: Vec<u8>,
}

/// A time of which entries are meant, in milliseconds since 1970.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Span {
    pub(crate) from_ms: u64,
    pub(crate) to_ms: u64,
}

/// A call that is announced.
#[derive(Debug)]
pub(crate) struct Announce {
    pub(crate) row: Row,
    pub(crate) reserved: Vec<Reserved>,
}

/// What is done to the ledger for a ticket.
#[derive(Debug)]
pub(crate) enum Op {
    Begin(Box<Announce>),
    /// The same call, announced anew.
    Amend(Box<Announce>),
    End(Box<Row>),
    Note(Box<Row>),
    /// Calls that could not be kept.
    Gap(Missed),
    /// What a call asked and got, encrypted.
    Content(Box<Content>),
}

/// Encrypted content, and whose it is.
#[derive(Debug)]
pub(crate) struct Content {
    pub(crate) id: String,
    pub(crate) at_ms: u64,
    pub(crate) bytes: Vec<u8>,
}

/// The chain's ends.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Ends {
    /// The last row.
    pub(crate) head: Anchor,
    /// The last row that was removed.
    pub(crate) base: Anchor,
    /// Until when, and when.
    pub(crate) base_before_ms: u64,
    pub(crate) base_at_ms: u64,
}

/// The table's columns, in their order.
pub(crate) static NAMES: LazyLock<Vec<&str>> = LazyLock::new(|| {
    let inner = COLUMNS.iter().map(|column| column.0);
    ["seq", "prev", "hash"].into_iter().chain(inner).chain(["body"]).collect()
});

static SELECT: LazyLock<String> =
    LazyLock::new(|| format!("SELECT {} FROM ledger_entries", NAMES.join(", ")));

/// A ledger's tables.
#[derive(Debug)]
pub(crate) struct Store(pub(crate) Box<dyn Sql>);

/// What is known of a transaction that failed.
enum Failed {
    /// Nothing of it was kept.
    Before(Error),
    /// It may have been kept.
    Unsure(Box<Doubt>),
}

/// A transaction whose end was not heard of: whether it was kept is told by its mark, and what
/// became of its rows then.
struct Doubt {
    error: Error,
    mark: Mark,
    outcomes: Vec<Result<()>>,
}

/// What is in the ledger if a group is.
enum Mark {
    /// This last row.
    Row(Anchor),
    /// The announcement of this call, with this text.
    Call(String, Cell),
    /// Nothing: it changed nothing.
    Nothing,
}

impl Store {
    /// Writes a group of rows: all in one transaction, so that either each has its outcome or all
    /// failed.
    pub(crate) fn write(&mut self, ops: &[Op]) -> Result<Vec<Result<()>>> {
        let outcome = match self.attempt(ops) {
            // A connection may have been cut while nobody looked.
            Err(Failed::Before(Error::Unreachable { .. })) => self.attempt(ops),
            outcome => outcome,
        };
        match outcome {
            Ok(outcomes) => Ok(outcomes),
            Err(Failed::Before(error)) => Err(error),
            Err(Failed::Unsure(doubt)) => match self.came_through(&doubt.mark) {
                Ok(true) => Ok(doubt.outcomes),
                _ => Err(doubt.error),
            },
        }
    }

    fn attempt(&mut self, ops: &[Op]) -> std::result::Result<Vec<Result<()>>, Failed> {
        self.0.begin().map_err(Failed::Before)?;
        let (outcomes, mark) = match self.group(ops) {
            Ok(group) => group,
            Err(error) => {
                self.0.rollback();
                return Err(Failed::Before(error));
            }
        };
        match self.0.commit() {
            Ok(()) => Ok(outcomes),
            Err(error @ Error::Unreachable { .. }) => {
                Err(Failed::Unsure(Box::new(Doubt { error, mark, outcomes })))
            }
            Err(error) => {
                self.0.rollback();
                Err(Failed::Before(error))
            }
        }
    }

    /// Whether a transaction whose end was not heard of was kept.
    fn came_through(&mut self, mark: &Mark) -> Result<bool> {
        self.change(|store| {
            // Whoever had the head held it until its transaction had ended.
            store.ends(true)?;
            match mark {
                Mark::Nothing => Ok(true),
                Mark::Row(last) => {
                    let sql = "SELECT hash FROM ledger_entries WHERE seq = $1";
                    let rows = store.0.rows(sql, &[last.count.into()])?;
                    Ok(rows.iter().any(|row| row[0].bytes() == last.head.0))
                }
                Mark::Call(id, body) => {
                    let sql = "SELECT body FROM ledger_announced WHERE id = $1 AND process = $2";
                    let rows =
                        store.0.rows(sql, &[id.as_str().into(), store.0.process().into()])?;
                    Ok(rows.iter().any(|row| row[0] == *body))
                }
            }
        })
    }

    fn group(&mut self, ops: &[Op]) -> Result<(Vec<Result<()>>, Mark)> {
        let ends = self.ends(true)?;
        let (mut outcomes, mut rows) = (Vec::with_capacity(ops.len()), Vec::new());
        let mut mark = Mark::Nothing;
        let process = self.0.process().to_owned();
        for op in ops {
            let outcome = match op {
                Op::Begin(call) => self.announce(&process, call)?,
                Op::Amend(call) => self.amend(&process, call)?,
                Op::End(row) => self.close(&process, row.id())?,
                _ => Ok(()),
            };
            if outcome.is_ok() {
                if let Op::Begin(call) | Op::Amend(call) = op {
                    mark = Mark::Call(call.row.id().to_owned(), call.row.body.clone());
                }
                rows.extend(self.row(op, ends.head.count + rows.len() as u64 + 1)?);
            }
            outcomes.push(outcome);
        }
        if !rows.is_empty() {
            let rows: Vec<&Row> = rows.iter().map(AsRef::as_ref).collect();
            mark = Mark::Row(self.append(ends.head, &rows)?);
        }
        Ok((outcomes, mark))
    }

    /// Brings in what this process has in its journal.
    pub(crate) fn bring(&mut self, told: &[(u64, Op)]) -> Result<()> {
        let process = self.0.process().to_owned();
        self.change(|store| store.bring_of(&process, told))
    }

    /// Brings in what a process was told and had taken down, as far as it is not here already. A
    /// call that began and ended in it leaves its row alone.
    fn bring_of(&mut self, process: &str, told: &[(u64, Op)]) -> Result<()> {
        let ends = self.ends(true)?;
        let sql = "SELECT through FROM ledger_journals WHERE process = $1";
        let marks = self.0.rows(sql, &[process.into()])?;
        let through = marks.first().map_or(0, |row| row[0].count());
        let new: Vec<&Op> = told.iter().filter(|it| it.0 > through).map(|it| &it.1).collect();
        let (mut begun, mut ended) = (HashSet::new(), HashSet::new());
        for op in &new {
            match op {
                Op::Begin(call) => drop(begun.insert(call.row.id())),
                Op::End(row) => drop(ended.insert(row.id())),
                _ => {}
            }
        }
        let mut rows = Vec::new();
        for op in &new {
            match op {
                Op::Begin(call) if !ended.contains(call.row.id()) => {
                    // Who died with a call of that id has no other.
                    drop(self.announce(process, call)?);
                }
                Op::Amend(call) if !ended.contains(call.row.id()) => {
                    drop(self.amend(process, call)?);
                }
                Op::End(row) if !begun.contains(row.id()) => drop(self.close(process, row.id())?),
                _ => {}
            }
            rows.extend(self.row(op, ends.head.count + rows.len() as u64 + 1)?);
        }
        if !rows.is_empty() {
            self.append(ends.head, &rows.iter().map(AsRef::as_ref).collect::<Vec<_>>())?;
        }
        let last = told.last().map_or(0, |it| it.0).max(through);
        let sql = "INSERT INTO ledger_journals (process, through) VALUES ($1, $2) \
                   ON CONFLICT (process) DO UPDATE SET through = excluded.through";
        self.0.run(sql, &[process.into(), last.into()]).map(drop)
    }

    /// Forgets how far this process's journal is here, once that is gone.
    pub(crate) fn unmark(&mut self) -> Result<()> {
        let process = self.0.process().to_owned();
        self.change(|store| store.unmark_of(&process))
    }

    fn unmark_of(&mut self, process: &str) -> Result<()> {
        self.0.run("DELETE FROM ledger_journals WHERE process = $1", &[process.into()]).map(drop)
    }

    /// Brings in what processes that died had in their journals.
    pub(crate) fn adopt(&mut self) -> Result<()> {
        for left in self.0.left()? {
            let mut records = left.records()?;
            loop {
                let group: Vec<(u64, Op)> = records.by_ref().take(ADOPTED).collect();
                if group.is_empty() {
                    break;
                }
                self.change(|store| store.bring_of(left.process(), &group))?;
            }
            // The mark goes last: without it, what the journal has would come in again.
            left.remove()?;
            self.change(|store| store.unmark_of(left.process()))?;
        }
        Ok(())
    }

    /// The row that something makes, if it makes one, to be the one of this number; what is kept
    /// beside it is put there.
    fn row<'a>(&mut self, op: &'a Op, seq: u64) -> Result<Option<Cow<'a, Row>>> {
        Ok(match op {
            Op::Begin(_) | Op::Amend(_) => None,
            Op::End(row) | Op::Note(row) => Some(Cow::Borrowed(row)),
            Op::Gap(missed) => Row::notice(missed_body(missed)).map(Cow::Owned),
            Op::Content(content) => {
                self.put_beside(seq, content)?;
                Row::notice(content_body(&content.bytes)).map(Cow::Owned)
            }
        })
    }

    /// Keeps what a call asked and got beside the row that has its digest.
    fn put_beside(&mut self, seq: u64, content: &Content) -> Result<()> {
        let sql = "INSERT INTO ledger_content (seq, id, at_ms, content) VALUES ($1, $2, $3, $4)";
        let id = Cell::Text(crate::row::name(&content.id));
        let bytes = Cell::Bytes(content.bytes.clone());
        self.0.run(sql, &[seq.into(), id, content.at_ms.into(), bytes]).map(drop)
    }

    fn announce(&mut self, process: &str, call: &Announce) -> Result<Result<()>> {
        let sql = "INSERT INTO ledger_announced (id, process, body, reserved) \
                   VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING";
        let id = call.row.id();
        let reserved = write_reserved(&call.reserved);
        let cells = [id.into(), process.into(), call.row.body.clone(), reserved];
        let done = self.0.run(sql, &cells)?;
        let twice = || Error::Twice { place: self.0.place(), id: id.to_owned() };
        Ok(if done == 1 { Ok(()) } else { Err(twice()) })
    }

    /// Says something else of a call that this process has announced.
    fn amend(&mut self, process: &str, call: &Announce) -> Result<Result<()>> {
        let sql = "UPDATE ledger_announced SET body = $1, reserved = $2 \
                   WHERE id = $3 AND process = $4";
        let (id, reserved) = (call.row.id(), write_reserved(&call.reserved));
        let cells = [call.row.body.clone(), reserved, id.into(), process.into()];
        let done = self.0.run(sql, &cells)?;
        Ok(if done == 1 { Ok(()) } else { Err(self.closed(id)) })
    }

    fn close(&mut self, process: &str, id: &str) -> Result<Result<()>> {
        let sql = "DELETE FROM ledger_announced WHERE id = $1 AND process = $2";
        let done = self.0.run(sql, &[id.into(), process.into()])?;
        Ok(if done == 1 { Ok(()) } else { Err(self.closed(id)) })
    }

    /// A call that is not open.
    fn closed(&self, id: &str) -> Error {
        Error::Closed { place: self.0.place(), id: id.to_owned() }
    }

    /// Puts rows behind the head, which is held; tells the new one.
    fn append(&mut self, mut head: Anchor, rows: &[&Row]) -> Result<Anchor> {
        let bytes = |hash: Hash| Cell::Bytes(hash.0.to_vec());
        let mut linked = Vec::with_capacity(rows.len());
        for &row in rows {
            let prev = head.head;
            head = Anchor { count: head.count + 1, head: prev.link(row.body.text()) };
            let (seq, hash) = (head.count.into(), bytes(head.head));
            linked.push(Linked { seq, prev: bytes(prev), hash, row });
        }
        self.0.insert(&linked)?;
        let cells = [head.count.into(), Cell::Bytes(head.head.0.to_vec())];
        self.0.run("UPDATE ledger_chain SET count = $1, head = $2", &cells)?;
        Ok(head)
    }

    /// A transaction of its own.
    fn change<T>(&mut self, work: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        self.0.begin()?;
        let outcome = work(self).and_then(|value| self.0.commit().map(|()| value));
        if outcome.is_err() {
            self.0.rollback();
        }
        outcome
    }

    /// Whether it can be written to.
    pub(crate) fn probe(&mut self) -> Result<()> {
        self.change(|store| store.0.run("UPDATE ledger_chain SET count = count", &[])).map(drop)
    }

    /// Makes entries of the calls whose processes died.
    pub(crate) fn recover(&mut self) -> Result<Recovered> {
        self.adopt()?;
        self.change(|store| {
            let ends = store.ends(true)?;
            let sql = "SELECT DISTINCT process FROM ledger_announced";
            let mut rows = Vec::new();
            for process in store.0.rows(sql, &[])?.iter().map(|row| row[0].text()) {
                if process != store.0.process() && !store.0.lives(process)? {
                    rows.extend(store.bury(process)?);
                }
            }
            let mut recovered = Recovered::default();
            for row in &rows {
                let entry = entry::read(row.body.text()).unwrap_or_default();
                recovered.count(entry.cost.micros);
            }
            if !rows.is_empty() {
                store.append(ends.head, &rows.iter().collect::<Vec<_>>())?;
            }
            Ok(recovered)
        })
    }

    /// Takes the calls of a dead process out of those announced.
    fn bury(&mut self, process: &str) -> Result<Vec<Row>> {
        let sql = "SELECT id, body FROM ledger_announced WHERE process = $1 ORDER BY id";
        let calls = self.0.rows(sql, &[process.into()])?;
        self.0.run("DELETE FROM ledger_announced WHERE process = $1", &[process.into()])?;
        let row = |cells: &Vec<Cell>| {
            // One that cannot be read was changed by others: what is known is that it was tried.
            let unknown = || Entry {
                id: cells[0].text().to_owned(),
                tries: 1,
                end: End::Lost,
                ..Entry::default()
            };
            let read = entry::read(cells[1].text()).ok().filter(|entry| entry.end == End::Lost);
            Row::of(&read.unwrap_or_else(unknown))
        };
        Ok(calls.iter().map(row).collect())
    }

    /// Removes the rows before the first whose call came at `before_ms` or later.
    pub(crate) fn prune(&mut self, before_ms: u64, now_ms: u64) -> Result<Pruned> {
        let mut pruned = Pruned::default();
        let sql = format!("SELECT min(seq) FROM ledger_entries WHERE +at_ms >= $1 AND {CALLS}");
        let first = self.0.rows(&sql, &[before_ms.into()])?;
        let end = match first.first().map(|row| &row[0]) {
            Some(Cell::Int(seq)) => u64::try_from(*seq).unwrap_or(0),
            _ => self.ends(false)?.head.count + 1,
        };
        loop {
            let more = self.change(|store| store.prune_some(end, before_ms, now_ms))?;
            let Some(more) = more else {
                pruned.base = self.ends(false)?.base;
                return Ok(pruned);
            };
            pruned.rows += more;
        }
    }

    /// Removes some rows before `end`; `None` where no entry is left there.
    fn prune_some(&mut self, end: u64, before_ms: u64, now_ms: u64) -> Result<Option<u64>> {
        let ends = self.ends(true)?;
        let sql = format!(
            "SELECT seq FROM ledger_entries WHERE seq < $1 AND {CALLS} ORDER BY seq LIMIT 1"
        );
        if self.0.rows(&sql, &[end.into()])?.is_empty() {
            return Ok(None);
        }
        let through = (end - 1).min(ends.base.count + REMOVED);
        let sql = "SELECT hash FROM ledger_entries WHERE seq = $1";
        let rows = self.0.rows(sql, &[through.into()])?;
        let hash = rows.first().and_then(|row| Hash::of(row[0].bytes()));
        let hash = hash.ok_or_else(|| Error::Unreadable {
            place: self.0.place(),
            seq: through,
            what: "it is missing, or has no hash".into(),
        })?;
        let rows = self.0.run("DELETE FROM ledger_entries WHERE seq <= $1", &[through.into()])?;
        self.0.run("DELETE FROM ledger_content WHERE seq <= $1", &[through.into()])?;
        let sql = "UPDATE ledger_chain SET base_count = $1, base_head = $2, base_before_ms = $3, \
                   base_at_ms = $4";
        let base = [through.into(), Cell::Bytes(hash.0.to_vec()), before_ms.into(), now_ms.into()];
        self.0.run(sql, &base)?;
        let (before_ms, now_ms) = (base[2].count(), base[3].count());
        let said = Row::notice(pruned_body(through, hash, before_ms, now_ms));
        self.append(ends.head, &said.iter().collect::<Vec<_>>())?;
        Ok(Some(rows))
    }

    /// The chain's ends; where they are held, nobody else writes until the transaction ends.
    pub(crate) fn ends(&mut self, held: bool) -> Result<Ends> {
        let hold = if held { self.0.hold() } else { "" };
        let sql = format!(
            "SELECT count, head, base_count, base_head, base_before_ms, base_at_ms \
             FROM ledger_chain{hold}"
        );
        let rows = self.0.rows(&sql, &[])?;
        let anchor = |count: &Cell, head: &Cell| {
            Some(Anchor { count: count.count(), head: Hash::of(head.bytes())? })
        };
        let read = rows.first().and_then(|row| {
            Some(Ends {
                head: anchor(&row[0], &row[1])?,
                base: anchor(&row[2], &row[3])?,
                base_before_ms: row[4].count(),
                base_at_ms: row[5].count(),
            })
        });
        read.ok_or_else(|| Error::Damaged {
            place: self.0.place(),
            what: "it does not say where its chain ends".into(),
        })
    }

    /// The next rows behind `after`: all, or entries of a time.
    pub(crate) fn page(&mut self, after: u64, span: Option<Span>) -> Result<Vec<Kept>> {
        let select = &*SELECT;
        let (sql, cells) = match span {
            None => {
                let sql = format!("{select} WHERE seq > $1 ORDER BY seq LIMIT $2");
                (sql, vec![after.into(), PAGE.into()])
            }
            // The + keeps SQLite from sorting what it finds by time, page after page.
            Some(Span { from_ms, to_ms }) => {
                let sql = format!(
                    "{select} WHERE seq > $1 AND +at_ms >= $2 AND +at_ms < $3 AND {CALLS} \
                     ORDER BY seq LIMIT $4"
                );
                let span = [after.into(), from_ms.into(), to_ms.into()];
                (sql, span.into_iter().chain([PAGE.into()]).collect())
            }
        };
        Ok(self.0.rows(&sql, &cells)?.into_iter().map(kept).collect())
    }

    /// The newest entry of that id.
    pub(crate) fn find(&mut self, id: &str) -> Result<Option<Kept>> {
        let sql = format!("{} WHERE id = $1 AND {CALLS} ORDER BY seq DESC LIMIT 1", *SELECT);
        let rows = self.0.rows(&sql, &[Cell::Text(crate::row::name(id))])?;
        Ok(rows.into_iter().next().map(kept))
    }

    /// Calls that are under way: the process, the text, what is reserved.
    pub(crate) fn announced(&mut self) -> Result<Vec<(String, String, Vec<Reserved>)>> {
        let sql = "SELECT process, body, reserved FROM ledger_announced ORDER BY id";
        let row = |row: Vec<Cell>| {
            let [process, body, reserved] = [0, 1, 2].map(|at: usize| row[at].text().to_owned());
            (process, body, read_reserved(&reserved))
        };
        Ok(self.0.rows(sql, &[])?.into_iter().map(row).collect())
    }

    /// The next contents behind `after`, of one call or of all, as far as they have their call's
    /// row: the row's number, the call's id, and the bytes.
    pub(crate) fn contents(&mut self, after: u64, id: Option<&str>) -> Result<Vec<Beside>> {
        let which = if id.is_some() { " AND c.id = $2" } else { "" };
        let sql = format!(
            "SELECT c.seq, c.id, e.body, c.content \
             FROM ledger_content c JOIN ledger_entries e ON e.seq = c.seq \
             WHERE c.seq > $1{which} ORDER BY c.seq LIMIT {CONTENTS}"
        );
        let id = id.map(|id| Cell::Text(crate::row::name(id)));
        let cells: Vec<Cell> = [Cell::from(after)].into_iter().chain(id).collect();
        let row = |row: Vec<Cell>| {
            let [id, body] = [1, 2].map(|at: usize| row[at].text().to_owned());
            Beside { seq: row[0].count(), id, body, bytes: row[3].bytes().to_vec() }
        };
        Ok(self.0.rows(&sql, &cells)?.into_iter().map(row).collect())
    }

    /// The content beside a row, where it is still there.
    pub(crate) fn content(&mut self, seq: u64) -> Result<Option<Vec<u8>>> {
        let sql = "SELECT content FROM ledger_content WHERE seq = $1";
        Ok(self.0.rows(sql, &[seq.into()])?.first().map(|row| row[0].bytes().to_vec()))
    }

    /// Removes the contents of calls that came before this.
    pub(crate) fn forget(&mut self, before_ms: u64) -> Result<u64> {
        self.change(|store| {
            let sql = "DELETE FROM ledger_content WHERE at_ms < $1";
            store.0.run(sql, &[before_ms.into()])
        })
    }

    /// What calls cost, by what they have in common.
    pub(crate) fn spend(&mut self, by: By, span: Span) -> Result<Vec<Spend>> {
        let sums: Vec<String> =
            SUMS.iter().map(|sum| format!("CAST(sum({sum}) AS BIGINT)")).collect();
        let order = if by == By::Day { "1" } else { "7 DESC, 1" };
        let sql = format!(
            "SELECT {}, count(*), {} FROM ledger_entries \
             WHERE at_ms >= $1 AND at_ms < $2 AND {CALLS} \
             GROUP BY 1 ORDER BY {order} LIMIT {GROUPS}",
            by.sql(),
            sums.join(", ")
        );
        let cells = [span.from_ms.into(), span.to_ms.into()];
        Ok(self.0.rows(&sql, &cells)?.iter().map(|row| spent(by, row)).collect())
    }
}

/// What is added up, in the order of [`spent`].
const SUMS: &[&str] = &[
    "prompt_tokens",
    "cached_tokens",
    "completion_tokens",
    "reasoning_tokens",
    "coalesce(cost_micros, 0)",
    "CASE WHEN cost_micros IS NULL AND tries > 0 THEN 1 ELSE 0 END",
    "estimated",
    "remote",
    "CASE WHEN remote = 1 THEN coalesce(cost_micros, 0) ELSE 0 END",
    "CASE WHEN remote = 1 AND cost_micros IS NULL AND tries > 0 THEN 1 ELSE 0 END",
    // Bytes went to servers on this machine, too, and did not leave.
    "CASE WHEN remote = 1 THEN bytes_out ELSE 0 END",
    "CASE WHEN ended = 'refused' THEN 1 ELSE 0 END",
    "CASE WHEN cost_micros IS NOT NULL AND instead_micros IS NOT NULL THEN 1 ELSE 0 END",
    "CASE WHEN instead_micros IS NOT NULL THEN coalesce(cost_micros, 0) ELSE 0 END",
    "CASE WHEN cost_micros IS NOT NULL THEN coalesce(instead_micros, 0) ELSE 0 END",
];

fn spent(by: By, row: &[Cell]) -> Spend {
    let name = match (&row[0], by) {
        (Cell::Int(day), By::Day) => {
            let seconds = u64::try_from(*day).unwrap_or(0).saturating_mul(86_400);
            rfc3339(seconds).chars().take_while(|c| *c != 'T').collect()
        }
        (Cell::Text(name), _) => name.clone(),
        _ => "all".to_owned(),
    };
    let sum = |at: usize| row[at + 2].count();
    Spend {
        name,
        calls: row[1].count(),
        prompt_tokens: sum(0),
        cached_tokens: sum(1),
        completion_tokens: sum(2),
        reasoning_tokens: sum(3),
        cost_micros: sum(4),
        unknown: sum(5),
        estimated: sum(6),
        left: sum(7),
        left_micros: sum(8),
        left_unknown: sum(9),
        bytes_out: sum(10),
        refused: sum(11),
        compared: sum(12),
        compared_micros: sum(13),
        instead_micros: sum(14),
    }
}

fn kept(mut row: Vec<Cell>) -> Kept {
    let body = row.pop().unwrap_or(Cell::Null);
    let cells = row.split_off(3.min(row.len()));
    Kept {
        seq: row[0].count(),
        prev: Hash::of(row[1].bytes()),
        hash: Hash::of(row[2].bytes()),
        row: Row { cells, body },
    }
}

/// A line for each: micro-dollars, tokens, and the budget's name, which may have blanks.
pub(crate) fn write_reserved(reserved: &[Reserved]) -> Cell {
    let line = |it: &Reserved| {
        let budget = crate::row::name(&it.budget).replace(['\n', '\r'], " ");
        format!("{} {} {budget}\n", it.micros, it.tokens)
    };
    Cell::Text(reserved.iter().map(line).collect())
}

pub(crate) fn read_reserved(text: &str) -> Vec<Reserved> {
    let line = |line: &str| {
        let mut parts = line.splitn(3, ' ');
        let (micros, tokens) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
        Some(Reserved { budget: parts.next()?.to_owned(), micros, tokens })
    };
    text.lines().filter_map(line).collect()
}

#[cfg(test)]
mod tests;
