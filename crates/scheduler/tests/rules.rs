//! The rules one at a time, small enough to be followed by eye. Whole lives are in `simulation`.

use ingle_scheduler::{
    Chunk, Due, Ended, Limits, Outcome, Rank, Reject, Salt, Scheduler, SeqId, Token,
};

const LIMITS: Limits =
    Limits { block_tokens: 4, blocks: 8, step_tokens: 10, running: 4, waiting: 4 };

/// Plans, computes and applies one step in which every sample is token 9. What was computed is
/// given as `(sequence, first position, end)`.
fn step(scheduler: &mut Scheduler, ids: &[SeqId]) -> Vec<(usize, usize, usize)> {
    let chunks = scheduler.plan(usize::MAX);
    scheduler.check();
    scheduler.apply(&chunks, |_| Outcome::Continue(9));
    scheduler.check();
    let named = |chunk: &Chunk| {
        let at = ids.iter().position(|&id| id == chunk.seq).expect("one of these");
        (at, chunk.positions.start, chunk.positions.end)
    };
    chunks.iter().map(named).collect()
}

const ALL: Option<Salt> = Some(Salt(0));
const OTHERS: Option<Salt> = Some(Salt(7));

fn prompt(length: u32) -> Vec<Token> {
    (0..length).collect()
}

#[test]
fn a_long_prompt_is_computed_in_chunks_and_holds_up_no_older_answer() {
    let mut scheduler = Scheduler::new(LIMITS);
    let mut add = |length| scheduler.add(prompt(length), 4, None, Rank::default()).expect("fits");
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
        let id = scheduler.add(vec![1, 2, 3], new_max, ALL, Rank::default()).expect("fits");
        scheduler.draft(id, draft);
        let step = scheduler.plan(usize::MAX);
        scheduler.check();
        assert_eq!(step[0].draft, draft[..taken]);
        assert_eq!(step[0].positions, 0..3 + taken);
        let mut coming = [7, 8, 9].into_iter();
        let ended = scheduler.apply(&step, |_| Outcome::Continue(coming.next().expect("three")));
        scheduler.check();
        let tokens = scheduler.tokens(id).unwrap_or(&[]);
        assert_eq!((tokens, ended.is_empty()), (after, !after.is_empty()));
        assert!(
            scheduler.plan(usize::MAX).iter().all(|chunk| chunk.draft.is_empty()),
            "for one plan alone"
        );
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
    let ids =
        [4, 4].map(|length| scheduler.add(prompt(length), 4, None, Rank::default()).expect("fits"));
    scheduler.draft(ids[0], &[9; 8]);
    let chunks = scheduler.plan(usize::MAX);
    assert_eq!(chunks.iter().map(|chunk| chunk.draft.len()).collect::<Vec<_>>(), [2, 0]);
    scheduler.apply(&chunks, |_| Outcome::Continue(5));
    assert_eq!(scheduler.counts().blocks_used, 2, "what was for the draft is given back");
    assert_eq!(scheduler.counts().preemptions, 0);
}

#[test]
fn a_prefix_is_found_again_but_for_its_last_token() {
    let check = |length: u32, salt: Option<Salt>, found: usize| {
        let mut scheduler = Scheduler::new(LIMITS);
        let first = scheduler.add(prompt(12), 1, ALL, Rank::default()).expect("fits");
        step(&mut scheduler, &[first]);
        step(&mut scheduler, &[first]);
        assert!(scheduler.idle());
        assert_eq!(scheduler.counts().blocks_cached, 3);
        let second = scheduler.add(prompt(length), 1, salt, Rank::default()).expect("fits");
        let chunks = scheduler.plan(usize::MAX);
        assert_eq!(chunks[0].positions.start, found, "{length} tokens, {salt:?}");
        assert_eq!(scheduler.cached(second), found);
    };
    check(3, ALL, 0);
    check(4, ALL, 0);
    check(5, ALL, 4);
    check(12, ALL, 8);
    check(13, ALL, 12);
    check(16, ALL, 12);
    check(13, None, 0);
    check(13, OTHERS, 0);
}

#[test]
fn what_is_adopted_is_found() {
    let check = |running: u32, offered: u32, known: usize, expect: &[usize], found: usize| {
        let mut scheduler = Scheduler::new(LIMITS);
        scheduler.add(prompt(running), 2, ALL, Rank::default()).expect("fits");
        let chunks = scheduler.plan(usize::MAX);
        scheduler.apply(&chunks, |_| Outcome::Continue(9));
        let adopted = scheduler.adopt(Salt(7), &prompt(offered), known);
        scheduler.check();
        assert_eq!(adopted.iter().map(|one| one.0).collect::<Vec<_>>(), expect);
        assert!(scheduler.adopt(Salt(7), &prompt(offered), known).is_empty(), "it is there");
        assert_eq!(scheduler.found(Salt(7), &prompt(32)), found);
    };
    check(1, 12, 0, &[0, 1, 2], 3);
    check(1, 12, 1, &[], 0);
    check(8, 12, 0, &[0, 1, 2], 3);
    check(8, 32, 0, &[0, 1, 2, 3, 4, 5], 6);
}

#[test]
fn what_was_computed_is_told_of_once() {
    let mut scheduler = Scheduler::new(LIMITS);
    let adopted = scheduler.adopt(Salt(7), &prompt(4), 0);
    assert_eq!(adopted.len(), 1);
    let id = scheduler.add(prompt(9), 1, OTHERS, Rank::default()).expect("fits");
    let chunks = scheduler.plan(usize::MAX);
    scheduler.apply(&chunks, |_| Outcome::Stop);
    assert_eq!(scheduler.tokens(id), None);
    let fresh = scheduler.fresh().expect("the second block");
    assert_eq!((fresh.salt, fresh.tokens), (Salt(7), prompt(8)));
    assert_eq!(scheduler.fresh(), None);
}

#[test]
fn the_youngest_makes_room_and_comes_back() {
    let mut scheduler = Scheduler::new(Limits { blocks: 3, ..LIMITS });
    let mut add = |length| scheduler.add(prompt(length), 5, ALL, Rank::default()).expect("fits");
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

const fn rank(priority: i32, owner: u32) -> Rank {
    Rank { priority, owner }
}

#[test]
fn answers_keep_prompts_short() {
    let check = |prefill_tokens: usize, taken: usize| {
        let mut scheduler = Scheduler::new(LIMITS);
        let first = scheduler.add(prompt(2), 9, None, rank(0, 0)).expect("fits");
        step(&mut scheduler, &[first]);
        let second = scheduler.add(prompt(20), 9, None, rank(-1, 1)).expect("fits");
        let chunks = scheduler.plan(prefill_tokens);
        let spans: Vec<_> = chunks.iter().map(|chunk| (chunk.seq, chunk.positions.len())).collect();
        assert_eq!(spans, [(first, 1), (second, taken)]);
    };
    check(0, 1);
    check(3, 3);
    check(9, 9);
    check(usize::MAX, 9);
}

/// Three run at most: one answers, then one more waits for each step's rest, then all at once.
#[test]
fn it_is_known_who_is_due() {
    let mut scheduler = Scheduler::new(Limits { running: 3, ..LIMITS });
    let check = |scheduler: &Scheduler, answers: usize, prompts: usize| {
        assert_eq!(scheduler.due(), Due { answers, prompts });
    };
    check(&scheduler, 0, 0);
    let add = |scheduler: &mut Scheduler, length| {
        scheduler.add(prompt(length), 2, None, Rank::default()).expect("fits")
    };
    let mut ids = vec![add(&mut scheduler, 2)];
    check(&scheduler, 0, 1);
    step(&mut scheduler, &ids);
    check(&scheduler, 1, 0);
    ids.extend([12, 2, 2].map(|length| add(&mut scheduler, length)));
    check(&scheduler, 1, 2);
    step(&mut scheduler, &ids);
    check(&scheduler, 0, 3);
    step(&mut scheduler, &ids);
    check(&scheduler, 3, 0);
}

/// The order in which sequences of these ranks are computed, one a step.
#[test]
fn priority_goes_first_then_who_had_least_then_age() {
    let check = |ranks: &[Rank], length: u32, order: &[usize]| {
        let mut scheduler = Scheduler::new(Limits { running: 1, waiting: 9, ..LIMITS });
        let add = |&rank| scheduler.add(prompt(length), 1, None, rank).expect("fits");
        let ids: Vec<SeqId> = ranks.iter().map(add).collect();
        let steps = ranks.iter().flat_map(|_| step(&mut scheduler, &ids));
        assert_eq!(steps.map(|(at, ..)| at).collect::<Vec<_>>(), order, "{ranks:?}");
    };
    let (a, b, c) = (rank(0, 0), rank(0, 1), rank(0, 2));
    check(&[a, a, a], 3, &[0, 1, 2]);
    check(&[a, a, a, b], 3, &[0, 3, 1, 2]);
    check(&[a, a, b, b, c], 3, &[0, 2, 4, 1, 3]);
    check(&[rank(1, 0), a, rank(-1, 0), a], 3, &[2, 1, 3, 0]);
    check(&[rank(1, 0), rank(1, 0), a, a, a, rank(1, 1)], 3, &[2, 3, 4, 0, 5, 1]);
}

/// An owner who kept away does not get what it missed.
#[test]
fn who_comes_late_is_lifted_to_those_who_wait() {
    let mut scheduler = Scheduler::new(Limits { running: 1, waiting: 30, ..LIMITS });
    let (mut served, mut late) = (Vec::new(), Vec::new());
    for round in 0..20 {
        scheduler.add(prompt(4), 1, None, rank(0, 0)).expect("fits");
        let second = rank(0, u32::from(round >= 10));
        let id = scheduler.add(prompt(4), 1, None, second).expect("fits");
        late.extend((round >= 10).then_some(id));
        let chunks = scheduler.plan(usize::MAX);
        served.push(u8::from(late.contains(&chunks[0].seq)));
        scheduler.apply(&chunks, |_| Outcome::Stop);
    }
    assert_eq!(served, [vec![0; 10], [0, 1].repeat(5)].concat(), "they take turns, no more");
}

/// Two owners who always wait get the same, however unlike their requests are.
#[test]
fn owners_who_flood_get_equal_shares() {
    let check = |long: (u32, usize), short: (u32, usize)| {
        let limits = Limits { blocks: 64, running: 3, waiting: 8, ..LIMITS };
        let mut scheduler = Scheduler::new(limits);
        let (mut had, mut waits) = ([0; 2], [0; 2]);
        let mut owners = std::collections::BTreeMap::new();
        for _ in 0..2_000 {
            for (owner, (length, new_max)) in [(0, long), (1, short)] {
                while waits[owner] < 3 {
                    let rank = rank(0, owner as u32);
                    let id = scheduler.add(prompt(length), new_max, None, rank).expect("fits");
                    owners.insert(id, owner);
                    waits[owner] += 1;
                }
            }
            let chunks = scheduler.plan(4);
            for chunk in &chunks {
                let owner = owners[&chunk.seq];
                waits[owner] -= usize::from(chunk.positions.start == 0);
                let length = if owner == 0 { long.0 } else { short.0 } as usize;
                let of_prompt = chunk.positions.end.min(length) - chunk.positions.start.min(length);
                had[owner] += of_prompt + 2 * usize::from(chunk.sample);
            }
            scheduler.apply(&chunks, |_| Outcome::Continue(1));
            scheduler.check();
        }
        let most = |(length, new_max): (u32, usize)| length as usize + 2 * new_max;
        let allowed = 2 * limits.running * most(long).max(most(short));
        assert!(had[0].abs_diff(had[1]) <= allowed, "{had:?}, {allowed} apart at most");
        assert!(had[0].min(had[1]) > 5 * allowed, "{had:?}: too short a test");
    };
    check((30, 20), (3, 2));
    check((40, 1), (1, 12));
}

#[test]
fn the_least_urgent_makes_room() {
    let mut scheduler = Scheduler::new(Limits { blocks: 4, ..LIMITS });
    let mut add = |rank| scheduler.add(prompt(4), 9, None, rank).expect("fits");
    let ids = [add(rank(1, 0)), add(rank(0, 0)), add(rank(0, 1))];
    step(&mut scheduler, &ids);
    let second: Vec<usize> = step(&mut scheduler, &ids).iter().map(|chunk| chunk.0).collect();
    assert_eq!((second, scheduler.counts().preemptions), (vec![1, 2], 1));
}

#[test]
fn a_newcomer_knows_what_is_ahead_of_it() {
    let mut scheduler = Scheduler::new(Limits { running: 1, ..LIMITS });
    scheduler.add(prompt(16), 9, ALL, rank(0, 0)).expect("fits");
    let chunks = scheduler.plan(usize::MAX);
    scheduler.apply(&chunks, |_| Outcome::Stop);
    scheduler.add(prompt(5), 9, ALL, rank(1, 0)).expect("fits");
    let check = |length: u32, salt: Option<Salt>, rank: Rank, expect: usize| {
        assert_eq!(scheduler.ahead(&prompt(length), salt, rank), expect, "{length} {rank:?}");
    };
    check(3, ALL, rank(0, 0), 3 + 6);
    check(3, ALL, rank(0, 1), 3);
    check(3, ALL, rank(1, 0), 3 + 6 + 5);
    check(3, ALL, rank(2, 1), 3 + 6 + 5);
    check(3, ALL, rank(-1, 0), 3);
    check(9, ALL, rank(0, 1), 1);
    check(9, None, rank(0, 1), 9);
    check(9, OTHERS, rank(0, 1), 9);
}

#[test]
fn a_sequence_ends_by_its_outcome_or_by_its_length() {
    let mut scheduler = Scheduler::new(LIMITS);
    let mut add = |new_max| scheduler.add(prompt(1), new_max, ALL, Rank::default()).expect("fits");
    let (stopped, full, on) = (add(5), add(1), add(2));
    let chunks = scheduler.plan(usize::MAX);
    let outcome = |id| if id == stopped { Outcome::Stop } else { Outcome::Continue(7) };
    let ended = scheduler.apply(&chunks, outcome);
    assert_eq!(ended, [(stopped, Ended::Stopped), (full, Ended::Full)]);
    assert_eq!(scheduler.tokens(on), Some(&[0, 7][..]));
}

#[test]
fn what_can_never_run_is_refused_with_the_way_out() {
    let mut scheduler = Scheduler::new(Limits { waiting: 1, step_tokens: usize::MAX, ..LIMITS });
    let mut check = |length, new_max, expected: Reject, says: &str| {
        let told =
            scheduler.add(prompt(length), new_max, ALL, Rank::default()).expect_err("refused");
        assert_eq!(told, expected);
        assert!(told.to_string().contains(says), "{told}");
    };
    let too_long = |blocks_needed| Reject::NeverFits { blocks_needed, blocks: 8 };
    check(0, 1, Reject::Empty, "at least one token");
    check(1, 0, Reject::Empty, "at least one token");
    check(32, 2, too_long(9), "need 9 blocks of KV cache and there are 8");
    check(1, usize::MAX, too_long((usize::MAX - 1).div_ceil(4)), "ask for fewer tokens");
    let longest =
        scheduler.add(prompt(32), 1, ALL, Rank::default()).expect("its last token needs no block");
    let told = scheduler.add(prompt(1), 1, ALL, Rank::default()).expect_err("one waits already");
    assert_eq!((told, told.to_string().contains("try again")), (Reject::QueueFull, true));
    assert_eq!(step(&mut scheduler, &[longest]), [(0, 0, 32)]);
    assert!(scheduler.idle());
}

#[test]
#[should_panic(expected = "cancelled inside a step")]
fn a_sequence_is_not_cancelled_while_it_is_computed() {
    let mut scheduler = Scheduler::new(LIMITS);
    let id = scheduler.add(prompt(1), 1, ALL, Rank::default()).expect("fits");
    scheduler.plan(usize::MAX);
    scheduler.cancel(id);
}

#[test]
#[should_panic(expected = "before the last step was applied")]
fn a_step_is_applied_before_the_next_is_planned() {
    let mut scheduler = Scheduler::new(LIMITS);
    scheduler.add(prompt(1), 2, ALL, Rank::default()).expect("fits");
    scheduler.plan(usize::MAX);
    scheduler.plan(usize::MAX);
}

#[test]
#[should_panic(expected = "a limit is 0")]
fn every_limit_is_above_zero() {
    Scheduler::new(Limits { running: 0, ..LIMITS });
}

/// Who asks for what, in which salt, and what the steps compute of it until all have answered once.
#[test]
fn a_prompt_that_several_share_is_computed_once() {
    type Steps<'a> = &'a [&'a [(usize, usize, usize)]];
    let check = |asked: &[(u32, Option<Salt>)], expect: Steps<'_>| {
        let mut scheduler = Scheduler::new(Limits { blocks: 24, step_tokens: 24, ..LIMITS });
        let mut add = |&(length, salt): &(u32, Option<Salt>)| {
            scheduler.add(prompt(length), 9, salt, Rank::default()).expect("fits")
        };
        let ids: Vec<SeqId> = asked.iter().map(&mut add).collect();
        for step_expected in expect {
            assert_eq!(step(&mut scheduler, &ids), *step_expected, "{asked:?}");
        }
    };
    let three = [(10, ALL), (10, ALL), (10, ALL)];
    check(&three, &[&[(0, 0, 10)], &[(0, 10, 11), (1, 8, 10), (2, 8, 10)]]);
    check(&[(8, ALL), (8, ALL)], &[&[(0, 0, 8)], &[(0, 8, 9), (1, 4, 8)]]);
    check(&[(4, ALL), (4, ALL)], &[&[(0, 0, 4), (1, 0, 4)]]);
    check(&[(3, ALL), (3, ALL)], &[&[(0, 0, 3), (1, 0, 3)]]);
    check(&[(10, ALL), (10, OTHERS)], &[&[(0, 0, 10), (1, 0, 10)]]);
    check(&[(10, None), (10, None)], &[&[(0, 0, 10), (1, 0, 10)]]);
    check(&[(6, ALL), (9, ALL)], &[&[(0, 0, 6)], &[(0, 6, 7), (1, 4, 9)]]);
}

#[test]
fn a_bound_keeps_a_sequences_steps_short() {
    let mut scheduler = Scheduler::new(LIMITS);
    let ids =
        [9, 3].map(|length| scheduler.add(prompt(length), 4, None, Rank::default()).expect("fits"));
    scheduler.bound(ids[0], 4);
    assert_eq!(step(&mut scheduler, &ids), [(0, 0, 4), (1, 0, 3)]);
    scheduler.bound(ids[0], 0);
    assert_eq!(step(&mut scheduler, &ids), [(1, 3, 4), (0, 4, 5)]);
    scheduler.bound(ids[0], usize::MAX);
    assert_eq!(step(&mut scheduler, &ids), [(1, 4, 5), (0, 5, 9)]);
}
