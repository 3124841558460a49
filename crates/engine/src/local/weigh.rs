//! How likely given texts are as what a model says next: the prompt is computed once, and where the
//! texts part, each way is one more position behind the prefix that all share. Nothing is sampled.
//! Absent: what the texts mean, and what is made of the figures.

use super::{Arrival, Local, Place, receipt};
use crate::core::{Adapted, Ending, Job, Reply, Watch};
use crate::sampling::Sampler;
use crate::score::log_total;
use ingle_protocol::{
    Fault, Finish, Input, Request, Sampling, Timings, Token, Usage, Weighed, Weighing,
};
use ingle_scheduler::Rank;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, Instant};

/// Positions that are computed side by side.
const WAVE: usize = 16;

/// What is asked of each position: behind these tokens, the log-probabilities of those.
type Positions = BTreeMap<Vec<Token>, Vec<Token>>;

impl Local {
    /// Weighs texts as continuations of an input, each as a whole: the sum of the log-probabilities
    /// of its tokens, each after those before. Where one begins another, all are weighed with the
    /// answer's end behind them, so that they stay apart. Waits until all are computed.
    ///
    /// # Errors
    /// A fault of the caller's where a text is empty or the prompt does not fit; ours where there
    /// is no place, or the request was cancelled.
    pub fn weigh(&self, weighing: &Weighing, arrival: &Arrival) -> Result<Weighed, Fault> {
        let Weighing { request, labels } = weighing;
        let prompt = self.weighed_prompt(&request.input)?;
        let labels = labels.iter().map(|label| self.tokenizer.encode_continuation(label));
        let labels: Vec<Vec<Token>> = labels.collect();
        if labels.iter().any(Vec::is_empty) {
            return Err(Fault::caller("a text to be weighed is empty").at("labels"));
        }
        let longest = labels.iter().map(Vec::len).max().unwrap_or(0);
        let (used, context) = (prompt.len() + longest + 1, self.info.context);
        if prompt.is_empty() || used > context {
            return Err(Fault::caller(format!(
                "the prompt and its longest label have {used} tokens and the context holds \
                 {context}: shorten the prompt, or load the model with a larger --context"
            )));
        }
        let ended = labels.iter().enumerate().any(|(at, label)| {
            let others = labels.iter().enumerate().filter(|(other, _)| *other != at);
            others.map(|(_, other)| other).any(|other| other.starts_with(label))
        });
        let positions = positions(&labels, ended.then(|| self.tokenizer.ends()));
        let (adapters, model) = self.adapted(request.adapters.as_deref().unwrap_or_default())?;
        let found = self.positions((&prompt, &adapters), &positions, request, arrival)?;
        let sum = |label: &Vec<Token>| {
            let after = |at: usize| found.logprobs[&label[..at]][&label[at]];
            let end =
                || log_sum(self.tokenizer.ends().iter().map(|end| found.logprobs[label][end]));
            (0..label.len()).map(after).sum::<f64>() + if ended { end() } else { 0.0 }
        };
        let usage = Usage {
            prompt_tokens: prompt.len() as u32,
            cached_tokens: found.cached as u32,
            ..Usage::default()
        };
        let timings = Timings {
            load: arrival.load,
            queued: found.queued,
            first_token: found.first,
            total: arrival.at.elapsed(),
        };
        Ok(Weighed {
            logprobs: labels.iter().map(sum).collect(),
            ended,
            receipt: receipt(&model, Finish::Stop, usage, timings),
        })
    }

    /// The tokens up to where an answer itself begins.
    fn weighed_prompt(&self, input: &Input) -> Result<Vec<Token>, Fault> {
        let Input::Chat(chat) = input else { return self.prompt(input) };
        let (text, dialect) = self.render(chat)?;
        self.encode(&format!("{text}{}", dialect.before_answer(&text)))
    }

    /// The first position alone, since it computes what the others share.
    fn positions(
        &self,
        (prompt, adapters): (&[Token], &[Adapted]),
        positions: &Positions,
        request: &Request,
        arrival: &Arrival,
    ) -> Result<Found, Fault> {
        let mut found = Found::default();
        let all: Vec<_> = positions.iter().collect();
        let (first, rest) = all.split_at(1);
        for wave in std::iter::once(first).chain(rest.chunks(WAVE)) {
            let (done, outcomes) = sync_channel(wave.len());
            for (after, wanted) in wave {
                let place = Place::take(&self.under_way, self.most)?;
                let read = Read { after: (*after).clone(), ..Read::default() };
                let (wanted, arrived, done) = ((*wanted).clone(), arrival.at, done.clone());
                let reader = Reader { wanted, read, arrived, done, _place: place };
                let job = Job {
                    prompt: [prompt, after].concat(),
                    new_max: 1,
                    sampler: Some(Sampler::new(&greedy(), 0)),
                    scores: false,
                    guide: None,
                    salt: Some(request.prefix_salt()),
                    adapters: adapters.to_vec(),
                    rank: Rank { priority: request.priority, owner: request.owner },
                    deadline: deadline(request, arrival),
                    cancelled: Arc::clone(&arrival.cancelled),
                    watch: Box::new(reader),
                };
                self.submit(job)?;
            }
            drop(done);
            found.gather(&outcomes, wave.len())?;
        }
        Ok(found)
    }
}

fn deadline(request: &Request, arrival: &Arrival) -> Option<Instant> {
    request.timeout_ms.map(|ms| arrival.at + Duration::from_millis(ms.into()))
}

fn greedy() -> Sampling {
    Sampling { temperature: 0.0, ..Sampling::default() }
}

/// Where the labels' tokens come, each once, and with `ends` where they end.
fn positions(labels: &[Vec<Token>], ends: Option<&[Token]>) -> Positions {
    let mut positions = Positions::new();
    for label in labels {
        for (at, token) in label.iter().enumerate() {
            positions.entry(label[..at].to_vec()).or_default().push(*token);
        }
        if let Some(ends) = ends {
            positions.entry(label.clone()).or_default().extend(ends);
        }
    }
    positions
}

/// ln Σ exp.
fn log_sum(logprobs: impl Iterator<Item = f64> + Clone) -> f64 {
    let most = logprobs.clone().fold(f64::NEG_INFINITY, f64::max);
    most + logprobs.map(|logprob| (logprob - most).exp()).sum::<f64>().ln()
}

/// What was computed so far.
#[derive(Default)]
struct Found {
    logprobs: BTreeMap<Vec<Token>, BTreeMap<Token, f64>>,
    /// Of the first position's.
    cached: usize,
    queued: Duration,
    first: Duration,
}

impl Found {
    fn gather(&mut self, outcomes: &Receiver<Outcome>, count: usize) -> Result<(), Fault> {
        for _ in 0..count {
            let gone = |_| Fault::ours("the engine's thread has ended: restart Ingle");
            let read = outcomes.recv().map_err(gone)??;
            if self.logprobs.is_empty() {
                (self.cached, self.queued, self.first) = (read.cached, read.queued, read.told);
            }
            self.logprobs.insert(read.after, read.logprobs);
        }
        Ok(())
    }
}

type Outcome = Result<Read, Fault>;

/// One position, read.
#[derive(Default)]
struct Read {
    after: Vec<Token>,
    logprobs: BTreeMap<Token, f64>,
    cached: usize,
    queued: Duration,
    told: Duration,
}

/// Reads one position's logits.
struct Reader {
    wanted: Vec<Token>,
    read: Read,
    arrived: Instant,
    done: SyncSender<Outcome>,
    _place: Place,
}

impl Watch for Reader {
    fn started(&mut self, cached: usize) {
        (self.read.cached, self.read.queued) = (cached, self.arrived.elapsed());
    }

    fn token(&mut self, _: Token, logits: &[f32]) -> Reply {
        self.read.told = self.arrived.elapsed();
        let total = log_total(logits);
        let logprob = |token: &Token| (*token, f64::from(logits[*token as usize]) - total);
        self.read.logprobs = self.wanted.iter().map(logprob).collect();
        Reply::Stop
    }

    fn ended(self: Box<Self>, how: Ending) {
        let outcome = match how {
            Ending::Refused(fault) | Ending::Failed(fault) => Err(fault),
            Ending::Cancelled => Err(Fault::ours("weighing was cancelled")),
            Ending::Expired => Err(super::expired()),
            Ending::Stopped | Ending::Full => Ok(self.read),
        };
        let _ = self.done.send(outcome); // whoever asked may be gone
    }
}
