//! `ingle quantize` as its users meet it: a smaller model that still answers, what is refused, and
//! that the Python package `gguf` reads the same weights. Where that cannot be had, its part is
//! skipped and says so.
#![allow(clippy::print_stderr, reason = "a skipped test says so")]

mod support;

use std::path::{Path, PathBuf};
use std::process::Command;

use ingle_model::gguf::Gguf;
use support::{of, piped, run, tiny};

/// A folder of a test's own, emptied when it begins.
fn folder(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("quantize").join(name);
    let _ = std::fs::remove_dir_all(&path);
    std::fs::create_dir_all(&path).expect("created");
    path
}

fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

#[test]
fn the_default_model_keeps_its_answers() {
    let path = folder("default").join("q8_0.gguf");
    let out = text(&path);
    run(&["quantize", "smollm2", out, "--to", "q8_0"])
        .refused(1, &["is quantized already (Q4_1)", "--allow-requantize"]);
    assert!(!path.exists());
    let said = run(&["quantize", "smollm2", out, "--to", "q8_0", "--allow-requantize", "--json"]);
    assert!(said.err.contains("warning:") && said.err.contains("lost accuracy again"), "{said:?}");
    let json = said.json();
    assert_eq!((&json["to"], &json["parameters"]), (&"q8_0".into(), &134_515_008.into()));
    assert_eq!(json["bytes"], std::fs::metadata(&path).expect("is there").len());
    let bits = json["bits_per_weight"].as_f64().expect("a number");
    assert!((8.5..8.52).contains(&bits), "{json}");

    let all = std::fs::read(of("engine", "fixtures/smollm2-135m.gold.json")).expect("is there");
    let all: Vec<serde_json::Value> = serde_json::from_slice(&all).expect("a list");
    let one = serde_json::to_vec(&all[..1]).expect("JSON");
    let score = piped(&["score", out, "-", "--json"], &one).json();
    assert!(score["top1_agreement"].as_f64() >= Some(0.97), "{score}");
    // llama.cpp's own copy, of the same file in the same format, scores 0.0402.
    assert!(score["mean_abs_delta"].as_f64() < Some(0.0402), "{score}");
    let shown = run(&["show", out, "--json"]).json();
    assert_eq!(shown["bits_per_weight"], json["bits_per_weight"]);
    let _ = std::fs::remove_file(&path);
}

#[test]
fn a_file_is_not_replaced_unless_asked() {
    let path = folder("replace").join("out.gguf");
    let out = text(&path);
    let said = run(&["quantize", &tiny(), out, "--to", "f16", "--threads", "1"]);
    assert_eq!(said.answer(), format!("{out}\n"));
    assert!(said.err.contains("bits a weight: F32"), "{said:?}");
    run(&["quantize", &tiny(), out, "--to", "q8_0"]).refused(2, &["is there already", "--force"]);
    let again = run(&["quantize", &tiny(), out, "--to", "q8_0", "--force", "--json"]).json();
    assert_eq!(again["formats"].as_object().expect("an object").keys().count(), 2, "{again}");
    // A file may be replaced by its own copy.
    let own = run(&["quantize", out, out, "--to", "q8_0", "--force", "--json"]).json();
    assert_eq!((&own["bytes"], &own["requantized_tensors"]), (&again["bytes"], &0.into()));
}

#[test]
fn what_is_refused_says_why() {
    let folder = folder("refused");
    let path = folder.join("out.gguf");
    let out = text(&path);
    run(&["quantize", &tiny(), out, "--to", "q9"]).refused(2, &["--to", "q4_k_m"]);
    run(&["quantize", &tiny(), out]).refused(2, &["--to"]);
    run(&["quantize", "./absent.gguf", out, "--to", "q8_0"]).refused(1, &["absent.gguf"]);
    let nowhere = folder.join("no/such/folder/out.gguf");
    run(&["quantize", &tiny(), text(&nowhere), "--to", "q8_0"]).refused(1, &["no/such/folder"]);
    assert_eq!(std::fs::read_dir(&folder).expect("is there").count(), 0);
}

/// Prints each tensor's name, type and sum of magnitudes.
const SUMS: &str = "
import sys, numpy
from gguf import GGUFReader
from gguf.quants import dequantize
for t in GGUFReader(sys.argv[1]).tensors:
    x = dequantize(t.data, t.tensor_type).astype('f8')
    print(t.name, t.tensor_type.name, numpy.abs(x).sum())
";

#[test]
fn the_python_package_reads_the_same_weights() {
    let python = |arguments: &[&str]| Command::new("python3").args(arguments).output();
    match python(&["-c", "import gguf"]) {
        Ok(output) if output.status.success() => {}
        _ => return eprintln!("SKIPPED: `python3` has no package `gguf`"),
    }
    let path = folder("python").join("out.gguf");
    for format in ["f16", "bf16", "q8_0", "q5_1", "q5_0", "q4_1", "q4_0", "iq4_nl", "q4_k_m"] {
        run(&["quantize", &tiny(), text(&path), "--to", format, "--force"]).answer();
        let output = python(&["-c", SUMS, text(&path)]).expect("runs");
        let theirs = String::from_utf8(output.stdout.clone()).expect("UTF-8");
        let file = Gguf::open(&path).expect("a sound file");
        assert_eq!(theirs.lines().count(), file.tensors().len(), "{format}: {output:?}");
        for (line, info) in theirs.lines().zip(file.tensors()) {
            let tensor = file.tensor(&info.name).expect("is there");
            let mut weights = vec![0.0; tensor.rows * tensor.cols];
            tensor.format.unpack(&tensor.bytes, &mut weights);
            let sum: f64 = weights.iter().map(|x| f64::from(x.abs())).sum();
            let (names, figure) = line.rsplit_once(' ').expect("three words");
            assert_eq!(names, format!("{} {}", info.name, info.type_name()));
            let theirs: f64 = figure.parse().expect("a number");
            assert!((theirs - sum).abs() <= 1e-9 * sum, "{line}, not {sum}");
        }
    }
}
