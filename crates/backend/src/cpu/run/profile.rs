//! A step with a clock beside each op. Ops keep the order and stages that they have without it, and
//! all threads meet after each stage; a clock is read once an op and thread, outside of what is
//! computed. What a kernel does inside of an op is not seen, nor what it saves that one thread does
//! small ops alone.

use super::product::PRIVATE_ROWS;
use super::{Cpu, Op, Step, step_by, width_of};
use crate::cpu::pool::Member;
use crate::{Batch, Graph};
use std::ops::Range;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

/// One op's share of a step's time.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct OpTime {
    /// Seconds that passed: of its stage's time, the share that the threads together spent in it.
    pub seconds: f64,
    /// Of them, what a thread waited for the others or for its start, on average.
    pub waiting: f64,
    /// Barriers within it, whose waiting is not part of `waiting`.
    pub barriers: usize,
}

/// What one thread's clock showed, in seconds.
#[derive(Clone, Debug, Default)]
struct Clock {
    /// How long it was in each op.
    busy: Vec<f64>,
    /// When it was at the barrier before the first stage, and at the one after each.
    arrived: Vec<f64>,
}

pub(in crate::cpu) fn profile(
    cpu: &mut Cpu,
    graph: &Graph,
    batch: &Batch,
    samples: Vec<usize>,
) -> Vec<OpTime> {
    let clocks: Vec<Mutex<Clock>> = (0..cpu.threads()).map(|_| Mutex::default()).collect();
    let barriers = barriers(cpu, graph, batch.tokens(), samples.len());
    let start = Instant::now();
    step_by(cpu, graph, batch, samples, &|step, member| {
        let clock = walk(step, member, start);
        *clocks[member.index].lock().unwrap_or_else(PoisonError::into_inner) = clock;
    });
    let clocks: Vec<Clock> = clocks
        .into_iter()
        .map(|clock| clock.into_inner().unwrap_or_else(PoisonError::into_inner))
        .collect();
    let mut times = shares(&cpu.stages, &clocks);
    for (time, barriers) in times.iter_mut().zip(barriers) {
        time.barriers = barriers;
    }
    times
}

/// [`Step::walk`], with a clock that all threads share.
fn walk(step: &Step<'_>, member: Member<'_>, start: Instant) -> Clock {
    let now = || start.elapsed().as_secs_f64();
    let scratch = &step.cpu.scratch[member.index];
    let mut scratch = scratch.lock().unwrap_or_else(PoisonError::into_inner);
    let mut clock = Clock { busy: vec![0.0; step.graph.ops.len()], arrived: vec![now()] };
    member.barrier();
    for stage in &step.cpu.stages {
        let mut before = now();
        for at in stage.clone() {
            step.op(at, member, &mut scratch);
            let after = now();
            clock.busy[at] = after - before;
            before = after;
        }
        clock.arrived.push(before);
        member.barrier();
    }
    clock
}

/// Each stage's time shared among its ops. A stage lasts from when the last thread arrived at the
/// barrier before it until the last arrives at the one after it: a thread that wakes late from a
/// barrier must not take the time of what the others did meanwhile for the stage before.
fn shares(stages: &[Range<usize>], clocks: &[Clock]) -> Vec<OpTime> {
    let ops = stages.last().map_or(0, |stage| stage.end);
    let mut times = vec![OpTime::default(); ops];
    let busy = |at: usize| clocks.iter().map(|clock| clock.busy[at]).sum::<f64>();
    let last = |barrier: usize| clocks.iter().map(|c| c.arrived[barrier]).fold(0.0, f64::max);
    for (index, stage) in stages.iter().enumerate() {
        let all: f64 = stage.clone().map(busy).sum();
        let passed = last(index + 1) - last(index);
        for at in stage.clone() {
            let share = if all > 0.0 { busy(at) / all } else { 1.0 / stage.len() as f64 };
            let seconds = passed * share;
            let waiting = (seconds - busy(at) / clocks.len() as f64).max(0.0);
            times[at] = OpTime { seconds, waiting, barriers: 0 };
        }
    }
    times
}

/// How many barriers stand within each op.
fn barriers(cpu: &Cpu, graph: &Graph, tokens: usize, samples: usize) -> Vec<usize> {
    let within = |op: &Op| match op {
        Op::Attend(a) => usize::from(a.causal),
        Op::Experts(_) => 1 + usize::from(tokens > PRIVATE_ROWS),
        Op::MatMul { x, .. } => {
            let kind = cpu.buffers[width_of(*x).0 as usize].rows;
            let rows = if kind == crate::Rows::Tokens { tokens } else { samples };
            usize::from(rows > PRIVATE_ROWS)
        }
        _ => 0,
    };
    graph.ops.iter().map(within).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stages_time_is_shared_by_what_the_threads_did() {
        let clock =
            |busy: [f64; 3], arrived| Clock { busy: busy.to_vec(), arrived: Vec::from(arrived) };
        // The second thread is late by 1 s, has no part of the first op, and waits for 4 s in the
        // last stage, which the first began late by 1 s.
        let clocks =
            [clock([3.0, 1.0, 3.0], [0.0, 5.0, 10.0]), clock([0.0, 4.0, 0.0], [1.0, 6.0, 6.0])];
        let times = shares(&[0..2, 2..3], &clocks);
        let time = |seconds, waiting| OpTime { seconds, waiting, barriers: 0 };
        assert_eq!(times, [time(1.875, 0.375), time(3.125, 0.625), time(4.0, 2.5)]);
    }
}
