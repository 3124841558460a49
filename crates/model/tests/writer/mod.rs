//! Writes small GGUF files, sound ones and broken ones: whatever a test asks for is written.

#![allow(dead_code, reason = "each test binary uses a part of it")]

/// A file in the making.
pub(crate) struct Writer {
    pub(crate) magic: [u8; 4],
    pub(crate) version: u32,
    /// What the file claims, where that is not what it has.
    pub(crate) entry_count: Option<u64>,
    pub(crate) tensor_count: Option<u64>,
    pub(crate) alignment: usize,
    pub(crate) entries: (u64, Vec<u8>),
    pub(crate) tensors: (u64, Vec<u8>),
    pub(crate) data: Vec<u8>,
}

/// Numbers of the value types.
pub(crate) const STRING: u32 = 8;
pub(crate) const ARRAY: u32 = 9;

/// A string as the format has it.
pub(crate) fn string(text: &[u8]) -> Vec<u8> {
    [&(text.len() as u64).to_le_bytes()[..], text].concat()
}

/// An array's element type, count and elements.
pub(crate) fn array<T: AsRef<[u8]>>(kind: u32, elements: &[T]) -> Vec<u8> {
    let mut bytes = kind.to_le_bytes().to_vec();
    bytes.extend((elements.len() as u64).to_le_bytes());
    elements.iter().for_each(|element| bytes.extend(element.as_ref()));
    bytes
}

impl Writer {
    /// A file of version 3 with nothing in it but an architecture's name.
    pub(crate) fn new() -> Self {
        Self::bare().string("general.architecture", "llama")
    }

    /// A file of version 3 with nothing in it.
    pub(crate) fn bare() -> Self {
        Self {
            magic: *b"GGUF",
            version: 3,
            entry_count: None,
            tensor_count: None,
            alignment: 32,
            entries: (0, Vec::new()),
            tensors: (0, Vec::new()),
            data: Vec::new(),
        }
    }

    /// One more metadata entry, its value given as it stands in the file.
    pub(crate) fn entry(mut self, key: &str, kind: u32, value: &[u8]) -> Self {
        self.entries.0 += 1;
        self.entries.1.extend(string(key.as_bytes()));
        self.entries.1.extend(kind.to_le_bytes());
        self.entries.1.extend(value);
        self
    }

    pub(crate) fn string(self, key: &str, value: &str) -> Self {
        self.entry(key, STRING, &string(value.as_bytes()))
    }

    pub(crate) fn u32(self, key: &str, value: u32) -> Self {
        self.entry(key, 4, &value.to_le_bytes())
    }

    pub(crate) fn f32(self, key: &str, value: f32) -> Self {
        self.entry(key, 6, &value.to_le_bytes())
    }

    /// One more tensor, whose offset is given.
    pub(crate) fn tensor_at(mut self, name: &str, shape: &[u64], kind: u32, offset: u64) -> Self {
        self.tensors.0 += 1;
        self.tensors.1.extend(string(name.as_bytes()));
        self.tensors.1.extend((shape.len() as u32).to_le_bytes());
        shape.iter().for_each(|dim| self.tensors.1.extend(dim.to_le_bytes()));
        self.tensors.1.extend(kind.to_le_bytes());
        self.tensors.1.extend(offset.to_le_bytes());
        self
    }

    /// One more tensor, its weights put after those of the last.
    pub(crate) fn tensor(mut self, name: &str, shape: &[u64], kind: u32, weights: &[u8]) -> Self {
        self.data.resize(self.data.len().next_multiple_of(self.alignment), 0);
        let offset = self.data.len() as u64;
        self.data.extend(weights);
        self.tensor_at(name, shape, kind, offset)
    }

    /// All but the weights.
    pub(crate) fn head(&self) -> Vec<u8> {
        let mut bytes = self.magic.to_vec();
        bytes.extend(self.version.to_le_bytes());
        bytes.extend(self.tensor_count.unwrap_or(self.tensors.0).to_le_bytes());
        bytes.extend(self.entry_count.unwrap_or(self.entries.0).to_le_bytes());
        bytes.extend(&self.entries.1);
        bytes.extend(&self.tensors.1);
        bytes
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut bytes = self.head();
        bytes.resize(bytes.len().next_multiple_of(self.alignment), 0);
        bytes.extend(&self.data);
        bytes
    }
}

/// A file of everything: the keys of a small llama, every value type, several weight formats.
pub(crate) fn everything() -> Writer {
    let tokens = ["<unk>", "<s>", "</s>", "▁a", "b", "ç", "日本"];
    let tokens: Vec<Vec<u8>> = tokens.iter().map(|token| string(token.as_bytes())).collect();
    let scores: Vec<[u8; 4]> = (0..7).map(|i| (-0.5 * i as f32).to_le_bytes()).collect();
    let types: Vec<[u8; 4]> = [2i32, 3, 3, 1, 1, 1, 1].iter().map(|x| x.to_le_bytes()).collect();
    Writer::new()
        .string("general.name", "everything")
        .u32("llama.block_count", 1)
        .u32("llama.context_length", 64)
        .u32("llama.embedding_length", 32)
        .f32("llama.attention.layer_norm_rms_epsilon", 1e-5)
        .string("tokenizer.ggml.model", "llama")
        .entry("tokenizer.ggml.tokens", ARRAY, &array(STRING, &tokens))
        .entry("tokenizer.ggml.scores", ARRAY, &array(6, &scores))
        .entry("tokenizer.ggml.token_type", ARRAY, &array(5, &types))
        .entry("x.u8", 0, &[200])
        .entry("x.i8", 1, &[0xfe])
        .entry("x.u16", 2, &60_000u16.to_le_bytes())
        .entry("x.i16", 3, &(-2i16).to_le_bytes())
        .entry("x.i32", 5, &(-70_000i32).to_le_bytes())
        .entry("x.bool", 7, &[1])
        .entry("x.u64", 10, &(1u64 << 40).to_le_bytes())
        .entry("x.i64", 11, &(-(1i64 << 40)).to_le_bytes())
        .entry("x.f64", 12, &0.1f64.to_le_bytes())
        .entry("x.u8s", ARRAY, &array(0, &[[1], [2]]))
        .entry("x.i8s", ARRAY, &array(1, &[[0xff], [2]]))
        .entry("x.u16s", ARRAY, &array(2, &[[1, 0], [2, 1]]))
        .entry("x.i16s", ARRAY, &array(3, &[[0xff, 0xff]]))
        .entry("x.u32s", ARRAY, &array(4, &[7u32.to_le_bytes()]))
        .entry("x.bools", ARRAY, &array(7, &[[0], [1]]))
        .entry("x.u64s", ARRAY, &array(10, &[8u64.to_le_bytes()]))
        .entry("x.i64s", ARRAY, &array(11, &[(-9i64).to_le_bytes()]))
        .entry("x.f64s", ARRAY, &array(12, &[0.5f64.to_le_bytes()]))
        .entry("x.none", ARRAY, &array::<[u8; 0]>(STRING, &[]))
        .tensor("token_embd.weight", &[32, 7], 2, &[1; 18 * 7])
        .tensor("output_norm.weight", &[32], 0, &[0; 128])
        .tensor("experts.weight", &[2, 3, 4, 5], 1, &[0; 240])
        .tensor("foreign.weight", &[256, 2], 16, &[0; 132])
}
