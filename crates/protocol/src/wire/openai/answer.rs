//! From events to an answer. A [`Tally`] turns each choice's events into deltas; a stream writes
//! them one by one, a whole answer is their sum. There is no second way. Absent: framing (`data: `
//! is the server's) and clocks.

use serde_json::{Value, json};

use super::scores::{self, Naming};
use super::{Asked, Format, Options, messages};
use crate::Usage;
use crate::wire::receipt;
use crate::{Beam, CallPart, Event, Fault, Finish, Input, Piece, PromptToken, Receipt, ToolCall};

/// What all parts of one answer have in common.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// The answer's format.
    pub format: Format,
    /// The answer's id.
    pub id: String,
    /// Seconds since 1970 when it was asked for.
    pub created_s: u64,
    /// The model that answers.
    pub model: String,
    /// Whether a stream ends with its usage.
    pub include_usage: bool,
    /// Whether log-probabilities name tokens by their ids.
    pub tokens_as_ids: bool,
}

impl Head {
    fn naming(&self) -> Naming {
        Naming { by_id: self.tokens_as_ids }
    }
}

/// One step of an answer.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Delta {
    change: Option<Change>,
    closing: Option<Closing>,
}

/// One choice grows.
#[derive(Clone, Debug, Default, PartialEq)]
struct Change {
    index: u32,
    begins: bool,
    /// What it begins with, where that was asked for.
    prompt: Option<Prompt>,
    piece: Piece,
    /// Whether the piece is what the model thought, not what it answers.
    reasons: bool,
    /// A call that begins, or goes on, and which one.
    call: Option<(u32, CallPart)>,
    /// Characters of this choice before the piece.
    offset: usize,
    finish: Option<Finish>,
}

/// A prompt that is told of, and in which shapes.
#[derive(Clone, Debug, PartialEq)]
struct Prompt {
    tokens: Vec<PromptToken>,
    ids: bool,
    scores: bool,
}

/// All choices have ended.
#[derive(Clone, Debug, PartialEq)]
struct Closing {
    /// In the choices' order.
    receipts: Vec<Receipt>,
    whole: Receipt,
}

#[derive(Debug, Default)]
struct Choice {
    begun: bool,
    /// How it ended and its tokens, where a search found it.
    found: Option<(Finish, u32)>,
    chars: usize,
    receipt: Option<Receipt>,
}

/// Turns the events of all choices, in any interleaving, into deltas.
#[derive(Debug)]
pub struct Tally {
    format: Format,
    options: Options,
    /// Prompts to return before their completions, one a prompt; empty without `echo`.
    echoes: Vec<String>,
    choices: Vec<Choice>,
    /// Whether ids are wanted.
    ids: bool,
    /// Whether each request finds all of its choices at once, by a search.
    searched: bool,
}

impl Tally {
    /// For the answer to `asked`: a prompt's choices side by side, all that are drawn. `decode`
    /// gives the text of a prompt of tokens, and is called only where prompts are returned.
    pub fn new(
        format: Format,
        asked: &Asked,
        mut decode: impl FnMut(&[u32]) -> Result<String, Fault>,
    ) -> Result<Self, Fault> {
        let mut echoes = Vec::new();
        for request in asked.requests.iter().filter(|_| asked.options.echo) {
            echoes.push(match &request.input {
                Input::Text(text) => text.clone(),
                Input::Tokens(tokens) => decode(tokens)?,
                Input::Chat(_) | Input::Gap(_) => String::new(),
            });
        }
        let searched = asked.requests.iter().any(|request| request.beams.is_some());
        let count = asked.requests.len() * shared(&asked.options, searched);
        let choices = (0..count).map(|_| Choice::default()).collect();
        let ids = asked.requests.iter().any(|request| request.token_ids);
        Ok(Self { format, options: asked.options.clone(), echoes, choices, ids, searched })
    }

    /// How many choices share a prompt.
    fn shared(&self) -> usize {
        shared(&self.options, self.searched)
    }

    /// Takes choice `index`'s next event, or, where a search finds all choices of a prompt, the
    /// search's. A failure of one choice is the whole answer's.
    pub fn take(&mut self, index: u32, event: Event) -> Result<Vec<Delta>, Fault> {
        let mut deltas = Vec::new();
        let index = if self.searched { index * self.options.n } else { index };
        let event = match event {
            Event::Prompt(tokens) => {
                self.begin(index, Some(tokens), &mut deltas);
                return Ok(deltas);
            }
            other => other,
        };
        self.begin(index, None, &mut deltas);
        let choice = &mut self.choices[index as usize];
        match event {
            // A prompt was told above; who hands an answer on does not come here.
            Event::Prompt(_) | Event::Passed(_) => {}
            Event::Beams(beams) => self.found(index, beams, &mut deltas),
            Event::Done(receipt) if self.searched => self.end_search(index, &receipt, &mut deltas),
            Event::Text(piece) | Event::Reasoning(piece) if piece.is_empty() => {}
            Event::Text(piece) => {
                let offset = choice.chars;
                choice.chars += piece.text.chars().count();
                deltas.push(changed(Change { index, piece, offset, ..Change::default() }));
            }
            Event::Reasoning(mut piece) => {
                if self.options.hide_reasoning {
                    piece.text.clear();
                }
                let (reasons, offset) = (true, choice.chars);
                if !piece.is_empty() {
                    let change = Change { index, piece, reasons, offset, ..Change::default() };
                    deltas.push(changed(change));
                }
            }
            // The format has no word for a call's end: the next one, or the finish, is.
            Event::ToolCall { part: CallPart::End, .. } => {}
            Event::ToolCall { index: which, part } => {
                let call = Some((which, part));
                deltas.push(changed(Change { index, call, ..Change::default() }));
            }
            Event::Done(receipt) => {
                let finish = Some(receipt.finish);
                choice.receipt = Some(*receipt);
                deltas.push(changed(Change { index, finish, ..Change::default() }));
                self.close(&mut deltas);
            }
            Event::Failed(fault) => return Err(fault),
        }
        Ok(deltas)
    }

    /// Whether every choice has ended.
    pub fn complete(&self) -> bool {
        self.choices.iter().all(|choice| choice.receipt.is_some())
    }

    /// A chat's choice begins with its role; a completion's with its prompt, if that is wanted.
    fn begin(&mut self, index: u32, prompt: Option<Vec<PromptToken>>, deltas: &mut Vec<Delta>) {
        let echo = self.echoes.get(index as usize / self.shared());
        let choice = &mut self.choices[index as usize];
        if std::mem::replace(&mut choice.begun, true) {
            return;
        }
        let text = echo.cloned().unwrap_or_default();
        choice.chars = text.chars().count();
        let (ids, scores) = (self.ids, self.options.prompt_scores);
        let prompt = prompt.map(|tokens| Prompt { tokens, ids, scores });
        if self.format == Format::Chat || !text.is_empty() || prompt.is_some() {
            let piece = Piece { text, ..Piece::default() };
            deltas.push(changed(Change {
                index,
                begins: true,
                prompt,
                piece,
                ..Change::default()
            }));
        }
    }

    /// The choices of a prompt are these, best first.
    fn found(&mut self, first: u32, beams: Vec<Beam>, deltas: &mut Vec<Delta>) {
        for (index, beam) in (first..first + self.options.n).zip(beams) {
            self.begin(index, None, deltas);
            let choice = &mut self.choices[index as usize];
            choice.found = Some((beam.finish, beam.tokens.len() as u32));
            let tokens = if self.ids { beam.tokens } else { Vec::new() };
            let piece = Piece { text: beam.text, tokens, ..Piece::default() };
            deltas.push(changed(Change { index, piece, ..Change::default() }));
            let finish = Some(beam.finish);
            deltas.push(changed(Change { index, finish, ..Change::default() }));
        }
    }

    /// A search's receipt is its first choice's; the others' tell of their own tokens alone. What
    /// was found and is not returned counts as no token.
    fn end_search(&mut self, first: u32, receipt: &Receipt, deltas: &mut Vec<Delta>) {
        for index in first..first + self.options.n {
            let choice = &mut self.choices[index as usize];
            let (finish, tokens) = choice.found.unwrap_or((receipt.finish, 0));
            let usage = Usage { completion_tokens: tokens, ..receipt.usage };
            let notes = if index == first { receipt.notes.clone() } else { Vec::new() };
            choice.receipt = Some(Receipt { finish, usage, notes, ..receipt.clone() });
        }
        self.close(deltas);
    }

    fn close(&self, deltas: &mut Vec<Delta>) {
        let receipts: Option<Vec<Receipt>> =
            self.choices.iter().map(|choice| choice.receipt.clone()).collect();
        let Some(receipts) = receipts else { return };
        let whole = merged(&receipts, self.shared());
        let closing = Some(Closing { receipts, whole });
        match deltas.last_mut() {
            // Clients that asked for no usage expect no chunk without a choice.
            Some(last) if !self.options.include_usage => last.closing = closing,
            _ => deltas.push(Delta { change: None, closing }),
        }
    }
}

/// How many choices share a prompt: all that are drawn, or those returned that a search found.
fn shared(options: &Options, searched: bool) -> usize {
    if searched { options.n as usize } else { options.drawn() as usize }
}

fn changed(change: Change) -> Delta {
    Delta { change: Some(change), closing: None }
}

/// One receipt for the whole answer: a prompt's tokens count once for its choices, money and
/// generated tokens add up, times span all, and the gravest finish stands.
fn merged(receipts: &[Receipt], n: usize) -> Receipt {
    let mut whole = receipts[0].clone();
    let gravity = |finish: Finish| match finish {
        Finish::Stop => 0,
        Finish::ToolCalls => 1,
        Finish::Length => 2,
        Finish::Cancelled => 3,
    };
    for (i, receipt) in receipts.iter().enumerate().skip(1) {
        whole.left_machine |= receipt.left_machine;
        whole.cost_micros += receipt.cost_micros;
        whole.usage.completion_tokens += receipt.usage.completion_tokens;
        whole.usage.reasoning_tokens += receipt.usage.reasoning_tokens;
        whole.usage.accepted_tokens += receipt.usage.accepted_tokens;
        whole.usage.rejected_tokens += receipt.usage.rejected_tokens;
        if i % n == 0 {
            whole.usage.prompt_tokens += receipt.usage.prompt_tokens;
            whole.usage.cached_tokens += receipt.usage.cached_tokens;
            whole.usage.written_tokens += receipt.usage.written_tokens;
        }
        whole.timings.load = whole.timings.load.max(receipt.timings.load);
        whole.timings.queued = whole.timings.queued.max(receipt.timings.queued);
        whole.timings.first_token = whole.timings.first_token.min(receipt.timings.first_token);
        whole.timings.total = whole.timings.total.max(receipt.timings.total);
        if gravity(receipt.finish) > gravity(whole.finish) {
            whole.finish = receipt.finish;
        }
        whole.stop = whole.stop.or_else(|| receipt.stop.clone());
        whole.notes.extend(receipt.notes.iter().cloned());
        for step in &receipt.route {
            if !whole.route.contains(step) {
                whole.route.push(step.clone());
            }
        }
    }
    whole
}

/// The data of one event of a streamed answer.
pub fn write_chunk(head: &Head, delta: &Delta) -> String {
    let choices: Vec<Value> = delta.change.iter().map(|c| chunk_choice(head, c)).collect();
    let mut out = frame(head, "chat.completion.chunk", choices);
    if let Some(prompt) = delta.change.iter().find_map(|change| change.prompt.as_ref()) {
        let place = if head.format == Format::Chat { &mut out } else { &mut out["choices"][0] };
        write_prompt(place, head, prompt);
    }
    if head.include_usage {
        out["usage"] = Value::Null;
    }
    if let Some(closing) = &delta.closing {
        close(&mut out, closing, head.include_usage);
    }
    out.to_string()
}

fn chunk_choice(head: &Head, change: &Change) -> Value {
    let finish = change.finish.map(receipt::finish_name);
    let text = &change.piece.text;
    // What a completion begins with is its prompt.
    let echo = change.prompt.as_ref().filter(|_| !text.is_empty());
    let echo = echo.map(|prompt| (&*prompt.tokens, text.as_str()));
    let logprobs =
        scores::write(head.format, head.naming(), echo, &[(change.offset, &change.piece)]);
    let mut choice = json!({ "index": change.index });
    match head.format {
        Format::Completions => choice["text"] = json!(text),
        Format::Chat if change.begins => {
            choice["delta"] = json!({ "role": "assistant", "content": text, "refusal": null });
        }
        Format::Chat if change.finish.is_some() => choice["delta"] = json!({}),
        Format::Chat => choice["delta"] = delta(change),
    }
    choice["logprobs"] = logprobs;
    choice["finish_reason"] = json!(finish);
    if !change.piece.tokens.is_empty() {
        choice["token_ids"] = json!(change.piece.tokens);
    }
    choice
}

/// What was asked for of a prompt, where each format has it: a chat beside its choices, a
/// completion in each of them.
fn write_prompt(place: &mut Value, head: &Head, prompt: &Prompt) {
    if prompt.ids {
        place["prompt_token_ids"] = scores::prompt_ids(&prompt.tokens);
    }
    if prompt.scores {
        place["prompt_logprobs"] = scores::write_prompt(head.naming(), &prompt.tokens);
    }
}

fn delta(change: &Change) -> Value {
    let text = &change.piece.text;
    match &change.call {
        Some((at, CallPart::Begin { id, name })) => {
            let call = ToolCall { id: id.clone(), name: name.clone(), arguments: String::new() };
            let mut call = messages::write_call(&call);
            call["index"] = json!(at);
            json!({ "tool_calls": [call] })
        }
        Some((at, CallPart::Arguments(text))) => {
            json!({ "tool_calls": [{ "index": at, "function": { "arguments": text } }] })
        }
        _ if change.reasons && text.is_empty() => json!({ "content": "" }),
        _ if change.reasons => json!({ "reasoning_content": text }),
        _ => json!({ "content": text }),
    }
}

fn frame(head: &Head, chat_object: &str, choices: Vec<Value>) -> Value {
    let object = match head.format {
        Format::Chat => chat_object,
        Format::Completions => "text_completion",
    };
    json!({
        "id": head.id,
        "object": object,
        "created": head.created_s,
        "model": head.model,
        "system_fingerprint": concat!("ingle-", env!("CARGO_PKG_VERSION")),
        "choices": choices,
    })
}

fn close(out: &mut Value, closing: &Closing, usage: bool) {
    if usage {
        out["usage"] = write_usage(&closing.whole.usage);
    }
    out["ingle"] = receipt::to_value(&closing.whole);
    if closing.receipts.len() > 1 {
        out["ingle"]["choices"] = closing.receipts.iter().map(receipt::to_value).collect();
    }
}

pub(in crate::wire) fn write_usage(usage: &Usage) -> Value {
    let mut prompt = json!({ "cached_tokens": usage.cached_tokens });
    if usage.written_tokens > 0 {
        prompt["cache_write_tokens"] = json!(usage.written_tokens);
    }
    json!({
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.total(),
        "prompt_tokens_details": prompt,
        "completion_tokens_details": {
            "reasoning_tokens": usage.reasoning_tokens,
            "accepted_prediction_tokens": usage.accepted_tokens,
            "rejected_prediction_tokens": usage.rejected_tokens,
        },
    })
}

/// The sum of an answer's deltas.
#[derive(Debug)]
pub struct Whole {
    options: Options,
    searched: bool,
    choices: Vec<Sum>,
    closing: Option<Closing>,
}

#[derive(Debug, Default)]
struct Sum {
    prompt: Option<Prompt>,
    /// How much of the text is the prompt's, in bytes.
    echoed: usize,
    text: String,
    reasoning: String,
    calls: Vec<ToolCall>,
    pieces: Vec<(usize, Piece)>,
    finish: Option<Finish>,
}

impl Whole {
    /// Nothing yet, of this tally's choices.
    pub fn new(tally: &Tally) -> Self {
        let choices = tally.choices.iter().map(|_| Sum::default()).collect();
        let (options, searched) = (tally.options.clone(), tally.searched);
        Self { options, searched, choices, closing: None }
    }

    /// Adds one delta.
    pub fn add(&mut self, delta: Delta) {
        if let Some(change) = delta.change {
            let sum = &mut self.choices[change.index as usize];
            let text = if change.reasons { &mut sum.reasoning } else { &mut sum.text };
            text.push_str(&change.piece.text);
            if change.begins {
                (sum.prompt, sum.echoed) = (change.prompt, sum.text.len());
            }
            match change.call {
                Some((_, CallPart::Begin { id, name })) => {
                    sum.calls.push(ToolCall { id, name, arguments: String::new() });
                }
                Some((_, CallPart::Arguments(text))) => {
                    sum.calls.iter_mut().last().into_iter().for_each(|c| c.arguments += &text);
                }
                _ => {}
            }
            sum.finish = sum.finish.or(change.finish);
            if !change.piece.scores.is_empty() || !change.piece.tokens.is_empty() {
                sum.pieces.push((change.offset, change.piece));
            }
        }
        self.closing = self.closing.take().or(delta.closing);
    }

    /// The answer's body. Fails where it is not complete.
    pub fn write(&self, head: &Head) -> Result<String, Fault> {
        let Some(closing) = &self.closing else {
            return Err(Fault::ours("the answer ended before it was complete"));
        };
        let picked = self.picked();
        let write = |(&at, index)| self.write_choice(head, at, index);
        let mut out = frame(head, "chat.completion", picked.iter().zip(0..).map(write).collect());
        if let (Format::Chat, Some(prompt)) = (head.format, self.prompt(0)) {
            write_prompt(&mut out, head, prompt);
        }
        let receipts = picked.iter().map(|&at| closing.receipts[at].clone()).collect();
        close(&mut out, &Closing { receipts, whole: closing.whole.clone() }, true);
        Ok(out.to_string())
    }

    /// Which of the choices are returned: of each prompt's the likeliest by their mean, and of
    /// those that are as likely the first.
    fn picked(&self) -> Vec<usize> {
        let drawn = shared(&self.options, self.searched);
        let best = |prompt: usize| {
            let mut group: Vec<usize> = (prompt * drawn..(prompt + 1) * drawn).collect();
            if self.options.best_of.is_some() && !self.searched {
                let mean = |at: &usize| scores::mean(&self.choices[*at].pieces);
                group.sort_by(|a, b| mean(b).total_cmp(&mean(a)));
            }
            group.truncate(self.options.n as usize);
            group
        };
        (0..self.choices.len() / drawn).flat_map(best).collect()
    }

    /// What is told of a choice's prompt: one of those who share it may tell for all.
    fn prompt(&self, at: usize) -> Option<&Prompt> {
        let drawn = shared(&self.options, self.searched);
        let first = self.choices.get(at / drawn * drawn)?;
        first.prompt.as_ref()
    }

    fn write_choice(&self, head: &Head, at: usize, index: u32) -> Value {
        let (sum, prompt) = (&self.choices[at], self.prompt(at));
        let mut choice = json!({ "index": index });
        match head.format {
            Format::Completions => choice["text"] = json!(sum.text),
            Format::Chat => choice["message"] = sum.message(),
        }
        let pieces: Vec<(usize, &Piece)> = sum.pieces.iter().map(|(at, p)| (*at, p)).collect();
        let echo = prompt.filter(|_| sum.echoed > 0);
        let echo = echo.map(|prompt| (&*prompt.tokens, &sum.text[..sum.echoed]));
        choice["logprobs"] = match self.options.hide_scores {
            true => Value::Null,
            false => scores::write(head.format, head.naming(), echo, &pieces),
        };
        choice["finish_reason"] = json!(sum.finish.map(receipt::finish_name));
        if let (Format::Completions, Some(prompt)) = (head.format, prompt) {
            write_prompt(&mut choice, head, prompt);
        }
        if prompt.is_some_and(|prompt| prompt.ids) {
            let tokens = pieces.iter().flat_map(|(_, piece)| &piece.tokens);
            choice["token_ids"] = tokens.copied().collect();
        }
        choice
    }
}

impl Sum {
    fn message(&self) -> Value {
        let mut out = json!({ "role": "assistant", "content": self.text, "refusal": null });
        if !self.reasoning.is_empty() {
            out["reasoning_content"] = json!(self.reasoning);
        }
        if !self.calls.is_empty() {
            if self.text.is_empty() {
                out["content"] = Value::Null;
            }
            out["tool_calls"] = self.calls.iter().map(messages::write_call).collect();
        }
        out
    }
}
