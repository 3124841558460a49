//! Which second model may guess for which first one: tokens pass between them as numbers, so a
//! number has to mean the same text to both. One may have more tokens than the other, as padding
//! often makes it: what only one has is never guessed.
//!
//! Absent here: whether it is of use, which is measured while it runs.

use super::model;
use crate::core;
use crate::{Options, Speculation};
use ingle_backend::Backend;
use ingle_model::archs::Network;
use ingle_model::gguf::Gguf;
use ingle_model::tokenizer::Tokenizer;
use ingle_protocol::{Fault, Token};

/// Bytes of a token's text that an error shows.
const SHOWN: usize = 40;

/// The part of the KV cache's memory that the second model may have.
const SHARE: usize = 8;

/// Blocks that it has to have, to be of any use.
const BLOCKS_MIN: usize = 8;

/// What is wrong with the second model.
fn wrong(error: &ingle_model::Error) -> Fault {
    Fault::ours(format!("the draft model: {error}"))
}

/// Opens the second model that the options name, if it goes with the first one.
pub(crate) fn open(options: &Options, first: &Tokenizer) -> Result<Option<Gguf>, Fault> {
    let path = match (options.speculation, &options.draft) {
        (Speculation::Draft, Some(path)) => path,
        (Speculation::None | Speculation::Lookup, None) => return Ok(None),
        (Speculation::Draft, None) => {
            return Err(Fault::caller(
                "speculation by a draft model needs one: name it with --draft-model",
            ));
        }
        (_, Some(_)) => {
            return Err(Fault::caller(
                "a draft model is of no use with this speculation: leave it out, or take \
                 --speculation draft",
            ));
        }
    };
    let gguf = Gguf::open(path).map_err(|error| wrong(&error))?;
    let second = Tokenizer::from_gguf(&gguf).map_err(|error| wrong(&error))?;
    check(first, &second)?;
    Ok(Some(gguf))
}

/// Records the second model, for sequences of so many tokens.
pub(crate) fn record(
    gguf: &Gguf,
    backend: &mut dyn Backend,
    context: Option<usize>,
) -> Result<Network, Fault> {
    ingle_model::archs::record(gguf, backend, context).map_err(|error| wrong(&error))
}

/// What is left of the KV cache's bytes for the first model, and how many the second one gets,
/// whose blocks have so many each.
pub(crate) fn shares(
    options: &Options,
    network: &Network,
    block_bytes: usize,
) -> Result<(Options, usize), Fault> {
    let all = core::kv_bytes(options);
    let bytes = (all / SHARE).min(model::blocks_max(network) * block_bytes);
    let least = BLOCKS_MIN * block_bytes;
    if bytes < least {
        return Err(Fault::caller(format!(
            "the draft model's part of the KV cache, an eighth, is {bytes} bytes and it needs \
             {least}: give the cache {} MB with --kv-mb, or leave --draft-model out",
            (least * SHARE).div_ceil(1_000_000)
        )));
    }
    Ok((Options { kv_bytes: Some(all - bytes), ..options.clone() }, bytes))
}

/// Refuses a second model whose tokens are other ones, naming the first that differs.
pub(crate) fn check(first: &Tokenizer, second: &Tokenizer) -> Result<(), Fault> {
    let common = first.vocab_len().min(second.vocab_len()) as Token;
    let text = |tokenizer: &Tokenizer, token| {
        let bytes = tokenizer.bytes_with_markup(token).unwrap_or_default();
        bytes[..bytes.len().min(SHOWN)].escape_ascii().to_string()
    };
    let differs =
        |&token: &Token| first.bytes_with_markup(token) != second.bytes_with_markup(token);
    match (0..common).find(differs) {
        None => Ok(()),
        Some(token) => Err(Fault::caller(format!(
            "the draft model has another vocabulary: token {token} is \"{}\" to it, and \"{}\" to \
             the model; take a smaller model of the same family as --draft-model",
            text(second, token),
            text(first, token)
        ))),
    }
}
