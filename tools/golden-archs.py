#!/usr/bin/env python3
"""Writes crates/engine/tests/golden/archs: one tiny random model for each of a few architectures,
as a GGUF file in float32 (experts of gpt-oss in MXFP4, as published), and what `transformers`
makes of it in float64.

For each NAME there are NAME.gguf, NAME.cases.json (texts and ids) and NAME.gold.json (by case and
position: the log-probability of the next id, and the ten likeliest ids). Where `AGAIN` names it,
the same weights have gold of another configuration too. Weights are drawn large
enough for attention to be peaked and for every feature named in `MODELS` to matter: the script
fails where turning one off leaves the log-probabilities as they are.

Needs torch, transformers, numpy and gguf (written with 2.15, 5.23, 2.4 and 0.19). Tensor names,
metadata keys and the order of rotated dimensions are those of llama.cpp's converter.
"""

import json
import math
from pathlib import Path

import torch
import transformers as hf
from gguf import GGMLQuantizationType, GGUFWriter, RopeScalingType, quants

OUT = Path(__file__).parent.parent / "crates/engine/tests/golden/archs"

TEXTS = {
    "short": "The rain in Spain stays mainly.",
    "prose": "In the beginning there was a header, and the header was without form; void.",
    "digits": "f(x) = 3.14159 * (x - 27) / 1000; print(f(12), f(34), 0x7ff)",
}


def bytes_to_text():
    """How GPT-2 spells each byte: itself where it can be seen, else a character from 256 on."""
    seen = [*range(33, 127), *range(161, 173), *range(174, 256)]
    unseen = [byte for byte in range(256) if byte not in seen]
    return [chr(b) if b in seen else chr(256 + unseen.index(b)) for b in range(256)]


# All bytes, two merges of letters that no pre-tokenizer parts, and an end.
TOKENS = [*bytes_to_text(), "he", "in", "<|endoftext|>"]
MERGES = ["h e", "i n"]


def tokenize(text):
    text = text.replace("he", "\u0100").replace("in", "\u0101")
    assert all(ord(c) < 128 or ord(c) in (256, 257) for c in text), "ASCII only"
    return [ord(c) for c in text]


def sizes(**changes):
    # The vocabulary has an odd number of rows, and no width is a multiple of 256.
    return dict(
        vocab_size=len(TOKENS), hidden_size=64, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, intermediate_size=96, max_position_embeddings=512,
        rms_norm_eps=1e-6, attn_implementation="eager", bos_token_id=258, eos_token_id=258,
        pad_token_id=None,
    ) | changes


def rope(theta, **more):
    return {"rope_type": "default", "rope_theta": theta} | more


LLAMA3 = dict(
    rope_type="llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
    original_max_position_embeddings=32,
)
GEMMA_WINDOW = 16
WINDOW = 16
YARN = dict(
    rope_type="yarn", factor=4.0, original_max_position_embeddings=64, beta_fast=32.0,
    beta_slow=1.0, truncate=False,
)
# Of heads of 16, three quarters are rotated: 6 pairs.
LONGROPE = dict(
    rope_type="longrope", partial_rotary_factor=0.75,
    short_factor=[1.0, 1.1, 1.3, 1.6, 2.0, 2.5], long_factor=[1.0, 1.5, 3.0, 5.0, 9.0, 16.0],
    attention_factor=math.sqrt(1 + math.log(512 / 128) / math.log(128)),
)

# name: (configuration, {what must matter: the configuration without it, or tensors to blank})
MODELS = {
    "qwen2": (
        hf.Qwen2Config(**sizes(rope_parameters=rope(1e6), tie_word_embeddings=True)),
        {"biases": ("self_attn", ".bias", 0.0)},
    ),
    "qwen3": (
        hf.Qwen3Config(**sizes(
            rope_parameters=rope(1e6), tie_word_embeddings=True, head_dim=32,
            intermediate_size=80)),
        {"norms of q": ("self_attn", "q_norm.weight", 1.0),
         "norms of k": ("self_attn", "k_norm.weight", 1.0)},
    ),
    "llama-rope-scaled": (
        hf.LlamaConfig(**sizes(rope_parameters=rope(1e4, **LLAMA3), tie_word_embeddings=False)),
        {"scaling": {"rope_parameters": rope(1e4)}},
    ),
    "gemma3": (
        hf.Gemma3TextConfig(**sizes(
            hidden_size=32, num_hidden_layers=7, intermediate_size=64, head_dim=16,
            query_pre_attn_scalar=16, sliding_window=GEMMA_WINDOW, tie_word_embeddings=True,
            layer_types=[*["sliding_attention"] * 5, "full_attention", "sliding_attention"],
            rope_parameters={"full_attention": rope(1e6), "sliding_attention": rope(1e4)})),
        {"the window": {"sliding_window": 4096},
         "the width of the window": {"sliding_window": GEMMA_WINDOW + 1},
         "the second base": {"rope_parameters": {
             "full_attention": rope(1e4), "sliding_attention": rope(1e4)}},
         "the global layer": {"layer_types": ["sliding_attention"] * 7}},
    ),
    "phi3": (
        hf.Phi3Config(**sizes(
            rope_parameters=rope(1e4, **LONGROPE), original_max_position_embeddings=128,
            tie_word_embeddings=False, sliding_window=WINDOW)),
        {"the window": {"sliding_window": None},
         "the width of the window": {"sliding_window": WINDOW + 1},
         "the rest that is not rotated": {"rope_parameters": rope(1e4, **LONGROPE | {
             "partial_rotary_factor": 1.0, "short_factor": [1.0] * 8, "long_factor": [1.0] * 8})},
         "the attention factor": {"rope_parameters": rope(1e4, **LONGROPE | {
             "attention_factor": 1.0})},
         "the divisors": {"rope_parameters": rope(1e4, **LONGROPE | {"short_factor": [1.0] * 6})}},
    ),
    "gemma2": (
        hf.Gemma2Config(**sizes(
            hidden_size=32, num_hidden_layers=4, intermediate_size=64, head_dim=16,
            query_pre_attn_scalar=16, sliding_window=GEMMA_WINDOW, tie_word_embeddings=True,
            attn_logit_softcapping=3.0, final_logit_softcapping=6.0,
            layer_types=["sliding_attention", "full_attention"] * 2,
            rope_parameters=rope(1e4))),
        {"the window": {"sliding_window": 4096},
         "the width of the window": {"sliding_window": GEMMA_WINDOW + 1},
         "the full layers": {"layer_types": ["sliding_attention"] * 4},
         "the cap of scores": {"attn_logit_softcapping": None},
         "the cap of logits": {"final_logit_softcapping": None}},
    ),
    "qwen3moe": (
        hf.Qwen3MoeConfig(**sizes(
            hidden_size=32, rope_parameters=rope(1e6), tie_word_embeddings=True, head_dim=16,
            num_experts=6, num_experts_per_tok=2, moe_intermediate_size=40, norm_topk_prob=True,
            decoder_sparse_step=1, mlp_only_layers=[])),
        {"norms of the shares": {"norm_topk_prob": False},
         "the second expert": {"num_experts_per_tok": 1}},
    ),
    "gpt-oss": (
        hf.GptOssConfig(**sizes(
            rope_parameters=rope(1e4, **YARN), tie_word_embeddings=False, head_dim=16,
            num_local_experts=5, num_experts_per_tok=3, sliding_window=WINDOW,
            intermediate_size=32, attention_bias=True,
            layer_types=["sliding_attention", "full_attention"])),
        {"the window": {"sliding_window": 4096},
         "the width of the window": {"sliding_window": WINDOW + 1},
         "the full layer": {"layer_types": ["sliding_attention"] * 2},
         "sinks": ("self_attn", "sinks", -100.0),
         "biases of attention": ("self_attn", ".bias", 0.0),
         "biases of the router": ("mlp.router", ".bias", 0.0),
         "biases of experts": ("mlp.experts", "_bias", 0.0),
         "clamps": {"swiglu_limit": 1000.0},
         "scaling": {"rope_parameters": rope(1e4)},
         "pairs in part": {"rope_parameters": rope(1e4, **YARN | {"truncate": True})}},
    ),
}

# name: (of whose weights, the configuration's changes)
AGAIN = {
    # Every text is longer than this, which selects the other divisors.
    "phi3-long": ("phi3", {"original_max_position_embeddings": 16, "rope_parameters": rope(
        1e4, **LONGROPE)}),
}


def of(config):
    config._experts_implementation = "eager"
    return hf.AutoModelForCausalLM.from_config(config, attn_implementation="eager")


def draw(config, seed):
    """A model whose weights are drawn so that nothing in it is idle."""
    model = of(config)
    random = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            noise = torch.randn(weight.shape, generator=random)
            if "norm" in name:
                weight.copy_(0.2 * noise + (0.0 if config.model_type.startswith("gemma") else 1.0))
            elif name.endswith("bias"):
                weight.copy_(0.5 * noise)
            elif name.endswith("sinks"):
                weight.copy_(2.0 * noise)
            elif config.model_type == "gpt_oss" and ".experts." in name:
                # Stored transposed; large enough for gates to be clamped.
                scale = 5.0 if "gate_up" in name else 1.5
                drawn = (noise * (scale / math.sqrt(weight.shape[1]))).transpose(1, 2)
                stored = quants.quantize(drawn.numpy(), GGMLQuantizationType.MXFP4)
                drawn = quants.dequantize(stored, GGMLQuantizationType.MXFP4)
                weight.copy_(torch.from_numpy(drawn).transpose(1, 2))
            elif "embed" in name:
                weight.copy_(0.25 * noise)
            else:
                weight.copy_(noise * (1.5 / math.sqrt(weight.shape[-1])))
    return model.eval()


def log_probs(model, ids):
    with torch.no_grad():
        logits = model.double()(torch.tensor([ids])).logits[0]
    return torch.log_softmax(logits, dim=-1)


def gold(model, case):
    logs = log_probs(model, case["ids"])
    after = case["ids"][1:]
    likeliest = logs.topk(10)
    return {
        "name": case["name"],
        "ids": case["ids"],
        "next_logprob": [round(float(logs[i, id]), 6) for i, id in enumerate(after)],
        "top10": [
            [[int(id), round(float(log), 6)] for id, log in zip(ids, values)]
            for ids, values in zip(likeliest.indices, likeliest.values)
        ],
    }


def with_changes(model, changes):
    """The same weights under another configuration."""
    other = of(type(model.config)(**(model.config.to_dict() | changes))).double()
    other.load_state_dict(model.state_dict())
    return other.eval()


def check_matters(name, model, without, ids):
    """Each feature, turned off, must move the log-probabilities."""
    before = log_probs(model, ids)
    for feature, change in without.items():
        changes = change if isinstance(change, dict) else {}
        other = with_changes(model, changes)
        state = {k: v.clone() for k, v in model.state_dict().items()}
        if isinstance(change, tuple):
            part, end, value = change
            for key in state:
                if part in key and key.endswith(end):
                    state[key].fill_(value)
        other.load_state_dict(state)
        moved = float((log_probs(other.eval(), ids) - before).abs().mean())
        print(f"{name}: without {feature}, log-probabilities move by {moved:.3f}")
        assert moved > 0.02, f"{name}: {feature} does not matter"


# transformers' names within a layer, and llama.cpp's.
LAYER = {
    "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output", "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down", "input_layernorm": "attn_norm",
    "self_attn.qkv_proj": "attn_qkv", "mlp.gate_up_proj": "ffn_up",
    "mlp.gate": "ffn_gate_inp", "mlp.router": "ffn_gate_inp",
}
PLAIN = LAYER | {"post_attention_layernorm": "ffn_norm"}
GEMMA = LAYER | {
    "post_attention_layernorm": "post_attention_norm", "pre_feedforward_layernorm": "ffn_norm",
    "post_feedforward_layernorm": "post_ffw_norm",
}
GPT_OSS = LAYER | {"post_attention_layernorm": "post_attention_norm"}
NAMES = {"gemma2": GEMMA, "gemma3": GEMMA, "gpt-oss": GPT_OSS}
OUTER = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}


def gguf_name(name, layer):
    stem, kind = name.rsplit(".", 1)
    if kind == "sinks":
        return f"blk.{stem.split('.')[2]}.attn_sinks.weight"
    if stem in OUTER:
        return f"{OUTER[stem]}.{kind}"
    _, _, index, rest = stem.split(".", 3)
    return f"blk.{index}.{layer[rest]}.{kind}"


def interleave(weight, heads):
    """Brings the two halves of each head's rotated dimensions side by side."""
    rows = weight.shape[0] // heads // 2
    return weight.reshape(heads, 2, rows, *weight.shape[1:]).swapaxes(1, 2).reshape(weight.shape)


def llama3_factors(config):
    """What each frequency is divided by (`rope_freqs.weight`)."""
    scaling, dim = config.rope_parameters, config.hidden_size // config.num_attention_heads
    low = scaling["original_max_position_embeddings"] / scaling["low_freq_factor"]
    high = scaling["original_max_position_embeddings"] / scaling["high_freq_factor"]
    for i in range(dim // 2):
        wavelength = 2 * math.pi * scaling["rope_theta"] ** (2 * i / dim)
        if wavelength < high:
            yield 1.0
        elif wavelength > low:
            yield scaling["factor"]
        else:
            smooth = (low / wavelength - 1) / (low / high - 1)
            yield 1 / ((1 - smooth) / scaling["factor"] + smooth)


def experts(name, array, arch):
    """The GGUF tensors that a layer's experts become, gates and ups apart."""
    at = f"blk.{name.split('.')[2]}"
    kind = "bias" if name.endswith("_bias") else "weight"
    gpt_oss = arch == "gpt-oss"
    if gpt_oss and kind == "weight":
        array = array.swapaxes(1, 2)  # [expert][row][column]
    if "down_proj" in name:
        parts = {"down": array}
    elif gpt_oss:
        parts = {"gate": array[:, ::2], "up": array[:, 1::2]}
    else:
        half = array.shape[1] // 2
        parts = {"gate": array[:, :half], "up": array[:, half:]}
    for part, array in parts.items():
        yield f"{at}.ffn_{part}_exps.{kind}", array.copy()


def add(out, name, array, arch):
    if arch == "gpt-oss" and name.endswith("_exps.weight"):
        kind = GGMLQuantizationType.MXFP4
        stored = quants.quantize(array, kind)
        assert (quants.dequantize(stored, kind) == array).all(), "rounded before"
        return out.add_tensor(name, stored, raw_dtype=kind)
    out.add_tensor(name, array.astype("float32"))


def write_rope(out, config, head_dim):
    theta = config.rope_parameters
    theta = theta.get("full_attention", theta)
    out.add_rope_freq_base(theta["rope_theta"])
    if "gemma" not in config.model_type:
        out.add_rope_dimension_count(int(head_dim * theta.get("partial_rotary_factor", 1.0)))
    if theta["rope_type"] == "yarn":
        out.add_rope_scaling_type(RopeScalingType.YARN)
        out.add_rope_scaling_factor(theta["factor"])
        out.add_rope_scaling_orig_ctx_len(theta["original_max_position_embeddings"])
    if theta["rope_type"] == "longrope":
        out.add_rope_scaling_orig_ctx_len(theta["original_max_position_embeddings"])
        out.add_rope_scaling_attn_factors(theta["attention_factor"])
        for kind in ["short", "long"]:
            divisors = torch.tensor(theta[f"{kind}_factor"]).numpy()
            out.add_tensor(f"rope_factors_{kind}.weight", divisors.astype("float32"))


def write_metadata(out, config):
    heads = config.num_attention_heads
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // heads
    out.add_context_length(config.max_position_embeddings)
    out.add_embedding_length(config.hidden_size)
    out.add_block_count(config.num_hidden_layers)
    out.add_feed_forward_length(config.intermediate_size)
    out.add_head_count(heads)
    out.add_head_count_kv(config.num_key_value_heads)
    out.add_key_length(head_dim)
    out.add_value_length(head_dim)
    out.add_layer_norm_rms_eps(config.rms_norm_eps)
    write_rope(out, config, head_dim)
    for name, write in {
        "sliding_window": out.add_sliding_window,
        "attn_logit_softcapping": out.add_attn_logit_softcapping,
        "final_logit_softcapping": out.add_final_logit_softcapping,
        "num_local_experts": out.add_expert_count,
        "num_experts_per_tok": out.add_expert_used_count,
        "moe_intermediate_size": out.add_expert_feed_forward_length,
    }.items():
        if getattr(config, name, None):
            write(getattr(config, name))
    if config.model_type == "gpt_oss":
        out.add_expert_feed_forward_length(config.intermediate_size)
    out.add_vocab_size(config.vocab_size)
    out.add_tokenizer_model("gpt2")
    out.add_tokenizer_pre("gpt-2")
    out.add_token_list(TOKENS)
    out.add_token_types([*[1] * 258, 3])
    out.add_token_merges(MERGES)
    out.add_bos_token_id(258)
    out.add_eos_token_id(258)
    out.add_add_bos_token(False)


def write_gguf(path, arch, model):
    config = model.config
    out = GGUFWriter(path, arch)
    # llama.cpp looks for tokens of the published vocabulary in files whose name has "phi3" in it.
    out.add_name(f"random {path.stem.replace('phi3', 'phi 3')}")
    write_metadata(out, config)
    tied = config.tie_word_embeddings
    for name, weight in model.state_dict().items():
        if tied and name.startswith("lm_head"):
            continue
        array = weight.float().numpy()
        if ".experts." in name:
            for name, array in experts(name, array, arch):
                add(out, name, array, arch)
            continue
        if "gemma" in arch and "norm" in name:
            array = array + 1
        if arch == "llama" and ("q_proj" in name or "k_proj" in name):
            query = "q_proj" in name
            heads = config.num_attention_heads if query else config.num_key_value_heads
            array = interleave(array, heads)
        add(out, gguf_name(name, NAMES.get(arch, PLAIN)), array, arch)
    if arch == "llama":
        out.add_tensor("rope_freqs.weight", torch.tensor(list(llama3_factors(config))).numpy())
    out.write_header_to_file()
    out.write_kv_data_to_file()
    out.write_tensors_to_file()
    out.close()


def write_json(path, items):
    path.write_text("[" + ",\n".join(json.dumps(item) for item in items) + "]\n")


def main():
    OUT.mkdir(parents=True, exist_ok=True)
    cases = [{"name": name, "text": text, "ids": tokenize(text)} for name, text in TEXTS.items()]
    for seed, (name, (config, without)) in enumerate(MODELS.items()):
        model = draw(config, seed)
        arch = "llama" if name.startswith("llama") else name
        write_gguf(OUT / f"{name}.gguf", arch, model)
        check_matters(name, model, without, cases[1]["ids"])
        write_json(OUT / f"{name}.cases.json", cases)
        write_json(OUT / f"{name}.gold.json", [gold(model, case) for case in cases])
        for other, (whose, changes) in AGAIN.items():
            if whose == name:
                check_matters(other, model, {"them": changes}, cases[1]["ids"])
                model = with_changes(model, changes)
                write_json(OUT / f"{other}.gold.json", [gold(model, case) for case in cases])


if __name__ == "__main__":
    main()
