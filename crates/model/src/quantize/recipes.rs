//! Which tensors of a model get which format: one row of [`RECIPES`] a mix, under the names and
//! file-type numbers that llama.cpp gives them (`llama_ftype`), with the same choice of tensors, so
//! that files compare. More bits go where errors cost most: the output matrix, values, and the way
//! back from the feed-forward network, in the first and last layers and in some between.
//!
//! A choice is made from a tensor's name and shape and the model's sizes alone. Nothing here reads
//! weights, and there is no importance matrix.

use ingle_backend::Format::{
    self, BF16, F16, F32, IQ4_NL, IQ4_XS, MXFP4, Q2_K, Q3_K, Q4_0, Q4_1, Q4_K, Q5_0, Q5_1, Q5_K,
    Q6_K, Q8_0,
};

use crate::gguf::{Gguf, TensorInfo};

/// How a whole model is quantised.
#[derive(Debug)]
pub struct Recipe {
    /// The name by which it is asked for.
    pub name: &'static str,
    /// Another name for it, or an empty one.
    pub alias: &'static str,
    /// The number that stands for it under `general.file_type`.
    pub file_type: u32,
    /// The format of most matrices.
    pub base: Format,
    /// The format of the output matrix, which may be that of the embeddings.
    output: Format,
    /// Exceptions; the first that applies counts.
    rules: &'static [Rule],
    /// Where the model has eight experts, what its attention outputs get instead of the base; they
    /// are small there.
    output_of_eight: Option<Format>,
}

/// An exception: which matrices, in which layers, in which format.
type Rule = (Kind, Where, Format);

/// What a matrix is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Value,
    Key,
    AttentionOutput,
    Fused,
    Down,
    Experts,
}

/// In which layers, or models.
#[derive(Clone, Copy, Debug)]
enum Where {
    All,
    /// The first so many layers.
    First(usize),
    /// The first 1/n of the layers.
    Share(usize),
    /// The first and the last eighth, and every third layer between.
    Spread,
    /// Where at least so many query heads share a key and value.
    Grouped(usize),
}

const fn plain(name: &'static str, file_type: u32, base: Format) -> Recipe {
    let (rules, output_of_eight) = (&[], None);
    Recipe { name, alias: "", file_type, base, output: base, rules, output_of_eight }
}

const fn mix(
    (name, alias, file_type): (&'static str, &'static str, u32),
    base: Format,
    rules: &'static [Rule],
) -> Recipe {
    Recipe { name, alias, file_type, base, output: Q6_K, rules, output_of_eight: None }
}

impl Recipe {
    /// What attention outputs get where the model has eight experts.
    const fn of_eight(self, format: Format) -> Self {
        Self { output_of_eight: Some(format), ..self }
    }
}

use Kind::{AttentionOutput, Down, Experts, Fused, Value};
use Where::{All, First, Grouped, Share, Spread};

/// Every recipe, the largest first.
#[rustfmt::skip]
pub static RECIPES: &[Recipe] = &[
    plain("f32", 0, F32),
    plain("f16", 1, F16),
    plain("bf16", 32, BF16),
    plain("q8_0", 7, Q8_0),
    mix(("q6_k", "", 18), Q6_K, &[]),
    mix(("q5_1", "", 9), Q5_1, &[]),
    mix(("q5_k_m", "q5_k", 17), Q5_K, &[(Value, Spread, Q6_K), (Down, Spread, Q6_K), (Fused, All, Q6_K)]),
    mix(("q5_k_s", "", 16), Q5_K, &[]),
    mix(("q5_0", "", 8), Q5_0, &[]),
    mix(("q4_1", "", 3), Q4_1, &[]),
    mix(("q4_k_m", "q4_k", 15), Q4_K, &[(Value, Spread, Q6_K), (Down, Spread, Q6_K), (Fused, All, Q5_K)]).of_eight(Q5_K),
    mix(("q4_k_s", "", 14), Q4_K, &[(Value, First(4), Q5_K), (Down, Share(8), Q5_K)]).of_eight(Q5_K),
    mix(("q4_0", "", 2), Q4_0, &[]),
    mix(("iq4_nl", "", 25), IQ4_NL, &[(Value, Grouped(4), Q5_K), (Down, Share(8), Q5_K)]).of_eight(Q5_K),
    mix(("iq4_xs", "", 30), IQ4_XS, &[(Value, Grouped(4), Q5_K), (Down, Share(8), Q5_K)]).of_eight(Q5_K),
    Recipe { rules: &[(Experts, All, MXFP4)], ..plain("mxfp4_moe", 38, Q8_0) },
    mix(("q3_k_l", "", 13), Q3_K, &[(Value, All, Q5_K), (Down, All, Q5_K), (AttentionOutput, All, Q5_K), (Fused, All, Q4_K)]),
    mix(("q3_k_m", "q3_k", 12), Q3_K, &[(Value, First(2), Q5_K), (Value, All, Q4_K), (Down, Share(16), Q5_K), (Down, All, Q4_K), (AttentionOutput, All, Q4_K), (Fused, All, Q4_K)]).of_eight(Q5_K),
    mix(("q3_k_s", "", 11), Q3_K, &[]).of_eight(Q5_K),
    mix(("q2_k", "", 10), Q2_K, &[(Value, Grouped(4), Q4_K), (Value, All, Q3_K), (Down, All, Q3_K), (AttentionOutput, All, Q3_K)]).of_eight(Q5_K),
];

/// The recipe of that name, in whatever case.
pub fn recipe(name: &str) -> Option<&'static Recipe> {
    let name = name.to_ascii_lowercase();
    RECIPES.iter().find(|recipe| recipe.name == name || recipe.alias == name && !name.is_empty())
}

/// Names of tensors that stay as they are, or parts of them: small, and errors in them cost much.
const KEPT: &[&str] = &[
    "_norm.weight",
    "ffn_gate_inp",
    "position_embd",
    "pos_embd.weight",
    "token_types.weight",
    "ssm_conv1d",
    "shortconv.conv.weight",
    "attn_rel_b.weight",
    "altup",
    "laurel",
    "per_layer_model_proj",
    "time_mix_",
    "attn_sinks",
];

/// Layers of a 70B Llama, whose values are few and shared by eight heads each.
const LAYERS_70B: usize = 80;

/// What a recipe asks of a model.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sizes {
    layers: usize,
    /// Query heads to a key and value.
    grouped: usize,
    experts: usize,
    /// Whether there is an output matrix apart from the embeddings.
    own_output: bool,
}

impl Sizes {
    /// Counts that a file lacks, or gives by layer, are taken as the smallest.
    pub(super) fn of(file: &Gguf) -> Self {
        let count = |suffix: &str, or: u64| file.uint(&file.key(suffix)).unwrap_or(or) as usize;
        let heads = count("attention.head_count", 1);
        Self {
            layers: count("block_count", 0),
            grouped: heads / count("attention.head_count_kv", heads as u64).max(1),
            experts: count("expert_count", 0),
            own_output: file.tensors().iter().any(|tensor| tensor.name == OUTPUT),
        }
    }
}

const OUTPUT: &str = "output.weight";
const EMBEDDINGS: &str = "token_embd.weight";

impl Recipe {
    /// The format for a tensor; `None` where it stays as it is.
    pub(super) fn format(&self, tensor: &TensorInfo, sizes: &Sizes) -> Option<Format> {
        let name = tensor.name.as_str();
        let matrix = tensor.shape.iter().filter(|dim| **dim > 1).count() >= 2;
        if !matrix || !name.ends_with("weight") || KEPT.iter().any(|kept| name.contains(kept)) {
            return None;
        }
        let output = name == OUTPUT || name == EMBEDDINGS && !sizes.own_output;
        let wanted = if output { self.output } else { self.exception(tensor, sizes) };
        let cols = usize::try_from(tensor.shape[0]).ok()?;
        Some(fitting(wanted, cols))
    }

    fn exception(&self, tensor: &TensorInfo, sizes: &Sizes) -> Format {
        let layer = layer(&tensor.name).unwrap_or(0);
        let applies = |(kind, place, _): &&Rule| kind.is(tensor) && place.holds(layer, sizes);
        let ruled = self.rules.iter().find(applies).map_or(self.base, |rule| rule.2);
        let is = |kind: Kind| kind.is(tensor);
        match ruled {
            // Few attention weights beside eight networks: bits for them are cheap.
            _ if self.base.grid().is_none() => ruled,
            _ if sizes.experts == 8 && (is(Value) || is(Kind::Key)) => Q8_0,
            _ if sizes.experts == 8 && is(AttentionOutput) => {
                self.output_of_eight.unwrap_or(self.base)
            }
            Q3_K | Q4_K if sizes.layers == LAYERS_70B && is(Value) => Q5_K,
            _ => ruled,
        }
    }
}

/// The layer in a name such as "blk.3.attn_v.weight".
fn layer(name: &str) -> Option<usize> {
    name.strip_prefix("blk.")?.split('.').next()?.parse().ok()
}

impl Kind {
    fn is(self, tensor: &TensorInfo) -> bool {
        let part = match self {
            Self::Value => "attn_v.weight",
            Self::Key => "attn_k.weight",
            Self::AttentionOutput => "attn_output.weight",
            Self::Fused => "attn_qkv.weight",
            Self::Down => "ffn_down",
            Self::Experts => return tensor.shape.get(2).is_some_and(|experts| *experts > 1),
        };
        tensor.name.contains(part)
    }
}

impl Where {
    fn holds(self, layer: usize, sizes: &Sizes) -> bool {
        let (layers, eighth) = (sizes.layers, sizes.layers / 8);
        match self {
            Self::All => true,
            Self::First(count) => layer < count,
            Self::Share(n) => layer < layers / n,
            Self::Grouped(heads) => sizes.grouped >= heads,
            Self::Spread => {
                let outer = layer < eighth || layer >= 7 * layers / 8;
                outer || (layer - eighth) % 3 == 2
            }
        }
    }
}

/// The format, or where rows of `cols` are not whole blocks of it, the next one up whose blocks are
/// shorter.
fn fitting(format: Format, cols: usize) -> Format {
    if cols.is_multiple_of(format.block_len()) {
        return format;
    }
    let shorter = match format {
        Q2_K | Q3_K => Q4_0,
        IQ4_XS => IQ4_NL,
        Q4_K => Q5_0,
        Q5_K => Q5_1,
        Q6_K => Q8_0,
        _ => F16,
    };
    fitting(shorter, cols)
}
