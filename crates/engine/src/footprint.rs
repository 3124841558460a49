//! What a model file will take in memory, and what it is, told without loading it: its graph is
//! recorded and thrown away, no weight is read. Not counted: the tokenizer's tables, the program
//! itself, and the mapped file's pages, which the system takes back at will.

use crate::core::room;
use crate::core::scored::rows_most;
use crate::draft::pair;
use crate::local::{broken, unusable};
use crate::{AdapterFile, Options};
use ingle_backend::Backend;
use ingle_backend::cpu::{Cpu, Forecast};
use ingle_model::archs::Targets;
use ingle_model::gguf::Gguf;
use ingle_model::lora::{Lora, Planned};
use ingle_protocol::{Fault, Reads};
use std::path::Path;

/// A model file, before it is loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Footprint {
    /// Its architecture, as its file names it.
    pub architecture: String,
    /// The longest prompt and answer together, in tokens, with these options.
    pub context: usize,
    /// Whether it has a chat template.
    pub chat: bool,
    /// Memory that it takes, in bytes.
    pub memory: Forecast,
    /// What it tells of texts, where it reads and does not write.
    pub reads: Option<Reads>,
}

/// Bytes that the options' adapters take.
fn adapters(options: &Options, targets: &Targets) -> Result<u64, Fault> {
    let one = |file: &AdapterFile| {
        let wrong = |error| unusable(&file.name, &error);
        let lora = Lora::open(&file.path).map_err(wrong)?;
        let planned = lora.plan(targets).map_err(wrong)?;
        let shapes = planned.iter().map(Planned::shape);
        Ok(shapes.map(|(rank, rows, cols)| Cpu::delta_bytes(rank, rows, cols)).sum::<u64>())
    };
    options.adapters.iter().map(one).sum()
}

impl Footprint {
    /// Reads a model file's head. The same options have to be given when it is loaded.
    pub fn of(path: &Path, options: &Options) -> Result<Self, Fault> {
        let gguf = options.open(path).map_err(|error| broken(&error))?;
        let mut cpu = Cpu::new(options.kernels(), 1).with_kv(options.kv_type());
        let network = ingle_model::archs::record(&gguf, &mut cpu, options.context)
            .map_err(|error| broken(&error))?;
        if let Some(reading) = &network.reading {
            if !options.adapters.is_empty() {
                let message = "adapters are for models that write, and this one reads";
                return Err(Fault::caller(message).at("lora"));
            }
            return Ok(Self::of_reader(&gguf, &cpu, &network, reading, options));
        }
        let (step, rows) = (options.step_tokens.max(1), rows_most(options.running));
        let mut memory = Forecast::default();
        let mut options = options.clone();
        if let Some(path) = options.draft.take() {
            let gguf = Gguf::open(&path).map_err(|error| broken(&error))?;
            let mut second = cpu.beside();
            let network = pair::record(&gguf, &mut second, options.context)?;
            let block_bytes = second.block_bytes();
            let bytes;
            (options, bytes) = pair::shares(&options, &network, block_bytes)?;
            memory = second.forecast(&network.graph, bytes / block_bytes.max(1), step, rows);
        }
        let (blocks, context) = room(&options, &network, cpu.block_bytes())?;
        let first = cpu.forecast(&network.graph, blocks, step, rows);
        memory.weights += first.weights + adapters(&options, &network.targets)?;
        memory.cache += first.cache;
        memory.activations += first.activations;
        Ok(Self {
            architecture: gguf.arch().to_owned(),
            context,
            chat: gguf.str("tokenizer.chat_template").is_ok(),
            memory,
            reads: None,
        })
    }
}
