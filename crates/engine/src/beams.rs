//! Beam search. What a search decides is a function of log-probabilities alone; what it needs next
//! it asks of the loop like anyone else, a job of one token for each continuation, whose keys and
//! values but those of its last few tokens are in the prefix cache. So the scheduler knows nothing
//! of it, and answers are the same whatever else is in the batch.
//!
//! Absent: rules of sampling, grammars and stop texts, with which it is refused.

use crate::core::{Adapted, Ending, Job, Reply, Watch};
use crate::local::{Local, Place, deadline, expired, receipt};
use crate::sampling::{Sampler, top_logprobs};
use ingle_model::tokenizer::Tokenizer;
use ingle_protocol::{
    Beam, Beams, Event, Fault, Finish, PromptToken, Receipt, Request, Sampling, Sink, Timings,
    Token, Usage,
};
use ingle_scheduler::Rank;
use std::sync::atomic::AtomicBool;
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// A continuation.
#[derive(Clone, Debug, PartialEq)]
struct Path {
    tokens: Vec<Token>,
    logprob: f64,
    finish: Finish,
}

/// What is followed and what has ended, best first.
#[derive(Debug)]
struct Search {
    rules: Beams,
    prompt: usize,
    new_max: usize,
    live: Vec<Path>,
    ended: Vec<Path>,
}

impl Search {
    fn new(rules: Beams, prompt: usize, new_max: usize) -> Self {
        let root = Path { tokens: Vec::new(), logprob: 0.0, finish: Finish::Length };
        Self { rules, prompt, new_max, live: vec![root], ended: Vec::new() }
    }

    fn width(&self) -> usize {
        usize::from(self.rules.width)
    }

    /// How many of the likeliest next tokens are looked at: if all of a width end, as many go on.
    fn looked_at(&self) -> usize {
        2 * self.width()
    }

    /// A sum of log-probabilities at a number of generated tokens, as continuations are compared.
    fn score(&self, logprob: f64, tokens: usize) -> f64 {
        logprob / ((self.prompt + tokens) as f64).powf(f64::from(self.rules.length_penalty))
    }

    /// The best so many; of those that are as good, the first.
    fn best(&self, mut paths: Vec<Path>) -> Vec<Path> {
        let score = |path: &Path| self.score(path.logprob, path.tokens.len());
        paths.sort_by(|a, b| score(b).total_cmp(&score(a)));
        paths.truncate(self.width());
        paths
    }

    /// Takes what may follow each continuation, likeliest first. False where the search is over.
    fn advance(&mut self, next: &[Vec<(Token, f32)>], ends: impl Fn(Token) -> bool) -> bool {
        let (mut grown, mut ended) = (Vec::new(), std::mem::take(&mut self.ended));
        for (path, next) in self.live.iter().zip(next) {
            for &(token, logprob) in next.iter().filter(|one| one.1 > f32::NEG_INFINITY) {
                let mut path = path.clone();
                path.logprob += f64::from(logprob);
                if ends(token) {
                    ended.push(Path { finish: Finish::Stop, ..path });
                } else {
                    path.tokens.push(token);
                    grown.push(path);
                }
            }
        }
        (self.live, self.ended) = (self.best(grown), self.best(ended));
        let full = self.live.first().is_none_or(|path| path.tokens.len() >= self.new_max);
        !full && !self.settled()
    }

    /// Whether enough have ended that nothing to come can be better: log-probabilities only sum up
    /// to less, and the score's divisor is what a length from here to the last makes of it.
    fn settled(&self) -> bool {
        let Some(worst) = self.ended.get(self.width() - 1) else { return false };
        let now = self.live.first().map_or(0, |path| path.tokens.len());
        let most = self.live.iter().map(|path| path.logprob).fold(f64::NEG_INFINITY, f64::max);
        let reach = if self.rules.length_penalty > 0.0 { self.new_max } else { now };
        let worst = self.score(worst.logprob, worst.tokens.len());
        self.rules.early_stopping || worst >= self.score(most, reach)
    }

    /// What was found, best first.
    fn found(self) -> Vec<Path> {
        let all = self.ended.iter().chain(&self.live).cloned().collect();
        self.best(all)
    }
}

/// A search under way.
struct Run {
    search: Option<Search>,
    tokenizer: Tokenizer,
    ignore_eos: bool,
    prompt: Vec<Token>,
    cut: Option<String>,
    salt: String,
    adapters: Vec<Adapted>,
    rank: Rank,
    deadline: Option<Instant>,
    cancelled: Arc<AtomicBool>,
    relay: SyncSender<Job>,
    /// What may follow each continuation, and how many are not told yet.
    next: Vec<Vec<(Token, f32)>>,
    open: usize,
    /// How one of them ended, if not as it should.
    failed: Option<Ending>,
    sink: Sink,
    model: String,
    usage: Usage,
    timings: Timings,
    arrived: Instant,
    _places: Vec<Place>,
}

/// Hears what may follow one of the continuations.
struct Probe {
    run: Arc<Mutex<Run>>,
    at: usize,
}

impl Probe {
    fn run(&self) -> MutexGuard<'_, Run> {
        self.run.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Watch for Probe {
    fn started(&mut self, cached: usize) {
        let mut run = self.run();
        if run.timings.queued.is_zero() {
            run.timings.queued = run.arrived.elapsed();
            run.usage.cached_tokens = cached as u32;
        }
    }

    fn token(&mut self, token: Token, logits: &[f32]) -> Reply {
        let mut run = self.run();
        if run.timings.first_token.is_zero() {
            run.timings.first_token = run.arrived.elapsed();
        }
        let count = run.search.as_ref().map_or(0, Search::looked_at);
        run.next[self.at] = top_logprobs(logits, token, count).1;
        Reply::Stop
    }

    fn ended(self: Box<Self>, how: Ending) {
        let mut run = self.run();
        if how != Ending::Stopped {
            run.failed.get_or_insert(how);
        }
        run.open -= 1;
        if run.open > 0 {
            return;
        }
        match run.failed.take() {
            Some(how) => run.fail(how),
            None => run.go_on(&self.run),
        }
    }
}

impl Run {
    /// The continuations that are followed, as jobs of the loop.
    fn jobs(&mut self, own: &Arc<Mutex<Self>>) -> Vec<Job> {
        let Some(search) = &self.search else { return Vec::new() };
        let prompts = search.live.iter().map(|path| [&*self.prompt, &path.tokens].concat());
        let job = |(at, prompt): (usize, Vec<Token>)| Job {
            prompt,
            new_max: 1,
            // It is looked at what may come, not drawn.
            sampler: Some(Sampler::new(&Sampling { temperature: 0.0, ..Sampling::default() }, 0)),
            scores: false,
            guide: None,
            salt: Some(self.salt.clone()),
            adapters: self.adapters.clone(),
            rank: self.rank,
            deadline: self.deadline,
            cancelled: Arc::clone(&self.cancelled),
            watch: Box::new(Probe { run: Arc::clone(own), at }),
        };
        let jobs: Vec<Job> = prompts.enumerate().map(job).collect();
        (self.open, self.next) = (jobs.len(), vec![Vec::new(); jobs.len()]);
        jobs
    }

    fn go_on(&mut self, own: &Arc<Mutex<Self>>) {
        let (tokenizer, ignored) = (self.tokenizer.clone(), self.ignore_eos);
        let next = std::mem::take(&mut self.next);
        let ends = |token| tokenizer.is_end(token) && !ignored;
        if self.search.as_mut().is_none_or(|search| !search.advance(&next, ends)) {
            return self.finish();
        }
        for job in self.jobs(own) {
            if self.relay.try_send(job).is_err() {
                self.open -= 1; // it was promised a place, so this is a bug
                self.failed = Some(Ending::Failed(Fault::ours("a beam found no place; a bug")));
            }
        }
        if self.open == 0
            && let Some(how) = self.failed.take()
        {
            self.fail(how);
        }
    }

    fn finish(&mut self) {
        let paths = self.search.take().map(Search::found).unwrap_or_default();
        let beam = |path: Path| {
            let mut decoder = self.tokenizer.decoder();
            let text: String = path.tokens.iter().map(|&token| decoder.push(token)).collect();
            let (text, Path { tokens, finish, logprob }) = (text + &decoder.flush(), path);
            Beam { text, tokens, finish, logprob }
        };
        let beams: Vec<Beam> = paths.into_iter().map(beam).collect();
        let finish = beams.first().map_or(Finish::Length, |beam| beam.finish);
        self.usage.completion_tokens = beams.iter().map(|beam| beam.tokens.len() as u32).sum();
        let timings = Timings { total: self.arrived.elapsed(), ..self.timings };
        let notes = self.cut.iter().cloned().collect();
        let receipt = Receipt { notes, ..receipt(&self.model, finish, self.usage, timings) };
        let _ = (self.sink)(Event::Beams(beams));
        let _ = (self.sink)(Event::Done(Box::new(receipt)));
    }

    fn fail(&mut self, how: Ending) {
        let event = match how {
            Ending::Refused(fault) | Ending::Failed(fault) => Event::Failed(fault),
            Ending::Expired => Event::Failed(expired()),
            _ => {
                let timings = Timings { total: self.arrived.elapsed(), ..self.timings };
                let end = receipt(&self.model, Finish::Cancelled, self.usage, timings);
                Event::Done(Box::new(end))
            }
        };
        let _ = (self.sink)(event);
    }
}

/// What a search is asked for beside its rules.
pub(crate) struct Asked<'a> {
    pub(crate) request: &'a Request,
    pub(crate) prompt: Vec<Token>,
    pub(crate) adapters: Vec<Adapted>,
    /// What answers.
    pub(crate) model: String,
    /// The most tokens of a continuation.
    pub(crate) new_max: usize,
    pub(crate) cut: Option<String>,
    pub(crate) arrived: Instant,
    pub(crate) timings: Timings,
    pub(crate) cancelled: Arc<AtomicBool>,
}

impl Local {
    /// Starts a search. It takes as many places as it has continuations.
    pub(crate) fn search(
        &self,
        rules: Beams,
        asked: Asked<'_>,
        mut sink: Sink,
    ) -> Result<(), Fault> {
        let Asked { request, prompt, adapters, model, new_max, cut, .. } = asked;
        let Asked { arrived, timings, cancelled, .. } = asked;
        rules.check(request)?;
        let places = (0..rules.width).map(|_| self.place()).collect::<Result<_, _>>()?;
        if request.token_ids {
            let told = |&token: &Token| PromptToken {
                token,
                bytes: self.tokenizer().bytes_with_markup(token).unwrap_or_default().to_vec(),
                score: None,
            };
            let _ = sink(Event::Prompt(prompt.iter().map(told).collect()));
        }
        let run = Run {
            search: Some(Search::new(rules, prompt.len(), new_max)),
            tokenizer: self.tokenizer().clone(),
            ignore_eos: request.sampling.ignore_eos,
            usage: Usage { prompt_tokens: prompt.len() as u32, ..Usage::default() },
            prompt,
            cut,
            salt: request.prefix_salt(),
            adapters,
            rank: Rank { priority: request.priority, owner: request.owner },
            deadline: deadline(request, arrived),
            cancelled,
            relay: self.relay(),
            next: Vec::new(),
            open: 0,
            failed: None,
            sink,
            model,
            timings,
            arrived,
            _places: places,
        };
        let run = Arc::new(Mutex::new(run));
        let jobs = run.lock().unwrap_or_else(PoisonError::into_inner).jobs(&run);
        jobs.into_iter().try_for_each(|job| self.submit(job))
    }
}

#[cfg(test)]
mod tests;
