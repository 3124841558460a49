//! How near a model's log-probabilities come to a reference's, position by position: the figures
//! that say whether a kernel, a format or a change kept the model's answers.

use crate::core::{Ending, Job, Reply, Watch};
use crate::local::Local;
use ingle_protocol::{Fault, Token};
use ingle_scheduler::Rank;
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};

/// What a reference says of one position: natural log-probabilities of the next token.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Gold {
    /// The likeliest tokens, likeliest first.
    pub top: Vec<(Token, f64)>,
}

/// A sequence and what a reference says of each of its positions, from the first on.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Case {
    /// The sequence.
    pub ids: Vec<Token>,
    /// At most one entry a token.
    pub gold: Vec<Gold>,
}

/// What a model says of one position.
#[derive(Clone, Debug, PartialEq)]
pub struct Scored {
    /// The likeliest next token.
    pub best: Token,
    /// Natural log-probabilities of the tokens that were asked for.
    pub logprobs: Vec<f64>,
}

/// How near the model came.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Report {
    /// Positions compared.
    pub positions: usize,
    /// The share of them where the likeliest token is the reference's.
    pub top1_agreement: f64,
    /// Mean |Δ log-probability| over the reference's likeliest few tokens.
    pub mean_abs_delta: f64,
    /// The 99th percentile of the same.
    pub p99_abs_delta: f64,
}

/// Of the reference's likeliest tokens, so many are compared.
const COMPARED: usize = 3;

impl Report {
    /// Compares a model with a reference on all cases.
    pub fn of(model: &Local, cases: &[Case]) -> Result<Self, Fault> {
        let (mut agreed, mut positions, mut deltas) = (0usize, 0usize, Vec::new());
        for case in cases.iter().filter(|case| !case.gold.is_empty()) {
            let tops = case.gold.iter().map(|gold| &gold.top[..gold.top.len().min(COMPARED)]);
            let wanted = tops.clone().map(|top| top.iter().map(|(id, _)| *id).collect()).collect();
            for (top, scored) in tops.zip(model.score(&case.ids, wanted)?) {
                let Some((best, _)) = top.first() else { continue };
                positions += 1;
                agreed += usize::from(*best == scored.best);
                let apart =
                    top.iter().zip(&scored.logprobs).map(|((_, gold), own)| (own - gold).abs());
                deltas.extend(apart);
            }
        }
        if positions == 0 {
            return Err(Fault::caller("the cases hold no position to compare"));
        }
        deltas.sort_by(f64::total_cmp);
        let p99 = (deltas.len() * 99 / 100).min(deltas.len() - 1);
        Ok(Self {
            positions,
            top1_agreement: agreed as f64 / positions as f64,
            mean_abs_delta: deltas.iter().sum::<f64>() / deltas.len() as f64,
            p99_abs_delta: deltas[p99],
        })
    }
}

impl Local {
    /// For each position of `ids` for which `wanted` has an entry, the likeliest next token and the
    /// log-probabilities of the wanted ones. Waits until all are computed.
    pub fn score(&self, ids: &[Token], wanted: Vec<Vec<Token>>) -> Result<Vec<Scored>, Fault> {
        if ids.len() >= self.info().context {
            let (used, context) = (ids.len(), self.info().context);
            return Err(Fault::caller(format!("{used} tokens, and the context holds {context}")));
        }
        let vocabulary = self.info().vocabulary;
        if let Some(alien) = wanted.iter().flatten().find(|id| **id as usize >= vocabulary) {
            return Err(Fault::caller(format!("token {alien} is not in the vocabulary")));
        }
        let (done, outcome) = sync_channel(1);
        let scored = vec![None; wanted.len()];
        let job = Job {
            prompt: ids.to_vec(),
            new_max: 1,
            sampler: None,
            scores: false,
            guide: None,
            salt: None,
            adapters: Vec::new(),
            rank: Rank::default(),
            deadline: None,
            cancelled: Arc::default(),
            watch: Box::new(Scorer { wanted, scored, done }),
        };
        self.submit(job)?;
        outcome.recv().map_err(|_| Fault::ours("the engine's thread has ended: restart Ingle"))?
    }
}

/// What is taken from a logit to have its token's natural log-probability: ln Σ exp over all.
pub(crate) fn log_total(logits: &[f32]) -> f64 {
    let most = f64::from(logits.iter().copied().fold(f32::NEG_INFINITY, f32::max));
    most + logits.iter().map(|v| (f64::from(*v) - most).exp()).sum::<f64>().ln()
}

/// Keeps what is wanted of each position's logits.
struct Scorer {
    wanted: Vec<Vec<Token>>,
    scored: Vec<Option<Scored>>,
    done: SyncSender<Result<Vec<Scored>, Fault>>,
}

impl Watch for Scorer {
    fn logits(&mut self, position: usize, logits: &[f32]) {
        // Logits before token `position` say what follows the token at `position - 1`.
        let Some(wanted) = self.wanted.get(position - 1) else { return };
        let (best, _) = logits
            .iter()
            .enumerate()
            .fold((0, f32::NEG_INFINITY), |most, (id, &v)| if v > most.1 { (id, v) } else { most });
        let total = log_total(logits);
        let logprob = |id: &Token| f64::from(logits[*id as usize]) - total;
        let logprobs = wanted.iter().map(logprob).collect();
        self.scored[position - 1] = Some(Scored { best: best as Token, logprobs });
    }

    fn token(&mut self, _: Token, _: &[f32]) -> Reply {
        Reply::Stop
    }

    fn ended(self: Box<Self>, how: Ending) {
        let outcome = match how {
            Ending::Refused(fault) | Ending::Failed(fault) => Err(fault),
            Ending::Cancelled | Ending::Expired => Err(Fault::ours("scoring was cancelled")),
            Ending::Stopped | Ending::Full => {
                let scored: Option<Vec<Scored>> = self.scored.into_iter().collect();
                scored
                    .ok_or_else(|| Fault::caller("more positions are asked for than tokens given"))
            }
        };
        let _ = self.done.send(outcome); // whoever asked may be gone
    }
}
