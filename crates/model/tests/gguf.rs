//! GGUF files, sound ones and every way to be broken that we could think of.

mod writer;

use ingle_backend::{Bytes, Format};
use ingle_model::Error;
use ingle_model::gguf::{Array, Gguf, Strs, Value, optional};
use writer::{ARRAY, STRING, Writer, array, everything, string};

fn read(bytes: Vec<u8>) -> Result<Gguf, Error> {
    Gguf::from_bytes(Bytes::from(bytes))
}

fn opened(writer: &Writer) -> Gguf {
    read(writer.bytes()).expect("a sound file")
}

/// The file is refused with a message that holds `expect`.
#[track_caller]
fn refused(writer: &Writer, expect: &str) {
    refused_bytes(writer.bytes(), expect);
}

#[track_caller]
fn refused_bytes(bytes: Vec<u8>, expect: &str) {
    let error = read(bytes).expect_err("a broken file").to_string();
    assert!(error.contains(expect), "{error:?} does not say {expect:?}");
}

#[track_caller]
fn check_error<T: std::fmt::Debug>(found: Result<T, Error>, expect: &str) {
    let error = found.expect_err("the wrong type").to_string();
    assert!(error.contains(expect), "{error:?} does not say {expect:?}");
}

#[test]
fn reads_every_type_of_value() {
    let file = opened(&everything());
    let tokens: Strs = ["<unk>", "<s>", "</s>", "▁a", "b", "ç", "日本"].into_iter().collect();
    let expect = [
        ("general.name", Value::Str("everything".to_owned())),
        ("llama.block_count", Value::U32(1)),
        ("llama.attention.layer_norm_rms_epsilon", Value::F32(1e-5)),
        ("tokenizer.ggml.tokens", Value::Array(Array::Strs(tokens))),
        (
            "tokenizer.ggml.scores",
            Value::Array(Array::F32s(vec![-0.0, -0.5, -1.0, -1.5, -2.0, -2.5, -3.0])),
        ),
        ("tokenizer.ggml.token_type", Value::Array(Array::I32s(vec![2, 3, 3, 1, 1, 1, 1]))),
        ("x.u8", Value::U8(200)),
        ("x.i8", Value::I8(-2)),
        ("x.u16", Value::U16(60_000)),
        ("x.i16", Value::I16(-2)),
        ("x.i32", Value::I32(-70_000)),
        ("x.bool", Value::Bool(true)),
        ("x.u64", Value::U64(1 << 40)),
        ("x.i64", Value::I64(-(1 << 40))),
        ("x.f64", Value::F64(0.1)),
        ("x.u8s", Value::Array(Array::U8s(vec![1, 2]))),
        ("x.i8s", Value::Array(Array::I8s(vec![-1, 2]))),
        ("x.u16s", Value::Array(Array::U16s(vec![1, 258]))),
        ("x.i16s", Value::Array(Array::I16s(vec![-1]))),
        ("x.u32s", Value::Array(Array::U32s(vec![7]))),
        ("x.bools", Value::Array(Array::Bools(vec![false, true]))),
        ("x.u64s", Value::Array(Array::U64s(vec![8]))),
        ("x.i64s", Value::Array(Array::I64s(vec![-9]))),
        ("x.f64s", Value::Array(Array::F64s(vec![0.5]))),
        ("x.none", Value::Array(Array::Strs(Strs::default()))),
    ];
    for (key, value) in &expect {
        assert_eq!(file.get(key), Some(value), "{key}");
    }
    let keys: Vec<&str> = file.metadata().map(|(key, _)| key).collect();
    assert_eq!((keys.len(), keys[0], keys[28]), (29, "general.architecture", "x.none"));
}

#[test]
fn getters_take_every_width_and_refuse_other_types() {
    let file = opened(&everything());
    assert_eq!((file.version(), file.arch()), (3, "llama"));
    assert_eq!(file.uint(&file.key("block_count")).expect("there"), 1);
    for (key, expect) in [("x.u8", 200), ("x.u16", 60_000), ("x.u64", 1 << 40)] {
        assert_eq!(file.uint(key).expect("an integer"), expect);
    }
    assert_eq!(file.float("x.f64").expect("a number"), 0.1);
    assert_eq!(file.float("x.i8").expect("a number"), -2.0);
    assert!(file.bool("x.bool").expect("a bool"));
    assert_eq!(file.f32s("tokenizer.ggml.scores").expect("floats").len(), 7);
    assert_eq!(file.f32s("x.f64s").expect("floats")[..], [0.5]);
    for (key, expect) in [("x.i8s", vec![-1, 2]), ("x.u16s", vec![1, 258]), ("x.i64s", vec![-9])] {
        assert_eq!(file.ints(key).expect("integers"), expect);
    }
    let tokens = file.strs("tokenizer.ggml.tokens").expect("strings");
    assert_eq!((tokens.get(0), tokens.get(6), tokens.get(7)), (Some("<unk>"), Some("日本"), None));
    assert_eq!(tokens.iter().collect::<Vec<_>>().join(" "), "<unk> <s> </s> ▁a b ç 日本");

    check_error(file.uint("x.i8"), "x.i8 is not a non-negative integer (its type is i8)");
    check_error(file.uint("x.bool"), "its type is bool");
    check_error(file.str("x.u8"), "x.u8 is not a string");
    check_error(file.bool("x.u8"), "x.u8 is not a bool");
    check_error(file.float("general.name"), "not a finite number (its type is string)");
    check_error(file.strs("x.u8s"), "not an array of strings (its type is array of u8)");
    check_error(file.f32s("x.u8s"), "not an array of floats");
    check_error(file.ints("x.u8"), "not an array of integers");
    check_error(file.ints("x.f64s"), "not an array of integers");
    check_error(file.str("x.absent"), "the model file lacks x.absent");
    assert_eq!(optional(file.uint("x.absent")).expect("absence is no error"), None);
    check_error(optional(file.uint("x.i8")), "x.i8");
}

#[test]
fn numbers_that_would_do_harm_are_refused() {
    let file = opened(&Writer::new().f32("nan", f32::NAN).f32("infinity", f32::INFINITY).entry(
        "large",
        ARRAY,
        &array(10, &[u64::MAX.to_le_bytes()]),
    ));
    check_error(file.float("nan"), "finite");
    check_error(file.float("infinity"), "finite");
    check_error(file.ints("large"), "below 2^63");
}

#[test]
fn finds_weights() {
    let writer = everything();
    let file = opened(&writer);
    let check = |name: &str, format: Format, cols: usize, rows: usize, bytes: &[u8]| {
        let tensor = file.tensor(name).expect("there");
        assert_eq!((tensor.format, tensor.cols, tensor.rows), (format, cols, rows), "{name}");
        assert_eq!(*tensor.bytes, *bytes, "{name}");
    };
    check("token_embd.weight", Format::Q4_0, 32, 7, &[1; 18 * 7]);
    check("output_norm.weight", Format::F32, 32, 1, &[0; 128]);
    check("experts.weight", Format::F16, 2, 60, &[0; 240]);
    let [first, second, third, foreign] = file.tensors() else { panic!("four tensors") };
    let data = writer.head().len().next_multiple_of(32) as u64;
    assert_eq!((first.offset, second.offset), (data, data + 128));
    assert_eq!((&third.shape[..], &*third.type_name()), (&[2, 3, 4, 5][..], "F16"));
    assert_eq!((foreign.format, &*foreign.type_name(), foreign.bytes), (None, "IQ2_XXS", 0));
    check_error(file.tensor("foreign.weight"), "is stored as IQ2_XXS, which Ingle cannot read");
    check_error(file.tensor("absent"), "the model file lacks tensor absent");
    assert!(optional(file.tensor("absent")).expect("absence is no error").is_none());

    let strange = opened(&Writer::new().tensor("w", &[3], 777, &[]));
    check_error(strange.tensor("w"), "stored as type 777");
    let split = opened(&Writer::new().entry("split.count", 2, &3u16.to_le_bytes()));
    check_error(split.tensor("w"), "one of 3 parts");
}

#[test]
fn reads_two_versions_of_one_byte_order() {
    let version = |version: u32| Writer { version, ..everything() };
    assert_eq!(opened(&version(2)).version(), 2);
    refused(&version(0), "of version 0");
    refused(&version(1), "of version 1, and Ingle reads versions 2 and 3");
    refused(&version(4), "of version 4");
    refused(&version(3u32.swap_bytes()), "big-endian");
    refused(&Writer { magic: *b"GGML", ..everything() }, "not a GGUF file");
    refused_bytes(vec![], "magic number needs 4 bytes where 0 are left");
    refused_bytes(b"GGUF".to_vec(), "(at byte 4)");
}

#[test]
fn honours_alignment() {
    for alignment in [1, 8, 64, 1 << 16] {
        let writer = Writer { alignment, ..Writer::new() }
            .u32("general.alignment", alignment as u32)
            .tensor("a", &[3], 0, &[1; 12])
            .tensor("b", &[3], 0, &[2; 12]);
        assert_eq!(*opened(&writer).tensor("b").expect("there").bytes, [2; 12]);
    }
    for alignment in [0, 3, 48, 1 << 17, u32::MAX] {
        refused(&Writer::new().u32("general.alignment", alignment), "power of two");
    }
    refused(&Writer::new().entry("general.alignment", 2, &[32, 0]), "power of two");
}

#[test]
fn an_architecture_must_be_named() {
    refused(&Writer::bare(), "lacks general.architecture");
    refused(&Writer::bare().u32("general.architecture", 1), "is not a string");
}

#[test]
fn false_counts_are_refused() {
    for count in [u64::MAX, 1 << 62, 1 << 40, 1 << 20] {
        refused(
            &Writer { entry_count: Some(count), ..everything() },
            "count of metadata entries is",
        );
        refused(&Writer { tensor_count: Some(count), ..everything() }, "count of tensors is");
        for kind in [0, 4, STRING, 10] {
            let mut lie = kind.to_le_bytes().to_vec();
            lie.extend(count.to_le_bytes());
            refused(&Writer::new().entry("x", ARRAY, &lie), "x is ");
        }
        refused(&Writer::new().entry("x", STRING, &count.to_le_bytes()), "x needs");
    }
    refused_bytes(Writer { entry_count: Some(2), ..Writer::new() }.head(), "a metadata key needs");
}

#[test]
fn broken_values_are_refused() {
    refused(&Writer::new().entry("x", 13, &[0; 8]), "x has the unknown type 13");
    refused(&Writer::new().entry("x", 7, &[2]), "x is a bool and holds 2");
    refused(&Writer::new().entry("x", ARRAY, &array(7, &[[1], [9]])), "x is a bool and holds 9");
    refused(&Writer::new().entry("x", ARRAY, &array(13, &[[1]])), "elements of unknown type 13");
    refused(&Writer::new().entry("x", ARRAY, &array(ARRAY, &[[1]])), "array of arrays");
    refused(&Writer::new().entry("x", STRING, &string(b"ab\xff")), "x is not UTF-8");
    let strings = array(STRING, &[string(b"fine"), string(b"\xc3\x28")]);
    refused(&Writer::new().entry("x", ARRAY, &strings), "x is not UTF-8");
    refused(&Writer::new().u32("x", 1).u32("x", 1), "x is there twice");
    refused(&Writer::new().u32(&"k".repeat(1 << 16), 1), "a metadata key of 65536 bytes");
    assert!(opened(&Writer::new().u32(&"k".repeat((1 << 16) - 1), 1)).metadata().len() == 2);
}

#[test]
fn broken_tensors_are_refused() {
    let weights = [0; 64];
    let tensor = |shape: &[u64], kind: u32| Writer::new().tensor("w", shape, kind, &weights);
    refused(&tensor(&[], 0), "tensor w has 0 dimensions");
    refused(&tensor(&[1; 5], 0), "tensor w has 5 dimensions");
    refused(&tensor(&[4, 0], 0), "[4, 0] is empty or too large");
    refused(&tensor(&[1 << 40, 1 << 40], 0), "empty or too large");
    refused(&tensor(&[1 << 62, 2], 0), "or too many");
    refused(&tensor(&[1 << 60, 4], 0), "the shape [1152921504606846976, 4] is too large");
    refused(&tensor(&[16, 2], 2), "rows of 16 are not whole blocks of Q4_0");
    refused(&tensor(&[17], 0), "tensor w: 68 bytes at offset 0");
    assert!(read(tensor(&[16], 0).bytes()).is_ok());
    refused(&tensor(&[4], 0).tensor("w", &[4], 0, &weights), "tensor w is there twice");
    let at = |offset: u64| tensor(&[4], 0).tensor_at("v", &[4], 0, offset);
    assert!(read(at(32).bytes()).is_ok());
    refused(&at(0), "tensors w and v lie on the same bytes");
    let long = tensor(&[12], 0).tensor_at("v", &[4], 0, 32);
    refused(&long, "tensors w and v lie on the same bytes");
    refused(&at(33), "tensor v: its offset 33 is no multiple of 32");
    refused(&at(64), "past the end of the file");
    refused(&at(u64::MAX - 31), "past the end of the file");
    refused(&tensor(&[4], 777).tensor_at("v", &[4], 777, 1 << 40), "past the end of the file");
}

#[test]
fn opens_files_and_names_those_it_cannot() {
    let folder = std::env::temp_dir().join(format!("ingle-gguf-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder for the test");
    let path = folder.join("model.gguf");
    std::fs::write(&path, everything().bytes()).expect("a file for the test");
    let file = Gguf::open(&path).expect("a sound file");
    assert_eq!(*file.tensor("token_embd.weight").expect("there").bytes, [1; 18 * 7]);
    check_error(Gguf::open(&folder), "it has no config.json");
    check_error(Gguf::open(&folder.join("absent.gguf")), "absent.gguf");
    std::fs::write(&path, b"").expect("a file for the test");
    assert!(Gguf::open(&path).is_err());
    std::fs::remove_dir_all(&folder).expect("our own folder");
}
