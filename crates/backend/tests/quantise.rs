//! Weights into blocks: what lies on a format's grid comes back unchanged, the error stays within
//! bounds on any data, and on real rows it is no larger than that of ggml's own quantisers
//! (`tools/golden-quants.py`).

use ingle_backend::formats::{Format, Quants};

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.0 ^ self.0 >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ z >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ z >> 31
    }

    /// In -1..1.
    fn unit(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1_u64 << 23) as f32 - 1.0
    }

    /// About normal, of variance 1.
    fn normal(&mut self) -> f32 {
        (0..12).map(|_| self.unit()).sum::<f32>() * 0.5
    }
}

fn there_and_back(format: Format, weights: &[f32]) -> Vec<f32> {
    let mut bytes = vec![0xa5; format.row_bytes(weights.len()).expect("whole blocks")];
    format.quantise(weights, &mut bytes).expect("finite weights");
    let mut back = vec![0.0; weights.len()];
    format.unpack(&bytes, &mut back);
    back
}

fn rms(a: &[f32], b: &[f32]) -> f64 {
    let sum: f64 = a.iter().zip(b).map(|(a, b)| f64::from(a - b).powi(2)).sum();
    (sum / a.len() as f64).sqrt()
}

/// Data of all kinds, by name.
fn kinds(seed: u64) -> Vec<(&'static str, Vec<f32>)> {
    let mut random = Random(seed);
    let mut make = |name, of: &mut dyn FnMut(&mut Random, usize) -> f32| {
        (name, (0..1024).map(|i| of(&mut random, i)).collect::<Vec<f32>>())
    };
    vec![
        make("zeros", &mut |_, _| 0.0),
        make("ones", &mut |_, _| 1.0),
        make("alternating", &mut |_, i| if i % 2 == 0 { 1.0 } else { -1.0 }),
        make("uniform", &mut |r, _| r.unit()),
        make("positive", &mut |r, _| r.unit() + 1.5),
        make("negative", &mut |r, _| r.unit() - 1.5),
        make("normal", &mut |r, _| 0.02 * r.normal()),
        make("heavy", &mut |r, _| 0.02 * r.normal().powi(5)),
        make("one outlier", &mut |r, i| if i % 256 == 7 { 50.0 } else { r.normal() }),
        make("small", &mut |r, _| 1e-3 * r.normal()),
        make("large", &mut |r, _| 10_000.0 * r.unit()),
        make("a ramp", &mut |_, i| (i % 256) as f32),
    ]
}

/// The largest error as a share of the group's range (or extreme, where the levels are symmetric),
/// if every group had its best scale: half a step. Twice that is allowed, since least squares may
/// cut an outlier off, and K scales are themselves rounded.
fn step(format: Format) -> f64 {
    match format {
        Format::F32 => 0.0,
        Format::F16 => 1.0 / 2048.0,
        Format::BF16 => 1.0 / 256.0,
        Format::Q8_0 => 1.0 / 127.0,
        Format::Q6_K => 1.0 / 32.0,
        Format::Q5_0 | Format::Q5_1 | Format::Q5_K => 1.0 / 16.0,
        Format::Q4_0 | Format::Q4_1 | Format::Q4_K => 1.0 / 8.0,
        Format::IQ4_NL | Format::IQ4_XS => 1.0 / 5.0,
        Format::Q3_K | Format::MXFP4 => 1.0 / 3.0,
        Format::Q2_K => 1.0 / 1.5,
    }
}

#[test]
fn errors_are_within_half_a_step() {
    for seed in 0..20 {
        for (name, weights) in kinds(seed) {
            for format in Format::ALL {
                let back = there_and_back(*format, &weights);
                // K blocks share one scale, so an outlier costs its neighbours: blocks, not groups.
                let length = format.block_len().max(32);
                for (x, y) in weights.chunks(length).zip(back.chunks(length)) {
                    let most = x.iter().fold(0.0, |most: f32, x| most.max(x.abs()));
                    let bound = f64::from(most) * step(*format) * 0.5 + 6e-8;
                    let found = rms(x, y);
                    assert!(
                        found <= bound,
                        "{} of {name}, seed {seed}: {found:e} of {bound:e}",
                        format.name()
                    );
                }
            }
        }
    }
}

/// Random blocks that use their grid to the ends, so that only one choice of scales is exact.
fn on_the_grid(format: Format, random: &mut Random) -> Vec<f32> {
    let mut block: Vec<u8> = (0..format.block_bytes()).map(|_| random.next() as u8).collect();
    let halves: &[(usize, f32)] = match format {
        Format::Q4_1 | Format::Q5_1 => &[(0, 0.01), (2, -0.07)],
        Format::Q4_K | Format::Q5_K => &[(0, 0.01), (2, 0.02)],
        Format::Q2_K => &[(80, 0.01), (82, 0.02)],
        Format::Q3_K => &[(108, 0.01)],
        Format::Q6_K => &[(208, 0.01)],
        Format::MXFP4 => &[],
        _ => &[(0, 0.01)],
    };
    for (at, value) in halves {
        block[*at..at + 2].copy_from_slice(&half::f16::from_f32(*value).to_le_bytes());
    }
    if format == Format::MXFP4 {
        block[0] = 120;
    }
    let mut quants = Quants::new();
    format.quants(&block, &mut quants);
    ends(format, &mut quants);
    let group = format.group();
    let weight =
        |i: usize| quants.scale[i / group] * f32::from(quants.q[i]) + quants.min[i / group];
    (0..format.block_len()).map(weight).collect()
}

/// Puts both ends of the levels into every group, and the largest scale and minimum into the block.
fn ends(format: Format, quants: &mut Quants) {
    let (low, high) = match format {
        Format::Q2_K => (0, 3),
        Format::Q3_K => (-4, 3),
        Format::Q8_0 => (-127, 127),
        Format::IQ4_NL | Format::IQ4_XS => (-127, 113),
        Format::MXFP4 => (-12, 12),
        _ => {
            let grid = format.grid().expect("a block format");
            (-grid.offset as i8, ((1 << grid.bits) - 1 - grid.offset) as i8)
        }
    };
    for q in quants.q[..format.block_len()].chunks_mut(format.group()) {
        (q[0], q[1]) = (low, high);
        if !matches!(format, Format::IQ4_NL | Format::IQ4_XS | Format::MXFP4) {
            q[2] = low + 1; // else 0 and 3 alone could as well be 0 and 1
        }
        q.iter_mut().for_each(|q| *q = (*q).max(low));
    }
    let d = half::f16::from_f32(0.01).to_f32();
    let d_min = half::f16::from_f32(0.02).to_f32();
    match format {
        Format::Q4_K | Format::Q5_K => {
            (quants.scale[0], quants.min[0]) = (d * 63.0, -(d_min * 63.0))
        }
        Format::Q2_K => (quants.scale[0], quants.min[0]) = (d * 15.0, -(d_min * 15.0)),
        Format::Q3_K | Format::IQ4_XS => quants.scale[0] = d * -32.0,
        Format::Q6_K => quants.scale[0] = d * -128.0,
        _ => {}
    }
}

#[test]
fn what_lies_on_the_grid_comes_back_unchanged() {
    for format in Format::ALL.iter().filter(|format| format.grid().is_some()) {
        let mut random = Random(9);
        for round in 0..200 {
            let weights = on_the_grid(*format, &mut random);
            let back = there_and_back(*format, &weights);
            assert_eq!(back, weights, "{}, block {round}", format.name());
        }
    }
}

#[test]
fn floats_come_back_as_near_as_they_can() {
    for (_, weights) in kinds(3) {
        assert_eq!(there_and_back(Format::F32, &weights), weights);
        let halves: Vec<f32> = weights.iter().map(|x| half::f16::from_f32(*x).to_f32()).collect();
        assert_eq!(there_and_back(Format::F16, &weights), halves);
        let brains: Vec<f32> = weights.iter().map(|x| half::bf16::from_f32(*x).to_f32()).collect();
        assert_eq!(there_and_back(Format::BF16, &weights), brains);
    }
}

#[test]
fn what_no_scale_can_hold_is_refused() {
    let check = |format: Format, value: f32, fits: bool| {
        let mut weights = vec![0.5; 512];
        weights[300] = value;
        let mut bytes = vec![0; format.row_bytes(512).expect("whole blocks")];
        match format.quantise(&weights, &mut bytes) {
            Ok(()) => assert!(fits, "{value} in {}", format.name()),
            Err(unfit) => {
                assert!(!fits, "{value} in {}", format.name());
                assert_eq!((unfit.at, unfit.value.to_bits()), (300, value.to_bits()));
                let said = unfit.to_string();
                assert!(said.contains(format.name()) && said.contains("weight 300"), "{said}");
            }
        }
    };
    for format in Format::ALL {
        for value in [f32::NAN, -f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            check(*format, value, false);
        }
        check(*format, 65504.0, true);
        check(*format, -65504.0, true);
        check(*format, 1e20, matches!(format, Format::F32 | Format::BF16));
        check(*format, f32::MAX, *format == Format::F32);
        check(*format, f32::MIN_POSITIVE / 8.0, true);
    }
}

#[test]
#[should_panic(expected = "this is a bug")]
fn a_part_of_a_block_is_refused() {
    let _ = Format::Q4_0.quantise(&[0.0; 31], &mut [0; 18]);
}

/// Real rows and the root mean square errors of ggml's quantisers on them.
#[test]
fn errors_on_real_rows_are_no_larger_than_ggmls() {
    let mut rest: &[u8] = include_bytes!("golden/rows.bin");
    let mut word = || {
        let (word, left) = rest.split_first_chunk::<4>().expect("a word is left");
        rest = left;
        *word
    };
    let count = u32::from_le_bytes(word()) as usize;
    let weights: Vec<f32> = (0..count).map(|_| f32::from_le_bytes(word())).collect();
    let formats = u32::from_le_bytes(word());
    assert_eq!(formats as usize, Format::ALL.len() - 1, "every format but F32");
    for _ in 0..formats {
        let format = Format::from_ggml_id(u32::from_le_bytes(word())).expect("a known format");
        let theirs = f64::from(f32::from_le_bytes(word()));
        let ours = rms(&weights, &there_and_back(format, &weights));
        assert!(ours <= 1.001 * theirs, "{}: {ours:e}, ggml {theirs:e}", format.name());
    }
}
