//! What may be spent and is: money and tokens are reserved before a call at its worst case and
//! settled after it, so that what is settled and what is reserved never exceed a limit together. A
//! state machine of plain values: time is an argument. Absent: what a call costs (`prices`), whose
//! budgets it falls in (`policy`), and where they are kept (`store`, and `redis` for
//! several processes). `rate` is what may be had in a minute.
//!
//! The worst case is a true bound as long as two things are so. A prompt has no more tokens than
//! [`prompt_bound`] says; and who sends the call on sends the `max_tokens` with it that it was
//! reserved for, which caps the answer, thoughts included. A provider that tells of more than that
//! is not believed: what is charged is the reservation, and the rest is reported.

mod place;
mod rate;
mod redis;
mod state;
mod store;
mod window;

pub use self::redis::{Redis, SHARED_CLAIMS_MAX, SHARED_MAX, open};
pub use place::{BadPlace, Place};
pub use rate::{Bucket, Rates, Taken, left};
pub use state::{
    ACCOUNTS_MAX, Account, Amount, Claim, Limit, Lost, OPEN_MAX, Open, Refusal, Settled, Standing,
    State,
};
pub use store::{Memory, Store, call_of, hold_of};
pub use window::{Period, Window};

/// Tokens of a message that none of its bytes is in: marks, and its role.
const MESSAGE_TOKENS: u64 = 16;
/// Tokens that a provider adds to a prompt with tools.
const TOOLS_TOKENS: u64 = 2_048;
/// Tokens that a provider adds to any prompt.
const FRAME_TOKENS: u64 = 64;
/// Tokens that a picture is at most.
const PICTURE_TOKENS: u64 = 16_384;

/// What a prompt is made of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Extent {
    /// Bytes of all texts that become its tokens, tools and schemas included.
    pub bytes: u64,
    /// Messages.
    pub messages: u64,
    /// Pictures.
    pub pictures: u64,
    /// Whether there are tools or a schema.
    pub tools: bool,
}

/// Tokens that a prompt has at most, whoever tokenizes it. A token is at least one byte of text
/// where vocabularies are made of bytes, as all that providers use are; what they put around texts
/// is allowed for.
pub fn prompt_bound(extent: &Extent) -> u64 {
    let tools = if extent.tools { TOOLS_TOKENS } else { 0 };
    extent
        .bytes
        .saturating_add(extent.messages.saturating_mul(MESSAGE_TOKENS))
        .saturating_add(extent.pictures.saturating_mul(PICTURE_TOKENS))
        .saturating_add(tools + FRAME_TOKENS)
}
