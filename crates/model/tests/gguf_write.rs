//! What is written is what is read: any metadata and tensors, and what the writer refuses.

use ingle_backend::{Bytes, Format};
use ingle_model::Error;
use ingle_model::gguf::{Array, Gguf, Outline, Planned, Strs, Value, Writer};
use proptest::collection::vec;
use proptest::prelude::*;

fn io(source: std::io::Error) -> Error {
    Error::Io { path: "memory".into(), source }
}

/// A whole file in memory, each tensor's bytes given.
fn written(outline: &Outline, tensors: &[Vec<u8>]) -> Result<Vec<u8>, Error> {
    let mut writer = Writer::begin(outline, Vec::new(), io)?;
    for bytes in tensors {
        // In two parts, as they may come.
        let (first, second) = bytes.split_at(bytes.len() / 2);
        writer.weights(first).map_err(io)?;
        writer.weights(second).map_err(io)?;
    }
    Ok(writer.finish())
}

fn value() -> impl Strategy<Value = Value> {
    let text = "[a-zß日▁ ]{0,12}";
    let numbers = prop_oneof![
        any::<u8>().prop_map(Value::U8),
        any::<i8>().prop_map(Value::I8),
        any::<u16>().prop_map(Value::U16),
        any::<i16>().prop_map(Value::I16),
        any::<u32>().prop_map(Value::U32),
        any::<i32>().prop_map(Value::I32),
        any::<u64>().prop_map(Value::U64),
        any::<i64>().prop_map(Value::I64),
        (-1e9_f32..1e9).prop_map(Value::F32),
        (-1e9_f64..1e9).prop_map(Value::F64),
        any::<bool>().prop_map(Value::Bool),
        text.prop_map(Value::Str),
    ];
    let arrays = prop_oneof![
        vec(any::<u8>(), 0..9).prop_map(Array::U8s),
        vec(any::<i8>(), 0..9).prop_map(Array::I8s),
        vec(any::<u16>(), 0..9).prop_map(Array::U16s),
        vec(any::<i16>(), 0..9).prop_map(Array::I16s),
        vec(any::<u32>(), 0..9).prop_map(Array::U32s),
        vec(any::<i32>(), 0..9).prop_map(Array::I32s),
        vec(any::<u64>(), 0..9).prop_map(Array::U64s),
        vec(any::<i64>(), 0..9).prop_map(Array::I64s),
        vec(-1e9_f32..1e9, 0..9).prop_map(Array::F32s),
        vec(-1e9_f64..1e9, 0..9).prop_map(Array::F64s),
        vec(any::<bool>(), 0..9).prop_map(Array::Bools),
        vec(text, 0..9)
            .prop_map(|all| Array::Strs(all.iter().map(String::as_str).collect::<Strs>())),
    ];
    prop_oneof![numbers, arrays.prop_map(Value::Array)]
}

/// A format, blocks a row, and other dimensions.
fn tensor() -> impl Strategy<Value = (Format, u64, Vec<u64>)> {
    (proptest::sample::select(Format::ALL), 1_u64..4, vec(1_u64..4, 0..4))
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 200,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn what_is_written_is_read(
        entries in vec(value(), 0..8),
        tensors in vec(tensor(), 0..6),
        alignment in proptest::option::of(0_u32..12),
    ) {
        let mut outline = Outline::default();
        outline.set("general.architecture", Value::Str("llama".to_owned()));
        if let Some(power) = alignment {
            outline.set("general.alignment", Value::U32(1 << power));
        }
        for (i, value) in entries.iter().enumerate() {
            outline.set(&format!("x.{i}"), value.clone());
        }
        let mut weights = Vec::new();
        for (i, (format, blocks, dims)) in tensors.iter().enumerate() {
            let shape = [&[blocks * format.block_len() as u64][..], dims].concat();
            let planned = Planned { name: format!("t{i}"), shape, format: *format };
            weights.push(vec![i as u8 + 1; planned.bytes().expect("small")]);
            outline.push(planned);
        }
        let shapes: Vec<Planned> = outline.tensors().to_vec();
        let file = written(&outline, &weights).expect("a sound outline");
        let file = Gguf::from_bytes(Bytes::from(file)).expect("a sound file");
        prop_assert_eq!(file.version(), 3);
        for (i, value) in entries.iter().enumerate() {
            prop_assert_eq!(file.get(&format!("x.{i}")), Some(value));
        }
        prop_assert_eq!(file.tensors().len(), tensors.len());
        for ((planned, bytes), info) in shapes.iter().zip(&weights).zip(file.tensors()) {
            let tensor = file.tensor(&planned.name).expect("is there");
            prop_assert_eq!((&info.shape, tensor.format), (&planned.shape, planned.format));
            prop_assert_eq!(&*tensor.bytes, &bytes[..]);
        }
        // What was read says the same again.
        let mut again = Outline::like(&file);
        shapes.into_iter().for_each(|planned| again.push(planned));
        let again = Gguf::from_bytes(Bytes::from(written(&again, &weights).expect("sound")));
        let again = again.expect("a sound file");
        prop_assert!(file.metadata().eq(again.metadata()));
        prop_assert!(file.tensors().eq(again.tensors()));
    }
}

fn planned(name: &str, shape: &[u64], format: Format) -> Planned {
    Planned { name: name.to_owned(), shape: shape.to_vec(), format }
}

#[test]
fn an_entry_can_be_changed() {
    let mut outline = Outline::default();
    outline.set("general.architecture", Value::Str("llama".to_owned()));
    outline.set("general.file_type", Value::U32(1));
    outline.set("general.file_type", Value::U32(15));
    let file = Gguf::from_bytes(Bytes::from(written(&outline, &[]).expect("sound")));
    let file = file.expect("a sound file");
    assert_eq!((file.metadata().len(), file.uint("general.file_type").expect("there")), (2, 15));
}

#[test]
fn what_breaks_the_formats_rules_is_refused() {
    let check = |entries: &[(&str, Value)], tensors: &[Planned], expect: &str| {
        let mut outline = Outline::default();
        entries.iter().for_each(|(key, value)| outline.set(key, value.clone()));
        tensors.iter().for_each(|tensor| outline.push(tensor.clone()));
        let error = written(&outline, &[]).expect_err("a broken outline").to_string();
        assert!(error.contains(expect), "{error:?} does not say {expect:?}");
    };
    let f32 = |name: &str, shape: &[u64]| planned(name, shape, Format::F32);
    check(&[("general.alignment", Value::U32(48))], &[], "power of two");
    check(&[("general.alignment", Value::U64(32))], &[], "power of two");
    check(&[(&"k".repeat(1 << 16), Value::U8(1))], &[], "a metadata key of 65536 bytes");
    check(&[], &[f32("w", &[4]), f32("w", &[4])], "the tensor w is there twice");
    check(&[], &[f32("w", &[])], "tensor w: [] in F32 cannot be written");
    check(&[], &[f32("w", &[4, 0])], "cannot be written");
    check(&[], &[f32("w", &[0, 4])], "cannot be written");
    check(&[], &[f32("w", &[1; 5])], "cannot be written");
    check(&[], &[f32("w", &[1 << 62, 2])], "cannot be written");
    check(&[], &[f32("a", &[1 << 61]), f32("b", &[1 << 61])], "too many for one file");
    check(&[], &[planned("w", &[48], Format::Q4_0)], "[48] in Q4_0 cannot be written");
    let long = "x".repeat(129 << 20);
    check(&[("x", Value::Str(long))], &[], "the metadata would take");
}

#[test]
#[should_panic(expected = "more weights than announced; this is a bug")]
fn more_weights_than_announced_are_a_bug() {
    let mut outline = Outline::default();
    outline.push(planned("w", &[4], Format::F32));
    let _ = written(&outline, &[vec![0; 17]]);
}

#[test]
#[should_panic(expected = "weights are missing; this is a bug")]
fn missing_weights_are_a_bug() {
    let mut outline = Outline::default();
    outline.push(planned("w", &[4], Format::F32));
    let _ = written(&outline, &[vec![0; 15]]);
}
