//! A model that reads, with a thread of its own. Texts are tokenized on the caller's thread, and
//! what comes of them is finished there; the encoder's thread only computes, many callers' texts in
//! one step, each as long as it is: nothing is padded.
//!
//! Absent: files, HTTP, and what vectors are compared with.

mod finish;
mod passage;
mod work;

use crate::local::{Arrival, broken};
use crate::resident::writes_only;
use crate::{Footprint, Options};
use finish::Finisher;
use ingle_backend::cpu::{Cpu, Forecast, pool};
use ingle_backend::{BLOCK_TOKENS, Backend, Pages};
use ingle_model::archs::Network;
use ingle_model::gguf::Gguf;
use ingle_model::reading::{Head, Reading};
use ingle_model::tokenizer::Tokenizer;
use ingle_protocol::{Encoded, Encoding, Fault, Finish, Long, Read, Reads, Timings, Usage, Want};
use passage::{Cutter, Piece};
use std::path::Path;
use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;
pub use work::Totals;
use work::{Command, Job, Worker};

/// Tokens of a step, unless one text has more. Enough that reading the weights costs little beside
/// multiplying by them.
const STEP_TOKENS: usize = 1024;
/// Texts of a step.
const STEP_TEXTS: usize = 256;
/// The longest text unless more is asked for: a step holds all of it at once.
const CONTEXT: usize = 8192;
/// The most texts of one request.
const TEXTS_MOST: usize = 1 << 16;
/// How often a caller looks whether it is still wanted.
const LOOK: Duration = Duration::from_millis(50);

/// What a step of a reader takes.
#[derive(Clone, Copy, Debug)]
struct Plan {
    /// Tokens of the longest text.
    context: usize,
    /// Tokens of a step.
    tokens: usize,
    /// KV blocks of a step; every text begins at a block of its own.
    blocks: usize,
}

impl Plan {
    fn of(network: &Network, reading: &Reading, options: &Options) -> Self {
        let most = reading.tokens_most.unwrap_or(usize::MAX).min(network.context).max(1);
        let context = options.context.unwrap_or(CONTEXT).min(most).max(1);
        let tokens = STEP_TOKENS.max(context);
        Self { context, tokens, blocks: tokens.div_ceil(BLOCK_TOKENS) + STEP_TEXTS }
    }
}

/// What a reader can tell of a text.
fn reads(network: &Network, reading: &Reading, plan: Plan) -> Reads {
    let (labels, vectors) = (reading.labels.clone(), network.outputs as u32);
    let mut reads = Reads {
        tokens: plan.context as u32,
        prompts: reading.prompts.iter().map(|(name, _)| name.clone()).collect(),
        ..Reads::default()
    };
    match reading.head {
        Head::Vector => reads.dimensions = vectors,
        Head::Late => (reads.dimensions, reads.late) = (vectors, true),
        Head::Sparse => reads.sparse = true,
        Head::Sequence => reads.labels = labels,
        Head::Tokens => reads.tags = labels,
    }
    reads
}

impl Footprint {
    /// Of a model that reads.
    pub(crate) fn of_reader(
        gguf: &Gguf,
        cpu: &Cpu,
        network: &Network,
        reading: &Reading,
        options: &Options,
    ) -> Self {
        let plan = Plan::of(network, reading, options);
        let memory: Forecast = cpu.forecast(&network.graph, plan.blocks, plan.tokens, STEP_TEXTS);
        Self {
            architecture: gguf.arch().to_owned(),
            context: plan.context,
            chat: false,
            memory,
            reads: Some(reads(network, reading, plan)),
        }
    }
}

/// A loaded model that reads. Dropping it ends its thread; what still runs is cancelled.
#[expect(missing_debug_implementations, reason = "holds a thread")]
pub struct Encoder {
    name: String,
    architecture: String,
    tokenizer: Tokenizer,
    reading: Reading,
    reads: Reads,
    outputs: usize,
    commands: SyncSender<Command>,
    totals: work::Seen,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Encoder {
    /// Loads a model. `progress` hears the share done, 0 to 1.
    ///
    /// # Errors
    /// A fault of ours where the file cannot be run, or is a model that writes.
    pub fn open(
        name: &str,
        path: &Path,
        options: &Options,
        progress: &mut dyn FnMut(f32),
    ) -> Result<Self, Fault> {
        let gguf = options.open(path).map_err(|error| broken(&error))?;
        let tokenizer = Tokenizer::from_gguf(&gguf).map_err(|error| broken(&error))?;
        let threads = options.threads.unwrap_or_else(pool::cores);
        let cpu = Cpu::new(options.kernels(), threads).with_kv(options.kv_type());
        let mut cpu = cpu.with_bytes();
        let network = ingle_model::archs::record(&gguf, &mut cpu, options.context)
            .map_err(|error| broken(&error))?;
        let Some(reading) = network.reading.clone() else {
            return Err(writes_only(name));
        };
        if tokenizer.vocab_len() > network.vocabulary {
            return Err(Fault::ours(format!(
                "the model file has {} tokens and embeddings for {}",
                tokenizer.vocab_len(),
                network.vocabulary
            )));
        }
        let plan = Plan::of(&network, &reading, options);
        let pages = Pages { block_tokens: BLOCK_TOKENS, blocks: plan.blocks };
        cpu.prepare(&network.graph, pages, progress)
            .map_err(|refusal| Fault::ours(refusal.to_string()))?;
        gguf.fault().map_err(|error| broken(&error))?;
        let (reads, outputs) = (reads(&network, &reading, plan), network.outputs);
        let (commands, inbox) = sync_channel(options.waiting.max(1));
        let totals = work::Seen::default();
        let worker = Worker::new(Box::new(cpu), network, plan, totals.clone());
        let thread = std::thread::Builder::new()
            .name("ingle-encoder".into())
            .spawn(move || worker.run(&inbox))
            .map_err(|error| Fault::ours(format!("no thread for the encoder: {error}")))?;
        Ok(Self {
            name: name.to_owned(),
            architecture: gguf.arch().to_owned(),
            tokenizer,
            reading,
            reads,
            outputs,
            commands,
            totals,
            thread: Mutex::new(Some(thread)),
        })
    }

    /// The name it was opened under.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its architecture, as its file names it.
    pub fn architecture(&self) -> &str {
        &self.architecture
    }

    /// What it can tell of a text.
    pub fn reads(&self) -> &Reads {
        &self.reads
    }

    /// Its tokenizer.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// Totals since the start.
    pub fn totals(&self) -> Totals {
        self.totals.now()
    }

    /// Reads texts. Waits until all are read. Batches of several callers are computed together.
    ///
    /// # Errors
    /// A fault of the caller's where this model does not make what is wanted, or a text is too long
    /// and `long` refuses that; late or busy ones where there is no time or place; ours where it
    /// was cancelled.
    pub fn encode(&self, encoding: &Encoding, arrival: &Arrival) -> Result<Encoded, Fault> {
        self.reads.can(&self.name, &encoding.want)?;
        if encoding.adapter.is_some() {
            let message = "adapters are for models that write; this one reads";
            return Err(Fault::caller(message).at("model"));
        }
        if encoding.inputs.len() > TEXTS_MOST {
            let message = format!("at most {TEXTS_MOST} texts are read at a time");
            return Err(Fault::caller(message));
        }
        if matches!(encoding.long, Long::Chunk { .. }) && !matches!(encoding.want, Want::Vector(_))
        {
            return Err(Fault::caller("only for vectors are texts read in pieces"));
        }
        let finisher = Finisher::new(&self.reading, &encoding.want, self.outputs)?;
        let cutter = Cutter::new(&self.tokenizer, &self.reading, &self.reads, encoding)?;
        let texts: Vec<Vec<Piece>> = (0..)
            .zip(&encoding.inputs)
            .map(|(at, passage)| {
                cutter.cut(passage).map_err(|fault| Fault {
                    message: match encoding.inputs.len() {
                        1 => fault.message.clone(),
                        _ => format!("text {at}: {}", fault.message),
                    },
                    ..fault
                })
            })
            .collect::<Result<_, Fault>>()?;
        let tokens = texts.iter().flatten().map(|piece| piece.tokens.len()).sum::<usize>();
        let (rows, queued) = self.compute(encoding, arrival, &texts)?;
        let mut rows = rows.into_iter();
        let read = texts.iter().map(|pieces| {
            let rows: Vec<Vec<f32>> = rows.by_ref().take(pieces.len()).collect();
            Ok(Read {
                output: finisher.finish(pieces, rows)?,
                tokens: pieces.iter().map(|piece| piece.tokens.len() as u32).sum(),
                cut: pieces.iter().any(|piece| piece.cut),
            })
        });
        let read = read.collect::<Result<Vec<Read>, Fault>>()?;
        let usage = Usage { prompt_tokens: tokens as u32, ..Usage::default() };
        let total = arrival.at.elapsed();
        let timings = Timings { load: arrival.load, queued, first_token: total, total };
        Ok(Encoded {
            read,
            labels: self.reading.labels.clone(),
            receipt: crate::local::receipt(&self.name, Finish::Stop, usage, timings),
        })
    }

    /// A row of outputs, or as many as it has tokens, for each piece, and what it waited.
    fn compute(
        &self,
        encoding: &Encoding,
        arrival: &Arrival,
        texts: &[Vec<Piece>],
    ) -> Result<(Vec<Vec<f32>>, Duration), Fault> {
        let deadline = encoding.timeout_ms.map(|ms| arrival.at + Duration::from_millis(ms.into()));
        let (done, outcome) = sync_channel(1);
        // A text of no tokens, which only a model without marks has, is a sum of nothing.
        let read = texts.iter().flatten().filter(|piece| !piece.tokens.is_empty());
        let job = Job {
            pieces: read.cloned().collect(),
            rows: Vec::new(),
            next: 0,
            priority: encoding.priority,
            owner: encoding.owner,
            deadline,
            cancelled: arrival.cancelled.clone(),
            began: None,
            done,
        };
        if job.pieces.is_empty() {
            return Ok((self.with_nothing(texts, Vec::new()), Duration::ZERO));
        }
        let full = || Fault::busy(Duration::from_secs(1), "too many requests wait for this model");
        self.commands.try_send(Command::Run(Box::new(job))).map_err(|_| full())?;
        loop {
            match outcome.recv_timeout(LOOK) {
                Ok(outcome) => {
                    let (rows, began) = outcome?;
                    let waited = began.saturating_duration_since(arrival.at);
                    return Ok((self.with_nothing(texts, rows), waited));
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(Fault::ours("the model was unloaded before it had read all"));
                }
            }
        }
    }
}

impl Encoder {
    /// A row for each piece: those of no tokens have zeros.
    fn with_nothing(&self, texts: &[Vec<Piece>], rows: Vec<Vec<f32>>) -> Vec<Vec<f32>> {
        let mut rows = rows.into_iter();
        let row = |piece: &Piece| {
            let row = if piece.tokens.is_empty() { None } else { rows.next() };
            row.unwrap_or_else(|| vec![0.0; self.outputs])
        };
        texts.iter().flatten().map(row).collect()
    }
}

impl Drop for Encoder {
    fn drop(&mut self) {
        // Dropped or full: then it sees the flag of each job, or ends with its inbox.
        let _ = self.commands.send(Command::Quit);
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            let _ = thread.join();
        }
    }
}
