//! How keys and values are kept between steps: one table of types. Whatever the type, a value is
//! rounded once, when it is stored, and every step reads what was stored, its own keys and values
//! too. How the types lie in memory is a backend's own affair.

/// Dimensions of a head that share a scale, where there are scales.
pub const KV_GROUP: usize = 32;

/// A type of the KV cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum KvType {
    /// Halves; what is beyond their range becomes their largest.
    F16,
    /// Signed bytes, a half as the scale of each [`KV_GROUP`] of a head.
    Q8_0,
    /// As computed.
    F32,
}

impl KvType {
    /// Every type, the usual one first.
    pub const ALL: &[Self] = &[Self::F16, Self::Q8_0, Self::F32];

    /// What `--kv-type` calls it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::F16 => "f16",
            Self::Q8_0 => "q8_0",
            Self::F32 => "f32",
        }
    }

    /// The type of that name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|kv| kv.name() == name)
    }

    /// Bytes of one head's key, or value, of `dim` floats.
    pub const fn head_bytes(self, dim: usize) -> usize {
        match self {
            Self::F16 => 2 * dim,
            Self::Q8_0 => dim + 2 * dim.div_ceil(KV_GROUP),
            Self::F32 => 4 * dim,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_have_names_and_sizes() {
        for &kv in KvType::ALL {
            assert_eq!(KvType::named(kv.name()), Some(kv));
        }
        assert_eq!(KvType::named("q4_0"), None);
        let bytes = |dim| KvType::ALL.iter().map(|kv| kv.head_bytes(dim)).collect::<Vec<_>>();
        assert_eq!((bytes(64), bytes(80)), (vec![128, 68, 256], vec![160, 86, 320]));
    }
}
