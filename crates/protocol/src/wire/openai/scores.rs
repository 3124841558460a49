//! Log-probabilities and ids of tokens, in the shapes of OpenAI's two formats and of vLLM's fields
//! beside them. Absent: where in an answer they stand.

use serde_json::{Map, Value, json};

use super::Format;
use super::request::short;
use crate::{Piece, PromptToken, Scored, Token, TokenScore};

/// How tokens are named: by what they write, or by their ids, as vLLM does when asked to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Naming {
    pub(super) by_id: bool,
}

impl Naming {
    fn name(self, token: Token, bytes: &[u8]) -> String {
        match self.by_id {
            true => format!("token_id:{token}"),
            false => String::from_utf8_lossy(bytes).into_owned(),
        }
    }
}

/// A prompt, and the text in which it is returned, if it is.
pub(super) type Echo<'a> = (&'a [PromptToken], &'a str);

/// An answer's log-probabilities; null where there are none. `echo` stands before the answer's
/// pieces, each of which begins at a character.
pub(super) fn write(
    format: Format,
    naming: Naming,
    echo: Option<Echo<'_>>,
    pieces: &[(usize, &Piece)],
) -> Value {
    let scored = echo.is_some_and(|(prompt, _)| prompt.iter().any(|one| one.score.is_some()));
    if !scored && pieces.iter().all(|(_, piece)| piece.scores.is_empty()) {
        return Value::Null;
    }
    match format {
        Format::Chat => {
            let scores = pieces.iter().flat_map(|(_, piece)| &piece.scores);
            let content: Vec<Value> = scores.map(|score| chat(naming, score)).collect();
            json!({ "content": content, "refusal": null })
        }
        Format::Completions => legacy(naming, echo.filter(|_| scored), pieces),
    }
}

/// A token of a chat, named by what it writes.
pub(in crate::wire) fn chat_score(score: &TokenScore) -> Value {
    chat(Naming::default(), score)
}

fn chat(naming: Naming, score: &TokenScore) -> Value {
    let mut out = chat_scored(naming, &score.chosen);
    out["top_logprobs"] = score.top.iter().map(|one| chat_scored(naming, one)).collect();
    out
}

/// `id` is ours: OpenAI's shape tells only what a token writes, and two may write the same.
fn chat_scored(naming: Naming, scored: &Scored) -> Value {
    json!({
        "token": naming.name(scored.token, &scored.bytes),
        "logprob": number(scored.logprob),
        "bytes": scored.bytes,
        "id": scored.token,
    })
}

/// JSON knows no infinity: OpenAI writes -9999 for what can hardly be.
fn number(logprob: f32) -> Value {
    if logprob.is_finite() { short(logprob) } else { json!(-9999.0) }
}

/// The lists of the legacy shape, an entry a token.
#[derive(Default)]
struct Legacy {
    tokens: Vec<String>,
    logprobs: Vec<Value>,
    tops: Vec<Value>,
    offsets: Vec<usize>,
}

impl Legacy {
    /// The shape names likely tokens by their text alone, so those that write the same share a key.
    fn push(&mut self, naming: Naming, offset: usize, name: String, score: Option<Score<'_>>) {
        self.offsets.push(offset);
        self.tokens.push(name);
        self.logprobs.push(score.map_or(Value::Null, |(logprob, _)| number(logprob)));
        let pair = |one: &Scored| (naming.name(one.token, &one.bytes), number(one.logprob));
        let top = score.map(|(_, top)| top.iter().map(pair).collect::<Map<String, Value>>());
        self.tops.push(top.map_or(Value::Null, Value::Object));
    }
}

/// A token's log-probability, and the likeliest in its place.
type Score<'a> = (f32, &'a [Scored]);

fn legacy(naming: Naming, echo: Option<Echo<'_>>, pieces: &[(usize, &Piece)]) -> Value {
    let mut lists = Legacy::default();
    if let Some((prompt, text)) = echo {
        let mut offset = 0;
        for (at, one) in prompt.iter().enumerate() {
            let score = one.score.as_ref().map(|score| (score.logprob, &*score.top));
            lists.push(naming, offset, naming.name(one.token, &one.bytes), score);
            // A mark that begins the sequence is no part of the text.
            let written = at > 0 || text.as_bytes().starts_with(&one.bytes);
            offset += if written { chars(&one.bytes) } else { 0 };
        }
    }
    for (start, piece) in pieces {
        let mut offset = *start;
        for TokenScore { chosen, top } in &piece.scores {
            let name = naming.name(chosen.token, &chosen.bytes);
            lists.push(naming, offset, name, Some((chosen.logprob, top)));
            offset += chars(&chosen.bytes);
        }
    }
    json!({
        "tokens": lists.tokens,
        "token_logprobs": lists.logprobs,
        "top_logprobs": lists.tops,
        "text_offset": lists.offsets,
    })
}

fn chars(bytes: &[u8]) -> usize {
    String::from_utf8_lossy(bytes).chars().count()
}

/// vLLM's list: null for the first token, then for each the likeliest ones and itself, by id.
pub(super) fn write_prompt(naming: Naming, prompt: &[PromptToken]) -> Value {
    let entry = |one: &PromptToken| {
        let Some(score) = &one.score else { return Value::Null };
        let line = |logprob: f32, rank: u32, name: String| json!({ "logprob": number(logprob), "rank": rank, "decoded_token": name });
        let likely = score.top.iter().zip(1..).map(|(scored, rank)| {
            let name = naming.name(scored.token, &scored.bytes);
            (scored.token.to_string(), line(scored.logprob, rank, name))
        });
        let mut map: Map<String, Value> = likely.collect();
        map.entry(one.token.to_string())
            .or_insert_with(|| line(score.logprob, score.rank, naming.name(one.token, &one.bytes)));
        Value::Object(map)
    };
    prompt.iter().map(entry).collect()
}

/// The ids of a prompt's tokens.
pub(super) fn prompt_ids(prompt: &[PromptToken]) -> Value {
    prompt.iter().map(|one| one.token).collect()
}

/// The mean log-probability of an answer's tokens; of an answer without any, minus infinity.
pub(super) fn mean(pieces: &[(usize, Piece)]) -> f64 {
    let scores = || pieces.iter().flat_map(|(_, piece)| &piece.scores);
    match scores().count() {
        0 => f64::NEG_INFINITY,
        count => scores().map(|score| f64::from(score.chosen.logprob)).sum::<f64>() / count as f64,
    }
}
