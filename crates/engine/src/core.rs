//! The loop: decide, compute, record. A [`Core`] owns its scheduler, its backend and whatever is
//! known of the live sequences; [`Core::turn`] moves on by what can be done without waiting, so
//! that a native thread and a web page can both drive it.

mod adapters;
mod guess;
mod prefix;
pub(crate) mod scored;

pub use self::adapters::{Adapted, Held};
use self::prefix::Kept;
use crate::draft::Lookup;
use crate::draft::model::Guesser;
use crate::grammar::{Allowed, Guide, Guided, Masks};
use crate::pace::{Pace, Rows};
use crate::prefix::Salts;
use crate::sampling::Sampler;
use crate::{Options, Speculation};
use ingle_backend::{BLOCK_TOKENS, Backend, Batch, Pages, Span, Ticket};
use ingle_model::archs::{Network, Targets};
use ingle_protocol::{Fault, Token};
use ingle_scheduler::{
    Chunk, Counts, Ended, Limits, Outcome, Rank, Reject, Salt, Scheduler, SeqId,
};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, Instant};

/// The most tokens that a grammar forces which one step takes: with the one before them as many
/// rows as are cheap together.
const FORCED_MAX: usize = 15;
/// So many it takes however many grammars share the step: each saves a step for its sequence.
const FORCED_LEAST: usize = 3;

/// How many seconds a refused caller is told to wait.
const RETRY_S: u64 = 1;
/// How many salts are remembered.
const SALTS_MOST: usize = 4096;

/// What a job's maker wants to hear of it. Called on the engine's thread; must not block.
pub trait Watch: Send {
    /// The first of its tokens are being computed; so many were found in the prefix cache.
    fn started(&mut self, _cached: usize) {}
    /// Logits of one position, the one before token `position` of the sequence, where the job wants
    /// them. Those of a sequence that had to make room come again.
    fn logits(&mut self, _position: usize, _logits: &[f32]) {}
    /// A token was chosen, from these logits.
    fn token(&mut self, token: Token, logits: &[f32]) -> Reply;
    /// The token that comes next whatever was sampled, as far as a grammar lets it.
    fn forced(&self) -> Option<Token> {
        None
    }
    /// So many drafted tokens came true and are part of the answer; so many did not.
    fn speculated(&mut self, _accepted: usize, _rejected: usize) {}
    /// Nothing more comes.
    fn ended(self: Box<Self>, how: Ending);
}

/// Whether a sequence goes on after a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reply {
    /// It does.
    Continue,
    /// The token (or its text) ends it; it is no part of the answer.
    Stop,
}

/// How a job ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    /// By [`Reply::Stop`].
    Stopped,
    /// It has all the tokens it was allowed.
    Full,
    /// Its flag was raised.
    Cancelled,
    /// It could not be taken in.
    Refused(Fault),
    /// Its deadline passed.
    Expired,
    /// It could not go on.
    Failed(Fault),
}

/// A sequence to be continued or scored.
#[expect(missing_debug_implementations, reason = "holds its maker's callback")]
pub struct Job {
    /// At least one token.
    pub prompt: Vec<Token>,
    /// The most tokens to generate; at least 1.
    pub new_max: usize,
    /// Chooses tokens; `None` only scores the prompt, each position's logits reported.
    pub sampler: Option<Sampler>,
    /// Whether the logits of the prompt's other positions are reported, too. What is cached has
    /// none, so that goes with no salt.
    pub scores: bool,
    /// What the answer may say; `None` lets it say anything.
    pub guide: Option<Guide>,
    /// Cached prefixes are shared with jobs of the same salt; without one they are not used.
    pub salt: Option<String>,
    /// What it is computed with beside the model's weights.
    pub adapters: Vec<Adapted>,
    /// Its priority and its owner.
    pub rank: Rank,
    /// It is ended then, complete or not, and refused where its first token would come later.
    pub deadline: Option<Instant>,
    /// Raised when nobody wants the answer any more.
    pub cancelled: Arc<AtomicBool>,
    /// Hears of it.
    pub watch: Box<dyn Watch>,
}

struct Live {
    prompt: usize,
    /// Tokens of it that were read from disk for it.
    from_disk: usize,
    shares: bool,
    started: bool,
    deadline: Option<Instant>,
    sampler: Option<Sampler>,
    scores: bool,
    adapters: Vec<Adapted>,
    cancelled: Arc<AtomicBool>,
    /// It was cancelled in the middle of a draft that came true.
    withdrawn: bool,
    /// Why it cannot go on.
    failed: Option<Fault>,
    guided: Option<Guided>,
    lookup: Option<Lookup>,
    watch: Box<dyn Watch>,
}

impl Live {
    /// Chooses what follows the last token, and then what follows each drafted token that came
    /// true. Draws go by position and logits by the tokens before, so these are the tokens, and
    /// the logits, that as many steps without a draft would give.
    fn choose(&mut self, tokens: &[Token], draft: &[Token], rows: &[&[f32]]) -> Vec<Outcome> {
        let (prompt, generated) = tokens.split_at(self.prompt);
        let mut generated = Cow::Borrowed(generated);
        let mut outcomes = Vec::new();
        for (at, row) in rows.iter().enumerate() {
            if at > 0 && self.cancelled.load(Ordering::Acquire) {
                self.withdrawn = true;
                outcomes.push(Outcome::Stop);
                break;
            }
            let next = self.next(at, row, prompt, &generated);
            let next = next.and_then(|next| self.tell(next, row)).unwrap_or_else(|fault| {
                self.failed = Some(fault);
                None
            });
            let Some(token) = next else {
                outcomes.push(Outcome::Stop);
                break;
            };
            outcomes.push(Outcome::Continue(token));
            if draft.get(at) != Some(&token) {
                break;
            }
            generated.to_mut().push(token);
        }
        outcomes
    }

    /// What follows, after so many drafted tokens; nothing where the answer is complete.
    fn next(
        &mut self,
        at: usize,
        row: &[f32],
        prompt: &[Token],
        generated: &[Token],
    ) -> Result<Option<Token>, Fault> {
        let Some(sampler) = &mut self.sampler else { return Ok(None) };
        let forced = self.watch.forced();
        let Some(guided) = &self.guided else {
            let sample = || sampler.sample(row, prompt, generated);
            return Ok(Some(forced.unwrap_or_else(sample)));
        };
        Ok(match guided.allowed(at)? {
            Allowed::Nothing => None,
            Allowed::One(token) => Some(*token),
            Allowed::Some(set) if forced.is_some_and(|token| set.contains(token)) => forced,
            Allowed::Some(set) => Some(sampler.sample_among(set, row, prompt, generated)),
        })
    }

    /// Tells of a token; gives it back if the sequence goes on after it.
    fn tell(&mut self, token: Option<Token>, row: &[f32]) -> Result<Option<Token>, Fault> {
        let Some(token) = token else { return Ok(None) };
        if self.watch.token(token, row) == Reply::Stop {
            return Ok(None);
        }
        let complete = self.guided.as_mut().map(|guided| guided.accept(token)).transpose()?;
        Ok((complete != Some(true)).then_some(token))
    }
}

/// Totals since the start, and how things stand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Sequences and blocks.
    pub counts: Counts,
    /// Steps computed.
    pub steps: u64,
    /// Prompt tokens computed.
    pub prompt_tokens: u64,
    /// Prompt tokens that were looked for in the prefix cache.
    pub lookup_tokens: u64,
    /// Those that were found in it.
    pub cached_tokens: u64,
    /// Those of them that were read from disk for it.
    pub disk_tokens: u64,
    /// Tokens generated.
    pub generated_tokens: u64,
    /// Tokens drafted and computed.
    pub drafted_tokens: u64,
    /// Those of them that came true.
    pub accepted_tokens: u64,
    /// Of the drafted tokens, those that a second model guessed; prompt lookup did the others.
    pub drafted_by_model: u64,
    /// Those of these that came true.
    pub accepted_by_model: u64,
    /// Steps of the second model.
    pub draft_steps: u64,
    /// KV blocks that the second model holds, and has in all.
    pub draft_blocks: (usize, usize),
    /// Tokens that a grammar forced and that took no step of their own.
    pub forced_tokens: u64,
    /// Masks made: what a grammar allows at one position.
    pub masks: u64,
    /// Nanoseconds that they took, beside the steps.
    pub masks_ns: u64,
    /// Nanoseconds that steps waited for them.
    pub masks_awaited_ns: u64,
    /// Jobs whose deadline passed, those refused for it included.
    pub late: u64,
    /// KV blocks in all.
    pub blocks: usize,
}

/// Everything about one running model.
#[expect(missing_debug_implementations, reason = "holds the trait objects it drives")]
pub struct Core {
    scheduler: Scheduler,
    backend: Box<dyn Backend>,
    network: Network,
    adapters: Vec<Arc<Held>>,
    live: BTreeMap<SeqId, Live>,
    flight: Option<(Vec<Chunk>, Ticket)>,
    context: usize,
    /// `None` where nothing is shared.
    salts: Option<Salts>,
    kept: Option<Kept>,
    running: usize,
    prefill_tokens: Option<usize>,
    pace: Pace,
    now: Option<Instant>,
    departed: Option<Instant>,
    speculation: Speculation,
    guesser: Option<Guesser>,
    fast_forward: bool,
    masks: Masks,
    stats: Stats,
    /// Jobs that follow upon those that end.
    relay: (SyncSender<Job>, Receiver<Job>),
}

/// Bytes of the KV cache: what the options say, or what is usual here.
pub(crate) fn kv_bytes(options: &Options) -> usize {
    const USUAL_MAX: usize = 2 << 30;
    let usual = || (crate::memory::available() / 4).min(USUAL_MAX);
    options.kv_bytes.unwrap_or_else(usual)
}

/// KV blocks and context, from the options, what a block takes and what there is.
pub(crate) fn room(
    options: &Options,
    network: &Network,
    block_bytes: usize,
) -> Result<(usize, usize), Fault> {
    let budget = kv_bytes(options);
    let affordable = (budget / block_bytes.max(1)).max(1);
    let wanted = options.context.unwrap_or(network.context).min(network.context);
    let context = wanted.min(affordable * BLOCK_TOKENS);
    if options.context.is_some_and(|asked| asked > context) {
        return Err(Fault::ours(format!(
            "a context of {} tokens was asked for; the model has {} and the KV cache's memory \
             holds {}: ask for less, give it more with --kv-mb, or keep less of each token with \
             --kv-type q8_0",
            options.context.unwrap_or_default(),
            network.context,
            affordable * BLOCK_TOKENS
        )));
    }
    let each = context.div_ceil(BLOCK_TOKENS);
    Ok((affordable.min(each.saturating_mul(options.running.max(1))), context))
}

impl Core {
    /// Makes the backend ready. `progress` hears the share done, 0 to 1.
    pub fn new(
        mut backend: Box<dyn Backend>,
        network: Network,
        options: &Options,
        progress: &mut dyn FnMut(f32),
    ) -> Result<Self, Fault> {
        let (blocks, context) = room(options, &network, backend.block_bytes())?;
        let pages = Pages { block_tokens: BLOCK_TOKENS, blocks };
        backend
            .prepare(&network.graph, pages, progress)
            .map_err(|refusal| Fault::ours(refusal.to_string()))?;
        let limits = Limits {
            block_tokens: BLOCK_TOKENS,
            blocks,
            step_tokens: options.step_tokens.max(1),
            running: options.running.max(1),
            // Whoever comes waits for a step, even if there is room in it.
            waiting: options.running.max(1) + options.waiting.max(1),
        };
        Ok(Self {
            scheduler: Scheduler::new(limits),
            backend,
            network,
            adapters: Vec::new(),
            live: BTreeMap::new(),
            flight: None,
            context,
            salts: options.prefix_cache.then(|| Salts::new(SALTS_MOST)),
            kept: None,
            running: options.running.max(1),
            speculation: options.speculation,
            guesser: None,
            fast_forward: options.fast_forward,
            masks: Masks::new(options.running.max(1)),
            prefill_tokens: options.prefill_tokens,
            pace: Pace::default(),
            now: None,
            departed: None,
            stats: Stats { blocks, ..Stats::default() },
            relay: sync_channel(options.running.max(1) + options.waiting.max(1)),
        })
    }

    /// The longest sequence, in tokens.
    pub fn context(&self) -> usize {
        self.context
    }

    /// Tokens in the vocabulary.
    pub fn vocabulary(&self) -> usize {
        self.network.vocabulary
    }

    /// Bytes of weights that a step reads, as the file stores them.
    pub fn weight_bytes(&self) -> usize {
        self.network.weight_bytes
    }

    /// What adapters may add to.
    pub fn targets(&self) -> Arc<Targets> {
        Arc::clone(&self.network.targets)
    }

    /// Totals since the start.
    pub fn stats(&self) -> Stats {
        let mut counts = self.scheduler.counts();
        counts.waiting += self.kept.as_ref().map_or(0, Kept::aside);
        let (masks, guesser) = (self.masks.stats(), self.guesser.as_ref());
        Stats {
            counts,
            draft_steps: guesser.map_or(0, Guesser::steps),
            draft_blocks: guesser.map_or((0, 0), Guesser::blocks),
            masks: masks.masks,
            masks_ns: masks.made_ns,
            masks_awaited_ns: masks.awaited_ns,
            ..self.stats
        }
    }

    /// Where a watch, when it hears of its job's end, may send the jobs that follow upon it: they
    /// are taken in at once. As many have room as may wait.
    pub fn relay(&self) -> SyncSender<Job> {
        self.relay.0.clone()
    }

    /// Takes a job in, or ends it with what is wrong with it.
    pub fn submit(&mut self, job: Job) {
        let known = |token: &Token| (*token as usize) < self.network.vocabulary;
        if let Some(alien) = job.prompt.iter().find(|token| !known(token)) {
            let message = format!("token {alien} is not in the vocabulary");
            return job.watch.ended(Ending::Refused(Fault::caller(message)));
        }
        let salt = self.salts.as_mut().zip(job.salt.as_deref());
        let salt = salt.map(|(salts, text)| salts.number(&adapters::rooted(&job.adapters, text)));
        if let Some(job) = self.set_aside(job, salt) {
            self.enter(job, salt, 0);
        }
    }

    /// Hands a job to the scheduler.
    fn enter(&mut self, job: Job, salt: Option<Salt>, from_disk: usize) {
        let Job { prompt, new_max, sampler, scores, guide, .. } = job;
        let Job { rank, deadline, cancelled, watch, adapters, .. } = job;
        let len = prompt.len();
        let ahead = self.scheduler.ahead(&prompt, salt, rank);
        if let Some(fault) = self.too_late(ahead, deadline) {
            self.stats.late += 1;
            return watch.ended(Ending::Refused(fault));
        }
        match self.scheduler.add(prompt, new_max, salt, rank) {
            Ok(id) => {
                let live = Live {
                    prompt: len,
                    from_disk,
                    shares: salt.is_some(),
                    started: false,
                    deadline,
                    sampler,
                    scores,
                    adapters,
                    cancelled,
                    withdrawn: false,
                    failed: None,
                    guided: guide.map(Guided::new),
                    lookup: None,
                    watch,
                };
                self.live.insert(id, live);
            }
            Err(reject) => watch.ended(Ending::Refused(refused(reject))),
        }
    }

    /// Whether there is nothing to do.
    pub fn idle(&self) -> bool {
        let aside = self.kept.as_ref().map_or(0, Kept::aside);
        let working = self.guesser.as_ref().is_some_and(Guesser::working);
        self.scheduler.idle() && self.flight.is_none() && aside == 0 && !working
    }

    /// Says how late it is: to be told before every turn. A core that is never told the time
    /// learns nothing of its pace and misses no deadline.
    pub fn set_time(&mut self, now: Instant) {
        self.now = Some(now);
    }

    /// What is wrong with a deadline, if the first token comes after so many of prompts.
    fn too_late(&self, ahead: usize, deadline: Option<Instant>) -> Option<Fault> {
        let left = deadline?.saturating_duration_since(self.now?);
        let least = self.pace.prefill(ahead)?;
        let message = format!(
            "the first token would come after {} ms at the earliest, since {ahead} tokens of prompts \
             come before it, and the time left is {} ms: allow more time, shorten the prompt, or try \
             again when less is waiting",
            least.as_millis(),
            left.as_millis()
        );
        let retry = Duration::from_secs(RETRY_S);
        (least > left).then(|| Fault::late(retry, message).at("timeout_ms"))
    }

    /// Moves on by what can be done without waiting.
    pub fn turn(&mut self) {
        match self.flight.take() {
            None => self.depart(),
            Some((step, ticket)) => {
                if !self.land(&step, ticket) {
                    self.flight = Some((step, ticket));
                }
            }
        }
    }

    /// Forgets whoever was cancelled or is too late, then starts the next step.
    fn depart(&mut self) {
        self.take_in();
        self.sweep();
        let why = |live: &Live| gone(&live.cancelled, live.deadline, self.now);
        let gone: Vec<(SeqId, Ending)> =
            self.live.iter().filter_map(|(id, live)| Some((*id, why(live)?))).collect();
        for (id, ending) in gone {
            self.stats.late += u64::from(ending == Ending::Expired);
            self.scheduler.cancel(id);
            self.end(id, ending);
        }
        if !self.drafted() {
            return;
        }
        let beside = self.prefill_tokens;
        let beside = beside.unwrap_or_else(|| self.pace.prefill_tokens(self.scheduler.due()));
        self.draft_forced(beside);
        self.bound_scored();
        let step = self.scheduler.plan(beside);
        if step.is_empty() {
            return;
        }
        let spans = step.iter().map(|chunk| self.span(chunk)).collect();
        for chunk in &step {
            self.begin(chunk);
        }
        for chunk in step.iter().filter(|chunk| chunk.sample) {
            let live = self.live.get_mut(&chunk.seq).expect("planned, so it lives");
            if let Some(guided) = &mut live.guided {
                self.masks.order(chunk.seq, guided, &chunk.draft);
            }
        }
        self.stats.steps += 1;
        self.departed = self.now;
        let ticket = self.backend.submit(&self.network.graph, &Batch { spans });
        self.flight = Some((step, ticket));
    }

    /// Proposes the tokens that grammars leave no choice about, instead of guesses. Together about
    /// as many as may stand beside answers, since they make the step longer for all.
    fn draft_forced(&mut self, beside: usize) {
        let guided = self.live.values().filter(|live| live.guided.is_some()).count();
        if !self.fast_forward || guided == 0 || !self.alone() {
            return;
        }
        let most = (beside / guided).clamp(FORCED_LEAST, FORCED_MAX);
        for (&id, live) in &mut self.live {
            let Some(guided) = live.guided.as_mut().filter(|_| live.started) else { continue };
            let forced = guided.forced(most);
            if !forced.is_empty() {
                self.scheduler.draft(id, &forced);
            }
        }
    }

    /// Whether all that runs decodes: a step with a piece of a prompt is as long as those who read
    /// an answer may wait.
    fn alone(&self) -> bool {
        let tokens = |id| self.scheduler.tokens(id).expect("forgotten together");
        let open = self.scheduler.counts().running < self.running;
        let decodes = |id: &SeqId, live: &Live| tokens(*id).len() > live.prompt;
        !self.live.iter().any(|(id, live)| !decodes(id, live) && (open || live.started))
    }

    fn span(&self, chunk: &Chunk) -> Span {
        let tokens = self.scheduler.tokens(chunk.seq).expect("planned, so it lives");
        let own = chunk.positions.start..chunk.positions.end - chunk.draft.len();
        Span {
            start: chunk.positions.start,
            tokens: [&tokens[own], &chunk.draft].concat(),
            blocks: chunk.blocks.iter().map(|block| block.0).collect(),
            sample: self.live[&chunk.seq].rows(chunk),
            adapters: adapters::applied(&self.live[&chunk.seq].adapters),
            ..Span::default()
        }
    }

    /// Tells whoever starts in this step, and counts.
    fn begin(&mut self, chunk: &Chunk) {
        let live = self.live.get_mut(&chunk.seq).expect("planned, so it lives");
        let prompt = chunk.positions.start.min(live.prompt)..chunk.positions.end.min(live.prompt);
        self.stats.prompt_tokens += prompt.len() as u64;
        if !live.started {
            live.started = true;
            let cached = self.scheduler.cached(chunk.seq);
            self.stats.cached_tokens += cached as u64;
            self.stats.disk_tokens += live.from_disk.min(cached) as u64;
            self.stats.lookup_tokens += if live.shares { live.prompt as u64 } else { 0 };
            live.watch.started(cached);
        }
    }

    /// Chooses the step's tokens and tells; false while the step still runs.
    fn land(&mut self, step: &[Chunk], ticket: Ticket) -> bool {
        let Some(outcomes) = self.choose(step, ticket) else { return false };
        self.learn(step);
        let mut outcomes = outcomes.into_iter();
        let next = |_| outcomes.next().expect("an outcome for every sample");
        for (id, ended) in self.scheduler.apply(step, next) {
            let ending = match ended {
                _ if self.live[&id].failed.is_some() => self.failure(id),
                Ended::Stopped if self.live[&id].withdrawn => Ending::Cancelled,
                Ended::Stopped => Ending::Stopped,
                Ended::Full => Ending::Full,
            };
            self.end(id, ending);
        }
        self.save_beside();
        true
    }

    fn failure(&mut self, id: SeqId) -> Ending {
        let failed = self.live.get_mut(&id).and_then(|live| live.failed.take());
        failed.map_or(Ending::Stopped, Ending::Failed)
    }

    /// What becomes of every sequence that is sampled in the step, in its order.
    fn choose(&mut self, step: &[Chunk], ticket: Ticket) -> Option<Vec<Outcome>> {
        let mut rows = self.backend.poll(ticket)?.chunks_exact(self.network.vocabulary);
        self.masks.gather(|id, guide, masks| {
            if let Some(guided) = self.live.get_mut(&id).and_then(|live| live.guided.as_mut()) {
                guided.returned(guide, masks);
            }
        });
        let (mut outcomes, mut settled) = (Vec::new(), Vec::new());
        for chunk in step {
            let live = self.live.get_mut(&chunk.seq).expect("planned, so it lives");
            let tokens = self.scheduler.tokens(chunk.seq).expect("planned, so it lives");
            live.tell_rows(chunk, &mut rows);
            if live.sampler.is_none() {
                outcomes.extend(chunk.sample.then_some(Outcome::Stop));
                continue;
            }
            if !chunk.sample {
                continue;
            }
            let drafted = chunk.draft.len();
            let own: Vec<&[f32]> = rows.by_ref().take(1 + drafted).collect();
            let chosen = live.choose(tokens, &chunk.draft, &own);
            let accepted = chosen.len() - 1;
            self.stats.generated_tokens += (chosen.len() - usize::from(live.withdrawn)) as u64;
            outcomes.extend(chosen);
            if live.guided.as_ref().is_some_and(|guided| guided.forced) {
                self.stats.forced_tokens += accepted as u64;
                continue;
            }
            settled.push((chunk.seq, drafted, accepted));
        }
        for (id, drafted, accepted) in settled {
            self.settle(id, drafted, accepted);
        }
        Some(outcomes)
    }

    /// Learns from how long a step took.
    fn learn(&mut self, step: &[Chunk]) {
        let Some((departed, now)) = self.departed.zip(self.now) else { return };
        // An answer's, as the scheduler tells them apart: its last token, and what was drafted.
        let answers =
            |chunk: &&Chunk| chunk.sample && chunk.positions.len() == 1 + chunk.draft.len();
        let rows = |chunk: &Chunk| chunk.positions.len();
        let step_rows = Rows {
            answers: step.iter().filter(answers).map(rows).sum(),
            prompts: step.iter().filter(|chunk| !answers(chunk)).map(rows).sum(),
        };
        let took = now.saturating_duration_since(departed);
        self.weigh(step, step_rows.prompts, took);
        self.pace.step(step_rows, took);
    }

    /// Ends whatever still lives, as cancelled.
    pub fn close(mut self) {
        let live = std::mem::take(&mut self.live).into_values();
        live.for_each(|live| live.watch.ended(Ending::Cancelled));
        self.finish();
    }

    fn end(&mut self, id: SeqId, ending: Ending) {
        if let Some(guesser) = &mut self.guesser {
            guesser.forget(id);
        }
        if let Some(live) = self.live.remove(&id) {
            live.watch.ended(ending);
        }
        while let Ok(job) = self.relay.1.try_recv() {
            self.submit(job);
        }
    }
}

/// Why a job ends before its end, if it does.
fn gone(cancelled: &AtomicBool, deadline: Option<Instant>, now: Option<Instant>) -> Option<Ending> {
    let late = deadline.zip(now).is_some_and(|(last, now)| last <= now);
    match cancelled.load(Ordering::Acquire) {
        true => Some(Ending::Cancelled),
        false => late.then_some(Ending::Expired),
    }
}

fn refused(reject: Reject) -> Fault {
    match reject {
        Reject::QueueFull => Fault::busy(Duration::from_secs(RETRY_S), reject.to_string()),
        Reject::Empty | Reject::NeverFits { .. } => Fault::caller(reject.to_string()),
    }
}
