#!/usr/bin/env python3
"""Writes crates/model/tests/golden/directories: a tiny random checkpoint of each architecture as a
Hugging Face directory, with a tokenizer of its family, and beside it NAME.json: what `tokenizers`
makes of texts and pairs of them, and what `transformers` computes of the first.

Needs torch, transformers, tokenizers and numpy (written with 2.15, 5.23, 0.23 and 2.4).
"""

import json
import shutil
from pathlib import Path

import tokenizers
import torch
import transformers as hf
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors, trainers

OUT = Path(__file__).parent.parent / "crates/model/tests/golden/directories"

# What the vocabularies are learned of.
CORPUS = [
    "The quick brown fox jumps over the lazy dog, again and again.",
    "In the beginning there was a header, and the header was without form.",
    "the rain in Spain stays mainly in the plain; it's raining, isn't it?",
    "Der schnelle braune Fuchs springt über den faulen Hund.",
]
TEXTS = [
    "The rain in Spain stays mainly.",
    "  Über-große CAFÉ  prices: 3,141.59 € \t(or $2)!\n",
    "naïve façade, déjà vu; ﬁne ①②③ ｆｕｌｌ",
    "日本語のテキスト and 中文字符 mixed",
    "emoji 👩‍👩‍👧 and \u200bzero\u00adwidth \x07 bell",
    "isn't it 'quoted' [CLS] <s> </s> <|endoftext|>?",
    "",
    "a" * 120 + " b",
]
PAIRS = [("the dog", "a lazy fox?"), ("", "x"), ("header", "")]


def word_piece():
    out = tokenizers.Tokenizer(models.WordPiece(unk_token="[UNK]"))
    out.normalizer = normalizers.BertNormalizer()
    out.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    out.train_from_iterator(CORPUS, trainers.WordPieceTrainer(
        vocab_size=130, special_tokens=["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]))
    out.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)])
    out.decoder = decoders.WordPiece()
    return hf.PreTrainedTokenizerFast(
        tokenizer_object=out, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]",
        sep_token="[SEP]", mask_token="[MASK]")


def bytes_bpe(pre, ignore_merges=False, normalizer=None, post=None, specials=(), **marks):
    out = tokenizers.Tokenizer(models.BPE(ignore_merges=ignore_merges))
    out.pre_tokenizer = pre
    if normalizer:
        out.normalizer = normalizer
    out.decoder = decoders.ByteLevel()
    special = list(dict.fromkeys([*marks.values(), *specials]))
    out.train_from_iterator(CORPUS, trainers.BpeTrainer(
        vocab_size=300 + len(special), special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    if post:
        out.post_processor = post(out)
    return hf.PreTrainedTokenizerFast(tokenizer_object=out, **marks)


def roberta():
    marks = dict(bos_token="<s>", pad_token="<pad>", eos_token="</s>", unk_token="<unk>")
    return bytes_bpe(
        pre_tokenizers.ByteLevel(add_prefix_space=False), specials=["<mask>"],
        post=lambda out: processors.RobertaProcessing(("</s>", 2), ("<s>", 0)),
        cls_token="<s>", sep_token="</s>", mask_token="<mask>", **marks)


def modern():
    return bytes_bpe(
        pre_tokenizers.ByteLevel(add_prefix_space=False), normalizer=normalizers.NFC(),
        post=lambda out: processors.TemplateProcessing(
            single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B [SEP]",
            special_tokens=[("[CLS]", 2), ("[SEP]", 3)]),
        pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]",
        mask_token="[MASK]")


def split(pattern):
    return pre_tokenizers.Sequence([
        pre_tokenizers.Split(tokenizers.Regex(pattern), "isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])


LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|"
          r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
QWEN2 = LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")
CAMEL = (r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+SUFFIX|"
         r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*SUFFIX|"
         r"\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+")
O200K = CAMEL.replace("SUFFIX", r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?")


def llama3():
    return bytes_bpe(
        split(LLAMA3), ignore_merges=True,
        post=lambda out: processors.Sequence([
            processors.ByteLevel(trim_offsets=False),
            processors.TemplateProcessing(
                single="<|begin_of_text|> $A", pair="<|begin_of_text|> $A <|begin_of_text|> $B",
                special_tokens=[("<|begin_of_text|>", 0)])]),
        bos_token="<|begin_of_text|>", eos_token="<|eot_id|>")


def qwen2():
    return bytes_bpe(split(QWEN2), normalizer=normalizers.NFC(), eos_token="<|im_end|>",
                     pad_token="<|endoftext|>", specials=["<|im_start|>"])


def o200k():
    return bytes_bpe(split(O200K), bos_token="<|startoftext|>", eos_token="<|return|>")


def pieces_bpe(normalizer, pre=None, bos=True, extra=()):
    """SentencePiece's BPE, as `transformers` converts it."""
    out = tokenizers.Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>", fuse_unk=True))
    if normalizer:
        out.normalizer = normalizer
    out.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always", split=True)
    marks = ["<unk>", "<s>", "</s>", *extra, *[f"<0x{byte:02X}>" for byte in range(256)]]
    out.train_from_iterator(CORPUS, trainers.BpeTrainer(vocab_size=380, special_tokens=marks))
    told = json.loads(out.to_str())
    told["pre_tokenizer"] = json.loads(pre.__getstate__()) if pre else None
    told["added_tokens"] = told["added_tokens"][:3 + len(extra)]
    # All ways to make each token, as SentencePiece has them, in the order of the first.
    vocab = told["model"]["vocab"]
    order = sorted((text for text in vocab if len(text) > 1 and not text.startswith("<")),
                   key=lambda text: vocab[text])
    told["model"]["merges"] = [
        [text[:i], text[i:]] for text in order for i in range(1, len(text))
        if text[:i] in vocab and text[i:] in vocab]
    out = tokenizers.Tokenizer.from_str(json.dumps(told))
    if bos:
        out.post_processor = processors.TemplateProcessing(
            single="<s> $A", pair="<s> $A <s>:1 $B:1", special_tokens=[("<s>", 1)])
    return hf.PreTrainedTokenizerFast(
        tokenizer_object=out, bos_token="<s>", eos_token="</s>", unk_token="<unk>")


def llama2():
    return pieces_bpe(normalizers.Sequence([
        normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]))


def mistral():
    return pieces_bpe(None, pre_tokenizers.Metaspace(prepend_scheme="first", split=False))


def gemma():
    return pieces_bpe(normalizers.Replace(" ", "▁"),
                      pre_tokenizers.Split(" ", "merged_with_previous"))


def unigram():
    out = tokenizers.Tokenizer(models.Unigram())
    out.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.WhitespaceSplit(),
        pre_tokenizers.Metaspace(prepend_scheme="always", split=True)])
    out.train_from_iterator(CORPUS, trainers.UnigramTrainer(
        vocab_size=150, unk_token="<unk>", special_tokens=["<s>", "<pad>", "</s>", "<unk>", "<mask>"]))
    out.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>",
        special_tokens=[("<s>", 0), ("</s>", 2)])
    return hf.PreTrainedTokenizerFast(
        tokenizer_object=out, bos_token="<s>", eos_token="</s>", unk_token="<unk>",
        cls_token="<s>", sep_token="</s>", pad_token="<pad>", mask_token="<mask>")


def small(**changes):
    return dict(hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=24,
                max_position_embeddings=64) | changes


SENTENCES = {
    "modules.json": [
        {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
        {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
        {"idx": 2, "name": "2", "path": "2_Normalize",
         "type": "sentence_transformers.models.Normalize"}],
    "1_Pooling/config.json": {
        "word_embedding_dimension": 16, "pooling_mode_cls_token": False,
        "pooling_mode_mean_tokens": True, "pooling_mode_max_tokens": False},
    "sentence_bert_config.json": {"max_seq_length": 32, "do_lower_case": False},
    "config_sentence_transformers.json": {
        "prompts": {"query": "query: ", "document": ""}, "default_prompt_name": "query"},
}

# name: (tokenizer, class, configuration, other files)
DIRECTORIES = {
    "bert": (word_piece, hf.BertModel, hf.BertConfig(**small()), SENTENCES),
    "bert-labels": (word_piece, hf.BertForSequenceClassification, hf.BertConfig(**small(
        id2label={0: "bad", 1: "fine", 2: "good"}, label2id={"bad": 0, "fine": 1, "good": 2})), {}),
    "bert-tags": (word_piece, hf.BertForTokenClassification, hf.BertConfig(**small(
        id2label={0: "O", 1: "B-PER", 2: "I-PER"}, label2id={"O": 0, "B-PER": 1, "I-PER": 2})), {}),
    "bert-masked": (word_piece, hf.BertForMaskedLM, hf.BertConfig(**small()), {}),
}


def rope(theta, **more):
    return {"rope_type": "default", "rope_theta": theta} | more


def writes(**changes):
    return small(num_key_value_heads=1, rms_norm_eps=1e-6, attn_implementation="eager",
                 tie_word_embeddings=True) | changes


BASES = {"full_attention": rope(1e6), "sliding_attention": rope(1e4)}
LABELS = dict(id2label={0: "no", 1: "yes"}, label2id={"no": 0, "yes": 1})
DIRECTORIES |= {
    "roberta": (roberta, hf.RobertaModel, hf.RobertaConfig(**small(
        pad_token_id=1, type_vocab_size=1)), {}),
    "roberta-rank": (roberta, hf.RobertaForSequenceClassification, hf.RobertaConfig(**small(
        pad_token_id=1, type_vocab_size=1, num_labels=1)), {}),
    "xlm-roberta": (unigram, hf.XLMRobertaModel, hf.XLMRobertaConfig(**small(
        pad_token_id=1, type_vocab_size=1)), {}),
    "distilbert-labels": (word_piece, hf.DistilBertForSequenceClassification, hf.DistilBertConfig(
        dim=16, n_layers=2, n_heads=2, hidden_dim=24, max_position_embeddings=64,
        problem_type="multi_label_classification", **LABELS), {}),
    "modernbert": (modern, hf.ModernBertModel, hf.ModernBertConfig(**small(
        local_attention=8, pad_token_id=0)), {}),
    "modernbert-labels": (modern, hf.ModernBertForSequenceClassification, hf.ModernBertConfig(
        **small(local_attention=8, pad_token_id=0, classifier_pooling="mean", **LABELS)), {}),
    "llama": (llama3, hf.LlamaForCausalLM, hf.LlamaConfig(**writes(
        tie_word_embeddings=False, rope_parameters=rope(
            1e4, rope_type="llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
            original_max_position_embeddings=32))), {}),
    "llama-pieces": (llama2, hf.LlamaForCausalLM, hf.LlamaConfig(**writes(
        rope_parameters=rope(1e4))), {}),
    "mistral": (mistral, hf.MistralForCausalLM, hf.MistralConfig(**writes(
        sliding_window=32, rope_parameters=rope(1e4))), {}),
    "qwen2": (qwen2, hf.Qwen2ForCausalLM, hf.Qwen2Config(**writes(
        rope_parameters=rope(1e6))), {}),
    "qwen3": (qwen2, hf.Qwen3ForCausalLM, hf.Qwen3Config(**writes(
        head_dim=16, rope_parameters=rope(1e6))), {}),
    "qwen3moe": (qwen2, hf.Qwen3MoeForCausalLM, hf.Qwen3MoeConfig(**writes(
        head_dim=8, num_experts=4, num_experts_per_tok=2, moe_intermediate_size=8,
        norm_topk_prob=True, decoder_sparse_step=1, mlp_only_layers=[],
        rope_parameters=rope(1e6))), {}),
    "gemma2": (gemma, hf.Gemma2ForCausalLM, hf.Gemma2Config(**writes(
        head_dim=8, query_pre_attn_scalar=8, sliding_window=8, attn_logit_softcapping=3.0,
        final_logit_softcapping=6.0, layer_types=["sliding_attention", "full_attention"],
        rope_parameters=rope(1e4))), {}),
    "gemma3": (gemma, hf.Gemma3ForCausalLM, hf.Gemma3TextConfig(**writes(
        head_dim=8, query_pre_attn_scalar=8, sliding_window=8, num_hidden_layers=6,
        intermediate_size=16,
        layer_types=["sliding_attention"] * 5 + ["full_attention"], rope_parameters=BASES)), {}),
    "phi3": (llama2, hf.Phi3ForCausalLM, hf.Phi3Config(**writes(
        pad_token_id=None, original_max_position_embeddings=32, rope_parameters=rope(
            1e4, rope_type="longrope", short_factor=[1.0, 1.1, 1.3, 1.6],
            long_factor=[1.0, 1.5, 3.0, 5.0]))), {}),
    "gpt-oss": (o200k, hf.GptOssForCausalLM, hf.GptOssConfig(**writes(
        tie_word_embeddings=False, head_dim=8, num_local_experts=4, num_experts_per_tok=2,
        sliding_window=8, intermediate_size=8, attention_bias=True, pad_token_id=None,
        layer_types=["sliding_attention", "full_attention"], rope_parameters=rope(
            1e4, rope_type="yarn", factor=4.0, original_max_position_embeddings=16,
            beta_fast=32.0, beta_slow=1.0, truncate=False))), {}),
}
# Stored so; the others are stored in float32.
STORED = {"llama": torch.bfloat16, "llama-pieces": torch.float16, "qwen3": torch.bfloat16,
          "gpt-oss": torch.bfloat16, "gemma3": torch.bfloat16, "roberta": torch.float16}


def draw(kind, config, seed):
    """A model whose weights are large enough for every one of them to matter."""
    model = kind._from_config(config, attn_implementation="eager")
    random = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            noise = torch.randn(weight.shape, generator=random)
            norm = "norm" in name.lower() and name.endswith("weight")
            if norm and config.model_type.startswith("gemma"):
                weight.copy_(0.2 * noise)
                continue
            weight.copy_(1 + 0.2 * noise if norm else noise * (0.3 if weight.dim() < 2 else 0.35))
    return model.eval()


def computed(model, inputs):
    model.config._experts_implementation = "eager"
    with torch.no_grad():
        out = model.double()(**inputs)
    found = out.logits if "logits" in out else out.last_hidden_state
    return [[round(float(x), 6) for x in row] for row in found.reshape(-1, found.shape[-1])]


def scores(logits):
    """The three likeliest tokens at each position, and their log-probabilities."""
    likeliest = torch.log_softmax(torch.tensor(logits, dtype=torch.float64), dim=-1).topk(3)
    return [[[int(id), round(float(log), 6)] for id, log in zip(ids, logs)]
            for ids, logs in zip(likeliest.indices, likeliest.values)]


def spans(fast, text):
    """Byte offsets, where `tokenizers` counts characters."""
    places = [0]
    for character in text:
        places.append(places[-1] + len(character.encode()))
    encoded = fast.encode(text, add_special_tokens=False)
    return [[places[a], places[b]] for a, b in encoded.offsets]


def write(name, tokenizer, kind, config, files, seed):
    folder = OUT / name
    folder.mkdir(parents=True)
    fast = tokenizer.backend_tokenizer
    config.vocab_size = len(tokenizer)
    config.bos_token_id = tokenizer.bos_token_id
    config.eos_token_id = tokenizer.eos_token_id
    model = draw(kind, config, seed).to(STORED.get(name, torch.float32))
    model.save_pretrained(folder)
    # Read again, so that what is not stored (rope's frequencies) is not rounded as the weights are.
    model = kind.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
    tokenizer.save_pretrained(folder)
    for file, content in files.items():
        (folder / file).parent.mkdir(exist_ok=True)
        (folder / file).write_text(json.dumps(content, indent=1) + "\n")
    texts = [{"text": text, "ids": fast.encode(text).ids,
              "bare": fast.encode(text, add_special_tokens=False).ids,
              "spans": spans(fast, text)} for text in TEXTS]
    pairs = []
    for a, b in PAIRS:
        encoded = fast.encode(a, b)
        pairs.append({"a": a, "b": b, "ids": encoded.ids, "types": encoded.type_ids})
    inputs = {"input_ids": torch.tensor([texts[0]["ids"]])}
    output = computed(model, inputs)
    if "CausalLM" in kind.__name__:
        output = scores(output)
    gold = {"texts": texts, "pairs": pairs, "output": output}
    (OUT / f"{name}.json").write_text(json.dumps(gold, ensure_ascii=True, indent=0) + "\n")
    size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    print(f"{name}: {size} bytes")


def main():
    for seed, (name, (tokenizer, kind, config, files)) in enumerate(DIRECTORIES.items()):
        shutil.rmtree(OUT / name, ignore_errors=True)
        write(name, tokenizer(), kind, config, files, seed)


if __name__ == "__main__":
    main()
