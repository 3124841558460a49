//! The rules one at a time, small enough to be followed by eye. Whole lives are in `simulation`.

use ingle_scheduler::{Chunk, Ended, Limits, Outcome, Reject, Scheduler, SeqId, Token};

const LIMITS: Limits =
    Limits { block_tokens: 4, blocks: 8, step_tokens: 10, running: 4, waiting: 4 };

/// Plans, computes and applies one step in which every sample is token 9. What was computed is
/// given as `(sequence, first position, end)`.
fn step(scheduler: &mut Scheduler, ids: &[SeqId]) -> Vec<(usize, usize, usize)> {
    let chunks = scheduler.plan();
    scheduler.check();
    scheduler.apply(&chunks, |_| Outcome::Continue(9));
    scheduler.check();
    let named = |chunk: &Chunk| {
        let at = ids.iter().position(|&id| id == chunk.seq).expect("one of these");
        (at, chunk.positions.start, chunk.positions.end)
    };
    chunks.iter().map(named).collect()
}

fn prompt(length: u32) -> Vec<Token> {
    (0..length).collect()
}

#[test]
fn a_long_prompt_is_computed_in_chunks_and_holds_up_no_older_answer() {
    let mut scheduler = Scheduler::new(LIMITS);
    let mut add = |length| scheduler.add(prompt(length), 4, false).expect("fits");
    let ids = [add(3), add(16), add(2)];
    assert_eq!(step(&mut scheduler, &ids), [(0, 0, 3), (1, 0, 7)]);
    assert_eq!(step(&mut scheduler, &ids), [(0, 3, 4), (1, 7, 16)]);
    assert_eq!(step(&mut scheduler, &ids), [(0, 4, 5), (1, 16, 17), (2, 0, 2)]);
    assert_eq!(step(&mut scheduler, &ids), [(0, 5, 6), (1, 17, 18), (2, 2, 3)]);
    assert_eq!(step(&mut scheduler, &ids), [(1, 18, 19), (2, 3, 4)]);
}

/// How many drafted tokens a sequence takes, and what it has after a step in which tokens 7, 8 and
/// 9 come true.
#[test]
fn a_draft_is_computed_as_far_as_there_is_room_and_counts_as_far_as_it_comes_true() {
    let check = |new_max: usize, draft: &[Token], taken: usize, after: &[Token]| {
        let mut scheduler = Scheduler::new(LIMITS);
        let id = scheduler.add(vec![1, 2, 3], new_max, true).expect("fits");
        scheduler.draft(id, draft);
        let step = scheduler.plan();
        scheduler.check();
        assert_eq!(step[0].draft, draft[..taken]);
        assert_eq!(step[0].positions, 0..3 + taken);
        let mut coming = [7, 8, 9].into_iter();
        let ended = scheduler.apply(&step, |_| Outcome::Continue(coming.next().expect("three")));
        scheduler.check();
        let tokens = scheduler.tokens(id).unwrap_or(&[]);
        assert_eq!((tokens, ended.is_empty()), (after, !after.is_empty()));
        assert!(scheduler.plan().iter().all(|chunk| chunk.draft.is_empty()), "for one plan alone");
    };
    check(9, &[], 0, &[1, 2, 3, 7]);
    check(9, &[4], 1, &[1, 2, 3, 7]);
    check(9, &[7], 1, &[1, 2, 3, 7, 8]);
    check(9, &[7, 4, 9], 3, &[1, 2, 3, 7, 8]);
    check(9, &[7, 8], 2, &[1, 2, 3, 7, 8, 9]);
    check(9, &[0; 10], 7, &[1, 2, 3, 7]);
    check(1, &[7, 8], 0, &[]);
    check(3, &[7, 8, 9], 2, &[]);
}

#[test]
fn a_draft_holds_up_nobody() {
    let mut scheduler = Scheduler::new(Limits { blocks: 3, ..LIMITS });
    let ids = [4, 4].map(|length| scheduler.add(prompt(length), 4, false).expect("fits"));
    scheduler.draft(ids[0], &[9; 8]);
    let chunks = scheduler.plan();
    assert_eq!(chunks.iter().map(|chunk| chunk.draft.len()).collect::<Vec<_>>(), [2, 0]);
    scheduler.apply(&chunks, |_| Outcome::Continue(5));
    assert_eq!(scheduler.counts().blocks_used, 2, "what was for the draft is given back");
    assert_eq!(scheduler.counts().preemptions, 0);
}

#[test]
fn a_prefix_is_found_again_but_for_its_last_token() {
    let check = |length: u32, share: bool, found: usize| {
        let mut scheduler = Scheduler::new(LIMITS);
        let first = scheduler.add(prompt(12), 1, true).expect("fits");
        step(&mut scheduler, &[first]);
        step(&mut scheduler, &[first]);
        assert!(scheduler.idle());
        assert_eq!(scheduler.counts().blocks_cached, 3);
        let second = scheduler.add(prompt(length), 1, share).expect("fits");
        let chunks = scheduler.plan();
        assert_eq!(chunks[0].positions.start, found, "{length} tokens, share: {share}");
        assert_eq!(scheduler.cached(second), found);
    };
    check(3, true, 0);
    check(4, true, 0);
    check(5, true, 4);
    check(12, true, 8);
    check(13, true, 12);
    check(16, true, 12);
    check(13, false, 0);
}

#[test]
fn the_youngest_makes_room_and_comes_back() {
    let mut scheduler = Scheduler::new(Limits { blocks: 3, ..LIMITS });
    let mut add = |length| scheduler.add(prompt(length), 5, true).expect("fits");
    let ids = [add(4), add(3)];
    assert_eq!(step(&mut scheduler, &ids), [(0, 0, 4), (1, 0, 3)]);
    assert_eq!(step(&mut scheduler, &ids), [(0, 4, 5), (1, 3, 4)]);
    // The next one needs a second block, and the older one has just taken the last.
    assert_eq!(step(&mut scheduler, &ids), [(0, 5, 6)]);
    assert_eq!(scheduler.counts().preemptions, 1);
    assert_eq!(scheduler.tokens(ids[1]), Some(&[0, 1, 2, 9, 9][..]));
    assert_eq!(step(&mut scheduler, &ids), [(0, 6, 7)]);
    assert_eq!(step(&mut scheduler, &ids), [(0, 7, 8)]);
    assert_eq!(step(&mut scheduler, &ids), [(1, 4, 5)]);
    assert_eq!(scheduler.cached(ids[1]), 0, "it found again what it had computed itself");
}

#[test]
fn a_sequence_ends_by_its_outcome_or_by_its_length() {
    let mut scheduler = Scheduler::new(LIMITS);
    let mut add = |new_max| scheduler.add(prompt(1), new_max, true).expect("fits");
    let (stopped, full, on) = (add(5), add(1), add(2));
    let chunks = scheduler.plan();
    let outcome = |id| if id == stopped { Outcome::Stop } else { Outcome::Continue(7) };
    let ended = scheduler.apply(&chunks, outcome);
    assert_eq!(ended, [(stopped, Ended::Stopped), (full, Ended::Full)]);
    assert_eq!(scheduler.tokens(on), Some(&[0, 7][..]));
}

#[test]
fn what_can_never_run_is_refused_with_the_way_out() {
    let mut scheduler = Scheduler::new(Limits { waiting: 1, step_tokens: usize::MAX, ..LIMITS });
    let mut check = |length, new_max, expected: Reject, says: &str| {
        let told = scheduler.add(prompt(length), new_max, true).expect_err("refused");
        assert_eq!(told, expected);
        assert!(told.to_string().contains(says), "{told}");
    };
    let too_long = |blocks_needed| Reject::NeverFits { blocks_needed, blocks: 8 };
    check(0, 1, Reject::Empty, "at least one token");
    check(1, 0, Reject::Empty, "at least one token");
    check(32, 2, too_long(9), "need 9 blocks of KV cache and there are 8");
    check(1, usize::MAX, too_long((usize::MAX - 1).div_ceil(4)), "ask for fewer tokens");
    let longest = scheduler.add(prompt(32), 1, true).expect("its last token needs no block");
    let told = scheduler.add(prompt(1), 1, true).expect_err("one waits already");
    assert_eq!((told, told.to_string().contains("try again")), (Reject::QueueFull, true));
    assert_eq!(step(&mut scheduler, &[longest]), [(0, 0, 32)]);
    assert!(scheduler.idle());
}

#[test]
#[should_panic(expected = "cancelled inside a step")]
fn a_sequence_is_not_cancelled_while_it_is_computed() {
    let mut scheduler = Scheduler::new(LIMITS);
    let id = scheduler.add(prompt(1), 1, true).expect("fits");
    scheduler.plan();
    scheduler.cancel(id);
}

#[test]
#[should_panic(expected = "before the last step was applied")]
fn a_step_is_applied_before_the_next_is_planned() {
    let mut scheduler = Scheduler::new(LIMITS);
    scheduler.add(prompt(1), 2, true).expect("fits");
    scheduler.plan();
    scheduler.plan();
}

#[test]
#[should_panic(expected = "a limit is 0")]
fn every_limit_is_above_zero() {
    Scheduler::new(Limits { running: 0, ..LIMITS });
}
