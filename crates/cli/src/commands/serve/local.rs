//! The engine as a provider: the one place that knows both, since neither may know the other.

use std::time::{SystemTime, UNIX_EPOCH};

use ingle_engine::Local;
use ingle_gateway::{Metric, ModelCard, Provider};
use ingle_model::tokenizer::Special;
use ingle_protocol::{Call, Fault, Request, Sink, Token};

/// A model on this machine, to be asked like any other.
pub(super) struct Engine {
    local: Local,
    created_s: u64,
}

impl Engine {
    pub(super) fn new(local: Local) -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        Self { local, created_s: now.map_or(0, |since| since.as_secs()) }
    }

    /// Ends the model's thread in order.
    pub(super) fn finish(&self) {
        self.local.finish();
    }
}

impl Provider for Engine {
    fn models(&self) -> Vec<ModelCard> {
        let info = self.local.info();
        vec![ModelCard {
            name: info.name.clone(),
            architecture: info.architecture.clone(),
            context_tokens: info.context,
            created_s: self.created_s,
            chat: self.local.chats(),
        }]
    }

    fn send(&self, request: Request, sink: Sink) -> Result<Call, Fault> {
        self.local.send(&request, sink)
    }

    fn tokenize(&self, _model: &str, text: &str, special: bool) -> Result<Vec<Token>, Fault> {
        let special = if special { Special::Parse } else { Special::Plain };
        Ok(self.local.tokenizer().encode(text, special))
    }

    fn detokenize(&self, _model: &str, tokens: &[Token]) -> Result<String, Fault> {
        let vocabulary = self.local.info().vocabulary;
        match tokens.iter().find(|token| **token as usize >= vocabulary) {
            Some(token) => {
                let message = format!("there is no token {token}; ids are below {vocabulary}");
                Err(Fault::caller(message).at("tokens"))
            }
            None => Ok(self.local.tokenizer().decode(tokens)),
        }
    }

    #[rustfmt::skip]
    fn metrics(&self) -> Vec<Metric> {
        let stats = self.local.stats();
        let counts = &stats.counts;
        let rows = [
            ("ingle_engine_sequences_running", "Sequences that were admitted and hold KV blocks.", false, counts.running as f64),
            ("ingle_engine_sequences_waiting", "Sequences that wait.", false, counts.waiting as f64),
            ("ingle_engine_kv_blocks", "KV blocks in all.", false, stats.blocks as f64),
            ("ingle_engine_kv_blocks_used", "KV blocks that running sequences hold.", false, counts.blocks_used as f64),
            ("ingle_engine_kv_blocks_cached", "Free KV blocks that still hold a prefix.", false, counts.blocks_cached as f64),
            ("ingle_engine_preemptions_total", "Sequences that had to make room.", true, counts.preemptions as f64),
            ("ingle_engine_late_total", "Requests whose time was too short, refused or ended.", true, stats.late as f64),
            ("ingle_engine_steps_total", "Steps computed.", true, stats.steps as f64),
            ("ingle_engine_prompt_tokens_total", "Prompt tokens computed.", true, stats.prompt_tokens as f64),
            ("ingle_engine_lookup_tokens_total", "Prompt tokens looked for in the prefix cache.", true, stats.lookup_tokens as f64),
            ("ingle_engine_cached_tokens_total", "Prompt tokens found in the prefix cache, in memory or on disk.", true, stats.cached_tokens as f64),
            ("ingle_engine_disk_tokens_total", "Those of them that were read from disk.", true, stats.disk_tokens as f64),
            ("ingle_engine_generated_tokens_total", "Tokens generated.", true, stats.generated_tokens as f64),
            ("ingle_engine_drafted_tokens_total", "Tokens guessed and tried.", true, stats.drafted_tokens as f64),
            ("ingle_engine_accepted_tokens_total", "Guessed tokens that came true.", true, stats.accepted_tokens as f64),
            ("ingle_engine_forced_tokens_total", "Tokens that a grammar forced, taken without a step of their own.", true, stats.forced_tokens as f64),
            ("ingle_engine_masks_total", "Masks made: what a grammar allows at one position.", true, stats.masks as f64),
            ("ingle_engine_mask_seconds_total", "Time that masks took, beside the steps.", true, stats.masks_ns as f64 / 1e9),
            ("ingle_engine_mask_wait_seconds_total", "Time that steps waited for masks.", true, stats.masks_awaited_ns as f64 / 1e9),
        ];
        let metric = |(name, help, counter, value)| Metric { name, help, counter, value };
        rows.into_iter().map(metric).collect()
    }
}
