//! A core whose clock is made up: each step of a model moves it on by what that model is said to
//! cost, so that what is guessed, and what it saves, is the same on every machine.

use ingle_backend::cpu::Cpu;
use ingle_backend::cpu::kernels::Kernels;
use ingle_backend::{
    Adapter, Backend, Batch, Buffer, Bytes, Cache, Delta, Format, Graph, Pages, Refusal, Rows,
    Ticket, Weight,
};
use ingle_engine::sampling::Sampler;
use ingle_engine::{Core, Ending, Job, Options, Rank, Reply, Speculation, Watch};
use ingle_model::{archs, gguf::Gguf};
use ingle_protocol::{Sampling, Token};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Microseconds of a step of one token, and of each more.
#[derive(Clone, Copy)]
pub(crate) struct Cost(pub(crate) u64, pub(crate) u64);

/// What a model costs, and what one costs that guesses cheaply.
pub(crate) const FIRST: Cost = Cost(10_000, 700);
pub(crate) const SECOND: Cost = Cost(1_000, 50);

/// A backend whose steps take a time that is known.
struct Clocked {
    cpu: Cpu,
    clock: Arc<AtomicU64>,
    cost: Cost,
}

impl Backend for Clocked {
    fn weight(
        &mut self,
        format: Format,
        rows: usize,
        cols: usize,
        bytes: Bytes,
    ) -> Result<Weight, Refusal> {
        self.cpu.weight(format, rows, cols, bytes)
    }

    fn alloc(&mut self, rows: Rows, width: usize) -> Buffer {
        self.cpu.alloc(rows, width)
    }

    fn cache(&mut self, heads: usize, dim: usize) -> Cache {
        self.cpu.cache(heads, dim)
    }

    fn prepare(
        &mut self,
        graph: &Graph,
        pages: Pages,
        progress: &mut dyn FnMut(f32),
    ) -> Result<(), Refusal> {
        self.cpu.prepare(graph, pages, progress)
    }

    fn adapt(&mut self, deltas: &[Delta]) -> Result<Adapter, Refusal> {
        self.cpu.adapt(deltas)
    }

    fn release(&mut self, adapter: Adapter) {
        self.cpu.release(adapter);
    }

    fn submit(&mut self, graph: &Graph, batch: &Batch) -> Ticket {
        let Cost(step, row) = self.cost;
        self.clock.fetch_add(step + row * (batch.tokens() as u64 - 1), Ordering::Relaxed);
        self.cpu.submit(graph, batch)
    }

    fn poll(&mut self, ticket: Ticket) -> Option<&[f32]> {
        self.cpu.poll(ticket)
    }

    fn block_bytes(&self) -> usize {
        self.cpu.block_bytes()
    }

    fn save(&self, block: u32, bytes: &mut Vec<u8>) {
        self.cpu.save(block, bytes);
    }

    fn restore(&mut self, block: u32, bytes: &[u8]) {
        self.cpu.restore(block, bytes);
    }
}

/// A core and its clock.
pub(crate) struct Machine {
    pub(crate) core: Core,
    pub(crate) clock: Arc<AtomicU64>,
    pub(crate) began: Instant,
}

/// The second model of a machine.
#[derive(Clone, Copy)]
pub(crate) struct Second<'a> {
    pub(crate) path: &'a Path,
    pub(crate) cost: Cost,
    pub(crate) kv_bytes: usize,
}

impl Machine {
    pub(crate) fn new(path: &Path, second: Option<Second<'_>>, options: &Options) -> Self {
        let clock = Arc::<AtomicU64>::default();
        let model = |path: &Path, cpu: Cpu, cost| {
            let file = Gguf::open(path).expect("a sound file");
            let mut backend = Box::new(Clocked { cpu, clock: Arc::clone(&clock), cost });
            let network = archs::record(&file, &mut *backend, None).expect("a known architecture");
            (backend, network)
        };
        let cpu = Cpu::new(Kernels::best(), 2);
        let beside = cpu.beside();
        let (backend, network) = model(path, cpu, FIRST);
        let speculation = match (second, options.speculation) {
            (None, Speculation::Draft) => Speculation::None,
            (_, asked) => asked,
        };
        let options = Options { speculation, ..options.clone() };
        let mut core = Core::new(backend, network, &options, &mut |_| {}).expect("fits");
        if let Some(Second { path, cost, kv_bytes }) = second {
            let (backend, network) = model(path, beside, cost);
            core.guess_with(backend, network, kv_bytes, &mut |_| {}).expect("fits");
        }
        Self { core, clock, began: Instant::now() }
    }

    pub(crate) fn micros(&self) -> u64 {
        self.clock.load(Ordering::Relaxed)
    }

    pub(crate) fn turn(&mut self) {
        self.core.set_time(self.began + Duration::from_micros(self.micros()));
        self.core.turn();
    }

    /// Asks for all of these at once, and says what each was told.
    pub(crate) fn answer(&mut self, asked: &[Asked]) -> Vec<Heard> {
        let heard: Vec<_> = asked.iter().map(|asked| asked.submit(&mut self.core).0).collect();
        self.finish();
        heard.iter().map(|heard| heard.lock().expect("whole").clone()).collect()
    }

    pub(crate) fn finish(&mut self) {
        let ends = (0..100_000).any(|_| {
            self.turn();
            self.core.idle()
        });
        assert!(ends, "it never ends");
        assert_eq!(self.core.stats().draft_blocks.0, 0, "nobody is followed any more");
    }
}

/// What a job was told: each token, with the bits of its logits added up, and how it ended.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Heard {
    pub(crate) tokens: Vec<(Token, u64)>,
    /// Before its last token.
    pub(crate) logits: Vec<f32>,
    pub(crate) ending: Option<Ending>,
}

impl Heard {
    pub(crate) fn said(&self) -> Vec<Token> {
        self.tokens.iter().map(|(token, _)| *token).collect()
    }
}

struct Ear {
    heard: Arc<Mutex<Heard>>,
    stop: Option<Token>,
}

impl Watch for Ear {
    fn token(&mut self, token: Token, logits: &[f32]) -> Reply {
        let mix = |sum: u64, logit: &f32| sum.rotate_left(5) ^ u64::from(logit.to_bits());
        let bits = logits.iter().fold(0, mix);
        let mut heard = self.heard.lock().expect("whole");
        heard.tokens.push((token, bits));
        heard.logits = logits.to_vec();
        if self.stop == Some(token) { Reply::Stop } else { Reply::Continue }
    }

    fn ended(self: Box<Self>, how: Ending) {
        let before = self.heard.lock().expect("whole").ending.replace(how);
        assert_eq!(before, None, "it ends once");
    }
}

/// A sequence to ask for.
#[derive(Clone)]
pub(crate) struct Asked {
    pub(crate) prompt: Vec<Token>,
    pub(crate) new_max: usize,
    pub(crate) rules: Sampling,
    pub(crate) seed: u64,
    pub(crate) stop: Option<Token>,
}

impl Asked {
    pub(crate) fn submit(&self, core: &mut Core) -> (Arc<Mutex<Heard>>, Arc<AtomicBool>) {
        let (heard, cancelled) = (Arc::<Mutex<Heard>>::default(), Arc::<AtomicBool>::default());
        core.submit(Job {
            prompt: self.prompt.clone(),
            new_max: self.new_max,
            sampler: Some(Sampler::new(&self.rules, self.seed)),
            scores: false,
            guide: None,
            salt: Some(String::new()),
            adapters: Vec::new(),
            rank: Rank::default(),
            deadline: None,
            cancelled: Arc::clone(&cancelled),
            watch: Box::new(Ear { heard: Arc::clone(&heard), stop: self.stop }),
        });
        (heard, cancelled)
    }
}
