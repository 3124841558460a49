//! Reading a ledger: its entries one after another in bounded memory, its sums, and whether its
//! chain is whole.

use std::collections::VecDeque;

use ingle_protocol::{Entry, wire};

use crate::row::content_body;
use crate::store::{Beside, Kept as Row, Span, Store};
use crate::{
    Anchor, By, Error, Options, Place, Pricing, Repriced, Reserved, Result, Sealed, Spend, Verdict,
};

/// A row of the ledger.
#[derive(Clone, Debug, PartialEq)]
pub struct Stored {
    /// Its place in the chain, from 1.
    pub seq: u64,
    /// Its hash; zeros where somebody has put none there.
    pub hash: crate::Hash,
    /// What it says.
    pub entry: Entry,
}

/// A call that is under way, or whose process died since.
#[derive(Clone, Debug, PartialEq)]
pub struct Announced {
    /// The entry that it becomes if its process dies.
    pub worst: Entry,
    /// What is kept back for it.
    pub reserved: Vec<Reserved>,
    /// The process that announced it.
    pub process: String,
}

/// What a call asked and got, encrypted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// The row of the chain that has its digest.
    pub seq: u64,
    /// The call's id, as a column holds it; what is encrypted says it, too, see [`Kept::is_of`].
    pub id: String,
    /// The bytes.
    pub sealed: Sealed,
}

impl Kept {
    /// Whether a call of this id is the one that it is kept for.
    pub fn is_of(&self, id: &str) -> bool {
        self.id == crate::row::name(id)
    }
}

/// A ledger as it is at one moment: what is written while it reads is not seen.
#[derive(Debug)]
pub struct Reader {
    place: Place,
    store: Store,
}

impl Reader {
    /// Reads a ledger as it is now.
    ///
    /// # Errors
    /// Where there is none, or it cannot be read.
    pub fn open(place: &Place, options: &Options) -> Result<Self> {
        Ok(Self { place: place.clone(), store: place.snapshot(options)? })
    }

    /// Its length and head.
    ///
    /// # Errors
    /// Where it cannot be read.
    pub fn anchor(&mut self) -> Result<Anchor> {
        Ok(self.store.ends(false)?.head)
    }

    /// Walks the whole chain. With an `anchor`, the chain has to have been there as it says.
    ///
    /// # Errors
    /// Where it cannot be read; a chain that is not whole is a verdict.
    pub fn verify(&mut self, anchor: Option<Anchor>) -> Result<Verdict> {
        crate::verify::verify(&mut self.store, anchor)
    }

    /// The entries of calls that came from `from_ms` until before `to_ms`, in milliseconds since
    /// 1970, in the order of the chain: that in which they ended.
    pub fn entries(&mut self, from_ms: u64, to_ms: u64) -> Entries<'_> {
        let span = Span { from_ms, to_ms };
        Entries { reader: self, span, after: 0, page: VecDeque::new(), done: false }
    }

    /// The newest entry of that id. Ids are in no index: the older it is, the longer this takes.
    ///
    /// # Errors
    /// Where it cannot be read.
    pub fn find(&mut self, id: &str) -> Result<Option<Stored>> {
        let found = self.store.find(id)?;
        found.map(|kept| self.stored(kept)).transpose()
    }

    /// The calls that are under way, and those that nobody has made entries of yet. There are as
    /// many as calls at the same time.
    ///
    /// # Errors
    /// Where they cannot be read.
    pub fn announced(&mut self) -> Result<Vec<Announced>> {
        let rows = self.store.announced()?.into_iter();
        let one = |(process, body, reserved): (String, String, Vec<Reserved>)| {
            let worst = self.read(0, &body)?;
            Ok(Announced { worst, reserved, process })
        };
        rows.map(one).collect()
    }

    /// What calls that came from `from_ms` until before `to_ms` cost, dearest first, days in their
    /// order; at most 10,000 rows.
    ///
    /// # Errors
    /// Where it cannot be read.
    pub fn spend(&mut self, by: By, from_ms: u64, to_ms: u64) -> Result<Vec<Spend>> {
        self.store.spend(by, Span { from_ms, to_ms })
    }

    /// What the calls that left the machine would have cost at other prices, by their own tokens.
    ///
    /// # Errors
    /// Where it cannot be read.
    pub fn reprice(&mut self, from_ms: u64, to_ms: u64, prices: &dyn Pricing) -> Result<Repriced> {
        let mut all = Repriced::default();
        for stored in self.entries(from_ms, to_ms) {
            all.count(&stored?.entry, prices);
        }
        Ok(all)
    }

    /// What calls asked and got, encrypted, in the order in which they ended: of one call, or of
    /// all that are still there.
    pub fn contents(&mut self, id: Option<&str>) -> Contents<'_> {
        let id = id.map(str::to_owned);
        Contents { reader: self, id, after: 0, page: VecDeque::new(), done: false }
    }

    /// Content whose digest is what its row says.
    fn sealed(&self, beside: Beside) -> Result<Kept> {
        let Beside { seq, id, body, bytes } = beside;
        if body != content_body(&bytes) {
            let what = "the content beside it is another than it was".to_owned();
            return Err(Error::Unreadable { place: self.place.to_string(), seq, what });
        }
        Ok(Kept { seq, id, sealed: Sealed(bytes) })
    }

    fn stored(&self, kept: Row) -> Result<Stored> {
        let entry = self.read(kept.seq, kept.row.body.text())?;
        Ok(Stored { seq: kept.seq, hash: kept.hash.unwrap_or_default(), entry })
    }

    fn read(&self, seq: u64, body: &str) -> Result<Entry> {
        wire::entry::read(body).map_err(|fault| Error::Unreadable {
            place: self.place.to_string(),
            seq,
            what: fault.message,
        })
    }
}

/// Entries one after another, a page of them in memory.
#[derive(Debug)]
pub struct Entries<'a> {
    reader: &'a mut Reader,
    span: Span,
    after: u64,
    page: VecDeque<Row>,
    done: bool,
}

impl Iterator for Entries<'_> {
    type Item = Result<Stored>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.page.is_empty() && !self.done {
            match self.reader.store.page(self.after, Some(self.span)) {
                Ok(rows) => self.page = rows.into(),
                Err(error) => {
                    self.done = true;
                    return Some(Err(error));
                }
            }
        }
        let Some(kept) = self.page.pop_front() else {
            self.done = true;
            return None;
        };
        self.after = kept.seq;
        Some(self.reader.stored(kept))
    }
}

/// Contents one after another, a few of them in memory.
#[derive(Debug)]
pub struct Contents<'a> {
    reader: &'a mut Reader,
    id: Option<String>,
    after: u64,
    page: VecDeque<Beside>,
    done: bool,
}

impl Iterator for Contents<'_> {
    type Item = Result<Kept>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.page.is_empty() && !self.done {
            match self.reader.store.contents(self.after, self.id.as_deref()) {
                Ok(rows) => self.page = rows.into(),
                Err(error) => {
                    self.done = true;
                    return Some(Err(error));
                }
            }
        }
        let Some(beside) = self.page.pop_front() else {
            self.done = true;
            return None;
        };
        self.after = beside.seq;
        Some(self.reader.sealed(beside))
    }
}
