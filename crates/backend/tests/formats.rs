//! Every weight format against values that the Python package `gguf` unpacked
//! (`tools/golden-blocks.py`).

use ingle_backend::formats::{Format, Nested, Quants, Scales, bf16_to_f32, f16_to_f32};

struct Golden {
    format: Format,
    bytes: Vec<u8>,
    values: Vec<f32>,
}

fn golden() -> Vec<Golden> {
    let mut rest: &[u8] = include_bytes!("golden/blocks.bin");
    let mut take = |count: usize| -> Vec<u8> {
        let (taken, left) = rest.split_at(count);
        rest = left;
        taken.to_vec()
    };
    let mut records = Vec::new();
    for _ in Format::ALL {
        let mut word = || u32::from_le_bytes(take(4).try_into().expect("four bytes"));
        let (id, bytes, values) = (word(), word() as usize, word() as usize);
        let format = Format::from_ggml_id(id).expect("a format that we know");
        let bytes = take(bytes);
        let floats = take(4 * values);
        let values = floats
            .chunks_exact(4)
            .map(|word| f32::from_le_bytes(word.try_into().expect("four bytes")))
            .collect();
        records.push(Golden { format, bytes, values });
    }
    assert!(rest.is_empty(), "the golden file has records of formats that are not in the table");
    records
}

/// Bit for bit, except that one NaN is as good as another.
#[track_caller]
fn check_same(what: &str, found: &[f32], expect: &[f32]) {
    assert_eq!(found.len(), expect.len(), "{what}");
    for (i, (found, expect)) in found.iter().zip(expect).enumerate() {
        let same = found.to_bits() == expect.to_bits() || (found.is_nan() && expect.is_nan());
        assert!(same, "{what}, weight {i}: {found:?}, not {expect:?}");
    }
}

#[test]
fn unpacks_as_the_reference_does() {
    let records = golden();
    let seen: Vec<Format> = Format::ALL
        .iter()
        .copied()
        .filter(|format| records.iter().any(|record| record.format == *format))
        .collect();
    assert_eq!(seen, Format::ALL);
    for Golden { format, bytes, values } in records {
        let mut out = vec![0.0; values.len()];
        format.unpack(&bytes, &mut out);
        check_same(format.name(), &out, &values);
    }
}

#[test]
fn quants_multiply_out_to_the_same_weights() {
    for Golden { format, bytes, values } in golden() {
        let Some(grid) = format.grid() else { continue };
        let blocks = bytes.chunks_exact(format.block_bytes());
        for (block, expect) in blocks.zip(values.chunks_exact(format.block_len())) {
            // What an earlier block left there must not matter.
            let stale = Nested { d: f32::NAN, ints: [85; 16] };
            let (scale, min) = ([f32::NAN; 16], [f32::NAN; 16]);
            let mut quants = Quants { q: [85; 256], scale, min, scales: stale, mins: stale };
            format.quants(block, &mut quants);
            let weight = |i: usize| {
                let g = i / format.group();
                quants.scale[g] * f32::from(quants.q[i]) + quants.min[g]
            };
            let found: Vec<f32> = (0..format.block_len()).map(weight).collect();
            check_same(format.name(), &found, expect);

            let groups = format.block_len() / format.group();
            let no_mins = quants.min[..groups].iter().all(|min| min.to_bits() == 1 << 31);
            assert!(grid.mins || no_mins, "{}: unannounced minima", format.name());
            check_scales(format, grid.scales, groups, &quants);
        }
    }
}

/// Scales and minima are made of what is announced.
fn check_scales(format: Format, scales: Scales, groups: usize, quants: &Quants) {
    let numbers = [(&quants.scale, quants.scales), (&quants.min, quants.mins)];
    for (floats, nested) in numbers {
        let expect: Vec<f32> = match scales {
            Scales::F16 => floats.map(|x| half::f16::from_f32(x).to_f32()).to_vec(),
            Scales::BF16 => floats.map(|x| half::bf16::from_f32(x).to_f32()).to_vec(),
            Scales::Nested => nested.ints.map(|int| nested.d * f32::from(int)).to_vec(),
        };
        check_same(format.name(), &floats[..groups], &expect[..groups]);
        let half = half::f16::from_f32(nested.d).to_f32();
        assert!(scales != Scales::Nested || half == nested.d, "{}", format.name());
    }
}

/// Over all golden blocks, the integers stay within the announced grid and fill its width.
#[test]
fn quants_fit_their_grid() {
    for Golden { format, bytes, .. } in golden() {
        let Some(grid) = format.grid() else { continue };
        let mut quants = Quants::new();
        let (mut low, mut high) = (i32::MAX, i32::MIN);
        for block in bytes.chunks_exact(format.block_bytes()) {
            format.quants(block, &mut quants);
            for q in &quants.q[..format.block_len()] {
                low = low.min(i32::from(*q) + grid.offset);
                high = high.max(i32::from(*q) + grid.offset);
            }
        }
        match grid.bits {
            8 => assert_eq!(grid.offset, 0, "{}", format.name()),
            4..=6 => {
                let fits = low >= 0 && high < 1 << grid.bits;
                let needed = grid.bits == 4 || high >= 1 << (grid.bits - 1);
                assert!(fits && needed, "{}: {low}..={high}", format.name());
            }
            bits => panic!("{}: no kernel knows {bits} bits", format.name()),
        }
    }
}

#[test]
fn every_half_becomes_the_same_single() {
    for bits in 0..=u16::MAX {
        let (half, brain) = (half::f16::from_bits(bits), half::bf16::from_bits(bits));
        check_same("f16", &[f16_to_f32(bits)], &[half.to_f32_const()]);
        check_same("bf16", &[bf16_to_f32(bits)], &[brain.to_f32_const()]);
    }
}

#[test]
fn names_and_numbers_are_unambiguous() {
    for format in Format::ALL {
        assert_eq!(Format::from_ggml_id(format.ggml_id()), Some(*format));
        assert_eq!(format!("{format:?}"), format.name());
    }
    assert_eq!(Format::from_ggml_id(4), None);
    assert_eq!(Format::from_ggml_id(u32::MAX), None);
}

#[test]
fn rows_are_whole_blocks() {
    let check = |format: Format, cols: usize, expect: Option<usize>| {
        assert_eq!(format.row_bytes(cols), expect, "{} × {cols}", format.name());
    };
    check(Format::F32, 3, Some(12));
    check(Format::Q4_0, 64, Some(36));
    check(Format::Q4_0, 48, None);
    check(Format::Q4_K, 0, Some(0));
    check(Format::Q4_K, 128, None);
    check(Format::F32, usize::MAX, None);
    check(Format::Q8_0, usize::MAX - 31, None);
}

#[test]
#[should_panic(expected = "this is a bug")]
fn a_part_of_a_block_is_refused() {
    Format::Q4_0.unpack(&[0; 17], &mut [0.0; 32]);
}

#[test]
#[should_panic(expected = "ask grid() first")]
fn floats_have_no_quants() {
    Format::F16.quants(&[0; 2], &mut Quants::new());
}
