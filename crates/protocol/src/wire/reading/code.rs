//! Vectors as bytes, whole numbers and bits. Absent: what comes of comparing them so.

use std::borrow::Cow;

use serde::Serialize;

/// How a vector is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Coding {
    /// Numbers.
    Float,
    /// Little-endian 32-bit floats, in base64 (RFC 4648).
    Base64,
    /// Whole numbers from -127 to 127: the vector scaled so that its largest number is 127. The
    /// cosine of two vectors is what it was, but for rounding.
    Int8,
    /// The same, 128 higher.
    Uint8,
    /// A bit a number, 1 where it is above 0, the first one highest in its byte; missing ones of
    /// the last byte are 0. Bytes are 128 lower, to be signed.
    Binary,
    /// The same, as unsigned bytes.
    Ubinary,
}

/// A vector, written.
#[derive(Serialize)]
#[serde(untagged)]
pub(super) enum Coded<'a> {
    Floats(Cow<'a, [f32]>),
    Whole(Vec<i16>),
    Text(String),
}

impl Coding {
    pub(super) const ALL: [Self; 6] =
        [Self::Float, Self::Base64, Self::Int8, Self::Uint8, Self::Binary, Self::Ubinary];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Float => "float",
            Self::Base64 => "base64",
            Self::Int8 => "int8",
            Self::Uint8 => "uint8",
            Self::Binary => "binary",
            Self::Ubinary => "ubinary",
        }
    }

    pub(super) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|coding| coding.name() == name)
    }

    pub(super) fn write(self, vector: Cow<'_, [f32]>) -> Coded<'_> {
        let moved = |numbers: Vec<i16>, by: i16| numbers.iter().map(|it| it + by).collect();
        match self {
            Self::Float => Coded::Floats(vector),
            Self::Base64 => {
                let bytes: Vec<u8> = vector.iter().flat_map(|x| x.to_le_bytes()).collect();
                Coded::Text(base64(&bytes))
            }
            Self::Int8 => Coded::Whole(whole(&vector)),
            Self::Uint8 => Coded::Whole(moved(whole(&vector), 128)),
            Self::Binary => Coded::Whole(moved(bits(&vector), -128)),
            Self::Ubinary => Coded::Whole(bits(&vector)),
        }
    }
}

fn largest(vector: &[f32]) -> f32 {
    vector.iter().fold(0.0, |most: f32, x| most.max(x.abs()))
}

fn whole(vector: &[f32]) -> Vec<i16> {
    let most = largest(vector);
    let scale = if most > 0.0 { 127.0 / most } else { 0.0 };
    vector.iter().map(|x| (x * scale).round().clamp(-127.0, 127.0) as i16).collect()
}

fn bits(vector: &[f32]) -> Vec<i16> {
    let byte = |eight: &[f32]| {
        eight.iter().enumerate().map(|(at, x)| i16::from(*x > 0.0) << (7 - at)).sum::<i16>()
    };
    vector.chunks(8).map(byte).collect()
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for three in bytes.chunks(3) {
        let byte = |at: usize| u32::from(three.get(at).copied().unwrap_or(0));
        let all = byte(0) << 16 | byte(1) << 8 | byte(2);
        for at in 0..4 {
            let digit = DIGITS[(all >> (18 - 6 * at) & 63) as usize];
            out.push(if at <= three.len() { char::from(digit) } else { '=' });
        }
    }
    out
}

/// The vector divided by its norm of this power; by 0, so that its largest number is 32760.
pub(super) fn normed(vector: &[f32], power: u32) -> Vec<f32> {
    let norm = match power {
        0 => f64::from(largest(vector)) / 32_760.0,
        power => {
            let power = f64::from(power);
            let sum: f64 = vector.iter().map(|x| f64::from(x.abs()).powf(power)).sum();
            sum.powf(power.recip())
        }
    };
    let scale = if norm > 0.0 { norm.recip() } else { 0.0 };
    vector.iter().map(|x| (f64::from(*x) * scale) as f32).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(coding: Coding, vector: &[f32]) -> String {
        serde_json::to_string(&coding.write(vector.into())).expect("numbers and texts")
    }

    #[test]
    fn a_vector_in_every_coding() {
        let vector = [0.1, -0.5, 0.0, 0.25, 1.0, -1.0, 0.004, 0.2, 0.3];
        let rows = [
            (Coding::Float, "[0.1,-0.5,0.0,0.25,1.0,-1.0,0.004,0.2,0.3]"),
            (Coding::Int8, "[13,-64,0,32,127,-127,1,25,38]"),
            (Coding::Uint8, "[141,64,128,160,255,1,129,153,166]"),
            // 1001 1011, and 1 of the second byte.
            (Coding::Ubinary, "[155,128]"),
            (Coding::Binary, "[27,0]"),
        ];
        for (coding, expect) in rows {
            assert_eq!(json(coding, &vector), expect, "{}", coding.name());
            assert_eq!(Coding::named(coding.name()), Some(coding));
        }
        assert_eq!(json(Coding::Base64, &[1.0, -2.0]), "\"AACAPwAAAMA=\"");
        assert_eq!(json(Coding::Int8, &[0.0, 0.0]), "[0,0]", "nothing to scale");
        assert_eq!(Coding::named("bits"), None);
    }

    #[test]
    fn base64_as_its_standard_has_it() {
        let rows =
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")];
        for (text, expect) in rows {
            assert_eq!(base64(text.as_bytes()), expect);
        }
        assert_eq!(base64(&[251, 255, 190]), "+/++");
    }

    #[test]
    fn norms_of_any_power() {
        let rows: [(u32, [f32; 2]); 4] = [
            (0, [24570.0, -32760.0]),
            (1, [3.0 / 7.0, -4.0 / 7.0]),
            (2, [0.6, -0.8]),
            (8, [0.7411, -0.9881]),
        ];
        for (power, expect) in rows {
            let out = normed(&[3.0, -4.0], power);
            let near = out.iter().zip(expect).all(|(a, b)| (a - b).abs() <= 1e-3 * b.abs());
            assert!(near, "{power}: {out:?}");
        }
        assert_eq!(normed(&[0.0, 0.0], 2), [0.0, 0.0]);
    }
}
