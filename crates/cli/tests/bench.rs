//! `ingle bench`: that its figures are there and agree with each other. What they are is the
//! machine's affair.

mod support;

use serde_json::Value;
use support::{run, tiny};

const FEW: [&str; 8] =
    ["--prompt", "16", "--generate", "64", "--concurrency", "1,3", "--repeat", "2"];

#[test]
fn a_line_of_json_for_each_concurrency() {
    let said = run(&[&["bench", &tiny(), "--json", "--threads", "2"], &FEW[..]].concat());
    let lines: Vec<Value> = said
        .answer()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
        .collect();
    assert_eq!(lines.len(), 2, "{said:?}");
    for (line, concurrency) in lines.iter().zip([1, 3]) {
        let figure = |key: &str| line[key].as_f64().unwrap_or_else(|| panic!("{key} of {line}"));
        let given = ["concurrency", "threads", "prompt", "generate", "repeat"];
        assert_eq!(given.map(figure), [concurrency, 2, 16, 64, 2].map(f64::from), "{line}");
        for rate in ["prefill", "decode"] {
            let median = figure(&format!("{rate}_tokens_per_second"));
            let spread = &line[format!("{rate}_spread")];
            let [least, most] = [0, 1].map(|at| spread[at].as_f64().expect("a number"));
            assert!(0.0 < least && least <= median && median <= most, "{rate} of {line}");
        }
        let read = figure("weight_bytes") * figure("decode_tokens_per_second");
        let share = read / figure("concurrency") / figure("read_bandwidth_bytes_per_second");
        assert!((figure("decode_share_of_bandwidth") / share - 1.0).abs() < 1e-9, "{line}");
    }
}

#[test]
fn people_get_a_table() {
    let said = run(&[&["bench", &tiny()], &FEW[..]].concat());
    for word in ["memory read bandwidth", "CONCURRENCY", "PREFILL", "DECODE", "OF BANDWIDTH"] {
        assert!(said.answer().contains(word), "{word} is not in {said:?}");
    }
}

#[test]
fn nonsense_is_refused() {
    let tiny = tiny();
    run(&["bench", &tiny, "--generate", "1"]).refused(2, &["--generate"]);
    run(&["bench", &tiny, "--concurrency", "0"]).refused(2, &["--concurrency"]);
    let long = run(&["bench", &tiny, "--prompt", "100000", "--repeat", "1", "--json"]);
    long.refused(1, &["100000 tokens", "the context holds"]);
}
