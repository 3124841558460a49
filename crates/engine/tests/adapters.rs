//! Adapters on models: what they make of a model is what `peft` makes of it, and what merged
//! weights do; many in one batch are each as if alone, to the last bit; nothing cached is taken
//! from one for another; and they come and go while others are answered.

mod support;

use ingle_engine::{AdapterFile, Arrival, Case, Footprint, Options, Speculation};
use ingle_model::gguf::Gguf;
use ingle_protocol::{
    Adapter, Beams, Blame, Call, Fault, Input, Request, Sampling, Token, Weighing, Which,
};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use support::adapters::{Folder, made_up, write_adapter, write_merged};
use support::{Asked, Told, answer, ask, cases, fetched, open, request, rows, text, tiny};

fn options() -> Options {
    Options { threads: Some(2), kv_bytes: Some(64 << 20), ..Options::default() }
}

fn peft(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/adapters").join(name)
}

fn with(adapters: &[(&str, f32)], request: &Request) -> Request {
    let one = |&(name, scale): &(&str, f32)| Adapter { scale, ..Adapter::named(name) };
    Request { adapters: Some(adapters.iter().map(one).collect()), ..request.clone() }
}

/// A prompt of which each token's log-probability is told, and the likeliest few.
fn scored(ids: &[Token]) -> Request {
    let request = request(Input::Tokens(ids.to_vec()), 1);
    Request { prompt_logprobs: Some(10), ..request }
}

/// The likeliest tokens at each position of a prompt but the first, and their log-probabilities.
fn told(told: &Told) -> Vec<Vec<(Token, f64)>> {
    let scores = told.prompt.iter().filter_map(|token| token.score.as_ref());
    let top = |score: &ingle_protocol::PromptScore| {
        score.top.iter().map(|one| (one.token, f64::from(one.logprob))).collect()
    };
    scores.map(top).collect()
}

/// Mean and most of how far log-probabilities of the three likeliest are apart; the likeliest is
/// the same everywhere.
fn apart(expect: &[Vec<(Token, f64)>], found: &[Vec<(Token, f64)>]) -> (f64, f64) {
    assert_eq!(expect.len(), found.len());
    let mut deltas = Vec::new();
    for (expect, found) in expect.iter().zip(found) {
        for (token, logprob) in &expect[..3] {
            let own = found.iter().find(|(id, _)| id == token);
            deltas.push(own.map_or(10.0, |(_, own)| (own - logprob).abs()));
        }
    }
    let mean = deltas.iter().sum::<f64>() / deltas.len() as f64;
    (mean, deltas.into_iter().fold(0.0, f64::max))
}

#[test]
fn a_model_with_an_adapter_computes_what_peft_does() {
    let of = [("llama", "llama-rope-scaled"), ("qwen3", "qwen3"), ("phi3", "phi3")];
    for (name, model) in of.into_iter().chain([("gemma3", "gemma3")]) {
        let gold = std::fs::read_to_string(peft(name).join("gold.json")).expect("is here");
        let gold: Vec<Case> = cases(&gold);
        for kernels in rows() {
            let kv_type = Some(ingle_backend::KvType::F32);
            let context = (model == "phi3").then_some(128); // its gold is of short sequences
            let options = Options { kernels: Some(kernels), kv_type, context, ..options() };
            let local = open(&tiny(model), &options);
            local.adapt("a", &peft(name)).expect("fits");
            for case in &gold {
                let expect: Vec<_> = case.gold.iter().map(|gold| gold.top.clone()).collect();
                let expect = &expect[..case.ids.len() - 1];
                let found = told(&answer(&local, &with(&[("a", 1.0)], &scored(&case.ids))));
                let (mean, most) = apart(expect, &found);
                assert!(
                    mean < 1e-4 && most < 2e-3,
                    "{name} on {}: {mean} and {most} apart",
                    kernels.name
                );
                let plain = apart(expect, &told(&answer(&local, &scored(&case.ids))));
                assert!(plain.0 > 0.1, "{name}: the adapter makes no difference");
            }
        }
    }
}

const MATRICES: [&str; 7] =
    ["attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down"];

/// The matrices of some layers.
fn names(layers: &[usize]) -> Vec<String> {
    let of = |layer: &usize| MATRICES.map(|name| format!("blk.{layer}.{name}"));
    layers.iter().flat_map(of).collect()
}

/// The same model with an adapter beside its weights, and with it merged into them.
fn merging(path: &Path, layers: &[usize], ids: &[Token], (mean_most, most): (f64, f64)) {
    let (folder, gguf) = (Folder::new(), Gguf::open(path).expect("a sound file"));
    let pairs = made_up(&gguf, &names(layers), 8, 0.5, 7);
    let [adapter, merged] = ["adapter.gguf", "merged.gguf"].map(|name| folder.0.join(name));
    write_adapter(&adapter, gguf.arch(), &pairs);
    write_merged(&merged, &gguf, &pairs, 0.5);
    let local = open(path, &options());
    local.adapt("a", &adapter).expect("fits");
    let merged = told(&answer(&open(&merged, &options()), &scored(ids)));
    let found = apart(&merged, &told(&answer(&local, &with(&[("a", 0.5)], &scored(ids)))));
    assert!(found.0 <= mean_most && found.1 <= most, "{path:?}: {found:?}");
    let plain = apart(&merged, &told(&answer(&local, &scored(ids))));
    assert!(plain.0 > 20.0 * mean_most, "{path:?}: the adapter hardly matters: {plain:?}");
}

#[test]
fn an_adapter_beside_the_weights_is_one_merged_into_them() {
    let ids: Vec<Token> = (0..60).map(|at| at * 11 % 250).collect();
    for model in ["llama-rope-scaled", "qwen2", "gemma2"] {
        merging(&tiny(model), &[0, 1], &ids, (1e-4, 2e-3));
    }
    if let Some(path) = fetched("smollm2") {
        let ids: Vec<Token> = (0..60).map(|at| 1000 + at * 131).collect();
        // The weights are of four bits, and what is beside them meets activations of 16.
        merging(&path, &[0, 11, 29], &ids, (2e-3, 2e-2));
    }
}

/// The chosen token, then the likeliest ones, each with the bits of its log-probability.
type Bits = Vec<Vec<(Token, u32)>>;

fn bits(told: &Told) -> Bits {
    let scored = |score: &ingle_protocol::TokenScore| {
        let all = [&score.chosen].into_iter().chain(&score.top);
        all.map(|one| (one.token, one.logprob.to_bits())).collect()
    };
    told.scores().map(scored).collect()
}

/// Eight random adapters of a model, of ranks and matrices of their own.
fn eight(path: &Path, layers: usize, folder: &Folder) -> Vec<AdapterFile> {
    let gguf = Gguf::open(path).expect("a sound file");
    let file = |at: usize| {
        let all = names(&(0..layers).collect::<Vec<_>>());
        let own: Vec<String> = all.into_iter().skip(at % 3).step_by(1 + at % 2).collect();
        let name = format!("a{at}");
        let path = folder.0.join(format!("{name}.gguf"));
        let pairs = made_up(&gguf, &own, [1, 2, 4, 8, 12, 16, 20, 32][at], 0.5, at as u64);
        write_adapter(&path, gguf.arch(), &pairs);
        AdapterFile { name, path }
    };
    (0..8).map(file).collect()
}

/// One request with no adapter, eight with one, and one with two; some begin alike.
fn ten(tokens: u32) -> Vec<Request> {
    let prompts = [
        "Marie Curie was born in Warsaw, in what was then the Kingdom of Poland. She studied in \
         secret before she left for Paris, where she met the man who became her husband and",
        "def f(n):",
    ];
    let plain = |at: usize| {
        let temperature = if at.is_multiple_of(2) { 0.0 } else { 0.9 };
        let plain = request(text(prompts[at % 3 % 2]), tokens);
        let sampling = Sampling { temperature, seed: Some(at as u64), ..plain.sampling };
        Request { logprobs: Some(3), sampling, ..plain }
    };
    let own = |at: usize| match at {
        0 => with(&[], &plain(at)),
        9 => with(&[("a3", 0.7), ("a6", -0.4)], &plain(at)),
        _ => with(&[(&format!("a{}", at - 1), 1.0)], &plain(at)),
    };
    (0..10).map(own).collect()
}

fn mixed(path: &Path, layers: usize) {
    let folder = Folder::new();
    let adapters = eight(path, layers, &folder);
    let options = Options { adapters, ..options() };
    let alone = Options {
        threads: Some(1),
        prefix_cache: false,
        speculation: Speculation::None,
        ..options.clone()
    };
    let local = open(path, &alone);
    let expect: Vec<Bits> = ten(8).iter().map(|request| bits(&answer(&local, request))).collect();
    drop(local);
    assert!((1..10).all(|at| expect[at] != expect[0]), "an adapter makes no difference");
    let plain = open(path, &Options { adapters: Vec::new(), ..alone });
    assert_eq!(bits(&answer(&plain, &ten(8)[0])), expect[0], "others' adapters are none of mine");
    drop(plain);
    for step_tokens in [512, 7] {
        let local = open(path, &Options { step_tokens, ..options.clone() });
        for round in ["the first time", "from the cache"] {
            let mut cached = 0;
            let asked: Vec<Asked> =
                ten(8).iter().map(|request| ask(&local, request).expect("is taken in")).collect();
            for (at, asked) in asked.into_iter().enumerate() {
                let told = asked.wait();
                cached += told.receipt().usage.cached_tokens;
                assert!(bits(&told) == expect[at], "request {at}, {round}, {step_tokens} a step");
            }
            assert!(cached > 0 || round == "the first time", "nothing was found again");
        }
    }
}

#[test]
fn eight_adapters_in_a_batch_are_each_as_if_alone() {
    mixed(&tiny("gemma3"), 7);
    if let Some(path) = fetched("smollm2") {
        mixed(&path, 30);
    }
}

/// As if each row came after the ones before: the adapters, and how many prompt tokens are found.
#[test]
fn prefixes_are_shared_among_those_of_the_same_adapters() {
    let (folder, model) = (Folder::new(), tiny("qwen2"));
    let adapters = eight(&model, 2, &folder);
    let kept = folder.0.join("kept");
    let prefix_disk = Some(ingle_engine::PrefixDisk { folder: kept, bytes_most: 1 << 30 });
    let options = Options { adapters, prefix_disk, ..options() };
    let ids: Vec<Token> = (0..100).collect();
    let asked = Request { logprobs: Some(3), ..request(Input::Tokens(ids), 4) };
    let rows: [(&[(&str, f32)], u32); 9] = [
        (&[], 0),
        (&[("a1", 1.0)], 0),
        (&[("a1", 0.5)], 0),
        (&[("a2", 1.0)], 0),
        (&[("a1", 1.0), ("a2", 1.0)], 0),
        (&[("a1", 1.0)], 96),
        (&[("a1", 0.0)], 96), // nothing is added: as the first
        (&[("a2", 1.0)], 96),
        (&[("a1", 1.0), ("a2", 1.0)], 96),
    ];
    let local = open(&model, &options);
    let mut said = Vec::new();
    for (adapters, cached) in rows {
        let told = answer(&local, &with(adapters, &asked));
        assert_eq!(told.receipt().usage.cached_tokens, cached, "{adapters:?}");
        said.push(bits(&told));
    }
    drop(local);
    let local = open(&model, &options);
    for (adapters, before) in [(rows[8].0, 4), (rows[1].0, 1), (rows[0].0, 0)] {
        let told = answer(&local, &with(adapters, &asked));
        assert_eq!(told.receipt().usage.cached_tokens, 96, "{adapters:?}, from disk");
        assert_eq!(bits(&told), said[before], "{adapters:?}, from disk");
    }
}

/// What is drafted, searched and weighed is so with the adapter.
#[test]
fn drafts_beams_and_weights_are_the_adapters() {
    let (folder, model) = (Folder::new(), tiny("qwen3"));
    let adapters = eight(&model, 2, &folder);
    let local = |speculation, draft| {
        open(&model, &Options { adapters: adapters.clone(), speculation, draft, ..options() })
    };
    let mut request = request(text(&"and so on ".repeat(12)), 40);
    request.logprobs = Some(2);
    let request = with(&[("a5", 1.0)], &request);
    let plain = local(Speculation::None, None);
    let expect = answer(&plain, &request);
    for (speculation, draft) in
        [(Speculation::Lookup, None), (Speculation::Draft, Some(tiny("qwen3")))]
    {
        let local = local(speculation, draft);
        assert_eq!(bits(&answer(&local, &request)), bits(&expect), "{speculation:?}");
    }
    // The likeliest continuation of one token is the greedy one.
    let rules = Beams { width: 2, length_penalty: 1.0, early_stopping: false };
    let search = Request {
        beams: Some(rules),
        logprobs: None,
        max_tokens: Some(1),
        sampling: Sampling { temperature: 0.0, ignore_eos: true, ..Sampling::default() },
        ..request.clone()
    };
    let found = answer(&plain, &search);
    let first = expect.scores().next().expect("a token");
    assert_eq!(found.beams[0].tokens, [first.chosen.token]);
    assert!((found.beams[0].logprob as f32 - first.chosen.logprob).abs() < 1e-5);
    let (_call, cancelled) = Call::new();
    let labels = ["yes".to_owned(), "no".to_owned()].to_vec();
    let weighing = Weighing { request: request.clone(), labels: labels.clone() };
    let arrival = Arrival { at: Instant::now(), load: Duration::ZERO, cancelled };
    let weighed = plain.weigh(&weighing, &arrival).expect("is weighed");
    let prompt = plain.prompt(&request.input).expect("is encoded");
    for (label, weight) in labels.iter().zip(&weighed.logprobs) {
        let label = plain.tokenizer().encode_continuation(label);
        let whole = scored(&[&prompt[..], &label].concat());
        let told = answer(&plain, &with(&[("a5", 1.0)], &whole)).prompt;
        let scores = told[prompt.len()..].iter().filter_map(|token| token.score.as_ref());
        let sum: f64 = scores.map(|score| f64::from(score.logprob)).sum();
        assert!((weight - sum).abs() < 1e-4, "{weight}, and {sum} by the chain rule");
    }
    for receipt in [expect.receipt(), found.receipt(), &weighed.receipt] {
        assert_eq!(receipt.model, "a-model:a5");
    }
}

#[test]
fn adapters_come_and_go_while_others_are_answered() {
    let (folder, model) = (Folder::new(), tiny("qwen2"));
    let files = eight(&model, 2, &folder);
    let local = open(&model, &options());
    assert!(local.adapters().is_empty());
    local.adapt("a", &files[2].path).expect("fits");
    let long = with(&[("a", 1.0)], &request(text("Once upon a time"), 200));
    let expect = answer(&local, &long).text();
    let under_way = ask(&local, &long).expect("is taken in");
    under_way.next();
    local.unadapt("a").expect("is there");
    local.adapt("a", &files[3].path).expect("the name is free");
    let other = answer(&local, &long).text();
    let mut first = String::new(); // what was heard of it already
    let told = under_way.wait();
    first.push_str(&told.text());
    assert!(expect.ends_with(&first) && !first.is_empty(), "it goes on with what it began with");
    assert_ne!(other, expect);
    assert_eq!(local.adapters(), ["a"]);
}

#[test]
fn what_cannot_be_is_refused() {
    let (folder, model) = (Folder::new(), tiny("qwen2"));
    let adapters = eight(&model, 2, &folder);
    let local = open(&model, &Options { adapters: adapters.clone(), ..options() });
    let plain = request(text("Hello"), 2);
    let refused = |request: &Request, expect: &str| {
        let fault = ask(&local, request).err().expect(expect);
        assert!(fault.message.contains(expect) && fault.blame == Blame::Caller, "{fault:?}");
        assert_eq!(fault.param.as_deref(), Some("lora"));
    };
    refused(&with(&[("b", 1.0)], &plain), "`a-model` has no adapter `b`; there are: a0, a1");
    refused(&with(&[("a1", f32::NAN)], &plain), "a scale is NaN");
    refused(&with(&[("a1", 1e9)], &plain), "not in -1000 to 1000");
    refused(&with(&[("a1", 1.0), ("a1", 0.5)], &plain), "`a1` is asked for twice");
    let ninth = Adapter { which: Which::Number(8), scale: 1.0 };
    refused(&Request { adapters: Some(vec![ninth]), ..plain.clone() }, "no adapter 8");
    let numbered = Adapter { which: Which::Number(3), scale: 1.0 };
    let numbered = answer(&local, &Request { adapters: Some(vec![numbered]), ..plain.clone() });
    assert_eq!(numbered.receipt().model, "a-model:a3");
    let check = |outcome: Result<(), Fault>, expect: &str| {
        let fault = outcome.expect_err(expect);
        assert!(fault.message.contains(expect), "{fault:?}");
    };
    check(local.adapt("a1", &adapters[1].path), "has an adapter `a1` already");
    check(local.adapt("b", &peft("gemma3")), "was it made for another model?");
    check(local.adapt("b", &model), "its general.type is");
    check(local.unadapt("b"), "no adapter `b`");
    assert_eq!(local.adapters().len(), 8);
}

#[test]
fn a_footprint_has_room_for_adapters() {
    let (folder, model) = (Folder::new(), tiny("phi3"));
    let without = Footprint::of(&model, &options()).expect("reads");
    let adapters = vec![AdapterFile { name: "a".to_owned(), path: peft("phi3") }];
    let with = Footprint::of(&model, &Options { adapters, ..options() }).expect("reads");
    // Rank 2 of two layers: three outputs of 64, two of 96, two of 64; 64 or 96 columns.
    let lines = |outs: &[usize], cols: usize| -> usize {
        outs.iter().map(|rows| cols + rows.div_ceil(16) * 2).sum()
    };
    let layer =
        lines(&[64, 32, 32], 64) + lines(&[64], 64) + lines(&[96, 96], 64) + lines(&[64], 96);
    assert_eq!(with.memory.weights - without.memory.weights, (2 * 64 * layer) as u64);
    let adapters = vec![AdapterFile { name: "a".to_owned(), path: folder.0.join("none") }];
    let fault = Footprint::of(&model, &Options { adapters, ..options() }).expect_err("none");
    assert!(fault.message.contains("none"), "{fault:?}");
}
