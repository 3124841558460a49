//! The loop driven by hand: a core of a small model, jobs, and what is heard of them.

use super::tiny;
use ingle_backend::cpu::Cpu;
use ingle_backend::cpu::kernels::Kernels;
use ingle_engine::sampling::Sampler;
use ingle_engine::{Core, Ending, Job, Options, Rank, Reply, Watch};
use ingle_model::{archs, gguf::Gguf};
use ingle_protocol::{Sampling, Token};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};

pub(crate) fn core(options: &Options) -> Core {
    let file = Gguf::open(&tiny("qwen3")).expect("a sound file");
    let mut cpu = Cpu::new(Kernels::best(), 1);
    let network = archs::record(&file, &mut cpu, None).expect("a known architecture");
    Core::new(Box::new(cpu), network, options, &mut |_| {}).expect("fits")
}

/// What a job heard.
#[derive(Default)]
pub(crate) struct Heard {
    pub(crate) tokens: Vec<Token>,
    pub(crate) positions: Vec<usize>,
    pub(crate) ending: Option<Ending>,
}

/// Writes down what it hears; stops at a token, if one is given.
pub(crate) struct Ear {
    pub(crate) heard: Arc<Mutex<Heard>>,
    pub(crate) stop_after: usize,
}

impl Watch for Ear {
    fn logits(&mut self, position: usize, logits: &[f32]) {
        assert!(logits.iter().all(|logit| logit.is_finite()));
        self.heard.lock().expect("whole").positions.push(position);
    }

    fn token(&mut self, token: Token, _: &[f32]) -> Reply {
        let mut heard = self.heard.lock().expect("whole");
        heard.tokens.push(token);
        if heard.tokens.len() > self.stop_after { Reply::Stop } else { Reply::Continue }
    }

    fn ended(self: Box<Self>, how: Ending) {
        let before = self.heard.lock().expect("whole").ending.replace(how);
        assert_eq!(before, None, "it ends once");
    }
}

/// A job with so many prompt tokens, what will be heard of it, and how to cancel it.
pub(crate) fn job(prompt: usize, new_max: usize) -> (Job, Arc<Mutex<Heard>>, Arc<AtomicBool>) {
    let (heard, cancelled) = (Arc::<Mutex<Heard>>::default(), Arc::<AtomicBool>::default());
    let rules = Sampling { temperature: 0.0, ..Sampling::default() };
    let job = Job {
        prompt: (0..prompt as Token).map(|at| at % 256).collect(),
        new_max,
        sampler: Some(Sampler::new(&rules, 0)),
        scores: false,
        guide: None,
        salt: None,
        adapters: Vec::new(),
        rank: Rank::default(),
        deadline: None,
        cancelled: Arc::clone(&cancelled),
        watch: Box::new(Ear { heard: Arc::clone(&heard), stop_after: usize::MAX }),
    };
    (job, heard, cancelled)
}

pub(crate) fn ending(heard: &Mutex<Heard>) -> Option<Ending> {
    heard.lock().expect("whole").ending.clone()
}

pub(crate) fn finish(core: &mut Core) {
    let most = 10_000;
    assert!(
        (0..most).any(|_| core.idle() || {
            core.turn();
            false
        }),
        "it never ends"
    );
}
