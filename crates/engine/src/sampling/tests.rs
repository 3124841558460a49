//! Sampling against a plain version of its rules, which sorts everything at every rule.

use super::*;
use ingle_protocol::{Dry, Stage, Xtc};

const VOCAB: usize = 300;

/// Logits like a model's: most of them unlikely, a few likely.
fn logits(case: u64, vocab: usize) -> Vec<f32> {
    let number = |at: usize| uniform(case, at as u64);
    (0..vocab).map(|at| (18.0 * number(at).powi(3) - 5.0 * number(vocab + at)) as f32).collect()
}

/// The kept tokens and their probabilities, by sorting everything at every rule, in `f64`.
fn reference(rules: &Sampling, logits: &[f32]) -> Vec<(Token, f64)> {
    let temperature = f64::from(rules.temperature);
    let mut kept: Vec<(Token, f64)> = (0..).zip(logits.iter().map(|&l| f64::from(l))).collect();
    kept.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    let max = kept[0].1;
    kept.iter_mut().for_each(|one| one.1 = ((one.1 - max) / temperature).exp());
    let normalize = |kept: &mut Vec<(Token, f64)>| {
        let mass: f64 = kept.iter().map(|one| one.1).sum();
        kept.iter_mut().for_each(|one| one.1 /= mass);
    };
    let reach = |kept: &mut Vec<(Token, f64)>, goal: f32| {
        let mut mass = 0.0;
        let before = kept.iter().take_while(|one| {
            mass += one.1;
            mass < f64::from(goal)
        });
        let count = before.count() + 1;
        kept.truncate(count);
    };
    if rules.top_k > 0 {
        kept.truncate(rules.top_k as usize);
    }
    normalize(&mut kept);
    if rules.typical_p < 1.0 {
        let entropy: f64 = kept.iter().map(|one| -one.1 * one.1.ln()).sum();
        let off = |one: &(Token, f64)| (-one.1.ln() - entropy).abs();
        kept.sort_by(|a, b| off(a).total_cmp(&off(b)).then(a.0.cmp(&b.0)));
        reach(&mut kept, rules.typical_p);
        normalize(&mut kept);
        kept.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    }
    if rules.top_p < 1.0 {
        reach(&mut kept, rules.top_p);
    }
    let least = kept[0].1 * f64::from(rules.min_p);
    kept.retain(|one| one.1 >= least);
    normalize(&mut kept);
    kept.sort_by_key(|one| one.0);
    kept
}

fn check(rules: &Sampling) {
    for case in 0..200 {
        let logits = logits(case, VOCAB);
        let mut sampler = Sampler::new(rules, case);
        sampler.keep(&logits);
        let mass = mass_of(&sampler.candidates);
        let expected = reference(rules, &logits);
        let tokens = sampler.candidates.iter().map(|one| one.token);
        assert!(tokens.eq(expected.iter().map(|one| one.0)), "{rules:?}, case {case}");
        for (ours, (token, expected)) in sampler.candidates.iter().zip(&expected) {
            let probability = f64::from(ours.weight) / mass;
            let off = (probability - expected).abs();
            assert!(off < 1e-5 * expected + 1e-30, "{rules:?}, case {case}, token {token}");
        }
    }
}

#[test]
fn each_rule_keeps_what_sorting_everything_keeps() {
    let plain = Sampling::default();
    for top_k in [1, 2, 7, 40, 299, 300, 1000] {
        check(&Sampling { top_k, ..plain.clone() });
    }
    for part in [0.0, 0.1, 0.5, 0.9, 0.999] {
        check(&Sampling { top_p: part, ..plain.clone() });
        check(&Sampling { typical_p: part, ..plain.clone() });
        check(&Sampling { min_p: part, ..plain.clone() });
    }
    for temperature in [0.1, 0.7, 1.5, 5.0] {
        check(&Sampling { temperature, ..plain.clone() });
        let mixed = Sampling { temperature, top_p: 0.95, min_p: 0.02, ..plain.clone() };
        check(&mixed);
        check(&Sampling { top_k: 40, ..mixed.clone() });
        check(&Sampling { typical_p: 0.9, ..mixed.clone() });
        check(&Sampling { top_k: 100, typical_p: 0.8, ..mixed });
    }
}

/// Draws are as frequent as they are likely: chi-square over the likeliest tokens and the
/// rest stays below its 99.99% quantile, for answers that go on and for seeds that follow
/// each other.
#[test]
fn draws_are_as_frequent_as_likely() {
    let cases = [
        Sampling::default(),
        Sampling { temperature: 2.0, ..Sampling::default() },
        Sampling { top_p: 0.9, ..Sampling::default() },
        Sampling { top_k: 30, typical_p: 0.9, min_p: 0.01, ..Sampling::default() },
    ];
    for rules in cases {
        let logits = logits(3, 5 * BLOCK / 2);
        let mut expected = reference(&rules, &logits);
        expected.sort_by(|a, b| b.1.total_cmp(&a.1));
        let bins = expected.len().min(20);
        for by_seed in [false, true] {
            let draws = 5_000u64;
            let mut counts = vec![0.0; bins];
            for at in 0..draws {
                let (seed, position) = if by_seed { (at, 0) } else { (42, at) };
                let mut sampler = Sampler::new(&rules, 0);
                let token = sampler.choose(&logits, uniform(seed, position));
                let at = expected.iter().position(|one| one.0 == token).expect("kept");
                counts[at.min(bins - 1)] += 1.0;
            }
            let likely = |bin: usize| -> f64 {
                let until = if bin == bins - 1 { expected.len() } else { bin + 1 };
                expected[bin..until].iter().map(|one| one.1).sum::<f64>() * draws as f64
            };
            let off = |bin: usize| (counts[bin] - likely(bin)).powi(2) / likely(bin);
            let chi: f64 = (0..bins).map(off).sum();
            assert!(chi < 52.0, "{rules:?}, by seed {by_seed}: chi-square {chi}");
        }
    }
}

#[test]
fn a_draw_without_cuts_is_the_inverse_of_the_sum() {
    for case in 0..300 {
        let vocab = 1 + 37 * case as usize;
        let logits = logits(case, vocab);
        let draw = uniform(case, 0);
        let token = Masses::of(&logits, 0.8).draw(&logits, draw);
        let rules = Sampling { temperature: 0.8, ..Sampling::default() };
        let all = reference(&rules, &logits);
        let before: f64 = all.iter().take_while(|one| one.0 < token).map(|one| one.1).sum();
        let after = before + all[token as usize].1;
        assert!((before - 1e-6..=after + 1e-6).contains(&draw), "{before} {draw} {after}");
    }
}

#[test]
fn penalties_and_bias_move_the_tokens_they_name() {
    let check = |rules: Sampling, expected: [f32; 5]| {
        let mut sampler = Sampler::new(&Sampling { temperature: 0.0, ..rules }, 0);
        let logits = [1.0, -1.0, 2.0, 3.0, 0.5];
        assert!(sampler.adjusts());
        // Tokens that no vocabulary has change nothing; neither does seeing things in turn.
        for length in 0..=3 {
            sampler.note(&[0, 1, 99], &[2, 2, 99][..length]);
        }
        let mut adjusted = logits;
        sampler.adjust(&mut adjusted, &[0, 1, 99], &[2, 2, 99]);
        assert_eq!(adjusted, expected);
        let token = sampler.sample(&logits, &[0, 1, 99], &[2, 2, 99]);
        assert_eq!(token, likeliest(&expected));
    };
    let plain = Sampling::default();
    check(Sampling { repetition_penalty: 2.0, ..plain.clone() }, [0.5, -2.0, 1.0, 3.0, 0.5]);
    check(Sampling { frequency_penalty: 0.5, ..plain.clone() }, [1.0, -1.0, 1.0, 3.0, 0.5]);
    check(Sampling { presence_penalty: 0.5, ..plain.clone() }, [1.0, -1.0, 1.5, 3.0, 0.5]);
    let logit_bias = vec![(3, -100.0), (4, 2.0), (77, 5.0)];
    check(Sampling { logit_bias, ..plain.clone() }, [1.0, -1.0, 2.0, -97.0, 2.5]);
    let all = Sampling {
        repetition_penalty: 2.0,
        frequency_penalty: 0.25,
        presence_penalty: -0.5,
        logit_bias: vec![(2, 10.0)],
        ..plain
    };
    check(all, [0.5, -2.0, 11.0, 3.0, 0.5]);
}

#[test]
fn a_shorter_answer_is_counted_anew() {
    let rules = Sampling { frequency_penalty: 1.0, temperature: 0.0, ..Sampling::default() };
    let mut sampler = Sampler::new(&rules, 0);
    assert_eq!(sampler.sample(&[1.0, 2.5], &[], &[1, 1]), 0);
    assert_eq!(sampler.sample(&[1.0, 2.5], &[], &[1]), 1);
}

#[test]
fn odd_logits_choose_without_panic() {
    let (nan, inf) = (f32::NAN, f32::INFINITY);
    let check = |logits: &[f32], expected: Token| {
        let rules = [
            Sampling { temperature: 0.0, ..Sampling::default() },
            Sampling::default(),
            Sampling { top_k: 1, ..Sampling::default() },
            Sampling { top_p: 0.5, ..Sampling::default() },
            Sampling { typical_p: 0.5, min_p: 0.1, ..Sampling::default() },
            Sampling { temperature: 0.5, repetition_penalty: 1.5, ..Sampling::default() },
        ];
        for rules in rules {
            let token = Sampler::new(&rules, 1).sample(logits, &[0], &[1]);
            assert_eq!(token, expected, "{logits:?} by {rules:?}");
        }
        let (chosen, top) = top_logprobs(logits, 0, 3);
        assert!(!chosen.is_nan() && top.iter().all(|one| !one.1.is_nan()));
    };
    check(&[], 0);
    check(&[nan, nan, nan], 0);
    check(&[nan, 1.0, nan], 1);
    check(&[-inf, -inf, -3.0], 2);
    check(&[-inf, -inf], 0);
    check(&[nan, 5.0, inf], 2);
    check(&[f32::MIN, 0.0, f32::MAX], 2);
}

#[test]
fn greedy_takes_the_lowest_of_equals() {
    let rules = Sampling { temperature: 0.0, top_k: 40, top_p: 0.5, ..Sampling::default() };
    let check = |logits: &[f32], expected| {
        assert_eq!(Sampler::new(&rules, 9).sample(logits, &[], &[]), expected);
    };
    check(&[0.0, 2.0, 2.0, 1.0], 1);
    check(&[-0.0, 0.0], 0);
    let mut many = vec![1.0; 5000];
    (many[4999], many[3000]) = (1.5, 1.5);
    check(&many, 3000);
}

#[test]
fn a_draw_depends_on_seed_and_position_alone() {
    let logits = logits(5, VOCAB);
    let rules = Sampling { top_p: 0.95, ..Sampling::default() };
    let answer = |sampler: &mut Sampler, from: usize, to: usize| -> Vec<Token> {
        (from..to).map(|at| sampler.sample(&logits, &[], &vec![0; at])).collect()
    };
    let whole = answer(&mut Sampler::new(&rules, 11), 0, 40);
    let mut fresh = Sampler::new(&rules, 11);
    assert_eq!(answer(&mut fresh, 25, 40), whole[25..]);
    assert_eq!(answer(&mut fresh, 0, 25), whole[..25]);
    assert_ne!(answer(&mut Sampler::new(&rules, 12), 0, 40), whole);
    assert!(whole.iter().any(|&token| token != whole[0]), "it draws");
}

#[test]
fn uniform_is_split_mix_read_by_position() {
    // The published outputs of SplitMix64 from state 1234567.
    const STEP: u64 = 0x9E37_79B9_7F4A_7C15;
    let nth = |n: u64| mix(1_234_567u64.wrapping_add(STEP.wrapping_mul(n)));
    assert_eq!((nth(1), nth(2)), (6_457_827_717_110_365_317, 3_203_168_211_198_807_973));
    for position in 0..1000 {
        assert!((0.0..1.0).contains(&uniform(u64::MAX, position)));
    }
}

#[test]
fn exponentials_are_near_the_true_ones() {
    for at in 0..870_000 {
        let x = at as f32 * -1e-4;
        let (ours, exact) = (f64::from(exp(x)), f64::from(x).exp());
        assert!((ours - exact).abs() < 2e-7 * exact, "exp({x}) is {ours}, not {exact}");
    }
    assert_eq!(
        [0.0, -87.5, -1e30, f32::NEG_INFINITY, f32::NAN].map(exp),
        [1.0, 0.0, 0.0, 0.0, 0.0]
    );
}

#[test]
fn log_probabilities_are_those_of_the_softmax() {
    for case in 0..20 {
        let logits = logits(case, 3000);
        let exact: Vec<f64> = {
            let sum: f64 = logits.iter().map(|&l| f64::from(l).exp()).sum();
            logits.iter().map(|&l| f64::from(l) - sum.ln()).collect()
        };
        let (chosen, top) = top_logprobs(&logits, 17, 20);
        let near = |token: Token, value: f32| {
            let off = (f64::from(value) - exact[token as usize]).abs();
            assert!(off < 2e-6, "token {token}: {value}, off by {off}");
        };
        near(17, chosen);
        near(2999, log_softmax_at(&logits, 2999));
        top.iter().for_each(|&(token, value)| near(token, value));
        let mut order: Vec<Token> = (0..3000).collect();
        order.sort_by(|&a, &b| logits[b as usize].total_cmp(&logits[a as usize]));
        assert!(top.iter().map(|one| one.0).eq(order[..20].iter().copied()));
    }
    assert_eq!(log_softmax_at(&[0.0], 0), 0.0);
    assert_eq!(log_softmax_at(&[0.0], 1), f32::NEG_INFINITY);
    assert_eq!(top_logprobs(&[1.0, 1.0], 1, 0).1, []);
    assert_eq!(top_logprobs(&[1.0, 1.0], 1, 9).1.len(), 2);
}

#[test]
fn rules_out_of_range_are_refused_by_name() {
    let check = |rules: Sampling, param: Option<&str>| {
        let told = validate(&rules, 100).err();
        assert_eq!(told.and_then(|fault| fault.param).as_deref(), param, "{rules:?}");
    };
    let plain = Sampling::default();
    check(plain.clone(), None);
    check(Sampling { temperature: 5.0, top_k: 1 << 30, top_p: 0.0, ..plain.clone() }, None);
    check(Sampling { logit_bias: vec![(99, -100.0), (0, 100.0)], ..plain.clone() }, None);
    check(Sampling { temperature: -0.1, ..plain.clone() }, Some("temperature"));
    check(Sampling { temperature: f32::NAN, ..plain.clone() }, Some("temperature"));
    check(Sampling { top_p: 1.1, ..plain.clone() }, Some("top_p"));
    check(Sampling { min_p: -0.1, ..plain.clone() }, Some("min_p"));
    check(Sampling { typical_p: f32::INFINITY, ..plain.clone() }, Some("typical_p"));
    check(Sampling { repetition_penalty: 0.0, ..plain.clone() }, Some("repetition_penalty"));
    check(Sampling { frequency_penalty: 2.1, ..plain.clone() }, Some("frequency_penalty"));
    check(Sampling { presence_penalty: -2.1, ..plain.clone() }, Some("presence_penalty"));
    check(Sampling { logit_bias: vec![(100, 0.0)], ..plain.clone() }, Some("logit_bias"));
    check(Sampling { logit_bias: vec![(1, 101.0)], ..plain.clone() }, Some("logit_bias"));
    check(Sampling { logit_bias: vec![(1, 1.0); 4097], ..plain }, Some("logit_bias"));
}

/// Whatever the rules, what is not allowed never comes: not where all that is allowed is unlikely,
/// impossible or no number, nor where bias and penalties push.
#[test]
fn only_what_is_allowed_is_drawn() {
    let vocab = 100;
    let likely = |token: usize| if token < 90 { 20.0 } else { -20.0 - token as f32 };
    let plain: Vec<f32> = (0..vocab).map(likely).collect();
    let hopeless: Vec<f32> =
        (0..vocab).map(|token| if token < 90 { 1.0 } else { f32::NEG_INFINITY }).collect();
    let nonsense: Vec<f32> =
        (0..vocab).map(|token| if token < 90 { 1.0 } else { f32::NAN }).collect();
    let sets: [&[Token]; 4] = [&[97], &[90, 99], &[91, 95, 96, 97, 98], &[99]];
    let rules = [
        Sampling { temperature: 0.0, ..Sampling::default() },
        Sampling::default(),
        Sampling { top_k: 5, min_p: 0.1, ..Sampling::default() },
        Sampling { top_p: 0.5, typical_p: 0.5, temperature: 2.0, ..Sampling::default() },
        Sampling {
            logit_bias: vec![(3, 100.0), (97, -100.0), (99, -100.0)],
            repetition_penalty: 2.0,
            presence_penalty: 1.0,
            ..Sampling::default()
        },
    ];
    let check = |logits: &[f32], set: &[Token], rules: &Sampling| {
        let mut words = vec![0; vocab.div_ceil(32)];
        set.iter().for_each(|&token| words[token as usize / 32] |= 1 << (token % 32));
        let allowed = TokenSet::from(words);
        for seed in 0..20 {
            let mut sampler = Sampler::new(rules, seed);
            let token = sampler.sample_among(&allowed, logits, &[97, 3], &[99]);
            assert!(set.contains(&token), "{token} of {set:?} by {rules:?}");
        }
    };
    for logits in [plain, hopeless, nonsense] {
        for set in sets {
            rules.iter().for_each(|rules| check(&logits, set, rules));
        }
    }
}

/// Where everything is allowed, nothing changes.
#[test]
fn to_allow_everything_is_to_allow_nothing_less() {
    let logits: Vec<f32> = (0..70).map(|token| ((token * 37) % 23) as f32 / 5.0).collect();
    let all = TokenSet::from(vec![u32::MAX; 3]);
    for seed in 0..50 {
        let rules = Sampling { top_p: 0.9, ..Sampling::default() };
        let free = Sampler::new(&rules, seed).sample(&logits, &[], &[1]);
        assert_eq!(Sampler::new(&rules, seed).sample_among(&all, &logits, &[], &[1]), free);
    }
    assert_eq!((all.first(), TokenSet::default().first()), (Some(0), None));
    let mut some = TokenSet::from(vec![0, 0b1100]);
    assert_eq!((some.first(), some.contains(35), some.contains(99)), (Some(34), true, false));
    some.remove(34);
    some.remove(999);
    assert_eq!(some.first(), Some(35));
}

/// The samplers one after another in `f64`, each on all that is left: what stays, and its weight.
fn in_order(rules: &Sampling, logits: &[f32], seen: &[Token]) -> Vec<(Token, f64)> {
    let mut left: Vec<(Token, f64)> = (0..).zip(logits.iter().map(|&l| f64::from(l))).collect();
    for stage in &rules.order {
        let max = left.iter().map(|one| one.1).fold(f64::NEG_INFINITY, f64::max);
        let mass: f64 = left.iter().map(|one| (one.1 - max).exp()).sum();
        let part = |logit: f64| (logit - max).exp() / mass;
        // As many of the first as reach a part of the mass.
        let reach = |sorted: &mut Vec<(Token, f64)>, goal: f32| {
            let mut had = 0.0;
            let enough = sorted.iter().position(|one| {
                had += part(one.1);
                had >= f64::from(goal)
            });
            sorted.truncate(enough.map_or(usize::MAX, |at| at + 1));
        };
        left.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        match stage {
            Stage::Penalties => {
                for one in left.iter_mut().filter(|one| seen.contains(&one.0)) {
                    one.1 -= f64::from(rules.presence_penalty);
                }
            }
            Stage::Temperature => {
                left.iter_mut().for_each(|one| one.1 /= f64::from(rules.temperature));
            }
            Stage::TopK => left.truncate(rules.top_k as usize),
            Stage::TopP => reach(&mut left, rules.top_p),
            Stage::MinP => {
                let least = part(left[0].1) * f64::from(rules.min_p);
                left.retain(|one| part(one.1) >= least);
            }
            Stage::Typical => {
                let entropy: f64 = left.iter().map(|one| -part(one.1) * part(one.1).ln()).sum();
                let off = |one: &(Token, f64)| (-part(one.1).ln() - entropy).abs();
                left.sort_by(|a, b| off(a).total_cmp(&off(b)).then(a.0.cmp(&b.0)));
                reach(&mut left, rules.typical_p);
            }
            Stage::TopNSigma | Stage::Dry | Stage::Xtc => {}
        }
    }
    left.sort_by_key(|one| one.0);
    let max = left.iter().map(|one| one.1).fold(f64::NEG_INFINITY, f64::max);
    left.into_iter().map(|(token, logit)| (token, (logit - max).exp())).collect()
}

fn stages(letters: &str) -> Vec<Stage> {
    let known = |letter| Stage::USUAL.into_iter().find(|stage| stage.letter() == letter);
    letters.chars().map(|letter| known(letter).expect("a stage")).collect()
}

fn every_rule() -> Sampling {
    Sampling {
        temperature: 1.7,
        top_k: 12,
        top_p: 0.8,
        min_p: 0.1,
        typical_p: 0.9,
        presence_penalty: 1.5,
        ..Sampling::default()
    }
}

#[test]
fn rules_go_in_the_order_that_is_asked_for() {
    let seen: Vec<Token> = (0..VOCAB as Token).step_by(3).collect();
    let mut differ = 0;
    for order in ["", "t", "kt", "tk", "ptk", "kpyemt", "temykp", "ttk", "mept", "kk", "ytp"] {
        let rules = Sampling { order: stages(order), ..every_rule() };
        for case in 0..100 {
            let logits = logits(case, VOCAB);
            let expect = in_order(&rules, &logits, &seen);
            let mass: f64 = expect.iter().map(|one| one.1).sum();
            let mut sampler = Sampler::new(&rules, case);
            let token = sampler.sample(&logits, &[], &seen);
            let kept: Vec<Token> = sampler.candidates.iter().map(|one| one.token).collect();
            let known: Vec<Token> = expect.iter().map(|one| one.0).collect();
            assert_eq!(kept, known, "{order}, case {case}");
            let draw = uniform(case, seen.len() as u64) * mass;
            let before: f64 = expect.iter().take_while(|one| one.0 < token).map(|one| one.1).sum();
            let own = expect.iter().find(|one| one.0 == token).map_or(0.0, |one| one.1);
            let within = before - 1e-4 * mass..=before + own + 1e-4 * mass;
            assert!(within.contains(&draw), "{order}, case {case}: {draw} in {within:?}");
            differ +=
                u64::from(token != Sampler::new(&every_rule(), case).sample(&logits, &[], &seen));
        }
    }
    assert!(differ > 100, "an order makes a difference: {differ}");
}

/// What the faster way chooses is what the usual order chooses, said stage by stage.
#[test]
fn the_usual_order_is_the_usual_way() {
    let xtc = Xtc { probability: 0.5, threshold: 0.05 };
    let dry = Dry { multiplier: 1.0, ..Dry::default() };
    let rules = [
        Sampling::default(),
        every_rule(),
        Sampling { temperature: 0.0, ..every_rule() },
        Sampling { top_n_sigma: 1.5, ..every_rule() },
        Sampling { dry, frequency_penalty: 0.3, ..every_rule() },
        Sampling { xtc, top_k: 0, top_p: 1.0, ..every_rule() },
    ];
    let said = [5, 6, 7, 8, 5, 6, 7];
    for (at, rules) in rules.iter().enumerate() {
        for case in 0..100 {
            let logits = logits(case, VOCAB);
            let mut sampler = Sampler::new(rules, case);
            let usual = sampler.sample(&logits, &[5, 6], &said);
            let mut adjusted = logits.clone();
            sampler.prepare(&mut adjusted, &[5, 6], &said);
            let staged = sampler.choose_in_order(&adjusted, uniform(case, said.len() as u64));
            assert_eq!(usual, staged, "rules {at}, case {case}");
        }
    }
}

#[test]
fn an_order_without_a_rule_leaves_it_out() {
    let logits = logits(3, VOCAB);
    let best = likeliest(&logits);
    let draws = |order: &str, temperature: f32| {
        let rules = Sampling { order: stages(order), temperature, ..Sampling::default() };
        let draw = |seed| Sampler::new(&rules, seed).sample(&logits, &[], &[]);
        (0..50).filter(|&seed| draw(seed) != best).count()
    };
    assert_eq!(draws("t", 0.0), 0, "the likeliest");
    assert!(draws("kp", 0.0) > 10, "no temperature is applied");
    assert_eq!(draws("etdt", 0.0), 0);
}
