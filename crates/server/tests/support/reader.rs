//! Models that read, as a script: a word is a token, and what is made of texts can be told from
//! them by counting.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ingle_gateway::ModelCard;
use ingle_protocol::{Encoded, Encoding, Fault, Long, Output, Passage, Read, Reads, Tag, Want};
use ingle_protocol::{Vectors, Written};

use super::{World, receipt};

/// `reader` makes vectors, `judge` ranks, `sorter` does all else.
pub(crate) fn cards() -> [ModelCard; 3] {
    let card = |name: &str, reads| ModelCard {
        name: name.to_owned(),
        architecture: "script".to_owned(),
        context_tokens: 8,
        created_s: 7,
        reads: Some(Reads { tokens: 8, ..reads }),
        sha256: "ab".repeat(32),
        ..ModelCard::default()
    };
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    let reader =
        Reads { dimensions: 4, prompts: names(&["query", "document"]), ..Reads::default() };
    let judge = Reads { labels: names(&["LABEL_0"]), ..Reads::default() };
    let sorter = Reads {
        dimensions: 4,
        labels: names(&["spam", "ham", "eggs"]),
        tags: names(&["O", "PER"]),
        late: true,
        sparse: true,
        ..Reads::default()
    };
    [card("reader", reader), card("judge", judge), card("sorter", sorter)]
}

pub(crate) fn encode(
    world: &World,
    encoding: &Encoding,
    cancelled: &AtomicBool,
) -> Result<Encoded, Fault> {
    world.encodings.lock().expect("no panic while locked").push(encoding.clone());
    let cards = cards();
    let card = cards.iter().find(|card| card.name == encoding.model);
    let reads = card.and_then(|card| card.reads.as_ref());
    let reads = reads.ok_or_else(|| Fault::caller("it reads nothing").at("model"))?;
    reads.can(&encoding.model, &encoding.want)?;
    if encoding.inputs.contains(&Passage::text("hold")) {
        wait(world, cancelled)?;
    }
    let read = encoding.inputs.iter().map(|input| read(encoding, reads, input));
    let read: Vec<Read> = read.collect::<Result<_, Fault>>()?;
    let labels = if encoding.want == Want::Tags { &reads.tags } else { &reads.labels };
    let mut receipt = receipt(&encoding.model, 0);
    receipt.usage.prompt_tokens = read.iter().map(|read| read.tokens).sum();
    receipt.usage.cached_tokens = 0;
    Ok(Encoded { read, labels: labels.clone(), receipt })
}

fn wait(world: &World, cancelled: &AtomicBool) -> Result<(), Fault> {
    world.running.fetch_add(1, Ordering::SeqCst);
    while !world.released.load(Ordering::SeqCst) {
        if cancelled.load(Ordering::Acquire) {
            world.cancelled.fetch_add(1, Ordering::SeqCst);
            world.running.fetch_sub(1, Ordering::SeqCst);
            return Err(Fault::caller("it was cancelled"));
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    world.running.fetch_sub(1, Ordering::SeqCst);
    Ok(())
}

fn text(written: &Written) -> String {
    match written {
        Written::Text(text) => text.clone(),
        Written::Tokens(tokens) => {
            tokens.iter().filter_map(|token| char::from_u32(*token)).collect()
        }
    }
}

fn read(encoding: &Encoding, reads: &Reads, input: &Passage) -> Result<Read, Fault> {
    let whole = text(&input.text);
    match whole.as_str() {
        "busy" => return Err(Fault::busy(Duration::from_millis(2500), "the queue is full")),
        "bug" => panic!("a bug that the test asked for"),
        _ => {}
    }
    let mut words: Vec<&str> = whole.split_whitespace().collect();
    let (count, most) = (words.len(), reads.tokens as usize);
    match encoding.long {
        Long::Refuse if count > most => {
            let message = format!("a text has {count} tokens and the model reads {most}");
            return Err(Fault::caller(message).at("input"));
        }
        Long::Refuse | Long::Chunk { .. } => {}
        Long::KeepStart(tokens) => words.truncate(tokens.map_or(most, |it| it as usize)),
        Long::KeepEnd(tokens) => {
            let most = tokens.map_or(most, |it| it as usize);
            words.drain(..count.saturating_sub(most));
        }
    }
    let kept = words.join(" ");
    let output = match &encoding.want {
        Want::Vector(vectors) => Output::Vector(vector(&kept, vectors)),
        Want::TokenVectors(vectors) => {
            Output::TokenVectors(words.iter().map(|word| vector(word, vectors)).collect())
        }
        Want::Sparse => {
            let weight = |(at, word): (u32, &&str)| (at, word.len() as f32 * 0.5);
            Output::Sparse((0..).zip(&words).map(weight).collect())
        }
        Want::Scores { probabilities } => Output::Scores(scores(input, reads, *probabilities)),
        Want::Tags => Output::Tags(tags(&whole)),
    };
    Ok(Read { output, tokens: words.len() as u32, cut: words.len() < count })
}

/// How often `a`, `b` and `c` are in it, and 1.
fn vector(text: &str, how: &Vectors) -> Vec<f32> {
    let count = |letter: char| text.chars().filter(|other| *other == letter).count() as f32;
    let mut vector = vec![count('a'), count('b'), count('c'), 1.0];
    vector.truncate(how.dimensions.map_or(4, |most| most as usize));
    if how.normalise == Some(true) {
        let length = vector.iter().map(|x| x * x).sum::<f32>().sqrt();
        vector.iter_mut().for_each(|x| *x /= length);
    }
    vector
}

/// A label's score is how often it is in the text; a pair's how many words both have.
fn scores(input: &Passage, reads: &Reads, probabilities: bool) -> Vec<f32> {
    let first = text(&input.text);
    let count = |words: &str, word: &str| words.split_whitespace().filter(|it| *it == word).count();
    let raw: Vec<f32> = match &input.pair {
        Some(pair) => {
            let pair = text(pair);
            vec![first.split_whitespace().map(|word| count(&pair, word)).sum::<usize>() as f32]
        }
        None => reads.labels.iter().map(|label| count(&first, label) as f32).collect(),
    };
    let all: f32 = raw.iter().map(|x| x.exp()).sum();
    match (probabilities, raw.as_slice()) {
        (false, _) => raw,
        (true, [one]) => vec![1.0 / (1.0 + (-one).exp())],
        (true, _) => raw.iter().map(|x| x.exp() / all).collect(),
    }
}

/// Words that begin with a capital are names.
fn tags(text: &str) -> Vec<Tag> {
    let place = |word: &str| word.as_ptr() as usize - text.as_ptr() as usize;
    let tag = |word: &str| {
        let (from, name) = (place(word), word.starts_with(char::is_uppercase));
        Tag { label: name.into(), score: 0.75, bytes: (from as u32, (from + word.len()) as u32) }
    };
    text.split_whitespace().map(tag).collect()
}
