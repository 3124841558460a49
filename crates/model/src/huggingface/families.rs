//! The table of architectures: one row each, of what its configuration's keys and its tensors are
//! called in a directory and in a GGUF file, and what has to be done to tensors on the way. The
//! names in directories are those of `transformers`.

use super::json::Object;
use super::sentences::Modules;
use super::table;
use crate::Error;

/// An architecture.
#[derive(Debug)]
pub(super) struct Family {
    /// The values of `model_type` that mean it.
    pub(super) types: &'static [&'static str],
    /// Its name in GGUF files.
    pub(super) arch: &'static str,
    /// Its configuration's keys.
    pub(super) keys: &'static [&'static [Key]],
    /// What the names of its tensors may begin with, before what the rows say.
    pub(super) prefixes: &'static [&'static str],
    /// Its tensors.
    pub(super) names: &'static [&'static [Name]],
    /// Whether tokens see what comes after them.
    pub(super) encoder: bool,
    /// Whether the first position is the padding token's id and one.
    pub(super) positions_behind_padding: bool,
    /// What a classifier's first layer is bent by, where its configuration does not say.
    pub(super) head_activation: &'static str,
    /// What the beginnings of names of parts are that read no text.
    pub(super) ignored: &'static [&'static str],
    /// Whether the output matrix is the embeddings' where the configuration does not say.
    pub(super) tied: bool,
    /// What a gate is bent by; the architecture's graph knows no other function.
    pub(super) activation: Option<&'static str>,
    /// What it has that its graph can only have so, or has no name for in a file.
    pub(super) quirks: &'static [Quirk],
}

/// What is peculiar to an architecture's configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Quirk {
    /// It rotates positions.
    Rope,
    /// It rotates those in layers with a window by another base.
    LocalRope,
    /// It has lists of divisors for short and for long contexts.
    LongRope,
    /// Its graph knows no window: contexts are no longer than that.
    NoWindow,
    /// Of so many layers, from the first on, all but the last have a window.
    Windows(usize),
    /// Scores are scaled by the width of a head, but for one size of so many layers.
    Scale(u64),
    /// Gates are clamped at 7.
    Clamped,
    /// YaRN sets in at no whole pair.
    UnroundedYarn,
    /// It is a table of tokens' vectors and nothing else.
    Table,
    /// Its own code knows more ways than its graph.
    Nomic,
}

/// A key of a configuration.
#[derive(Clone, Copy, Debug)]
pub(super) struct Key {
    /// What it may be called, the likeliest first.
    pub(super) from: &'static [&'static str],
    /// What it is called in GGUF files, behind the architecture's name.
    pub(super) to: &'static str,
    /// Its type.
    pub(super) kind: Kind,
    /// What is meant where it is absent.
    pub(super) or: Or,
}

/// The type of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Uint,
    Float,
    Flag,
}

/// What the absence of a key means.
#[derive(Clone, Copy, Debug)]
pub(super) enum Or {
    /// The model cannot be read.
    Refused,
    /// Nothing.
    Nothing,
    /// This.
    Uint(u64),
    Float(f64),
}

/// A tensor, or several that make one.
#[derive(Clone, Copy, Debug)]
pub(super) struct Name {
    /// What it is called, `{}` for the layer, without what may stand before it. Where it does not
    /// end in a dot's last part (`weight`, `bias`), it stands for both.
    pub(super) from: &'static str,
    /// The same in a GGUF file; empty for what is not needed.
    pub(super) to: &'static str,
    /// With which heads it is needed.
    pub(super) when: When,
    /// What has to be done to it.
    pub(super) how: How,
}

/// With which heads a tensor is needed. Without, it is left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum When {
    Always,
    /// Labels of whole texts.
    Sequence,
    /// Labels of texts or of tokens.
    Labels,
    /// The masked-language head.
    Masked,
    /// A vector a token.
    Late,
}

/// What has to be done to a tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum How {
    /// Nothing.
    As,
    /// Rows before the first position's are left out.
    Positions,
    /// It is left out where the embeddings take its place.
    Untied,
    /// 1 is added: a norm's factor is stored as what it differs from 1 by.
    PlusOne,
    /// The halves of each query head's, or key head's, rotated rows are brought side by side.
    Adjacent(Heads),
    /// One of several that are stacked.
    Stacked,
    /// Experts' matrices that are stored with rows and columns exchanged.
    Transposed(Take),
    /// Experts' biases.
    Picked(Take),
    /// Experts' matrices in MXFP4: their numbers, and in another tensor their scales.
    Mx(Take),
    MxScales(Take),
}

/// Which heads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Heads {
    Query,
    Key,
}

/// Which rows, where two matrices are stored in turns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Take {
    All,
    Even,
    Odd,
}

const fn uint(from: &'static [&'static str], to: &'static str) -> Key {
    Key { from, to, kind: Kind::Uint, or: Or::Refused }
}

const fn float(from: &'static [&'static str], to: &'static str) -> Key {
    Key { from, to, kind: Kind::Float, or: Or::Refused }
}

const fn flag(from: &'static [&'static str], to: &'static str) -> Key {
    Key { from, to, kind: Kind::Flag, or: Or::Nothing }
}

impl Key {
    const fn or(self, or: Or) -> Self {
        Self { or, ..self }
    }
}

const fn name(from: &'static str, to: &'static str) -> Name {
    Name { from, to, when: When::Always, how: How::As }
}

/// What is not needed.
const fn unused(from: &'static str) -> Name {
    name(from, "")
}

impl Name {
    const fn when(self, when: When) -> Self {
        Self { when, ..self }
    }

    const fn how(self, how: How) -> Self {
        Self { how, ..self }
    }
}

const NONE: Family = Family {
    types: &[],
    arch: "",
    keys: &[],
    prefixes: &[],
    names: &[],
    encoder: false,
    positions_behind_padding: false,
    head_activation: "tanh",
    ignored: &[],
    tied: true,
    activation: None,
    quirks: &[],
};

const BERT_KEYS: &[Key] = &[
    uint(&["max_position_embeddings"], "context_length"),
    uint(&["hidden_size"], "embedding_length"),
    uint(&["intermediate_size"], "feed_forward_length"),
    uint(&["num_hidden_layers"], "block_count"),
    uint(&["num_attention_heads"], "attention.head_count"),
    float(&["layer_norm_eps"], "attention.layer_norm_epsilon").or(Or::Float(1e-12)),
];

const DISTIL_KEYS: &[Key] = &[
    uint(&["max_position_embeddings"], "context_length"),
    uint(&["dim"], "embedding_length"),
    uint(&["hidden_dim"], "feed_forward_length"),
    uint(&["n_layers"], "block_count"),
    uint(&["n_heads"], "attention.head_count"),
    // `transformers` has it in its code.
    float(&[], "attention.layer_norm_epsilon").or(Or::Float(1e-12)),
];

const MODERN_KEYS: &[Key] = &[
    uint(&["max_position_embeddings"], "context_length"),
    uint(&["hidden_size"], "embedding_length"),
    uint(&["intermediate_size"], "feed_forward_length"),
    uint(&["num_hidden_layers"], "block_count"),
    uint(&["num_attention_heads"], "attention.head_count"),
    float(&["norm_eps"], "attention.layer_norm_epsilon").or(Or::Float(1e-5)),
    uint(&["local_attention"], "attention.sliding_window"),
    uint(&["global_attn_every_n_layers"], "attention.sliding_window_pattern").or(Or::Uint(3)),
];

const NOMIC_KEYS: &[Key] = &[
    uint(&["n_positions", "max_position_embeddings"], "context_length"),
    uint(&["n_embd", "hidden_size"], "embedding_length"),
    uint(&["n_inner", "intermediate_size"], "feed_forward_length"),
    uint(&["n_layer", "num_hidden_layers"], "block_count"),
    uint(&["n_head", "num_attention_heads"], "attention.head_count"),
    float(&["layer_norm_epsilon", "layer_norm_eps"], "attention.layer_norm_epsilon"),
    float(&["rotary_emb_base", "rope_theta"], "rope.freq_base").or(Or::Float(10_000.0)),
];

const DECODER_KEYS: &[Key] = &[
    uint(&["max_position_embeddings"], "context_length").or(Or::Uint(131_072)),
    uint(&["hidden_size"], "embedding_length"),
    uint(&["intermediate_size"], "feed_forward_length"),
    uint(&["num_hidden_layers"], "block_count"),
    uint(&["num_attention_heads"], "attention.head_count").or(Or::Uint(8)),
    float(&["rms_norm_eps"], "attention.layer_norm_rms_epsilon").or(Or::Float(1e-6)),
];

const HEAD_KEYS: &[Key] = &[
    uint(&["num_key_value_heads"], "attention.head_count_kv").or(Or::Nothing),
    uint(&["head_dim"], "attention.key_length").or(Or::Nothing),
    uint(&["head_dim"], "attention.value_length").or(Or::Nothing),
];

/// What `transformers` takes where a configuration of Gemma 3 says nothing.
const GEMMA3_KEYS: &[Key] = &[
    uint(&["num_key_value_heads"], "attention.head_count_kv").or(Or::Uint(4)),
    uint(&["head_dim"], "attention.key_length").or(Or::Uint(256)),
    uint(&["head_dim"], "attention.value_length").or(Or::Uint(256)),
    uint(&["sliding_window"], "attention.sliding_window").or(Or::Uint(4096)),
    float(&["final_logit_softcapping"], "final_logit_softcapping").or(Or::Nothing),
    float(&["attn_logit_softcapping"], "attn_logit_softcapping").or(Or::Nothing),
];

const GEMMA2_KEYS: &[Key] = &[
    uint(&["sliding_window"], "attention.sliding_window"),
    float(&["final_logit_softcapping"], "final_logit_softcapping").or(Or::Nothing),
    float(&["attn_logit_softcapping"], "attn_logit_softcapping").or(Or::Nothing),
];

const WINDOW_KEYS: &[Key] =
    &[uint(&["sliding_window"], "attention.sliding_window").or(Or::Nothing)];

const EXPERT_KEYS: &[Key] = &[
    uint(&["num_local_experts", "num_experts"], "expert_count"),
    uint(&["num_experts_per_tok", "experts_per_token"], "expert_used_count"),
    uint(&["moe_intermediate_size", "intermediate_size"], "expert_feed_forward_length"),
    flag(&["norm_topk_prob"], "expert_weights_norm"),
];

/// What is around the layers of models that write.
const DECODER: &[Name] = &[
    name("embed_tokens.weight", "token_embd.weight"),
    name("lm_head.weight", "output.weight").how(How::Untied),
    name("score.weight", "cls.output.weight").when(When::Sequence),
    name("layers.{}.self_attn.v_proj", "blk.{}.attn_v"),
    name("layers.{}.mlp.gate_proj.weight", "blk.{}.ffn_gate.weight"),
    name("layers.{}.mlp.up_proj.weight", "blk.{}.ffn_up.weight"),
    name("layers.{}.mlp.down_proj.weight", "blk.{}.ffn_down.weight"),
    unused("layers.{}.self_attn.rotary_emb.inv_freq"),
    unused("rotary_emb.inv_freq"),
];

const OUTPUT: &[Name] = &[name("layers.{}.self_attn.o_proj.weight", "blk.{}.attn_output.weight")];

const NORMS: &[Name] = &[
    name("norm.weight", "output_norm.weight"),
    name("layers.{}.input_layernorm.weight", "blk.{}.attn_norm.weight"),
    name("layers.{}.post_attention_layernorm.weight", "blk.{}.ffn_norm.weight"),
];

const HALVES: &[Name] = &[
    name("layers.{}.self_attn.q_proj", "blk.{}.attn_q"),
    name("layers.{}.self_attn.k_proj", "blk.{}.attn_k"),
];

const ADJACENT: &[Name] = &[
    name("layers.{}.self_attn.q_proj", "blk.{}.attn_q").how(How::Adjacent(Heads::Query)),
    name("layers.{}.self_attn.k_proj", "blk.{}.attn_k").how(How::Adjacent(Heads::Key)),
];

const HEAD_NORMS: &[Name] = &[
    name("layers.{}.self_attn.q_norm.weight", "blk.{}.attn_q_norm.weight"),
    name("layers.{}.self_attn.k_norm.weight", "blk.{}.attn_k_norm.weight"),
];

const GEMMA_NORMS: &[Name] = &[
    name("norm.weight", "output_norm.weight").how(How::PlusOne),
    name("layers.{}.input_layernorm.weight", "blk.{}.attn_norm.weight").how(How::PlusOne),
    name("layers.{}.post_attention_layernorm.weight", "blk.{}.post_attention_norm.weight")
        .how(How::PlusOne),
    name("layers.{}.pre_feedforward_layernorm.weight", "blk.{}.ffn_norm.weight").how(How::PlusOne),
    name("layers.{}.post_feedforward_layernorm.weight", "blk.{}.post_ffw_norm.weight")
        .how(How::PlusOne),
    name("layers.{}.self_attn.q_norm.weight", "blk.{}.attn_q_norm.weight").how(How::PlusOne),
    name("layers.{}.self_attn.k_norm.weight", "blk.{}.attn_k_norm.weight").how(How::PlusOne),
];

const PHI3: &[Name] = &[
    name("layers.{}.self_attn.qkv_proj.weight", "blk.{}.attn_qkv.weight"),
    name("layers.{}.mlp.gate_up_proj.weight", "blk.{}.ffn_up.weight"),
];

const QWEN3MOE: &[Name] = &[
    name("layers.{}.mlp.gate.weight", "blk.{}.ffn_gate_inp.weight"),
    name("layers.{}.mlp.experts.{e}.gate_proj.weight", "blk.{}.ffn_gate_exps.weight")
        .how(How::Stacked),
    name("layers.{}.mlp.experts.{e}.up_proj.weight", "blk.{}.ffn_up_exps.weight").how(How::Stacked),
    name("layers.{}.mlp.experts.{e}.down_proj.weight", "blk.{}.ffn_down_exps.weight")
        .how(How::Stacked),
    name("layers.{}.mlp.experts.gate_up_proj", "blk.{}.ffn_gate_up_exps.weight"),
    name("layers.{}.mlp.experts.down_proj", "blk.{}.ffn_down_exps.weight"),
];

const GPT_OSS: &[Name] = &[
    name("norm.weight", "output_norm.weight"),
    name("layers.{}.input_layernorm.weight", "blk.{}.attn_norm.weight"),
    name("layers.{}.post_attention_layernorm.weight", "blk.{}.post_attention_norm.weight"),
    name("layers.{}.self_attn.o_proj", "blk.{}.attn_output"),
    name("layers.{}.self_attn.sinks", "blk.{}.attn_sinks.weight"),
    name("layers.{}.mlp.router", "blk.{}.ffn_gate_inp"),
    name("layers.{}.mlp.experts.gate_up_proj", "blk.{}.ffn_gate_exps.weight")
        .how(How::Transposed(Take::Even)),
    name("layers.{}.mlp.experts.gate_up_proj", "blk.{}.ffn_up_exps.weight")
        .how(How::Transposed(Take::Odd)),
    name("layers.{}.mlp.experts.down_proj", "blk.{}.ffn_down_exps.weight")
        .how(How::Transposed(Take::All)),
    name("layers.{}.mlp.experts.gate_up_proj_bias", "blk.{}.ffn_gate_exps.bias")
        .how(How::Picked(Take::Even)),
    name("layers.{}.mlp.experts.gate_up_proj_bias", "blk.{}.ffn_up_exps.bias")
        .how(How::Picked(Take::Odd)),
    name("layers.{}.mlp.experts.down_proj_bias", "blk.{}.ffn_down_exps.bias")
        .how(How::Picked(Take::All)),
    name("layers.{}.mlp.experts.gate_up_proj_blocks", "blk.{}.ffn_gate_exps.weight")
        .how(How::Mx(Take::Even)),
    name("layers.{}.mlp.experts.gate_up_proj_scales", "blk.{}.ffn_gate_exps.weight")
        .how(How::MxScales(Take::Even)),
    name("layers.{}.mlp.experts.gate_up_proj_blocks", "blk.{}.ffn_up_exps.weight")
        .how(How::Mx(Take::Odd)),
    name("layers.{}.mlp.experts.gate_up_proj_scales", "blk.{}.ffn_up_exps.weight")
        .how(How::MxScales(Take::Odd)),
    name("layers.{}.mlp.experts.down_proj_blocks", "blk.{}.ffn_down_exps.weight")
        .how(How::Mx(Take::All)),
    name("layers.{}.mlp.experts.down_proj_scales", "blk.{}.ffn_down_exps.weight")
        .how(How::MxScales(Take::All)),
];

/// What names of a model's parts that write text begin with, alone and beside one that sees.
const WRITES: &[&str] =
    &["model.language_model.", "language_model.model.", "language_model.", "model."];

/// What is before and in the layers of BERT and its kin.
const BERT: &[Name] = &[
    name("embeddings.word_embeddings", "token_embd"),
    name("embeddings.position_embeddings", "position_embd").how(How::Positions),
    name("embeddings.token_type_embeddings", "token_types"),
    name("embeddings.LayerNorm", "token_embd_norm"),
    name("encoder.layer.{}.attention.self.query", "blk.{}.attn_q"),
    name("encoder.layer.{}.attention.self.key", "blk.{}.attn_k"),
    name("encoder.layer.{}.attention.self.value", "blk.{}.attn_v"),
    name("encoder.layer.{}.attention.output.dense", "blk.{}.attn_output"),
    name("encoder.layer.{}.attention.output.LayerNorm", "blk.{}.attn_output_norm"),
    name("encoder.layer.{}.intermediate.dense", "blk.{}.ffn_up"),
    name("encoder.layer.{}.output.dense", "blk.{}.ffn_down"),
    name("encoder.layer.{}.output.LayerNorm", "blk.{}.layer_output_norm"),
    unused("embeddings.position_ids"),
    unused("embeddings.token_type_ids"),
];

const BERT_HEADS: &[Name] = &[
    name("pooler.dense", "cls").when(When::Sequence),
    name("classifier", "cls.output").when(When::Labels),
    name("cls.predictions.transform.dense", "mlm.dense").when(When::Masked),
    name("cls.predictions.transform.LayerNorm", "mlm.norm").when(When::Masked),
    name("cls.predictions.bias", "mlm.output.bias").when(When::Masked),
    name("cls.predictions.decoder.weight", "mlm.output.weight").when(When::Masked).how(How::Untied),
    unused("cls.predictions.decoder.bias"),
    unused("cls.seq_relationship"),
    name("linear.weight", "late.weight").when(When::Late),
];

const ROBERTA_HEADS: &[Name] = &[
    unused("pooler.dense"),
    name("classifier.dense", "cls").when(When::Sequence),
    name("classifier.out_proj", "cls.output").when(When::Sequence),
    name("classifier", "cls.output").when(When::Labels),
    name("lm_head.dense", "mlm.dense").when(When::Masked),
    name("lm_head.layer_norm", "mlm.norm").when(When::Masked),
    name("lm_head.bias", "mlm.output.bias").when(When::Masked),
    name("lm_head.decoder.weight", "mlm.output.weight").when(When::Masked).how(How::Untied),
    unused("lm_head.decoder.bias"),
    name("linear.weight", "late.weight").when(When::Late),
];

const DISTIL: &[Name] = &[
    name("embeddings.word_embeddings", "token_embd"),
    name("embeddings.position_embeddings", "position_embd"),
    name("embeddings.LayerNorm", "token_embd_norm"),
    name("transformer.layer.{}.attention.q_lin", "blk.{}.attn_q"),
    name("transformer.layer.{}.attention.k_lin", "blk.{}.attn_k"),
    name("transformer.layer.{}.attention.v_lin", "blk.{}.attn_v"),
    name("transformer.layer.{}.attention.out_lin", "blk.{}.attn_output"),
    name("transformer.layer.{}.sa_layer_norm", "blk.{}.attn_output_norm"),
    name("transformer.layer.{}.ffn.lin1", "blk.{}.ffn_up"),
    name("transformer.layer.{}.ffn.lin2", "blk.{}.ffn_down"),
    name("transformer.layer.{}.output_layer_norm", "blk.{}.layer_output_norm"),
    name("pre_classifier", "cls").when(When::Sequence),
    name("classifier", "cls.output").when(When::Labels),
    name("vocab_transform", "mlm.dense").when(When::Masked),
    name("vocab_layer_norm", "mlm.norm").when(When::Masked),
    name("vocab_projector.bias", "mlm.output.bias").when(When::Masked),
    name("vocab_projector.weight", "mlm.output.weight").when(When::Masked).how(How::Untied),
    name("linear.weight", "late.weight").when(When::Late),
    unused("embeddings.position_ids"),
];

const MODERN: &[Name] = &[
    name("embeddings.tok_embeddings", "token_embd"),
    name("embeddings.norm", "token_embd_norm"),
    name("layers.{}.attn_norm", "blk.{}.attn_norm"),
    name("layers.{}.attn.Wqkv.weight", "blk.{}.attn_qkv.weight"),
    name("layers.{}.attn.Wo", "blk.{}.attn_output"),
    name("layers.{}.mlp_norm", "blk.{}.ffn_norm"),
    name("layers.{}.mlp.Wi.weight", "blk.{}.ffn_up.weight"),
    name("layers.{}.mlp.Wo", "blk.{}.ffn_down"),
    name("final_norm", "output_norm"),
    name("head.dense", "cls").when(When::Labels),
    name("head.norm", "cls.norm").when(When::Labels),
    name("head.dense", "mlm.dense").when(When::Masked),
    name("head.norm", "mlm.norm").when(When::Masked),
    name("classifier", "cls.output").when(When::Labels),
    name("decoder.bias", "mlm.output.bias").when(When::Masked),
    name("decoder.weight", "mlm.output.weight").when(When::Masked).how(How::Untied),
    name("linear.weight", "late.weight").when(When::Late),
];

const NOMIC: &[Name] = &[
    name("embeddings.word_embeddings", "token_embd"),
    name("embeddings.token_type_embeddings", "token_types"),
    name("emb_ln", "token_embd_norm"),
    name("encoder.layers.{}.attn.Wqkv.weight", "blk.{}.attn_qkv.weight"),
    name("encoder.layers.{}.attn.out_proj", "blk.{}.attn_output"),
    name("encoder.layers.{}.norm1", "blk.{}.attn_output_norm"),
    // The second is what is bent, and multiplies the first.
    name("encoder.layers.{}.mlp.fc11", "blk.{}.ffn_up"),
    name("encoder.layers.{}.mlp.fc12", "blk.{}.ffn_gate"),
    name("encoder.layers.{}.mlp.fc2", "blk.{}.ffn_down"),
    name("encoder.layers.{}.norm2", "blk.{}.layer_output_norm"),
];

const WRITER: Family = Family {
    keys: &[DECODER_KEYS, HEAD_KEYS],
    prefixes: WRITES,
    activation: Some("silu"),
    tied: false,
    ..NONE
};

const GEMMA: Family = Family {
    keys: &[DECODER_KEYS, GEMMA3_KEYS],
    names: &[DECODER, OUTPUT, HALVES, GEMMA_NORMS],
    ignored: &[
        "vision_tower.",
        "multi_modal_projector.",
        "model.vision_tower.",
        "model.multi_modal_projector.",
    ],
    activation: Some("gelu_tanh"),
    tied: true,
    ..WRITER
};

/// What Gemma 3 is called here where its tokens see what comes after them; `transformers` has no
/// name for it.
const EMBEDDING_GEMMA: &str = "gemma3_text that sees both ways";

/// Every architecture.
static FAMILIES: &[Family] = &[
    Family {
        types: &["bert"],
        arch: "bert",
        keys: &[BERT_KEYS],
        prefixes: &["bert."],
        names: &[BERT, BERT_HEADS],
        encoder: true,
        ..NONE
    },
    Family {
        types: &["roberta", "xlm-roberta", "camembert"],
        arch: "bert",
        keys: &[BERT_KEYS],
        prefixes: &["roberta."],
        names: &[BERT, ROBERTA_HEADS],
        encoder: true,
        positions_behind_padding: true,
        ..NONE
    },
    Family {
        types: &["distilbert"],
        arch: "bert",
        keys: &[DISTIL_KEYS],
        prefixes: &["distilbert."],
        names: &[DISTIL],
        encoder: true,
        head_activation: "relu",
        ..NONE
    },
    Family {
        types: &["modernbert"],
        arch: "modern-bert",
        keys: &[MODERN_KEYS],
        prefixes: &["model."],
        names: &[MODERN],
        encoder: true,
        head_activation: "gelu",
        quirks: &[Quirk::Rope, Quirk::LocalRope],
        ..NONE
    },
    Family {
        types: &["nomic_bert"],
        arch: "nomic-bert",
        keys: &[NOMIC_KEYS],
        prefixes: &["bert.", "nomic_bert."],
        names: &[NOMIC],
        encoder: true,
        quirks: &[Quirk::Nomic],
        ..NONE
    },
    Family { types: &[table::KIND], arch: table::KIND, quirks: &[Quirk::Table], ..NONE },
    Family {
        types: &["llama", "mistral"],
        arch: "llama",
        names: &[DECODER, OUTPUT, NORMS, ADJACENT],
        quirks: &[Quirk::Rope, Quirk::NoWindow],
        ..WRITER
    },
    Family {
        types: &["qwen2"],
        arch: "qwen2",
        names: &[DECODER, OUTPUT, NORMS, HALVES],
        quirks: &[Quirk::Rope, Quirk::NoWindow],
        ..WRITER
    },
    Family {
        types: &["qwen3"],
        arch: "qwen3",
        names: &[DECODER, OUTPUT, NORMS, HALVES, HEAD_NORMS],
        quirks: &[Quirk::Rope, Quirk::NoWindow],
        ..WRITER
    },
    Family {
        types: &["qwen3_moe"],
        arch: "qwen3moe",
        keys: &[DECODER_KEYS, HEAD_KEYS, EXPERT_KEYS],
        names: &[DECODER, OUTPUT, NORMS, HALVES, HEAD_NORMS, QWEN3MOE],
        quirks: &[Quirk::Rope, Quirk::NoWindow],
        ..WRITER
    },
    Family {
        types: &["phi3"],
        arch: "phi3",
        keys: &[DECODER_KEYS, HEAD_KEYS, WINDOW_KEYS],
        names: &[PHI3, DECODER, OUTPUT, NORMS],
        quirks: &[Quirk::Rope, Quirk::LongRope],
        ..WRITER
    },
    Family {
        types: &["gpt_oss"],
        arch: "gpt-oss",
        keys: &[DECODER_KEYS, HEAD_KEYS, WINDOW_KEYS, EXPERT_KEYS],
        names: &[DECODER, HALVES, GPT_OSS],
        quirks: &[Quirk::Rope, Quirk::Windows(2), Quirk::Clamped, Quirk::UnroundedYarn],
        ..WRITER
    },
    Family {
        types: &["gemma2"],
        arch: "gemma2",
        keys: &[DECODER_KEYS, HEAD_KEYS, GEMMA2_KEYS],
        names: &[DECODER, OUTPUT, HALVES, GEMMA_NORMS],
        quirks: &[Quirk::Rope, Quirk::Windows(2), Quirk::Scale(46)],
        ..GEMMA
    },
    Family {
        types: &["gemma3_text", "gemma3"],
        arch: "gemma3",
        quirks: &[Quirk::Rope, Quirk::LocalRope, Quirk::Windows(6), Quirk::Scale(62)],
        ..GEMMA
    },
    Family {
        types: &[EMBEDDING_GEMMA],
        arch: "gemma-embedding",
        quirks: &[Quirk::Rope, Quirk::LocalRope, Quirk::Windows(6), Quirk::Scale(0)],
        encoder: true,
        ..GEMMA
    },
];

/// The row that a configuration means, and the modules behind it.
pub(super) fn of(config: &Object, modules: &Modules) -> Result<&'static Family, Error> {
    let said = if modules.are_a_table() { Some(table::KIND) } else { config.str("model_type")? };
    let mut wanted = said.ok_or_else(|| config.lacks("model_type"))?;
    if wanted == "gemma3_text" && config.flag("use_bidirectional_attention")? == Some(true) {
        wanted = EMBEDDING_GEMMA;
    }
    FAMILIES.iter().find(|family| family.types.contains(&wanted)).ok_or_else(|| {
        let known: Vec<&str> = FAMILIES.iter().flat_map(|family| family.types).copied().collect();
        let why = format!("no architecture of this version; known are {}", known.join(", "));
        config.refuse("model_type", &why)
    })
}
