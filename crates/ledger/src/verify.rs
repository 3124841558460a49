//! Whether the chain is whole: each row's text makes its hash, each hash links to the one before,
//! the columns say what the text says, and the end is where the head says. It stops at the first
//! row that does not fit.

use std::fmt;

use crate::row::{Row, content_body, pruned_body, read_missed, tells_of_content};
use crate::store::{Ends, Kept, Store};
use crate::{Anchor, Missed, Result};

/// What a walk along the chain found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// All of it fits.
    Whole(Whole),
    /// Something does not.
    Broken(Broken),
}

/// A chain that is whole.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Whole {
    /// Its length and head.
    pub anchor: Anchor,
    /// Rows that are there.
    pub rows: u64,
    /// Where it begins: the last row that was removed as too old, zeros where none was.
    pub base: Anchor,
    /// Calls that stayed on their machine and could not be kept, as the chain itself tells.
    pub missed: Missed,
}

/// The first place at which a chain does not fit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broken {
    /// Which row, from 1.
    pub seq: u64,
    /// In which way.
    pub fault: Fault,
}

/// In which way a row does not fit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Its text or hash was changed.
    Changed,
    /// A column says something else than its text.
    Column(&'static str),
    /// It is itself whole, and does not belong behind the row before it: it was moved or put in,
    /// or the one before was exchanged.
    Moved,
    /// It is not there, and later ones are.
    Missing,
    /// It and all behind it are not there.
    Cut,
    /// It stands behind the end.
    Surplus,
    /// What was asked and answered, which is kept beside it, is not what it was.
    Content,
    /// Rows were removed from the beginning, and no row says that this was done in order.
    Beheaded,
    /// The whole chain is another than that of the anchor, or shorter than it was.
    NotAnchored,
    /// The anchor is older than what was removed: the chain cannot be held against it.
    AnchorGone,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seq, fault } = self;
        match fault {
            Fault::Changed => write!(f, "row {seq} was changed"),
            Fault::Column(name) => write!(f, "row {seq} was changed: its column {name}"),
            Fault::Moved => write!(f, "row {seq} was moved or put in, or the one before it was"),
            Fault::Missing => write!(f, "row {seq} is missing"),
            Fault::Cut => write!(f, "row {seq} and all behind it are missing"),
            Fault::Surplus => write!(f, "row {seq} was put in behind the end"),
            Fault::Content => write!(f, "the content that is kept beside row {seq} was changed"),
            Fault::Beheaded => {
                write!(
                    f,
                    "the rows until {seq} are missing, and no row says that they were removed"
                )
            }
            Fault::NotAnchored => {
                write!(f, "row {seq} is not what it was at the anchor: the chain was rewritten")
            }
            Fault::AnchorGone => {
                write!(f, "the anchor is of row {seq}, which was removed as too old since")
            }
        }
    }
}

/// Walks the chain from its base to its end.
pub(crate) fn verify(store: &mut Store, anchor: Option<Anchor>) -> Result<Verdict> {
    let ends = store.ends(false)?;
    let mut walk = Walk::new(&ends, anchor);
    loop {
        let page = store.page(walk.at.count, None)?;
        if page.is_empty() {
            return Ok(walk.end(&ends).map_or_else(Verdict::Broken, Verdict::Whole));
        }
        for kept in &page {
            let fits = match beside(store, kept)? {
                true => walk.step(kept, &ends),
                false => Err(Broken { seq: kept.seq, fault: Fault::Content }),
            };
            if let Err(broken) = fits {
                return Ok(Verdict::Broken(broken));
            }
        }
    }
}

/// Whether the content beside a row, where it is still there, is what the row says.
fn beside(store: &mut Store, kept: &Kept) -> Result<bool> {
    let body = kept.row.body.text();
    if !tells_of_content(body) {
        return Ok(true);
    }
    Ok(store.content(kept.seq)?.is_none_or(|bytes| content_body(&bytes) == body))
}

/// A walk along the chain, row after row.
struct Walk {
    /// The last row that fitted.
    at: Anchor,
    rows: u64,
    anchor: Option<Anchor>,
    /// What a row has to say where rows were removed; `None` where none were, or it was found.
    removal: Option<String>,
    missed: Missed,
}

impl Walk {
    fn new(ends: &Ends, anchor: Option<Anchor>) -> Self {
        let Ends { base, base_before_ms, base_at_ms, .. } = *ends;
        let said = || pruned_body(base.count, base.head, base_before_ms, base_at_ms);
        let removal = (base != Anchor::default()).then(said);
        Self { at: base, rows: 0, anchor, removal, missed: Missed::default() }
    }

    fn step(&mut self, kept: &Kept, ends: &Ends) -> std::result::Result<(), Broken> {
        let seq = self.at.count + 1;
        let broken = |fault| Err(Broken { seq, fault });
        if seq > ends.head.count {
            return broken(Fault::Surplus);
        }
        if kept.seq != seq {
            return broken(Fault::Missing);
        }
        let body = kept.row.body.text();
        let Some(hash) =
            kept.hash.filter(|hash| kept.prev.is_some_and(|prev| prev.link(body) == *hash))
        else {
            return broken(Fault::Changed);
        };
        if kept.prev != Some(self.at.head) {
            return broken(Fault::Moved);
        }
        let Some(told) = Row::read(body) else { return broken(Fault::Changed) };
        if let Some(name) = told.differs(&kept.row.cells) {
            return broken(Fault::Column(name));
        }
        if self.removal.as_deref() == Some(body) {
            self.removal = None;
        }
        if let Some(missed) = read_missed(body) {
            self.missed.add(&missed);
        }
        self.at = Anchor { count: seq, head: hash };
        self.rows += 1;
        match self.anchor {
            Some(anchor) if anchor.count == seq && anchor.head != hash => {
                broken(Fault::NotAnchored)
            }
            _ => Ok(()),
        }
    }

    fn end(self, ends: &Ends) -> std::result::Result<Whole, Broken> {
        let Ends { base, head, .. } = *ends;
        let next = self.at.count + 1;
        let fault = |seq, fault| Err(Broken { seq, fault });
        if self.at.count < head.count {
            return fault(next, Fault::Cut);
        }
        if self.at != head {
            return fault(self.at.count, Fault::Changed);
        }
        if self.removal.is_some() {
            return fault(base.count, Fault::Beheaded);
        }
        match self.anchor {
            Some(anchor) if anchor.count > head.count => fault(next, Fault::Cut),
            Some(anchor) if anchor.count < base.count => fault(anchor.count, Fault::AnchorGone),
            Some(anchor) if anchor.count == base.count && anchor.head != base.head => {
                fault(anchor.count, Fault::NotAnchored)
            }
            _ => Ok(Whole { anchor: head, rows: self.rows, base, missed: self.missed }),
        }
    }
}
