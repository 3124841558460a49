//! `ingle bench` of a model that reads: texts and tokens a second, over texts of many lengths.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use ingle_engine::{Arrival, Encoder};
use ingle_protocol::{Encoding, Long, Passage, Want, Written};
use serde_json::json;

use super::super::model;
use super::{Args, Spread, random};
use crate::ui::{Interrupted, Ui, interrupted};

/// The largest file of texts.
const TEXTS_BYTES: u64 = 64 << 20;
/// Texts that are made up where no file is given.
const TEXTS: usize = 512;
/// The shortest and the longest of them, in tokens.
const LENGTHS: (usize, usize) = (8, 256);

pub(super) fn run(args: &Args, encoder: &Encoder, ui: &Ui) -> anyhow::Result<()> {
    let inputs = inputs(args, encoder)?;
    let texts = inputs.len();
    let encoding = Encoding {
        inputs,
        want: want(encoder),
        long: Long::KeepStart(None),
        ..Encoding::default()
    };
    let (mut runs, mut tokens) = (Vec::new(), 0);
    for repeat in 0..=args.repeat {
        if interrupted().load(Ordering::Relaxed) {
            return Err(Interrupted.into());
        }
        let at = Instant::now();
        let arrival = Arrival { at, load: Duration::ZERO, cancelled: Arc::default() };
        tokens = encoder.encode(&encoding, &arrival)?.receipt.usage.prompt_tokens;
        let rate = texts as f64 / at.elapsed().as_secs_f64();
        if repeat > 0 {
            runs.push(rate); // the first warmed up
            if !ui.json {
                ui.note(format_args!("run {repeat}: {rate:.1} texts/s"));
            }
        }
    }
    let each = f64::from(tokens) / texts as f64;
    let rates = Spread::of(runs.clone());
    let of_tokens = Spread::of(runs.iter().map(|rate| rate * each).collect());
    if ui.json {
        return ui.object(&json!({
            "model": args.model.to_string(),
            "texts": texts,
            "tokens": tokens,
            "repeat": args.repeat,
            "texts_per_second": rates.median,
            "texts_spread": [rates.least, rates.most],
            "tokens_per_second": of_tokens.median,
        }));
    }
    let heading = ["TEXTS", "TOKENS", "texts/s", "tok/s"].map(Into::into).to_vec();
    let row = [texts.to_string(), tokens.to_string(), rates.to_string(), of_tokens.to_string()];
    ui.table(&[heading, row.to_vec()], &[0, 1, 2, 3])
}

fn want(encoder: &Encoder) -> Want {
    let reads = encoder.reads();
    if reads.late {
        Want::TokenVectors(ingle_protocol::Vectors::default())
    } else if reads.sparse {
        Want::Sparse
    } else if !reads.labels.is_empty() {
        Want::Scores { probabilities: true }
    } else if !reads.tags.is_empty() {
        Want::Tags
    } else {
        Want::default()
    }
}

/// The lines of a file, or made-up tokens: as many of each length, the marks among them.
fn inputs(args: &Args, encoder: &Encoder) -> anyhow::Result<Vec<Passage>> {
    if let Some(path) = &args.texts {
        let text = model::read_text(path, TEXTS_BYTES)?;
        return Ok(text.lines().filter(|line| !line.is_empty()).map(Passage::text).collect());
    }
    let vocabulary = encoder.tokenizer().vocab_len();
    let (least, most) = LENGTHS;
    let most = most.min(encoder.reads().tokens as usize).max(least);
    let length = |at: usize| least + at * (most - least) / (TEXTS - 1);
    let passage = |at: usize| Passage {
        text: Written::Tokens(random(length(at) as u32, vocabulary, at as u64)),
        pair: None,
    };
    Ok((0..TEXTS).map(passage).collect())
}
