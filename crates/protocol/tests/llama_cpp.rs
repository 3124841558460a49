//! llama.cpp's completion and infill: what is read and what is refused under which name, and what
//! the events of an answer look like.

mod support;

use ingle_protocol::wire::Ask;
use ingle_protocol::wire::llama_cpp::{Asked, Format, fields, read_request, read_tokenize};
use ingle_protocol::wire::llama_cpp::{write_pieces, write_slots};
use ingle_protocol::{Event, Fault, Finish, Gap, Grammar, Input, Piece, Sampling, Stage};
use serde_json::{Value, json};
use support::{done, faults, means_what_it_says, scored, text, write};

fn try_read(format: Format, extra: &str) -> Result<Asked, Fault> {
    let comma = if extra.is_empty() { "" } else { "," };
    read_request(format, format!(r#"{{"prompt":"hi"{comma}{extra}}}"#).as_bytes())
}

fn read(extra: &str) -> Asked {
    try_read(Format::Completion, extra).unwrap_or_else(|fault| panic!("{extra}: {fault}"))
}

fn usual() -> Sampling {
    Sampling { temperature: 0.8, top_k: 40, top_p: 0.95, min_p: 0.05, ..Sampling::default() }
}

#[test]
#[rustfmt::skip]
fn honoured_fields_reach_the_request() {
    type Check = fn(&Asked) -> bool;
    let rows: &[(&str, Check)] = &[
        ("", |a| a.request.sampling == usual() && a.request.input == Input::Text("hi".into()) && !a.streamed()),
        (r#""stream":true"#, Ask::streamed),
        (r#""n_predict":5"#, |a| a.request.max_tokens == Some(5)),
        (r#""n_predict":-1"#, |a| a.request.max_tokens.is_none()),
        (r#""seed":-1"#, |a| a.request.sampling.seed.is_none()),
        (r#""seed":4294967295"#, |a| a.request.sampling.seed == Some(4_294_967_295)),
        (r#""logit_bias":[[5,1.5],[7,false]]"#, |a| a.request.sampling.logit_bias == [(5, 1.5), (7, f32::NEG_INFINITY)]),
        (r#""logit_bias":[["a b",1.5],[" c",false]]"#, |a| a.request.sampling.text_bias == [("a b".into(), 1.5), (" c".into(), f32::NEG_INFINITY)]),
        (r#""samplers":["top_k","temperature"]"#, |a| a.request.sampling.order == [Stage::TopK, Stage::Temperature]),
        (r#""sampler_seq":"edskypmxt""#, |a| a.request.sampling.order.len() == 9 && a.request.sampling.order[8] == Stage::Temperature),
        (r#""return_tokens":true"#, |a| a.request.token_ids),
        (r#""stream":true"#, |a| a.request.token_ids),
        (r#""logit_bias":{"5":2}"#, |a| a.request.sampling.logit_bias == [(5, 2.0)]),
        (r#""stop":["x"],"ignore_eos":true"#, |a| a.request.stop == ["x"] && a.request.sampling.ignore_eos),
        (r#""grammar":"root ::= \"a\"""#, |a| matches!(a.request.grammar, Some(Grammar::Gbnf(_)))),
        (r#""grammar":"""#, |a| a.request.grammar.is_none()),
        (r#""json_schema":{"type":"object"}"#, |a| matches!(a.request.grammar, Some(Grammar::JsonSchema(_)))),
        (r#""n_probs":3"#, |a| a.request.logprobs == Some(3)),
        (r#""n_probs":0"#, |a| a.request.logprobs.is_none()),
        (r#""repeat_penalty":1.1,"repeat_last_n":0"#, |a| a.request.sampling == usual()),
    ];
    for (extra, check) in rows {
        let asked = read(extra);
        assert!(check(&asked), "{extra}: {asked:?}");
    }
    let tokens = read_request(Format::Completion, br#"{"prompt":[1,2]}"#).expect("right");
    assert_eq!(tokens.request.input, Input::Tokens(vec![1, 2]));
}

#[test]
#[rustfmt::skip]
fn what_cannot_be_honoured_is_refused_by_name() {
    let rows: &[(&str, &str, &str)] = &[
        (r#""n_predict":0"#, "n_predict", "-1"),
        (r#""samplers":["top_k","adaptive_p"]"#, "samplers[1]", "no sampler \"adaptive_p\""),
        (r#""sampler_seq":["top_k"]"#, "sampler_seq", "a string"),
        (r#""samplers":"k","mirostat":1"#, "samplers", "in their place"),
        (r#""logit_bias":[[1,true]]"#, "logit_bias[0]", "a number"),
        (r#""mirostat":3"#, "mirostat", "from 0 to 2"),
        (r#""repeat_penalty":1.1,"repeat_last_n":64"#, "repeat_last_n", "only as -1"),
        (r#""logit_bias":[[1]]"#, "logit_bias[0]", "its bias"),
        (r#""grammar":"root ::= \"a\"","json_schema":{}"#, "json_schema", "too many"),
        (r#""cache_prompt":false"#, "cache_prompt", "always"),
        (r#""n_predct":1"#, "n_predct", "did you mean n_predict"),
    ];
    for (extra, param, words) in rows {
        faults(try_read(Format::Completion, extra), extra, param, words);
    }
    for (body, words) in [("{}", "missing"), (r#"{"prompt":["a","b"]}"#, "/v1/completions")] {
        faults(read_request(Format::Completion, body.as_bytes()), body, "prompt", words);
    }
}

#[test]
fn the_table_means_what_it_says() {
    for format in [Format::Completion, Format::Infill] {
        means_what_it_says(fields(format), &["prompt"], "", |extra| try_read(format, extra));
    }
}

#[test]
fn a_gap_has_three_texts() {
    let asked = try_read(Format::Infill, r#""input_prefix":"a","input_suffix":"b""#);
    let gap = Gap { prefix: "a".into(), suffix: "b".into(), begun: "hi".into() };
    assert_eq!(asked.expect("right").request.input, Input::Gap(gap));
    let body = r#"{"prompt":[1]}"#;
    faults(read_request(Format::Infill, body.as_bytes()), body, "prompt", "a string");
}

fn events(stream: &str) -> Vec<Value> {
    let one = |event: &str| event.strip_prefix("data: ").expect("data").to_owned();
    let parse = |data: String| serde_json::from_str(&data).expect("JSON");
    stream.split_terminator("\n\n").map(one).map(parse).collect()
}

#[test]
fn a_whole_answer_is_the_sum_of_its_stream() {
    let rows: &[(&[Event], &str, &str)] = &[
        (&[text("a\n"), text("b"), done(Finish::Stop, 2, None)], "eos", ""),
        (&[text("a"), done(Finish::Stop, 2, Some("END"))], "word", "END"),
        (&[scored("a", 4), done(Finish::Length, 1, None)], "limit", ""),
    ];
    for (list, kind, word) in rows {
        let whole: Value = serde_json::from_str(&write(&read(""), list)).expect("JSON");
        let streamed = events(&write(&read(r#""stream":true"#), list));
        let sum: String = streamed.iter().filter_map(|event| event["content"].as_str()).collect();
        assert_eq!(whole["content"], sum);
        let (last, rest) = streamed.split_last().expect("a last one");
        assert!(rest.iter().all(|event| event["stop"] == false));
        let rows = [
            ("stop", json!(true)),
            ("stop_type", json!(kind)),
            ("stopping_word", json!(word)),
            ("tokens_evaluated", json!(7)),
            ("tokens_cached", json!(5)),
            ("has_new_line", json!(sum.contains('\n'))),
        ];
        for (name, value) in rows {
            assert_eq!((&whole[name], &last[name]), (&value, &value), "{name}");
        }
        assert_eq!(whole["timings"], last["timings"]);
        assert_eq!(last["timings"]["prompt_n"], 2);
        assert_eq!(last["timings"]["prompt_ms"], 3.0);
        assert_eq!(last["timings"]["predicted_ms"], 4.0);
    }
    let ids = Event::Text(Piece { text: "a".into(), tokens: vec![4, 5], ..Piece::default() });
    let streamed = &events(&write(&read(r#""stream":true"#), &[ids, rows[0].0[2].clone()]));
    assert_eq!((&streamed[0]["tokens"], &streamed[1]["tokens"]), (&json!([4, 5]), &json!([])));
    let probabilities = &events(&write(&read(r#""stream":true,"n_probs":1"#), rows[2].0))[0];
    assert_eq!(probabilities["completion_probabilities"][0]["id"], 4);
}

#[test]
fn the_small_formats() {
    assert_eq!(read_tokenize(br#"{"prompt":"x"}"#), Ok(None), "vLLM's body");
    let ask = read_tokenize(br#"{"content":"x","with_pieces":true}"#).expect("right");
    assert!(ask.is_some_and(|ask| ask.pieces && ask.special && ask.text == "x"));
    let body = r#"{"content":"x","add_special":true}"#;
    faults(read_tokenize(body.as_bytes()), body, "add_special", "only as false");
    assert_eq!(write_pieces(&[(3, "a".into())]), r#"{"tokens":[{"id":3,"piece":"a"}]}"#);
    let slots: Value = serde_json::from_str(&write_slots(&[("m", 9, 2)])).expect("JSON");
    let busy: Vec<&Value> = (0..3).map(|i| &slots[i]["is_processing"]).collect();
    assert_eq!(busy, [true, true, false]);
    assert_eq!((&slots[2]["id"], &slots[2]["n_ctx"]), (&json!(2), &json!(9)));
}
