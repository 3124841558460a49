//! OpenAI requests: what is read, what is refused and under which name, and that reading undoes
//! writing.

mod support;

use ingle_protocol::wire::openai::{Asked, Format, Options, fields};
use ingle_protocol::wire::openai::{read_request, write_request};
use ingle_protocol::wire::responses;
use ingle_protocol::{
    Beams, Chat, Effort, Gap, Grammar, Input, KeepAlive, Message, Reasoning, Request,
};
use ingle_protocol::{Dry, DynamicTemperature, Mirostat, Sampling, Stage, Xtc};
use ingle_protocol::{Tool, ToolCall, ToolChoice, Truncation};
use proptest::prelude::*;
use std::time::Duration;

const CHAT: Format = Format::Chat;
const TEXT: Format = Format::Completions;

/// A minimal request with `extra` fields.
fn body(format: Format, extra: &str) -> String {
    let input = match format {
        Format::Chat => r#""messages":[{"role":"user","content":"hi"}]"#,
        Format::Completions => r#""prompt":"hi""#,
    };
    let comma = if extra.is_empty() { "" } else { "," };
    format!(r#"{{"model":"m",{input}{comma}{extra}}}"#)
}

fn read(format: Format, extra: &str) -> Asked {
    let body = body(format, extra);
    read_request(format, body.as_bytes()).unwrap_or_else(|fault| panic!("{body}: {fault}"))
}

/// `extra` is refused, and the fault names `param` and says `words`.
fn refused(format: Format, extra: &str, param: &str, words: &str) {
    raw_refused(format, &body(format, extra), param, words);
}

fn raw_refused(format: Format, body: &str, param: &str, words: &str) {
    let fault = read_request(format, body.as_bytes()).expect_err(body);
    assert_eq!(fault.param.as_deref().unwrap_or(""), param, "{body}: {fault}");
    assert!(fault.message.contains(words), "{body}: {fault}");
}

#[test]
fn a_plain_request_is_all_defaults() {
    let asked = read(CHAT, "");
    let message = Message { role: "user".into(), content: "hi".into(), ..Message::default() };
    let input = Input::Chat(Chat { messages: vec![message], ..Chat::default() });
    let request = Request { model: "m".into(), input, ..Request::default() };
    assert_eq!(asked, Asked { requests: vec![request], options: Options::default() });
    let asked = read(TEXT, "");
    assert_eq!(asked.requests[0].max_tokens, Some(16), "OpenAI's default");
    assert_eq!(asked.requests[0].input, Input::Text("hi".into()));
}

type Check = fn(&Request, &Options) -> bool;

fn reach(rows: &[(Format, &str, Check)]) {
    for (format, extra, check) in rows {
        let asked = read(*format, extra);
        assert!(check(&asked.requests[0], &asked.options), "{extra}: {asked:?}");
    }
}

#[test]
#[rustfmt::skip]
fn honoured_fields_reach_the_request() {
    reach(&[
        (CHAT, r#""temperature":0.7"#, |r, _| r.sampling.temperature == 0.7),
        (CHAT, r#""temperature":null"#, |r, _| r.sampling.temperature == 1.0),
        (CHAT, r#""top_p":0.5"#, |r, _| r.sampling.top_p == 0.5),
        (CHAT, r#""top_k":40"#, |r, _| r.sampling.top_k == 40),
        (CHAT, r#""top_k":-1"#, |r, _| r.sampling.top_k == 0),
        (CHAT, r#""min_p":0.25"#, |r, _| r.sampling.min_p == 0.25),
        (CHAT, r#""typical_p":0.5"#, |r, _| r.sampling.typical_p == 0.5),
        (CHAT, r#""repetition_penalty":1.5"#, |r, _| r.sampling.repetition_penalty == 1.5),
        (CHAT, r#""frequency_penalty":-2"#, |r, _| r.sampling.frequency_penalty == -2.0),
        (CHAT, r#""presence_penalty":2"#, |r, _| r.sampling.presence_penalty == 2.0),
        (CHAT, r#""logit_bias":{"5":-100,"7":1.5}"#, |r, _| r.sampling.logit_bias == [(5, -100.0), (7, 1.5)]),
        (CHAT, r#""top_n_sigma":1.5"#, |r, _| r.sampling.top_n_sigma == 1.5),
        (TEXT, r#""top_n_sigma":-1"#, |r, _| r.sampling.top_n_sigma == 0.0),
        (CHAT, r#""dynatemp_range":0.5,"dynatemp_exponent":2"#,
            |r, _| r.sampling.dynamic_temperature
                == DynamicTemperature { range: 0.5, exponent: 2.0 }),
        (CHAT, r#""mirostat":2,"mirostat_tau":3"#,
            |r, _| r.sampling.mirostat == Mirostat { version: 2, tau: 3.0, eta: 0.1 }),
        (CHAT, r#""xtc_probability":0.5"#, |r, _| r.sampling.xtc == Xtc { probability: 0.5, threshold: 0.1 }),
        (CHAT, r#""dry_multiplier":0.8,"dry_penalty_last_n":-1,"dry_sequence_breakers":["x"]"#,
            |r, _| r.sampling.dry == Dry { multiplier: 0.8, breakers: vec!["x".into()], ..Dry::default() }),
        (CHAT, r#""allowed_token_ids":[1,2]"#, |r, _| r.sampling.allowed_tokens == [1, 2]),
        (CHAT, r#""bad_words":["x y"]"#, |r, _| r.sampling.bad_words == ["x y"]),
        (CHAT, r#""stop_token_ids":[7],"min_tokens":3"#,
            |r, _| r.sampling.stop_tokens == [7] && r.sampling.min_tokens == 3),
        (CHAT, r#""seed":-1"#, |r, _| r.sampling.seed == Some(u64::MAX)),
        (CHAT, r#""seed":18446744073709551615"#, |r, _| r.sampling.seed == Some(u64::MAX)),
        (CHAT, r#""priority":-3"#, |r, _| r.priority == -3),
        (TEXT, r#""priority":2147483647"#, |r, _| r.priority == i32::MAX),
        (CHAT, r#""timeout_ms":250"#, |r, _| r.timeout_ms == Some(250)),
        (CHAT, r#""cache_salt":"mine""#, |r, _| r.cache_salt == "mine"),
        (TEXT, r#""cache_salt":"ä""#, |r, _| r.cache_salt == "ä"),
        (CHAT, r#""ignore_eos":true"#, |r, _| r.sampling.ignore_eos),
        (CHAT, r#""stop":"x""#, |r, _| r.stop == ["x"]),
        (CHAT, r#""stop":["x","y"]"#, |r, _| r.stop == ["x", "y"]),
        (CHAT, r#""stop":[]"#, |r, _| r.stop.is_empty()),
        (CHAT, r#""keep_alive":-1"#, |r, _| r.keep_alive == Some(KeepAlive::Forever)),
        (CHAT, r#""keep_alive":0"#, |r, _| r.keep_alive == Some(KeepAlive::For(Duration::ZERO))),
        (TEXT, r#""keep_alive":"5m""#,
            |r, _| r.keep_alive == Some(KeepAlive::For(Duration::from_secs(300)))),
        (CHAT, r#""max_tokens":5"#, |r, _| r.max_tokens == Some(5)),
        (CHAT, r#""max_completion_tokens":5.0"#, |r, _| r.max_tokens == Some(5)),
        (CHAT, r#""max_tokens":5,"max_completion_tokens":5"#, |r, _| r.max_tokens == Some(5)),
        (CHAT, r#""logprobs":true"#, |r, _| r.logprobs == Some(0)),
        (CHAT, r#""logprobs":false"#, |r, _| r.logprobs.is_none()),
        (CHAT, r#""logprobs":true,"top_logprobs":20"#, |r, _| r.logprobs == Some(20)),
        (TEXT, r#""logprobs":5"#, |r, _| r.logprobs == Some(5)),
        (TEXT, r#""echo":true"#, |_, o| o.echo),
        (TEXT, r#""n":3,"best_of":3"#, |_, o| o.n == 3 && o.best_of.is_none()),
        (CHAT, r#""n":16"#, |_, o| o.n == 16),
        (CHAT, r#""stream":true"#, |_, o| o.stream && !o.include_usage),
        (CHAT, r#""stream":true,"stream_options":{"include_usage":true}"#, |_, o| o.include_usage),
        (CHAT, r#""chat_template_kwargs":{"b":1,"a":true}"#,
            |r, _| matches!(&r.input, Input::Chat(c) if c.template_kwargs == r#"{"b":1,"a":true}"#)),
        (CHAT, r#""include_reasoning":false"#, |_, o| o.hide_reasoning),
    ]);
}

/// What is told of tokens, which of them are searched for, and in which order rules go.
#[test]
#[rustfmt::skip]
fn fields_about_tokens_reach_the_request() {
    reach(&[
        (TEXT, r#""n":2,"best_of":5"#, |r, o| o.drawn() == 5 && o.hide_scores && r.logprobs == Some(0)),
        (TEXT, r#""best_of":5,"logprobs":2"#, |r, o| !o.hide_scores && r.logprobs == Some(2)),
        (TEXT, r#""echo":true,"logprobs":3,"max_tokens":0"#, |r, o| r.prompt_logprobs == Some(3) && !o.prompt_scores),
        (TEXT, r#""prompt_logprobs":0"#, |r, o| r.prompt_logprobs == Some(0) && o.prompt_scores && r.logprobs.is_none()),
        (CHAT, r#""return_token_ids":true,"return_tokens_as_token_ids":true"#, |r, o| r.token_ids && o.tokens_as_ids),
        (CHAT, r#""truncate_prompt_tokens":-1,"truncation_side":"left""#, |r, _| r.truncation == Some(Truncation::Fitting)),
        (CHAT, r#""truncate_prompt_tokens":7"#, |r, _| r.truncation == Some(Truncation::Last(7))),
        (CHAT, r#""samplers":"tkk""#, |r, _| r.sampling.order == [Stage::Temperature, Stage::TopK, Stage::TopK]),
        (CHAT, r#""samplers":["typical_p","temp","penalties"]"#, |r, _| r.sampling.order == [Stage::Typical, Stage::Temperature, Stage::Penalties]),
        (CHAT, r#""samplers":[]"#, |r, _| r.sampling.order.is_empty()),
        (TEXT, r#""use_beam_search":true,"n":2,"best_of":4,"length_penalty":0.5,"early_stopping":"never""#, |r, o| {
            let beams = Beams { width: 4, length_penalty: 0.5, early_stopping: false };
            r.beams == Some(beams) && o.n == 2 && !o.hide_scores && r.logprobs.is_none()
        }),
        (TEXT, r#""suffix":"""#, |r, _| matches!(r.input, Input::Text(_))),
        (TEXT, r#""suffix":"end""#, |r, _| matches!(&r.input, Input::Gap(gap) if gap.suffix == "end" && gap.begun.is_empty())),
    ]);
}

/// The conversation that `extra` makes of a minimal request.
fn conversation(extra: &str) -> Chat {
    let Input::Chat(chat) = read(CHAT, extra).requests.remove(0).input else { panic!("a chat") };
    chat
}

const TOOLS: &str = r#""tools":[{"type":"function","function":{"name":"f","description":"Does.",
    "parameters":{"type":"object","b":1,"a":2},"strict":true}},
    {"type":"function","function":{"name":"g","parameters":null}}]"#;

#[test]
fn tools_and_reasoning_reach_the_conversation() {
    let f = Tool {
        name: "f".into(),
        description: Some("Does.".into()),
        parameters: r#"{"type":"object","b":1,"a":2}"#.into(),
        strict: true,
    };
    let tools = vec![f, Tool { name: "g".into(), ..Tool::default() }];
    let check = |extra: &str, change: fn(&mut Chat)| {
        let mut expect = Chat { tools: tools.clone(), ..conversation("") };
        change(&mut expect);
        assert_eq!(conversation(&format!("{TOOLS}{extra}")), expect, "{extra}");
    };
    check("", |_| {});
    check(r#","tool_choice":"auto""#, |_| {});
    check(r#","tool_choice":"none""#, |chat| chat.tool_choice = ToolChoice::None);
    check(r#","tool_choice":"required""#, |chat| chat.tool_choice = ToolChoice::Required);
    check(r#","tool_choice":{"type":"function","function":{"name":"g"}}"#, |chat| {
        chat.tool_choice = ToolChoice::Named("g".into());
    });
    check(r#","parallel_tool_calls":false"#, |chat| chat.one_call = true);
    check(r#","thinking_token_budget":9"#, |chat| chat.reasoning.budget_tokens = Some(9));
    check(r#","reasoning_effort":"none""#, |chat| chat.reasoning.on = Some(false));
    check(r#","reasoning_effort":"high""#, |chat| chat.reasoning.effort = Some(Effort::High));
    check(r#","chat_template_kwargs":{"a":1,"enable_thinking":true}"#, |chat| {
        chat.reasoning.on = Some(true);
        chat.template_kwargs = r#"{"a":1}"#.into();
    });
    check(r#","chat_template_kwargs":{"enable_thinking":false}"#, |chat| {
        chat.reasoning.on = Some(false);
    });
}

#[test]
#[rustfmt::skip]
fn constraints_have_many_names() {
    let schema = |text: &str| Some(Grammar::JsonSchema(text.into()));
    let object = schema(r#"{"type":"object"}"#);
    let rows = [
        (CHAT, r#""response_format":{"type":"text"}"#, None),
        (CHAT, r#""response_format":{"type":"json_object"}"#, object.clone()),
        (CHAT, r#""response_format":{"type":"json_object","schema":{"b":1,"a":2}}"#, schema(r#"{"b":1,"a":2}"#)),
        (CHAT, r#""response_format":{"type":"json_schema","json_schema":{"name":"n","strict":true,"schema":{"enum":[1]}}}"#,
            schema(r#"{"enum":[1]}"#)),
        (TEXT, r#""guided_json":{"type":"null"}"#, schema(r#"{"type":"null"}"#)),
        (TEXT, r#""guided_json":"{\"type\": \"null\"}""#, schema(r#"{"type":"null"}"#)),
        (TEXT, r#""json_schema":true"#, schema("true")),
        (TEXT, r#""json_schema":{"const":-2.8564119563076548e-70}"#, schema(r#"{"const":-2.8564119563076548e-70}"#)),
        (CHAT, r#""guided_regex":"a+""#, Some(Grammar::Regex("a+".into()))),
        (CHAT, r#""guided_choice":["a","b"]"#, Some(Grammar::Choice(vec!["a".into(), "b".into()]))),
        (CHAT, r#""guided_grammar":"start: \"a\"""#, Some(Grammar::Lark("start: \"a\"".into()))),
        (TEXT, r#""grammar":"root ::= \"a\"""#, Some(Grammar::Gbnf("root ::= \"a\"".into()))),
        (TEXT, r#""structured_outputs":{"json_object":true,"regex":null}"#, object),
        (TEXT, r#""structured_outputs":{"json_object":false}"#, None),
        (TEXT, r#""structured_outputs":{"regex":"a"}"#, Some(Grammar::Regex("a".into()))),
    ];
    for (format, extra, grammar) in rows {
        assert_eq!(read(format, extra).requests[0].grammar, grammar, "{extra}");
    }
}

#[test]
#[rustfmt::skip]
fn what_cannot_be_honoured_is_refused_by_name() {
    let rows: &[(Format, &str, &str, &str)] = &[
        (CHAT, r#""temperature":2.5"#, "temperature", "between 0 and 2"),
        (CHAT, r#""temperature":"hot""#, "temperature", "a string"),
        (CHAT, r#""temperature":1e999"#, "", "no JSON"),
        (CHAT, r#""priority":0.5"#, "priority", "whole number"),
        (CHAT, r#""priority":2147483648"#, "priority", "to 2147483647"),
        (CHAT, r#""timeout_ms":0"#, "timeout_ms", "from 1"),
        (CHAT, r#""cache_salt":"""#, "cache_salt", "empty"),
        (CHAT, r#""cache_salt":7"#, "cache_salt", "a number"),
        (CHAT, r#""keep_alive":"soon""#, "keep_alive", "such as"),
        (CHAT, r#""keep_alive":true"#, "keep_alive", "such as"),
        (CHAT, r#""keep_alive":1e12"#, "keep_alive", "ten years"),
        (CHAT, r#""n":0"#, "n", "from 1 to 16"),
        (CHAT, r#""n":1.5"#, "n", "whole number"),
        (CHAT, r#""max_tokens":0"#, "max_tokens", "at least 1"),
        (CHAT, r#""max_tokens":5,"max_completion_tokens":6"#, "max_tokens", "differs"),
        (CHAT, r#""top_logprobs":2"#, "top_logprobs", "logprobs"),
        (CHAT, r#""logprobs":true,"top_logprobs":21"#, "top_logprobs", "from 0 to 20"),
        (CHAT, r#""stop":"""#, "stop", "empty"),
        (CHAT, r#""stop":["a",""]"#, "stop[1]", "empty"),
        (CHAT, r#""stop":["a","a","a","a","a","a","a","a","a","a","a","a","a","a","a","a","a"]"#, "stop", "at most 16"),
        (CHAT, r#""logit_bias":{"x":1}"#, "logit_bias.x", "token's id"),
        (CHAT, r#""logit_bias":{"1":101}"#, "logit_bias.1", "between -100"),
        (CHAT, r#""stream_options":{"include_usage":true}"#, "stream_options", "needs 'stream'"),
        (CHAT, r#""stream":true,"stream_options":{"include_usge":true}"#, "stream_options.include_usge", "did you mean include_usage"),
        (CHAT, r#""response_format":{"type":"xml"}"#, "response_format.type", "json_schema"),
        (CHAT, r#""response_format":{"type":"json_schema"}"#, "response_format.json_schema", "missing"),
        (CHAT, r#""response_format":{"type":"json_schema","json_schema":{"name":"n"}}"#, "response_format.json_schema.schema", "missing"),
        (CHAT, r#""response_format":{"type":"text","strict":true}"#, "response_format.strict", "unknown"),
        (CHAT, r#""guided_json":7"#, "guided_json", "a number"),
        (CHAT, r#""guided_json":"{""#, "guided_json", "no JSON"),
        (CHAT, r#""guided_json":"{\"a\":1,\"a\":2}""#, "guided_json", "given twice"),
        (CHAT, r#""guided_choice":[]"#, "guided_choice", "empty"),
        (CHAT, r#""guided_choice":["a",1]"#, "guided_choice[1]", "a number"),
        (CHAT, r#""grammar":"""#, "grammar", "empty"),
        (CHAT, r#""grammar":"root ::= \"a\"","guided_regex":"a""#, "guided_regex", "one constraint too many"),
        (TEXT, r#""structured_outputs":{"json":{},"regex":"a"}"#, "structured_outputs.regex", "one constraint too many"),
        (TEXT, r#""structured_outputs":{"structural_tag":"a"}"#, "structured_outputs.structural_tag", "unknown"),
        (CHAT, r#""tools":[{"type":"custom"}]"#, "tools[0].type", "function"),
        (CHAT, r#""tools":[{"type":"function"}]"#, "tools[0].function", "missing"),
        (CHAT, r#""tools":[{"type":"function","function":{}}]"#, "tools[0].function.name", "missing"),
        (CHAT, r#""tools":[{"type":"function","function":{"name":"a b"}}]"#, "tools", "letters"),
        (CHAT, r#""tools":[{"type":"function","function":{"name":"f","parameters":"{}"}}]"#, "tools[0].function.parameters", "a string"),
        (CHAT, r#""tools":[{"type":"function","function":{"name":"f"}},{"type":"function","function":{"name":"f"}}]"#, "tools", "two tools"),
        (CHAT, r#""tool_choice":"required""#, "tool_choice", "no tools"),
        (CHAT, r#""tool_choice":"any""#, "tool_choice", "required"),
        (CHAT, r#""tool_choice":{"type":"function","function":{"name":"f"}}"#, "tool_choice", "no tool \"f\""),
        (CHAT, r#""tool_choice":{"type":"allowed_tools"}"#, "tool_choice.type", "function"),
        (CHAT, r#""reasoning_effort":"much""#, "reasoning_effort", "one of none, minimal"),
        (CHAT, r#""reasoning_effort":"none","chat_template_kwargs":{"enable_thinking":true}"#, "chat_template_kwargs.enable_thinking", "contradicts"),
        (CHAT, r#""continue_final_message":true"#, "messages", "continued"),
        (CHAT, r#""modalities":["text","audio"]"#, "modalities", "text"),
        (CHAT, r#""service_tier":"flex""#, "service_tier", "auto"),
        (CHAT, r#""store":true"#, "store", "not kept"),
        (CHAT, r#""repeat_penalty":1.1"#, "repeat_penalty", "repetition_penalty"),
        (CHAT, r#""tempratur":1"#, "tempratur", "did you mean temperature"),
        (CHAT, r#""prompt":"x""#, "prompt", "unknown"),
        (TEXT, r#""messages":[]"#, "messages", "unknown"),
    ];
    for (format, extra, param, words) in rows {
        refused(*format, extra, param, words);
    }
}

#[test]
#[rustfmt::skip]
fn fields_about_tokens_are_refused_by_name() {
    let rows: &[(Format, &str, &str, &str)] = &[
        (TEXT, r#""suffix":"x","echo":true"#, "echo", "around"),
        (TEXT, r#""use_beam_search":true,"stream":true"#, "use_beam_search", "at the end"),
        (CHAT, r#""length_penalty":2"#, "length_penalty", "needs 'use_beam_search'"),
        (CHAT, r#""use_beam_search":true,"top_k":3"#, "use_beam_search", "without rules"),
        (CHAT, r#""use_beam_search":true,"temperature":0.5"#, "temperature", "no effect"),
        (TEXT, r#""use_beam_search":true,"stop":"x""#, "stop", "beam search"),
        (TEXT, r#""use_beam_search":true,"logprobs":1"#, "logprobs", "beam search"),
        (TEXT, r#""n":3,"best_of":2"#, "best_of", "at least 'n'"),
        (TEXT, r#""best_of":2,"stream":true"#, "best_of", "at the end"),
        (TEXT, r#""echo":true,"logprobs":1,"prompt_logprobs":2"#, "prompt_logprobs", "differs"),
        (TEXT, r#""max_tokens":0,"echo":true"#, "max_tokens", "at least 1"),
        (TEXT, r#""samplers":"kz""#, "samplers", "no sampler \"z\"; there is: penalties (e)"),
        (CHAT, r#""samplers":["top_k","infill"]"#, "samplers[1]", "no sampler \"infill\""),
        (CHAT, r#""samplers":"k","mirostat":2"#, "samplers", "in their place"),
        (CHAT, r#""truncate_prompt_tokens":0"#, "truncate_prompt_tokens", "at least 1, or -1"),
        (CHAT, r#""truncation_side":"right""#, "truncation_side", "the end"),
        (CHAT, r#""prompt_logprobs":21"#, "prompt_logprobs", "from 0 to 20"),
    ];
    for (format, extra, param, words) in rows {
        refused(*format, extra, param, words);
    }
}

#[test]
#[rustfmt::skip]
fn messages_are_checked() {
    let rows: &[(&str, &str, &str)] = &[
        (r#"[]"#, "messages", "empty"),
        (r#"[1]"#, "messages[0]", "an object"),
        (r#"[{"content":"x"}]"#, "messages[0].role", "missing"),
        (r#"[{"role":"robot","content":"x"}]"#, "messages[0].role", "one of system, developer"),
        (r#"[{"role":"user"}]"#, "messages[0].content", "missing"),
        (r#"[{"role":"user","content":7}]"#, "messages[0].content", "a number"),
        (r#"[{"role":"user","content":[{"type":"image_url","image_url":{}}]}]"#, "messages[0].content[0].image_url.url", "missing"),
        (r#"[{"role":"system","content":[{"type":"image_url","image_url":{}}]}]"#, "messages[0].content[0].type", "image_url"),
        (r#"[{"role":"user","content":[{"type":"text","txt":"x"}]}]"#, "messages[0].content[0].txt", "did you mean text"),
        (r#"[{"role":"user","content":"x","colour":1}]"#, "messages[0].colour", "unknown"),
        (r#"[{"role":"user","content":"x","tool_call_id":"1"}]"#, "messages[0].tool_call_id", "tool"),
        (r#"[{"role":"assistant","refusal":"no","content":"x"}]"#, "messages[0].refusal", "not supported"),
        (r#"[{"role":"assistant","tool_calls":[{"id":"1","function":{"name":"f"}}]}]"#,
            "messages[0].tool_calls[0].function.arguments", "missing"),
    ];
    for (messages, param, words) in rows {
        raw_refused(CHAT, &format!(r#"{{"messages":{messages}}}"#), param, words);
    }
}

#[test]
fn messages_are_read_as_templates_know_them() {
    let body = br#"{"messages":[
        {"role":"developer","content":[{"type":"text","text":"a"},{"type":"text","text":"b"}]},
        {"role":"assistant","content":null,"refusal":null,"annotations":[],
         "tool_calls":[{"id":"1","type":"function","function":{"name":"f","arguments":"{}"}}]},
        {"role":"tool","content":"7","tool_call_id":"1","name":"f"}]}"#;
    let asked = read_request(CHAT, body).expect("is right");
    let Input::Chat(chat) = &asked.requests[0].input else { panic!("no chat: {asked:?}") };
    let call = ToolCall { id: "1".into(), name: "f".into(), arguments: "{}".into() };
    let expect = [
        Message { role: "system".into(), content: "a\nb".into(), ..Message::default() },
        Message { role: "assistant".into(), tool_calls: vec![call], ..Message::default() },
        Message {
            role: "tool".into(),
            content: "7".into(),
            name: Some("f".into()),
            tool_call_id: Some("1".into()),
            ..Message::default()
        },
    ];
    assert_eq!(chat.messages, expect);
}

#[test]
fn prompts_come_in_four_shapes() {
    let rows: &[(&str, &[Input])] = &[
        (r#""a""#, &[Input::Text("a".into())]),
        (r#"["a","b"]"#, &[Input::Text("a".into()), Input::Text("b".into())]),
        ("[1,2]", &[Input::Tokens(vec![1, 2])]),
        ("[[1,2],[3]]", &[Input::Tokens(vec![1, 2]), Input::Tokens(vec![3])]),
    ];
    for (prompt, inputs) in rows {
        let body = format!(r#"{{"prompt":{prompt}}}"#);
        let asked = read_request(TEXT, body.as_bytes()).expect(prompt);
        let read: Vec<Input> = asked.requests.into_iter().map(|request| request.input).collect();
        assert_eq!(read, *inputs, "{prompt}");
    }
    let wrong =
        [("[]", "prompt"), ("[1,\"a\"]", "prompt[1]"), ("[-1]", "prompt[0]"), ("{}", "prompt")];
    for (prompt, param) in wrong {
        raw_refused(TEXT, &format!(r#"{{"prompt":{prompt}}}"#), param, "'prompt");
    }
}

#[test]
fn bodies_that_are_no_request() {
    let deep = "[".repeat(200_000);
    let rows: &[(&[u8], &str)] = &[
        (b"", "no JSON"),
        (b"\xff\xfe", "no JSON"),
        (b"[]", "an array"),
        (b"{}", "'messages' is missing"),
        (b"{\"messages\":null}", "'messages' is missing"),
        (deep.as_bytes(), "recursion limit"),
        (b"{\"n\":1,\"n\":2}", "\"n\" is given twice"),
        (b"{\"messages\":[{\"role\":\"user\",\"role\":\"tool\"}]}", "\"role\" is given twice"),
    ];
    for (body, words) in rows {
        let fault = read_request(CHAT, body).expect_err(words);
        assert!(fault.message.contains(words), "{fault}");
    }
}

#[test]
fn the_table_means_what_it_says() {
    for format in [CHAT, TEXT] {
        let needed = ["model", "messages", "prompt"];
        support::means_what_it_says(fields(format), &needed, "", |extra| {
            read_request(format, body(format, extra).as_bytes())
        });
        for field in fields(format) {
            let rows = fields(format).filter(|other| other.name == field.name).count();
            assert_eq!(rows, 1, "{} has one row", field.name);
        }
    }
}

#[test]
fn the_page_shows_the_table() {
    let responses = |format| responses::fields(format).collect();
    let columns = [
        ("chat completions", fields(CHAT).collect()),
        ("completions", fields(TEXT).collect()),
        ("responses", responses(responses::Format::Create)),
        ("responses/input_tokens", responses(responses::Format::Count)),
    ];
    support::ends_with("OPENAI.md", "| field |", &support::table(&columns));
}

fn any_sampling() -> impl Strategy<Value = Sampling> {
    let penalties = (0.01..100.0f32, -2.0..=2.0f32, -2.0..=2.0f32);
    let cuts = (0.0..=2.0f32, any::<u32>(), 0.0..=1.0f32, 0.0..=1.0f32, 0.0..=1.0f32);
    let bias = prop::collection::btree_map(any::<u32>(), -100.0..=100.0f32, 0..4);
    let rest = (bias, any::<Option<u64>>(), any::<bool>());
    let order = prop::collection::vec(prop::sample::select(&Stage::USUAL[..]), 0..5);
    let all = (cuts, penalties, rest, any_more(), prop::option::of(order));
    all.prop_map(|(cuts, penalties, rest, more, order)| Sampling {
        order: order.filter(|_| more.mirostat.version == 0).unwrap_or(Stage::USUAL.to_vec()),
        temperature: cuts.0,
        top_k: cuts.1,
        top_p: cuts.2,
        min_p: cuts.3,
        typical_p: cuts.4,
        repetition_penalty: penalties.0,
        frequency_penalty: penalties.1,
        presence_penalty: penalties.2,
        logit_bias: rest.0.into_iter().collect(),
        seed: rest.1,
        ignore_eos: rest.2,
        ..more
    })
}

/// Rules that other engines have beyond OpenAI's.
fn any_more() -> impl Strategy<Value = Sampling> {
    let numbers = (0.0..=5.0f32, 0.0..=5.0f32, 0.0..=5.0f32, 0.0..=1.0f32, 0.0..=1.0f32);
    let dry = (0.0..=5.0f32, 1.0..=5.0f32, 1..=99u32, any::<u32>());
    let mirostat = (0..=2u8, 0.0..=9.0f32, 0.0..=1.0f32);
    let texts = || prop::collection::vec(".+", 0..3);
    let tokens = || prop::collection::vec(any::<u32>(), 0..3);
    let lists = (texts(), texts(), tokens(), tokens(), any::<u32>());
    (numbers, dry, lists, mirostat).prop_map(|(numbers, dry, lists, mirostat)| Sampling {
        top_n_sigma: numbers.0,
        dynamic_temperature: DynamicTemperature { range: numbers.1, exponent: numbers.2 },
        xtc: Xtc { probability: numbers.3, threshold: numbers.4 },
        dry: Dry {
            multiplier: dry.0,
            base: dry.1,
            allowed_length: dry.2,
            last_n: dry.3,
            breakers: lists.0,
        },
        mirostat: Mirostat { version: mirostat.0, tau: mirostat.1, eta: mirostat.2 },
        bad_words: lists.1,
        allowed_tokens: lists.2,
        stop_tokens: lists.3,
        min_tokens: lists.4,
        ..Sampling::default()
    })
}

fn any_message() -> impl Strategy<Value = Message> {
    let call =
        (".*", ".*", ".*").prop_map(|(id, name, arguments)| ToolCall { id, name, arguments });
    let role = prop::sample::select(vec!["system", "user", "assistant", "tool"]);
    let calls = prop::collection::vec(call, 0..3);
    let option = || prop::option::of(".*");
    (role, ".*", option(), option(), calls, option()).prop_map(
        |(role, content, reasoning, name, calls, id)| Message {
            role: role.into(),
            content,
            reasoning: reasoning.filter(|_| role == "assistant"),
            name,
            tool_calls: if role == "assistant" { calls } else { Vec::new() },
            tool_call_id: id.filter(|_| role == "tool"),
            ..Message::default()
        },
    )
}

fn any_tools() -> impl Strategy<Value = Vec<Tool>> {
    let schema = ".*".prop_map(|x| serde_json::json!({ "type": "object", "x": x }).to_string());
    let tool = (prop::option::of(".*"), prop::option::of(schema), any::<bool>());
    let named = |(i, (description, parameters, strict)): (usize, (_, Option<String>, _))| Tool {
        name: format!("tool-{i}"),
        description,
        parameters: parameters.unwrap_or_default(),
        strict,
    };
    prop::collection::vec(tool, 0..3)
        .prop_map(move |tools| tools.into_iter().enumerate().map(named).collect())
}

fn any_reasoning() -> impl Strategy<Value = Reasoning> {
    let effort = prop::option::of(prop::sample::select(Effort::ALL.to_vec()));
    (any::<Option<bool>>(), effort, any::<Option<u32>>())
        .prop_map(|(on, effort, budget_tokens)| Reasoning { on, effort, budget_tokens })
}

fn any_chat() -> impl Strategy<Value = Input> {
    let kwargs = prop::option::of(".*").prop_map(|value| match value {
        Some(value) => serde_json::json!({ "k": value }).to_string(),
        None => String::new(),
    });
    let messages = prop::collection::vec(any_message(), 1..5);
    let choice = (0..4u8, any::<bool>(), any::<bool>());
    (messages, any_tools(), choice, any_reasoning(), kwargs).prop_map(
        |(messages, tools, (choice, one_call, goes_on), reasoning, template_kwargs)| {
            let last = messages.last().map(|message| message.role.as_str());
            let continue_final = goes_on && last == Some("assistant");
            let tool_choice = match (choice, tools.last()) {
                (1, _) => ToolChoice::None,
                (2, Some(_)) => ToolChoice::Required,
                (3, Some(tool)) => ToolChoice::Named(tool.name.clone()),
                _ => ToolChoice::Auto,
            };
            let chat = Chat { messages, tools, tool_choice, one_call, ..Chat::default() };
            Input::Chat(Chat { reasoning, continue_final, template_kwargs, ..chat })
        },
    )
}

fn any_grammar() -> impl Strategy<Value = Option<Grammar>> {
    let text = || "[a-z\"\\\\]{1,20}";
    prop::option::of(prop_oneof![
        any::<i32>()
            .prop_map(|x| Grammar::JsonSchema(serde_json::json!({ "const": x }).to_string())),
        ".*".prop_map(Grammar::Regex),
        text().prop_map(Grammar::Lark),
        text().prop_map(|text| Grammar::Gbnf(format!("root ::= {text}"))),
        prop::collection::vec(".*", 1..4).prop_map(Grammar::Choice),
    ])
}

fn any_prompt() -> impl Strategy<Value = Input> {
    prop_oneof![
        ".*".prop_map(Input::Text),
        prop::collection::vec(any::<u32>(), 1..9).prop_map(Input::Tokens),
    ]
}

fn any_keep_alive() -> impl Strategy<Value = Option<KeepAlive>> {
    let time = (0..1u64 << 36).prop_map(|ms| KeepAlive::For(Duration::from_millis(ms)));
    prop::option::of(prop_oneof![Just(KeepAlive::Forever), time])
}

/// What is to be told of tokens: of prompts, their ids, what of them is cut, names by id, best of.
type AnyTold = (Option<u8>, bool, Option<Truncation>, bool, Option<u32>);

fn any_told() -> impl Strategy<Value = AnyTold> {
    let last = (1..u32::MAX).prop_map(Truncation::Last);
    let truncation = prop::option::of(prop_oneof![Just(Truncation::Fitting), last]);
    let (top, best) = (prop::option::of(0..=20u8), prop::option::of(1..=16u32));
    (top, any::<bool>(), truncation, any::<bool>(), best)
}

/// A request and its options, of which neither contradicts the other.
fn agree(format: Format, request: &mut Request, options: &mut Options, told: AnyTold) {
    let (top, ids, truncation, by_id, best) = told;
    let legacy = format == Format::Completions;
    options.tokens_as_ids = by_id;
    options.best_of = best.filter(|best| legacy && !options.stream && *best > options.n);
    options.echo &= legacy && !matches!(request.input, Input::Gap(_));
    options.hide_reasoning &= !legacy;
    options.include_usage &= options.stream;
    let echoed = request.logprobs.filter(|_| options.echo);
    options.prompt_scores = top.is_some();
    request.prompt_logprobs = top.and(echoed.or(top)).or(echoed);
    options.hide_scores = options.best_of.is_some() && request.logprobs.is_none();
    request.logprobs = request.logprobs.or(options.hide_scores.then_some(0));
    (request.token_ids, request.truncation) = (ids, truncation);
    let width = u8::try_from(options.drawn()).expect("at most 16");
    let beams = Beams { width, length_penalty: -0.5, early_stopping: by_id };
    let plain = !options.stream && beams.check(request).is_ok();
    request.beams = Some(beams).filter(|_| plain && ids);
    // Nothing is ranked by log-probabilities there.
    options.hide_scores &= request.beams.is_none();
}

fn any_asked(format: Format) -> impl Strategy<Value = Asked> {
    let legacy = format == Format::Completions;
    let gaps = (prop::collection::vec(".*", 1..4), ".+").prop_map(|(prefixes, suffix)| {
        let gap = |prefix| Gap { prefix, suffix: suffix.clone(), begun: String::new() };
        prefixes.into_iter().map(|prefix| Input::Gap(gap(prefix))).collect()
    });
    let inputs = match format {
        Format::Chat => any_chat().prop_map(|input| vec![input]).boxed(),
        Format::Completions => {
            prop_oneof![3 => prop::collection::vec(any_prompt(), 1..4), 1 => gaps].boxed()
        }
    };
    let limits = (1..u32::MAX, prop::option::of(0..=20u8), any::<bool>());
    let stops = prop::collection::vec(".+", 0..4);
    let options = (any::<bool>(), any::<bool>(), 1..=16u32, any::<bool>());
    let terms = (any::<i32>(), prop::option::of(1..u32::MAX), ".{0,20}", any_keep_alive());
    let rules = (any_sampling(), any_grammar(), any_told());
    (".*", inputs, rules, stops, limits, options, terms).prop_map(
        move |(model, inputs, rules, stop, (most, logprobs, endless), options, terms)| {
            let (sampling, grammar, told) = rules;
            let (stream, include_usage, n, flag) = options;
            let base = Options { stream, include_usage, n, ..Options::default() };
            let options = Options { echo: flag, hide_reasoning: flag, ..base };
            let request = |input| Request {
                model: model.clone(),
                input,
                sampling: sampling.clone(),
                stop: stop.clone(),
                max_tokens: Some(most).filter(|_| legacy || !endless),
                logprobs,
                grammar: grammar.clone(),
                priority: terms.0,
                timeout_ms: terms.1,
                cache_salt: terms.2.clone(),
                keep_alive: terms.3,
                ..Request::default()
            };
            let mut asked = Asked { requests: inputs.into_iter().map(request).collect(), options };
            for request in &mut asked.requests {
                agree(format, request, &mut asked.options, told);
            }
            asked
        },
    )
}

/// JSON of any shape under field names that the reader knows.
fn any_json() -> impl Strategy<Value = serde_json::Value> {
    use serde_json::Value;
    let names: Vec<&str> = fields(CHAT)
        .chain(fields(TEXT))
        .map(|field| field.name)
        .chain(["role", "content", "type", "text", "function", "1"])
        .collect();
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        ".{0,8}".prop_map(Value::from),
        prop::sample::select(vec!["user", "tool", "none", "text"]).prop_map(Value::from),
    ];
    leaf.prop_recursive(5, 64, 8, move |inner| {
        let key = prop::sample::select(names.clone()).prop_map(str::to_owned);
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..8).prop_map(Value::from),
            prop::collection::btree_map(key, inner, 0..8)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

/// A right request with one to three of its fields replaced at random.
fn any_near_request(format: Format) -> impl Strategy<Value = serde_json::Value> {
    let names: Vec<&str> = fields(format).map(|field| field.name).collect();
    let change = (prop::sample::select(names), any_json());
    (any_asked(format), prop::collection::vec(change, 1..4)).prop_map(move |(asked, changes)| {
        let text = write_request(format, &asked).expect("has words for it");
        let mut body: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        for (name, value) in changes {
            body[name] = value;
        }
        body
    })
}

/// Whatever is accepted can be written and reads the same again.
fn stable(format: Format, body: &str) -> Result<(), TestCaseError> {
    let Ok(asked) = read_request(format, body.as_bytes()) else { return Ok(()) };
    let text = write_request(format, &asked).expect("has words for it");
    prop_assert_eq!(read_request(format, text.as_bytes()).expect("own words"), asked);
    Ok(())
}

proptest! {
    #[test]
    fn reading_undoes_writing_a_chat(asked in any_asked(CHAT)) {
        let text = write_request(CHAT, &asked).expect("has words for it");
        prop_assert_eq!(read_request(CHAT, text.as_bytes()).expect("own words"), asked);
    }

    #[test]
    fn reading_undoes_writing_a_completion(asked in any_asked(TEXT)) {
        let text = write_request(TEXT, &asked).expect("has words for it");
        prop_assert_eq!(read_request(TEXT, text.as_bytes()).expect("own words"), asked);
    }

    #[test]
    fn no_json_panics(value in any_json()) {
        stable(CHAT, &value.to_string())?;
        stable(TEXT, &value.to_string())?;
    }

    #[test]
    fn no_chat_panics(body in any_near_request(CHAT)) {
        stable(CHAT, &body.to_string())?;
    }

    #[test]
    fn no_completion_panics(body in any_near_request(TEXT)) {
        stable(TEXT, &body.to_string())?;
    }

    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
        let _ = read_request(CHAT, &bytes);
        let _ = read_request(TEXT, &bytes);
    }
}
