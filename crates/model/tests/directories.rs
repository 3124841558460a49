//! Hugging Face directories, read as if they were GGUF files: tiny checkpoints of each architecture
//! (`tools/golden-directories.py` and `tools/golden-vectors.py`), whose tokens are held against
//! `tokenizers`.

use std::path::{Path, PathBuf};

use ingle_model::gguf::{Gguf, Value};
use ingle_model::pull::Quiet;
use ingle_model::quantize::{Options, quantize, recipe, while_loading};
use ingle_model::tokenizer::{Special, Tokenizer};
use serde_json::Value as Json;

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/directories")
}

fn opened(name: &str) -> Gguf {
    Gguf::open(&golden().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn gold(name: &str) -> Json {
    let text = std::fs::read_to_string(golden().join(format!("{name}.json"))).expect("is there");
    serde_json::from_str(&text).expect("is JSON")
}

fn names() -> Vec<String> {
    let entries = std::fs::read_dir(golden()).expect("is there").flatten();
    let folders = entries.filter(|entry| entry.path().is_dir());
    let mut names: Vec<String> =
        folders.map(|entry| entry.file_name().into_string().expect("plain")).collect();
    names.sort();
    assert!(!names.is_empty());
    names
}

fn ids(json: &Json) -> Vec<u32> {
    let all = json.as_array().expect("a list");
    all.iter().map(|id| id.as_u64().expect("an id") as u32).collect()
}

#[test]
fn tokens_are_those_of_the_directory() {
    for name in names() {
        let tokenizer = Tokenizer::from_gguf(&opened(&name)).expect("a sound tokenizer");
        for case in gold(&name)["texts"].as_array().expect("a list") {
            let text = case["text"].as_str().expect("a text");
            let bare = tokenizer.encode(text, Special::Parse);
            assert_eq!(bare, ids(&case["bare"]), "{name}: {text:?}");
            let whole = tokenizer.encode_prompt(text, Special::Parse);
            assert_eq!(whole, ids(&case["ids"]), "{name}: {text:?}");
        }
    }
}

/// Each token has the bytes of the text that it stands for, and two texts have the marks that the
/// directory puts around them.
#[test]
fn places_and_marks_are_those_of_the_directory() {
    for name in names() {
        let tokenizer = Tokenizer::from_gguf(&opened(&name)).expect("a sound tokenizer");
        let gold = gold(&name);
        for case in gold["texts"].as_array().expect("a list") {
            let text = case["text"].as_str().expect("a text");
            let found = tokenizer.encode_with_offsets(text, Special::Parse);
            let tokens: Vec<u32> = found.iter().map(|(token, _)| *token).collect();
            assert_eq!(tokens, ids(&case["bare"]), "{name}: {text:?}");
            for ((token, bytes), place) in
                found.iter().zip(case["spans"].as_array().expect("a list"))
            {
                let place = ids(place)[0] as usize..ids(place)[1] as usize;
                // Some of `tokenizers`' places have the spaces before a word, and some are empty.
                let (ours, theirs) = (&text[bytes.clone()], text[place.clone()].trim_start());
                assert!(bytes.is_empty() || ours == ours.trim_start() || ours.trim().is_empty());
                // A map may have made a space of a character of no width.
                let blank = ours.trim().trim_matches('\u{200b}').is_empty();
                // A space that is put behind a sign is the sign, there.
                let sign = theirs.strip_prefix(|c: char| c.is_ascii_punctuation());
                let theirs = sign.filter(|rest| *rest == ours).unwrap_or(theirs);
                // Of several characters that became one, theirs may be the first alone.
                let rest = ours.strip_prefix(theirs).unwrap_or(ours);
                let marks = rest.chars().all(|c| ('\u{300}'..='\u{36F}').contains(&c));
                if !theirs.is_empty() && !blank && !marks {
                    assert_eq!(ours, theirs, "{name}: {text:?}: {token} at {bytes:?}, {place:?}");
                }
            }
        }
        for case in gold["pairs"].as_array().expect("a list") {
            let text =
                |key: &str| tokenizer.encode(case[key].as_str().expect("a text"), Special::Plain);
            let whole = tokenizer.around().two(&text("a"), &text("b"));
            assert_eq!(whole.tokens, ids(&case["ids"]), "{name}: {case}");
            assert_eq!(whole.types, ids(&case["types"]), "{name}: {case}");
        }
    }
}

/// Weights that are quantised while they are read are those that [`quantize`] writes.
#[test]
fn weights_can_be_quantised_while_they_are_read() {
    let recipe = recipe("q8_0").expect("is in the table");
    let folder = std::env::temp_dir().join(format!("ingle-directories-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder for the test");
    let path = folder.join("copy.gguf");
    for name in ["llama-pieces", "gpt-oss", "bert", "late-modules", "model2vec-clusters"] {
        let options = Options { recipe, requantize: false, threads: 2 };
        quantize(&opened(name), &options, &path, &mut Quiet).expect("written");
        let written = Gguf::open(&path).expect("a sound file");
        let read = while_loading(opened(name), recipe, 2).expect("can be");
        assert_eq!(read.metadata().collect::<Vec<_>>(), written.metadata().collect::<Vec<_>>());
        for info in written.tensors() {
            let (ours, theirs) = (read.tensor(&info.name), written.tensor(&info.name));
            let (ours, theirs) = (ours.expect("there"), theirs.expect("there"));
            assert_eq!((ours.format, ours.rows), (theirs.format, theirs.rows), "{}", info.name);
            assert_eq!(&*ours.bytes, &*theirs.bytes, "{name}: {}", info.name);
        }
        read.fault().expect("nothing went wrong");
    }
    std::fs::remove_dir_all(&folder).expect("our own folder");
}

#[test]
fn what_a_directory_says_is_in_the_metadata() {
    let check = |name: &str, key: &str, expect: Option<Value>| {
        assert_eq!(opened(name).get(key), expect.as_ref(), "{name}: {key}");
    };
    let text = |text: &str| Some(Value::Str(text.to_owned()));
    let number = |number: u32| Some(Value::U32(number));
    check("bert", "general.architecture", text("bert"));
    check("bert", "bert.embedding_length", number(16));
    check("bert", "bert.context_length", number(64));
    check("bert", "bert.pooling_type", number(1));
    check("bert", "bert.attention.causal", Some(Value::Bool(false)));
    check("bert", "bert.attention.layer_norm_epsilon", Some(Value::F32(1e-12)));
    check("bert", "tokenizer.ggml.token_type_count", number(2));
    check("bert", "tokenizer.ggml.bos_token_id", number(2));
    check("bert", "ingle.normalise", Some(Value::Bool(true)));
    check("bert", "ingle.max_tokens", number(32));
    check("bert", "ingle.activation", text("gelu"));
    check("bert", "ingle.prompt.default", text("query"));
    check("bert", "ingle.head", None);
    check("bert-labels", "ingle.head", text("sequence"));
    check("bert-labels", "ingle.head.activation", text("tanh"));
    check("bert-labels", "ingle.head.problem", text("single"));
    check("bert-labels", "bert.pooling_type", None);
    check("bert-tags", "ingle.head", text("token"));
    check("bert-masked", "ingle.head", text("mlm"));
    check("colbert", "ingle.head", text("late"));
    check("bert-dense", "bert.pooling_type", number(2));
    check("bert-dense", "ingle.dense_2.activation", text("tanh"));
    check("bert-dense", "ingle.dense_3.activation", text("gelu"));
    check("embedding-gemma", "general.architecture", text("gemma-embedding"));
    check("embedding-gemma", "ingle.dense_2.activation", None);
    check("qwen3-embedding", "qwen3.pooling_type", number(3));
    check("nomic", "nomic-bert.rope.freq_base", Some(Value::F32(1000.0)));
    check("nomic-own", "nomic-bert.rope.freq_base", Some(Value::F32(1000.0)));
    check("model2vec", "ingle.max_tokens", number(12));
    check("model2vec", "ingle.normalise", Some(Value::Bool(true)));
    check("model2vec-words", "ingle.max_tokens", number(512));
    check("model2vec-words", "ingle.dropped_token", number(1));
    check("model2vec-words", "ingle.normalise", Some(Value::Bool(false)));
    check("model2vec-clusters", "ingle.max_tokens", None);
    check("static", "ingle.dropped_token", None);
    check("static", "ingle.normalise", Some(Value::Bool(true)));
    let labels = opened("bert-labels");
    let labels = labels.strs("bert.classifier.output_labels").expect("labels");
    assert_eq!(labels.iter().collect::<Vec<_>>(), ["bad", "fine", "good"]);
    let names = opened("bert");
    let names = names.strs("ingle.prompt.names").expect("names");
    assert_eq!(names.iter().collect::<Vec<_>>(), ["query", "document"]);
}

/// All tensors that are needed are there, by the names that GGUF files have, and no others.
#[test]
fn tensors_are_those_of_a_gguf_file() {
    let check = |name: &str, outer: &[&str], layer: &[&str]| {
        let file = opened(name);
        let mut found: Vec<String> = file.tensors().iter().map(|t| t.name.clone()).collect();
        let layers = file.uint(&file.key("block_count")).expect("is told");
        let layers = (0..layers).flat_map(|i| layer.iter().map(move |t| format!("blk.{i}.{t}")));
        let mut expect: Vec<String> = outer.iter().map(|t| (*t).to_owned()).chain(layers).collect();
        found.sort();
        expect.sort();
        assert_eq!(found, expect, "{name}");
    };
    let both = |names: &[&str]| -> Vec<String> {
        names.iter().flat_map(|n| [format!("{n}.weight"), format!("{n}.bias")]).collect()
    };
    let layer = both(&[
        "attn_q",
        "attn_k",
        "attn_v",
        "attn_output",
        "attn_output_norm",
        "ffn_up",
        "ffn_down",
        "layer_output_norm",
    ]);
    let layer: Vec<&str> = layer.iter().map(String::as_str).collect();
    let outer = [
        "token_embd.weight",
        "position_embd.weight",
        "token_types.weight",
        "token_embd_norm.weight",
        "token_embd_norm.bias",
    ];
    let with = |more: &[&'static str]| [&outer[..], more].concat();
    check("bert", &outer, &layer);
    let head = ["cls.weight", "cls.bias", "cls.output.weight", "cls.output.bias"];
    check("bert-labels", &with(&head), &layer);
    check("bert-tags", &with(&head[2..]), &layer);
    let masked = [
        "mlm.dense.weight",
        "mlm.dense.bias",
        "mlm.norm.weight",
        "mlm.norm.bias",
        "mlm.output.bias",
    ];
    check("bert-masked", &with(&masked), &layer);
}

/// The file that is named stands for its directory.
#[test]
fn a_directory_is_found_by_its_files() {
    for file in ["", "config.json", "model.safetensors"] {
        assert_eq!(opened(&format!("bert/{file}")).arch(), "bert", "{file}");
    }
    let error = Gguf::open(&golden()).expect_err("not a model").to_string();
    assert!(error.contains("it has no config.json"), "{error}");
}

/// What would change vectors, and is not known, is named; so is what does not fit.
#[test]
fn what_is_not_known_is_refused() {
    let folder = std::env::temp_dir().join(format!("ingle-refused-{}", std::process::id()));
    let check = |name: &str, file: &str, change: (&str, &str), words: &str| {
        copy(&golden().join(name), &folder);
        let path = folder.join(file);
        let text = std::fs::read_to_string(&path).expect("is there");
        assert!(text.contains(change.0), "{name}: {file}: {}", change.0);
        std::fs::write(&path, text.replacen(change.0, change.1, 1)).expect("written");
        let error = Gguf::open(&folder).expect_err(words).to_string();
        assert!(error.contains(words), "{name}: {error}");
        std::fs::remove_dir_all(&folder).expect("our own folder");
    };
    let dense = "2_Dense/config.json";
    check("bert-dense", dense, ("activation.Tanh", "activation.Mish"), "only Identity, Tanh");
    check("bert-dense", dense, ("activation_function", "x"), "`activation_function`");
    let inside = ("\"bias\"", "\"module_input_name\": \"token_embeddings\", \"bias\"");
    check("bert-dense", dense, inside, "only `sentence_embedding`");
    let order = ("models.Dense", "models.Normalize");
    check("bert-dense", "modules.json", order, "only what comes last");
    check("nomic-own", "config.json", ("\"prenorm\": false", "\"prenorm\": true"), "prenorm");
    check("nomic-own", "config.json", ("swiglu", "geglu"), "only a gate of SiLU");
    let mask = "3_MultiVectorMask/config.json";
    let skipped = ("\"skiplist_words\": []", "\"skiplist_words\": [\"!\"]");
    check("late-modules", mask, skipped, "every token's vector is told");
    let words = "tokenizer.json";
    let kind = ("{\"type\":\"WordPiece\",\"unk", "{\"type\":\"Unheard\",\"unk");
    check("model2vec", words, kind, "a model of type `Unheard`");
    check("model2vec", words, ("_token\":\"[UNK]\"", "_token\":\"[WHO]\""), "no [WHO]");
    check("model2vec", "config.json", ("12", "-1"), "max_length");
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a folder for the test");
    for entry in std::fs::read_dir(from).expect("is there").flatten() {
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).expect("copied");
        }
    }
}
