//! Weighed texts: what they weigh is what the chain rule says of the whole sequence, bit for bit
//! the same however much of it was in the cache, and nothing stays behind.

mod support;

use ingle_engine::{Arrival, Local, Options};
use ingle_protocol::{Call, Chat, Fault, Input, Message, Request, Token, Weighed, Weighing};
use std::sync::LazyLock;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use support::{fetched, open, text, tiny, until};

static SMOLLM2: LazyLock<Option<Local>> = LazyLock::new(|| {
    let options = Options { kv_bytes: Some(128 << 20), ..Options::default() };
    fetched("smollm2").map(|path| open(&path, &options))
});
static TINY: LazyLock<Local> = LazyLock::new(|| {
    let kv_bytes = Some(16 << 20);
    open(&tiny("qwen2"), &Options { threads: Some(1), kv_bytes, ..Options::default() })
});

fn weighing(input: Input, labels: &[&str]) -> Weighing {
    let labels = labels.iter().map(|&label| label.to_owned()).collect();
    Weighing { request: Request { input, ..Request::default() }, labels }
}

fn weigh(model: &Local, weighing: &Weighing) -> Result<Weighed, Fault> {
    let (_call, cancelled) = Call::new();
    model.weigh(weighing, &Arrival { at: Instant::now(), load: Duration::ZERO, cancelled })
}

fn conversation(content: &str) -> Input {
    let (role, content) = ("user".to_owned(), content.to_owned());
    let messages = vec![Message { role, content, ..Message::default() }];
    Input::Chat(Chat { messages, ..Chat::default() })
}

/// The chain rule over the golden path: the whole sequence in one piece, nothing shared.
fn by_chain_rule(model: &Local, prompt: &[Token], label: &str, ended: bool) -> f64 {
    let label = model.tokenizer().encode_continuation(label);
    let whole = [prompt, &label].concat();
    let ends = model.tokenizer().ends().to_vec();
    let last = ended.then_some(ends);
    let mut wanted = vec![vec![0]; prompt.len() - 1];
    wanted.extend(label.iter().map(|token| vec![*token]).chain(last));
    let scored = model.score(&whole, wanted).expect("scores");
    let tokens = &scored[prompt.len() - 1..prompt.len() - 1 + label.len()];
    let sum: f64 = tokens.iter().map(|position| position.logprobs[0]).sum();
    let end = scored.get(whole.len() - 1).map_or(0.0, |position| {
        position.logprobs.iter().map(|logprob| logprob.exp()).sum::<f64>().ln()
    });
    sum + end
}

fn check(model: &Local, input: Input, labels: &[&str], ended: bool) {
    let prompt = model.prompt(&input).expect("a prompt");
    let weighing = weighing(input, labels);
    let first = weigh(model, &weighing).expect("weighs");
    assert_eq!(first.ended, ended, "{labels:?}");
    for (label, logprob) in labels.iter().zip(&first.logprobs) {
        let chain = by_chain_rule(model, &prompt, label, ended);
        assert!((logprob - chain).abs() < 1e-9, "{label:?}: {logprob} is not {chain}");
    }
    let usage = first.receipt.usage;
    assert_eq!((usage.prompt_tokens as usize, usage.completion_tokens), (prompt.len(), 0));
    let again = weigh(model, &weighing).expect("weighs");
    let bits = |one: &Weighed| one.logprobs.iter().map(|one| one.to_bits()).collect::<Vec<_>>();
    assert_eq!(bits(&again), bits(&first), "out of the cache it weighs the same");
    let cached = again.receipt.usage.cached_tokens as usize;
    assert!(cached + 16 >= prompt.len(), "{cached} of {} were there", prompt.len());
}

#[test]
fn weights_are_those_of_the_chain_rule() {
    const STORY: &str = "Once upon a time there was a small dog who lived at the sea. His name was";
    let lists: [(&[&str], bool); 5] = [
        (&[" Max", " Spot", " Bartholomew the Third"], false),
        (&[" a", " b"], false),
        (&[" New", " New York", " Newcastle upon Tyne"], true),
        (&[" 1", " 10", " 100", " 2"], true),
        (&[" größer", " 日本", "\n\n"], false),
    ];
    for (labels, _) in lists {
        // Its tokens are bytes, so that one begins another where its text does.
        let begins = |one: &&str| labels.iter().any(|other| one != other && other.starts_with(one));
        check(&TINY, text(STORY), labels, labels.iter().any(begins));
    }
    let Some(model) = &*SMOLLM2 else { return };
    for (labels, ended) in lists {
        check(model, text(STORY), labels, ended);
    }
    check(model, conversation("Is Paris in France? Answer Yes or No."), &["Yes", "No"], false);
    check(model, conversation("Pick one: new, new york."), &["new", "new york"], true);
}

#[test]
fn questions_share_what_they_have_in_common() {
    let story = "The sea was calm, and the old man went out alone. ".repeat(8);
    let ask = |question: &str| {
        let input = text(&format!("{story}\n{question}"));
        weigh(&TINY, &weighing(input, &[" Yes", " No"])).expect("weighs").receipt.usage
    };
    let first = ask("Was it calm?");
    let second = ask("Did he go with a friend?");
    assert!(first.cached_tokens < 32, "{first:?}");
    assert!(second.cached_tokens as usize + 16 >= story.len(), "{second:?}");
}

#[test]
fn what_cannot_be_weighed_is_refused() {
    let check = |input: Input, labels: &[&str], words: &str| {
        let fault = weigh(&TINY, &weighing(input, labels)).expect_err(words);
        assert!(fault.message.contains(words), "{words:?} is not in {fault:?}");
    };
    check(text("Go"), &["a", ""], "is empty");
    let context = TINY.info().context;
    check(text(&"x".repeat(context)), &["a"], "the context holds");
    check(text("Go"), &["y".repeat(context).as_str()], "the context holds");
    check(conversation("Go"), &["a"], "chat template");
    let (call, cancelled) = Call::new();
    drop(call);
    assert!(cancelled.load(Ordering::Acquire));
    let arrival = Arrival { at: Instant::now(), load: Duration::ZERO, cancelled };
    let fault = TINY.weigh(&weighing(text("Go"), &["a"]), &arrival).expect_err("nobody asks");
    assert!(fault.message.contains("cancelled"), "{fault:?}");
    let mut late = weighing(text("Go"), &["a"]);
    late.request.timeout_ms = Some(1);
    let (_call, cancelled) = Call::new();
    let at = Instant::now().checked_sub(Duration::from_secs(9)).expect("the machine runs longer");
    let fault = TINY.weigh(&late, &Arrival { at, load: Duration::ZERO, cancelled });
    assert_eq!(fault.expect_err("too late").param.as_deref(), Some("timeout_ms"));
    until("nothing is left", || TINY.stats().counts.blocks_used == 0);
}
