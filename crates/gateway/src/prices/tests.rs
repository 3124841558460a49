//! What tokens cost, exactly, and what they cost at worst.

use ingle_protocol::Usage;

use super::{Price, Rates, Tier, Tokens, book};

const PLAIN: Rates = Rates {
    input: Some(2_500_000),
    cached: Some(1_250_000),
    written: Some(3_000_000),
    output: Some(10_000_000),
    reasoning: None,
};

fn tokens(input: u64, cached: u64, written: u64, output: u64, reasoning: u64) -> Tokens {
    Tokens { input, cached, written, output, reasoning }
}

#[test]
fn calls_cost_the_sum_of_their_tokens() {
    let check = |rates: Rates, tokens, pico| assert_eq!(rates.pico(&tokens), pico, "{tokens:?}");
    check(PLAIN, tokens(1, 0, 0, 0, 0), Some(2_500_000));
    check(PLAIN, tokens(1, 2, 3, 4, 5), Some(2_500_000 + 2_500_000 + 9_000_000 + 90_000_000));
    check(PLAIN, tokens(0, 0, 0, 0, 0), Some(0));
    check(PLAIN, tokens(u64::MAX, 0, 0, 0, 0), Some(u128::from(u64::MAX) * 2_500_000));
    // Without prices of their own, cached and written tokens cost what computed ones do.
    let bare = Rates { cached: None, written: None, ..PLAIN };
    check(bare, tokens(0, 1, 1, 0, 0), Some(5_000_000));
    check(Rates { reasoning: Some(7), ..PLAIN }, tokens(0, 0, 0, 0, 2), Some(14));
    // What has no price is not known, and what did not come needs none.
    let embeds = Rates { output: None, ..PLAIN };
    check(embeds, tokens(1, 0, 0, 0, 0), Some(2_500_000));
    check(embeds, tokens(1, 0, 0, 1, 0), None);
    check(Rates::default(), tokens(0, 0, 0, 0, 0), Some(0));
    check(Rates::default(), tokens(1, 0, 0, 0, 0), None);
    let most = Rates { input: Some(u64::MAX), output: Some(u64::MAX), ..Rates::default() };
    check(most, tokens(u64::MAX, 0, 0, u64::MAX, 0), Some(u128::MAX));
}

#[test]
fn a_call_is_rounded_up_once() {
    let rates = Rates { input: Some(1), output: Some(1), ..Rates::default() };
    let tiers = vec![Tier { rates, ..Tier::default() }];
    let price = Price { tiers, date: "own".into() };
    let check = |tokens, micros| assert_eq!(price.micros(&tokens, false), Some(micros));
    check(tokens(1, 0, 0, 1, 0), 1);
    check(tokens(500_000, 0, 0, 500_000, 0), 1);
    check(tokens(500_000, 0, 0, 500_001, 0), 2);
    check(tokens(0, 0, 0, 0, 0), 0);
}

#[test]
fn long_prompts_and_batches_have_rates_of_their_own() {
    let rates = |input| Rates { input: Some(input), output: Some(input), ..Rates::default() };
    let tier = |above, input, batch| Tier { above, rates: rates(input), batch };
    let tiers = vec![
        tier(0, 10_000_000, rates(5_000_000)),
        tier(200_000, 30_000_000, Rates::default()),
        tier(300_000, 20_000_000, rates(1_000_000)),
    ];
    let price = Price { tiers, date: String::new() };
    let check = |prompt, batch, micros| {
        assert_eq!(price.micros(&tokens(prompt, 0, 0, 0, 0), batch), Some(micros), "{prompt}");
    };
    check(1, false, 10);
    check(200_000, false, 2_000_000);
    check(200_001, false, 6_000_030);
    check(300_001, false, 6_000_020);
    check(1, true, 5);
    check(200_001, true, 6_000_030); // no price for batches there
    check(300_001, true, 300_001);
    // The whole prompt counts, in whatever way it is charged.
    assert_eq!(price.micros(&tokens(1, 200_000, 0, 0, 0), false), Some(6_000_030));
    // At worst it falls in the dearest tier that it can reach.
    let worst = |prompt, output, micros| {
        assert_eq!(price.most_micros(prompt, output), Some(micros), "{prompt} {output}");
    };
    worst(1, 1, 20);
    worst(200_000, 0, 2_000_000);
    worst(300_001, 0, 9_000_030);
}

#[test]
fn the_worst_case_is_one() {
    let price = |rates| Price { tiers: vec![Tier { rates, ..Tier::default() }], date: "".into() };
    let check = |rates, prompt, output, most| {
        assert_eq!(price(rates).most_micros(prompt, output), most, "{rates:?}");
    };
    check(PLAIN, 10, 10, Some(130)); // all of the prompt written to a cache
    check(Rates { reasoning: Some(20_000_000), ..PLAIN }, 0, 10, Some(200));
    check(Rates { output: None, ..PLAIN }, 10, 0, Some(30));
    check(Rates { output: None, ..PLAIN }, 10, 1, None);
    check(Rates { input: None, ..PLAIN }, 10, 1, None);
    check(PLAIN, u64::MAX, u64::MAX, Some(u64::MAX));
    assert_eq!(Price::default().most_micros(1, 1), None, "no tiers, no price");
}

#[test]
fn the_worst_case_of_every_model_bounds_its_cost() {
    for row in &book().rows {
        let Some(price) = book().price(row.provider, row.model, None) else { continue };
        for prompt in [0, 1, 1_000, 128_001, 200_001, 272_001, 1_000_000] {
            let Some(most) = price.most_micros(prompt, 1_000) else { continue };
            let each = [
                tokens(prompt, 0, 0, 1_000, 0),
                tokens(0, prompt, 0, 500, 500),
                tokens(0, 0, prompt, 0, 1_000),
                tokens(prompt / 2, prompt / 4, prompt / 4, 10, 0),
            ];
            for tokens in each {
                for batch in [false, true] {
                    let cost = price.micros(&tokens, batch);
                    let name = format!("{}/{}: {tokens:?}", row.provider, row.model);
                    assert!(cost.is_none_or(|cost| cost <= most), "{name}: {cost:?}, not {most}");
                }
            }
        }
    }
}

#[test]
fn usage_is_told_apart() {
    let usage = Usage {
        prompt_tokens: 10,
        cached_tokens: 4,
        completion_tokens: 7,
        reasoning_tokens: 2,
        ..Usage::default()
    };
    assert_eq!(Tokens::from(&usage), tokens(6, 4, 0, 5, 2));
    // A provider that tells of more than there is does not make less of it.
    let odd = Usage { cached_tokens: 99, reasoning_tokens: 99, ..usage };
    assert_eq!(Tokens::from(&odd), tokens(0, 10, 0, 0, 7));
}
