//! Drafting played over texts that are known beforehand, in the cost model that it goes by.

use super::*;

/// What came of a text.
#[derive(Debug, Default)]
struct Played {
    tokens: usize,
    drafted: usize,
    accepted: usize,
    /// In steps of one token.
    cost: f32,
}

impl Played {
    /// Cost with drafts over cost without; below 1 is a gain.
    fn ratio(&self) -> f32 {
        self.cost / self.tokens as f32
    }
}

/// Lets a sequence that has its prompt say the rest of `text`.
fn play(text: &[Token], prompt: usize, sequences: usize) -> Played {
    let mut lookup = Lookup::new(text.len());
    let mut played = Played::default();
    let mut at = prompt;
    while at < text.len() {
        while lookup.read_to() < at {
            lookup.read(&text[..at]);
        }
        let mut draft = lookup.propose(&text[..at], sequences);
        draft.truncate(text.len() - at - 1);
        let accepted = draft.iter().zip(&text[at..]).take_while(|(a, b)| a == b).count();
        lookup.settle(draft.len(), accepted);
        assert!(lookup.credit >= -1e-5, "nothing is drafted on credit: {}", lookup.credit);
        at += accepted + 1;
        played.tokens += accepted + 1;
        played.drafted += draft.len();
        played.accepted += accepted;
        played.cost += 1.0 + draft.len() as f32 * price(sequences);
    }
    played
}

fn random(count: usize, below: u64, mut state: u64) -> Vec<Token> {
    let mut next = || {
        state = state.wrapping_mul(0x5851_F42D_4C95_7F2D).wrapping_add(0x1405_7B7E_F767_814F);
        ((state >> 33) % below) as Token
    };
    (0..count).map(|_| next()).collect()
}

#[test]
fn what_is_said_again_is_drafted() {
    let once = random(200, 1000, 1);
    let check = |text: &[Token], prompt: usize, most: f32| {
        let played = play(text, prompt, 1);
        assert!(played.ratio() < most, "{played:?}");
        assert!(played.accepted * 10 > played.drafted * 9, "{played:?}");
    };
    check(&once.repeat(2), 200, 0.52);
    check(&once.repeat(5), 400, 0.46);
    check(&[1, 2, 3].repeat(100), 10, 0.48);
    check(&[7; 300], 4, 0.48);
    // A page of text with another word here and there.
    let mut edited = once.repeat(4);
    (250..edited.len()).step_by(17).for_each(|at| edited[at] = 2000);
    assert!(play(&edited, 200, 1).ratio() < 0.75);
}

#[test]
fn where_there_is_nothing_to_gain_little_is_lost() {
    for vocabulary in [2, 3, 5, 10, 30, 100, 10_000] {
        for seed in 0..20 {
            for sequences in [1, 2, 4, 16] {
                let played = play(&random(500, vocabulary, seed), 50, sequences);
                assert!(played.ratio() < 1.03, "{vocabulary}, {seed}, {sequences}: {played:?}");
            }
        }
    }
}

/// Text that is made up as it is drafted: all of a draft comes true for a while, then none of it.
#[test]
fn a_text_that_misleads_on_purpose_costs_no_more_than_it_may() {
    for good in 0..20 {
        let mut text = random(60, 9, 5);
        let mut lookup = Lookup::new(2000);
        let (mut cost, mut made) = (0.0, 0);
        for step in 0..1500 {
            lookup.read(&text);
            let draft = lookup.propose(&text, 1);
            let accepted = if step % (good + 1) == 0 { 0 } else { draft.len() };
            text.extend(&draft[..accepted]);
            text.push(draft.get(accepted).map_or(step % 9, |token| token + 1));
            lookup.settle(draft.len(), accepted);
            cost += 1.0 + draft.len() as f32 * price(1);
            made += accepted + 1;
            let most = made as f32 * (1.0 + LOSS_MAX) + TOKEN_COST + 1e-2;
            assert!(cost <= most, "misled each {good}th time: {cost} steps for {made} tokens");
        }
    }
}

#[test]
fn a_full_step_has_no_room_for_guesses() {
    let text = random(20, 50, 2).repeat(10);
    let drafted = [1, 2, 4, 16, 64].map(|sequences| play(&text, 60, sequences).drafted);
    assert!(drafted.is_sorted_by(|fewer, more| fewer >= more), "{drafted:?}");
    assert!(drafted[0] > 100 && drafted[4] == 0, "{drafted:?}");
}

#[test]
fn the_longest_agreement_is_followed_and_of_equals_the_latest() {
    let check = |text: &[Token], expect: Option<Match>| {
        let mut lookup = Lookup::new(text.len());
        lookup.read(text);
        assert_eq!(lookup.found, expect, "{text:?}");
    };
    check(&[], None);
    check(&[1], None);
    check(&[1, 2, 3, 4], None);
    check(&[1, 2, 3, 1, 2], Some(Match { at: 2, len: 2 }));
    check(&[1, 2, 3, 1, 2, 4, 1, 2], Some(Match { at: 5, len: 2 }));
    check(&[9, 1, 2, 3, 8, 1, 2, 4, 9, 1, 2], Some(Match { at: 3, len: 3 }));
    check(&[5, 5, 5], Some(Match { at: 2, len: 2 }));
}

/// What is read at once is bounded; until all is read nothing is proposed.
#[test]
fn a_long_prompt_is_read_in_parts() {
    let text = random(READ_MAX / 2, 100_000, 3).repeat(3);
    let mut lookup = Lookup::new(text.len());
    lookup.read(&text);
    assert_eq!(lookup.read_to(), READ_MAX);
    assert!(lookup.propose(&text, 1).is_empty());
    lookup.read(&text);
    assert_eq!(lookup.read_to(), text.len());
    assert_eq!(lookup.propose(&text, 1), text[..1], "as much as its first credit buys");
}
