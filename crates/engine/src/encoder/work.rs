//! The encoder's thread: texts of all callers, so many tokens a step. Who has waited takes turns
//! with who came later, text by text, so that a large request does not hold up a small one.

use super::{Plan, STEP_TEXTS, passage::Piece};
use ingle_backend::{BLOCK_TOKENS, Backend, Batch, Rows, Sample, Span};
use ingle_model::archs::Network;
use ingle_model::reading::Head;
use ingle_protocol::Fault;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError};
use std::time::{Duration, Instant};

pub(super) enum Command {
    Run(Box<Job>),
    Quit,
}

/// A row of outputs, or as many as it has tokens, for each piece; and when the first began.
pub(super) type Computed = (Vec<Vec<f32>>, Instant);

/// What one request wants computed.
pub(super) struct Job {
    pub(super) pieces: Vec<Piece>,
    /// What came of the first of them.
    pub(super) rows: Vec<Vec<f32>>,
    /// The first that is not in a step yet.
    pub(super) next: usize,
    pub(super) priority: i32,
    pub(super) owner: u32,
    pub(super) deadline: Option<Instant>,
    pub(super) cancelled: Arc<AtomicBool>,
    pub(super) began: Option<Instant>,
    pub(super) done: SyncSender<Result<Computed, Fault>>,
}

impl Job {
    /// Why nothing more of it is computed.
    fn over(&self, now: Instant) -> Option<Fault> {
        if self.cancelled.load(Ordering::Acquire) {
            return Some(Fault::ours("the request was cancelled"));
        }
        let late = self.deadline.is_some_and(|deadline| now >= deadline);
        late.then(|| Fault::late(Duration::from_secs(1), "the time that was given is over"))
    }
}

/// Totals since an encoder's start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Texts read; one that is read in pieces counts each.
    pub texts: u64,
    /// Their tokens.
    pub tokens: u64,
    /// Steps computed.
    pub steps: u64,
}

/// [`Totals`], as the thread counts them and others see them.
#[derive(Clone, Debug, Default)]
pub(super) struct Seen(Arc<[AtomicU64; 3]>);

impl Seen {
    pub(super) fn now(&self) -> Totals {
        let [texts, tokens, steps] = [0, 1, 2].map(|at| self.0[at].load(Ordering::Relaxed));
        Totals { texts, tokens, steps }
    }

    fn count(&self, texts: usize, tokens: usize) {
        for (at, more) in [texts, tokens, 1].into_iter().enumerate() {
            self.0[at].fetch_add(more as u64, Ordering::Relaxed);
        }
    }
}

pub(super) struct Worker {
    backend: Box<dyn Backend>,
    network: Network,
    plan: Plan,
    /// Whose turn it is comes first.
    jobs: VecDeque<Box<Job>>,
    totals: Seen,
}

impl Worker {
    pub(super) fn new(
        backend: Box<dyn Backend>,
        network: Network,
        plan: Plan,
        totals: Seen,
    ) -> Self {
        Self { backend, network, plan, jobs: VecDeque::new(), totals }
    }

    /// Until it is told to quit, or nobody is left who could tell it.
    pub(super) fn run(mut self, inbox: &Receiver<Command>) {
        loop {
            let command = if self.jobs.is_empty() {
                inbox.recv().map_err(|_| TryRecvError::Disconnected)
            } else {
                inbox.try_recv()
            };
            match command {
                Ok(Command::Run(job)) => self.jobs.push_back(job),
                Ok(Command::Quit) | Err(TryRecvError::Disconnected) => return,
                Err(TryRecvError::Empty) => self.step(),
            }
        }
    }

    fn step(&mut self) {
        self.drop_ended();
        let (batch, whose) = self.fill();
        if whose.is_empty() {
            return;
        }
        let ticket = self.backend.submit(&self.network.graph, &batch);
        let rows = loop {
            match self.backend.poll(ticket) {
                Some(rows) => break rows,
                None => std::thread::yield_now(),
            }
        };
        let per_token = self
            .network
            .reading
            .as_ref()
            .is_some_and(|reading| matches!(reading.head, Head::Late | Head::Tokens));
        let kind = if per_token { Rows::Tokens } else { Rows::Spans };
        let width = self.network.outputs;
        let mut at = 0;
        for (job, span) in whose.iter().zip(&batch.spans) {
            let count = if kind == Rows::Tokens { span.tokens.len() } else { 1 };
            let floats = &rows[at * width..(at + count) * width];
            self.jobs[*job].rows.push(floats.to_vec());
            at += count;
        }
        self.totals.count(whose.len(), batch.tokens());
        self.deliver();
    }

    /// Ends what nobody waits for.
    fn drop_ended(&mut self) {
        let now = Instant::now();
        self.jobs.retain(|job| match job.over(now) {
            Some(fault) => {
                let _ = job.done.send(Err(fault));
                false
            }
            None => true,
        });
    }

    /// The next texts, and whose they are: of the most urgent jobs, one of each owner in turns.
    fn fill(&mut self) -> (Batch, Vec<usize>) {
        let Some(urgent) = self.jobs.iter().map(|job| job.priority).min() else {
            return (Batch::default(), Vec::new());
        };
        let (mut batch, mut whose) = (Batch::default(), Vec::new());
        let (mut tokens, mut block) = (0, 0);
        let mut full = false;
        while !full {
            let before = whose.len();
            let mut owners: Vec<u32> = Vec::new();
            for (at, job) in self.jobs.iter_mut().enumerate() {
                let Some(piece) = job.pieces.get(job.next).filter(|_| job.priority == urgent)
                else {
                    continue;
                };
                if owners.contains(&job.owner) {
                    continue;
                }
                owners.push(job.owner);
                let len = piece.tokens.len();
                let blocks = len.div_ceil(BLOCK_TOKENS);
                let fits = tokens + len <= self.plan.tokens
                    && block + blocks <= self.plan.blocks
                    && whose.len() < STEP_TEXTS;
                if !fits && !whose.is_empty() {
                    full = true;
                    break;
                }
                job.began.get_or_insert_with(Instant::now);
                job.next += 1;
                batch.spans.push(Span {
                    start: 0,
                    tokens: piece.tokens.clone(),
                    blocks: (block as u32..(block + blocks) as u32).collect(),
                    sample: Sample::None,
                    second: piece.second,
                    ..Span::default()
                });
                whose.push(at);
                (tokens, block) = (tokens + len, block + blocks);
            }
            full |= whose.len() == before;
        }
        (batch, whose)
    }

    /// Answers those of whom all is computed; the others' turns go round.
    fn deliver(&mut self) {
        self.jobs.retain_mut(|job| {
            let done = job.rows.len() == job.pieces.len();
            if done {
                let began = job.began.unwrap_or_else(Instant::now);
                let _ = job.done.send(Ok((std::mem::take(&mut job.rows), began)));
            }
            !done
        });
        if self.jobs.len() > 1 {
            self.jobs.rotate_left(1);
        }
    }
}
