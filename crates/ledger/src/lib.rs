//! The ledger: one [`Entry`](ingle_protocol::Entry) for each call, in a chain that shows whether
//! anything in it was changed, kept in a SQLite file or in a Postgres database.
//!
//! # What is guaranteed
//!
//! - A call that is to cost something or to leave the machine is announced ([`Ledger::begin`])
//!   before it does, and ended ([`Ledger::end`]). Each returns a [`Ticket`], which is settled when
//!   the row is committed, and not before.
//! - Whoever tells the last event of an answer after its ticket was settled has this: no entry
//!   whose answer ended is lost when the program is killed (SIGKILL), and with
//!   [`Durability::Power`] also when the machine loses power, as far as its disk obeys a flush.
//! - What was announced and not ended when a program died becomes an entry with
//!   [`End::Lost`](ingle_protocol::End::Lost), at the worst cost that was announced, when somebody
//!   next opens the ledger. A call has exactly one entry: ended, or lost.
//! - Nothing is dropped: who writes faster than the disk waits. Where it cannot be written, the
//!   tickets say so, and nothing more can be announced until it can: no receipt, no call.
//! - A row's hash is SHA-256 of the hash before it and of its own text. [`Reader::verify`] finds
//!   the first row that was changed, removed, moved or put in. Who can write to the ledger can cut
//!   its end off or write a whole new chain: that shows against an [`Anchor`] kept elsewhere.
//!
//! Several processes may write to one ledger; each group of rows takes the chain's head under a
//! lock. Methods block: call them from threads that may wait.
//!
//! Absent: who decides calls and what they cost, HTTP, terminals, clocks, and the words of prompts
//! and answers.
#![forbid(unsafe_code)]

mod chain;
mod error;
mod forecast;
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
pub use error::{Error, Result};
pub use forecast::{Forecast, Pricing, Repriced, WhatIf, forecast};
pub use ledger::{Durability, Ledger, Options, Pruned, Recovered, Reserved};
pub use place::Place;
pub use read::{Announced, Entries, Reader, Stored};
pub use spend::{By, Spend};
pub use ticket::Ticket;
pub use verify::{Broken, Fault, Verdict, Whole};
