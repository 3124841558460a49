//! The ledger: one [`Entry`](ingle_protocol::Entry) for each call, in a chain that shows whether
//! anything in it was changed, kept in a SQLite file or in a Postgres database.
//!
//! # What is guaranteed
//!
//! - A call that is to cost something or to leave the machine is announced ([`Ledger::begin`])
//!   before it does, and ended ([`Ledger::end`]). Each returns a [`Ticket`], which is settled when
//!   the row is kept, and not before: when it is committed; or, in a file with
//!   [`Durability::Process`], when a journal beside that has it, which comes into the tables soon
//!   after, and before anybody reads them, whatever became of the process.
//! - Whoever tells the last event of an answer after its ticket was settled has this: no entry
//!   whose answer ended is lost when the program is killed (SIGKILL), and with
//!   [`Durability::Power`] also when the machine loses power, as far as its disk obeys a flush.
//! - A call that may come to cost something else while it is under way, as when somebody else is
//!   asked after a failure, is announced anew ([`Ledger::amend`]) before that.
//! - What was announced and not ended when a program died becomes an entry with
//!   [`End::Lost`](ingle_protocol::End::Lost), at the worst cost that was announced last, when
//!   somebody next opens the ledger. A call has exactly one entry: ended, or lost.
//! - What leaves the machine is never dropped: who announces and ends calls faster than the disk
//!   waits, for five seconds at most. Where it cannot be written, the tickets say so, and nothing
//!   more can be announced until it can: no receipt, no call.
//! - What stayed on the machine never waits for room: where it cannot be kept, the ledger says, in
//!   a row of the chain, how many such calls it misses ([`Missed`]), as soon as it can be written
//!   again.
//! - A row's hash is SHA-256 of the hash before it and of its own text. [`Reader::verify`] finds
//!   the first row that was changed, removed, moved or put in. Who can write to the ledger can cut
//!   its end off or write a whole new chain: that shows against an [`Anchor`] kept elsewhere.
//!
//! Several processes may write to one ledger; each group of rows takes the chain's head under a
//! lock. Methods block: call them from threads that may wait.
//!
//! What was asked and answered is kept where somebody wants that, encrypted for who may read it
//! ([`Recipients`]), beside a row of the chain that has its digest. No key that opens it is known
//! to who writes.
//!
//! Absent: who decides calls and what they cost, HTTP, terminals, clocks, and any word of prompts
//! and answers that could be read here.
#![forbid(unsafe_code)]

mod chain;
mod content;
mod desk;
mod error;
mod forecast;
mod journal;
mod ledger;
mod place;
mod postgres;
mod read;
mod row;
mod spend;
mod sqlite;
mod store;
mod ticket;
mod verify;
mod writer;

pub use chain::{Anchor, Hash};
pub use content::{Identities, Recipients, Sealed};
pub use error::{Error, Result};
pub use forecast::{Forecast, Pricing, Repriced, WhatIf, forecast};
pub use ledger::{Durability, Ledger, Missed, Options, Pruned, Recovered, Reserved, Told};
pub use place::Place;
pub use read::{Announced, Contents, Entries, Kept, Reader, Stored};
pub use spend::{By, Spend};
pub use ticket::Ticket;
pub use verify::{Broken, Fault, Verdict, Whole};
