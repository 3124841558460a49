//! A model's ops, timed: the engine's steps without the engine, since between two ops there is
//! nothing of a request left.

use std::ops::Range;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::Instant;

use ingle_backend::cpu::{Cpu, OpTime, machine};
use ingle_backend::{BLOCK_TOKENS, Backend, Batch, Op, Pages, Role, Sample, Shapes, Span};
use ingle_engine::Options;
use ingle_model::archs::{self, Network};
use ingle_model::gguf::Gguf;

use super::roof::{Limits, Line};
use crate::ui::{Interrupted, Usage, interrupted};

/// The machine's limits, and what reached them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Machine {
    /// What it can do.
    pub(super) limits: Limits,
    /// The instructions that multiplied bytes fastest.
    pub(super) bytes_by: &'static str,
    /// The instructions that multiplied floats fastest.
    pub(super) floats_by: &'static str,
    /// Seconds that a barrier takes.
    pub(super) barrier: f64,
    /// How alike the limits came out at both times that they were measured; 1 is the same.
    pub(super) steadiness: f64,
}

impl Machine {
    /// Measures this one; takes a second.
    pub(super) fn measure(threads: usize) -> Self {
        let (bytes, floats) = (machine::byte_products(threads), machine::float_products(threads));
        let limits = Limits {
            bandwidth: machine::read_bandwidth(threads),
            bytes: bytes.per_second,
            floats: floats.per_second,
        };
        let barrier = machine::barrier(threads);
        Self { limits, bytes_by: bytes.by, floats_by: floats.by, barrier, steadiness: 1.0 }
    }

    /// The best of two measurements, since whatever else runs only makes it worse.
    pub(super) fn best(self, other: Self) -> Self {
        let (a, b) = (self.limits, other.limits);
        let pairs = [(a.bandwidth, b.bandwidth), (a.bytes, b.bytes), (a.floats, b.floats)];
        let [bandwidth, bytes, floats] = pairs.map(|(a, b)| a.max(b));
        let alike = pairs.iter().map(|(a, b)| a.min(*b) / a.max(*b));
        Self {
            limits: Limits { bandwidth, bytes, floats },
            bytes_by: if a.bytes >= b.bytes { self.bytes_by } else { other.bytes_by },
            floats_by: if a.floats >= b.floats { self.floats_by } else { other.floats_by },
            barrier: self.barrier.min(other.barrier),
            steadiness: alike.fold(1.0, f64::min),
        }
    }
}

/// How many tokens, and how often.
#[derive(Clone, Copy, Debug)]
pub(super) struct Plan {
    /// Tokens of the prompt.
    pub(super) prompt: usize,
    /// Tokens before the one that is decoded.
    pub(super) used: usize,
    /// Times that each phase is measured.
    pub(super) repeat: usize,
}

/// The tokens that a phase has where none are given, if the model takes so many.
const USUAL: usize = 512;

impl Plan {
    /// Fits what was asked for to the model's context, or refuses.
    pub(super) fn fit(
        prompt: Option<u32>,
        used: Option<u32>,
        repeat: u16,
        context: usize,
    ) -> Result<Self, Usage> {
        let fit = |asked: Option<u32>, most: usize, flag: &str| match asked.map(|n| n as usize) {
            Some(asked) if asked > most => Err(Usage(format!(
                "{flag} {asked} is more than fits: the model's context has {context} tokens, so at \
                 most {most} are possible here"
            ))),
            asked => Ok(asked.unwrap_or(USUAL.min(most))),
        };
        Ok(Self {
            prompt: fit(prompt, context, "--prompt")?,
            used: fit(used, context.saturating_sub(1), "--context-used")?,
            repeat: usize::from(repeat),
        })
    }
}

/// One way of using a model, measured.
#[derive(Clone, Debug)]
pub(super) struct Phase {
    /// What programs call it.
    pub(super) name: &'static str,
    /// Its tokens.
    pub(super) tokens: usize,
    /// The tokens before them.
    pub(super) used: usize,
    /// Its ops.
    pub(super) lines: Vec<Line>,
    /// What it takes without clocks beside the ops, in seconds.
    pub(super) seconds: f64,
}

/// A model that is ready to be measured.
#[derive(Debug)]
pub(super) struct Bench {
    cpu: Cpu,
    network: Network,
    shapes: Shapes,
}

impl Bench {
    /// Loads a model file for as many tokens as the plan has.
    pub(super) fn open(
        path: &Path,
        mut cpu: Cpu,
        plan: impl FnOnce(usize) -> Result<Plan, Usage>,
    ) -> anyhow::Result<(Self, Plan)> {
        let gguf = Gguf::open(path)?;
        let network = archs::record(&gguf, &mut cpu, None)?;
        let plan = plan(network.context)?;
        let blocks = plan.prompt.max(plan.used + 1).div_ceil(BLOCK_TOKENS);
        let pages = Pages { block_tokens: BLOCK_TOKENS, blocks };
        cpu.prepare(&network.graph, pages, &mut |_| {})?;
        let shapes = cpu.shapes();
        Ok((Self { cpu, network, shapes }, plan))
    }

    /// Bytes of the matrices that a step multiplies by: in the file, and as the kernels have them.
    pub(super) fn weight_bytes(&self) -> (usize, usize) {
        let multiplied = self.network.graph.ops.iter().flat_map(Op::multiplies_by);
        let once: std::collections::HashSet<_> = multiplied.collect();
        (self.network.weight_bytes, once.iter().map(|w| self.shapes.weight(*w).held).sum())
    }

    /// Measures the reading of a prompt, then the making of a token; `note` hears what comes next.
    pub(super) fn measure(
        &mut self,
        plan: Plan,
        barrier: f64,
        note: &dyn Fn(&str),
    ) -> anyhow::Result<[Phase; 2]> {
        note("measuring prefill");
        let prefill = self.steps(0..plan.prompt, true);
        let prefill = ("prefill", plan.prompt, 0, prefill);
        let prefill = self.phase(prefill, plan.repeat, barrier)?;
        if plan.used > plan.prompt {
            note("filling the context");
            // Memory that was never written is read from one page, and so from the cache.
            for batch in self.steps(plan.prompt..plan.used, false) {
                self.submit(&batch)?;
            }
        }
        note("measuring decode");
        let decode = self.steps(plan.used..plan.used + 1, true);
        // A step of one token is short, so that more of them take no longer.
        let decode = self.phase(("decode", 1, plan.used, decode), 10 * plan.repeat, barrier)?;
        Ok([decode, prefill])
    }

    fn steps(&self, positions: Range<usize>, sampled: bool) -> Vec<Batch> {
        steps(positions, sampled, Options::default().step_tokens, self.network.vocabulary)
    }

    fn submit(&mut self, batch: &Batch) -> anyhow::Result<()> {
        if interrupted().load(Ordering::Relaxed) {
            return Err(Interrupted.into());
        }
        let ticket = self.cpu.submit(&self.network.graph, batch);
        while self.cpu.poll(ticket).is_none() {
            std::thread::yield_now();
        }
        Ok(())
    }

    /// Runs the steps of a phase some times, by turns with and without clocks, after one warm-up.
    fn phase(
        &mut self,
        (name, tokens, used, steps): (&'static str, usize, usize, Vec<Batch>),
        repeat: usize,
        barrier: f64,
    ) -> anyhow::Result<Phase> {
        let mut plain = Vec::new();
        let mut clocked: Vec<Vec<OpTime>> = Vec::new();
        for turn in 0..=repeat {
            let start = Instant::now();
            for batch in &steps {
                self.submit(batch)?;
            }
            let passed = start.elapsed().as_secs_f64();
            let mut times = vec![OpTime::default(); self.network.graph.ops.len()];
            for batch in &steps {
                for (sum, time) in
                    times.iter_mut().zip(self.cpu.profile(&self.network.graph, batch))
                {
                    sum.seconds += time.seconds;
                    sum.waiting += time.waiting;
                    sum.barriers += time.barriers;
                }
            }
            if turn > 0 {
                plain.push(passed);
                clocked.push(times);
            }
        }
        let lines = self.lines(&steps, &clocked, barrier);
        Ok(Phase { name, tokens, used, lines, seconds: median(plain) })
    }

    /// Costs beside medians of times.
    fn lines(&self, steps: &[Batch], clocked: &[Vec<OpTime>], barrier: f64) -> Vec<Line> {
        let graph = &self.network.graph;
        let roles = graph.roles();
        let layers = layers(&roles);
        let line = |at: usize| {
            let cost = steps
                .iter()
                .map(|batch| graph.ops[at].cost(&self.shapes, batch))
                .fold(Default::default(), |sum, cost| sum + cost);
            let of =
                |get: fn(&OpTime) -> f64| median(clocked.iter().map(|t| get(&t[at])).collect());
            let seconds = of(|time| time.seconds);
            // What is waited at barriers within an op is not seen: that much at least.
            let within = of(|time| time.barriers as f64) * barrier;
            let overhead = (of(|time| time.waiting) + within).min(seconds);
            Line { role: roles[at], layer: layers[at], cost, seconds, overhead }
        };
        (0..graph.ops.len()).map(line).collect()
    }
}

/// The steps in which an engine would compute these positions, `most` a step, by tokens of no
/// meaning; the last one is sampled, if any is.
fn steps(positions: Range<usize>, sampled: bool, most: usize, vocabulary: usize) -> Vec<Batch> {
    let token = |position: usize| (position.wrapping_mul(7919) % vocabulary) as u32;
    let step = |start: usize| {
        let end = positions.end.min(start + most);
        let sample = if sampled && end == positions.end { Sample::Last } else { Sample::None };
        let blocks = (0..end.div_ceil(BLOCK_TOKENS) as u32).collect();
        let tokens = (start..end).map(token).collect();
        Batch { spans: vec![Span { start, tokens, blocks, sample, ..Span::default() }] }
    };
    positions.clone().step_by(most).map(step).collect()
}

/// Which layer each op stands in: one begins where queries, keys and values are made, and the last
/// ends before the rows to sample are picked.
fn layers(roles: &[Role]) -> Vec<Option<usize>> {
    let (mut layer, mut attended) = (None, true);
    let mut of = |role: &Role| {
        match role {
            Role::Qkv if attended => {
                layer = Some(layer.map_or(0, |layer| layer + 1));
                attended = false;
            }
            Role::Attention => attended = true,
            Role::Gather | Role::Logits => layer = None,
            _ => {}
        }
        layer
    };
    roles.iter().map(&mut of).collect()
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let half = values.len() / 2;
    match (values.get(half.saturating_sub(1)), values.get(half)) {
        (Some(below), Some(above)) if values.len().is_multiple_of(2) => (below + above) / 2.0,
        (_, Some(middle)) => *middle,
        _ => 0.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_begin_with_their_first_product() {
        use Role::*;
        let roles = [
            Embed, Angles, Qkv, Qkv, Rope, Attention, Output, GateUp, Down, Qkv, Attention, Down,
            Gather, Logits,
        ];
        let [no, a, b] = [None, Some(0), Some(1)];
        assert_eq!(layers(&roles), [no, no, a, a, a, a, a, a, a, b, b, b, no, no]);
    }

    #[test]
    fn long_prompts_are_read_in_steps() {
        let check = |positions, sampled, expect: &[(usize, usize, usize, Sample)]| {
            let steps = steps(positions, sampled, 20, 7);
            let told = steps.iter().map(|batch| {
                let span = &batch.spans[0];
                assert!(span.tokens.iter().all(|token| *token < 7), "{span:?}");
                (span.start, span.tokens.len(), span.blocks.len(), span.sample)
            });
            assert_eq!(told.collect::<Vec<_>>(), expect);
        };
        check(0..20, true, &[(0, 20, 2, Sample::Last)]);
        check(0..33, true, &[(0, 20, 2, Sample::None), (20, 13, 3, Sample::Last)]);
        check(40..41, true, &[(40, 1, 3, Sample::Last)]);
        check(20..40, false, &[(20, 20, 3, Sample::None)]);
    }

    #[test]
    fn plans_fit_the_context() {
        let check = |prompt, used, context, expect: Result<(usize, usize), &str>| {
            let plan = Plan::fit(prompt, used, 3, context);
            match (plan, expect) {
                (Ok(plan), Ok(expect)) => assert_eq!((plan.prompt, plan.used), expect),
                (Err(Usage(text)), Err(words)) => assert!(text.contains(words), "{text}"),
                (plan, expect) => panic!("{plan:?}, not {expect:?}"),
            }
        };
        check(None, None, 8192, Ok((512, 512)));
        check(None, None, 64, Ok((64, 63)));
        check(Some(64), Some(63), 64, Ok((64, 63)));
        check(Some(65), None, 64, Err("--prompt 65"));
        check(None, Some(64), 64, Err("--context-used 64"));
    }

    #[test]
    fn the_better_measurement_counts() {
        let of = |bandwidth, bytes, bytes_by, barrier| {
            let limits = Limits { bandwidth, bytes, floats: 1.0 };
            Machine { limits, bytes_by, floats_by: "f", barrier, steadiness: 1.0 }
        };
        let best = of(10.0, 80.0, "a", 2.0).best(of(20.0, 60.0, "b", 1.0));
        let Limits { bandwidth, bytes, .. } = best.limits;
        assert_eq!((bandwidth, bytes, best.bytes_by, best.barrier), (20.0, 80.0, "a", 1.0));
        assert_eq!(best.steadiness, 0.5);
    }

    #[test]
    fn medians() {
        assert_eq!(median(vec![3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(vec![4.0, 1.0, 2.0, 3.0]), 2.5);
        assert_eq!(median(vec![]), 0.0);
    }
}
