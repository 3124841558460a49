//! A step with a clock beside each op. Ops keep the order, stages and barriers that they have
//! without it; a clock is read once an op and thread, outside of what is computed. What a kernel
//! does inside of an op is not seen.

use super::{Cpu, Op, PRIVATE_ROWS, Step, step_by, width_of};
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
    /// Of them, what a thread waited at the stage's end for the others, on average.
    pub waiting: f64,
    /// Barriers within it, whose waiting is not part of `waiting`.
    pub barriers: usize,
}

/// What one thread's clock showed, in seconds.
#[derive(Clone, Debug, Default)]
struct Clock {
    /// In each op.
    busy: Vec<f64>,
    /// In each stage, from its first op to past its barrier.
    stages: Vec<f64>,
}

pub(in crate::cpu) fn profile(
    cpu: &mut Cpu,
    graph: &Graph,
    batch: &Batch,
    samples: Vec<usize>,
) -> Vec<OpTime> {
    let clocks: Vec<Mutex<Clock>> = (0..cpu.threads()).map(|_| Mutex::default()).collect();
    let barriers = barriers(cpu, graph, batch.tokens(), samples.len());
    step_by(cpu, graph, batch, samples, &|step, member| {
        let clock = walk(step, member);
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

/// [`Step::walk`], with a clock.
fn walk(step: &Step<'_>, member: Member<'_>) -> Clock {
    let mut clock = Clock { busy: vec![0.0; step.graph.ops.len()], stages: Vec::new() };
    let scratch = &step.cpu.scratch[member.index];
    let mut scratch = scratch.lock().unwrap_or_else(PoisonError::into_inner);
    member.barrier();
    let mut now = Instant::now();
    let mut lap = || {
        let before = std::mem::replace(&mut now, Instant::now());
        (now - before).as_secs_f64()
    };
    for stage in &step.cpu.stages {
        let mut passed = 0.0;
        for at in stage.clone() {
            step.op(at, member, &mut scratch);
            clock.busy[at] = lap();
            passed += clock.busy[at];
        }
        member.barrier();
        clock.stages.push(passed + lap());
    }
    clock
}

/// Each stage's time (the first thread's: all meet at its end) shared among its ops.
fn shares(stages: &[Range<usize>], clocks: &[Clock]) -> Vec<OpTime> {
    let ops = stages.last().map_or(0, |stage| stage.end);
    let mut times = vec![OpTime::default(); ops];
    let busy = |at: usize| clocks.iter().map(|clock| clock.busy[at]).sum::<f64>();
    for (index, stage) in stages.iter().enumerate() {
        let all: f64 = stage.clone().map(busy).sum();
        let passed = clocks[0].stages[index];
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
        Op::Attend(_) => 1,
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
        let clock = |busy: [f64; 3], stages: [f64; 2]| Clock {
            busy: busy.to_vec(),
            stages: stages.to_vec(),
        };
        // The second thread has no part of the first op, waits in the first stage for 1 s and in
        // the last for 3 s.
        let clocks = [clock([3.0, 1.0, 4.0], [5.0, 4.0]), clock([0.0, 4.0, 0.0], [5.0, 4.0])];
        let times = shares(&[0..2, 2..3], &clocks);
        let time = |seconds, waiting| OpTime { seconds, waiting, barriers: 0 };
        assert_eq!(times, [time(1.875, 0.375), time(3.125, 0.625), time(4.0, 2.0)]);
    }
}
