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


def draw(kind, config, seed):
    """A model whose weights are large enough for every one of them to matter."""
    model = kind._from_config(config, attn_implementation="eager")
    random = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            noise = torch.randn(weight.shape, generator=random)
            norm = "norm" in name.lower() and name.endswith("weight")
            weight.copy_(1 + 0.2 * noise if norm else noise * (0.3 if weight.dim() < 2 else 0.35))
    return model.eval()


def computed(model, inputs):
    with torch.no_grad():
        out = model.double()(**inputs)
    found = out.logits if "logits" in out else out.last_hidden_state
    return [[round(float(x), 6) for x in row] for row in found.reshape(-1, found.shape[-1])]


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
    model = draw(kind, config, seed)
    model.save_pretrained(folder)
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
    gold = {"texts": texts, "pairs": pairs, "output": computed(model, inputs)}
    (OUT / f"{name}.json").write_text(json.dumps(gold, ensure_ascii=True, indent=0) + "\n")
    size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    print(f"{name}: {size} bytes")


def main():
    shutil.rmtree(OUT, ignore_errors=True)
    OUT.mkdir(parents=True)
    for seed, (name, (tokenizer, kind, config, files)) in enumerate(DIRECTORIES.items()):
        write(name, tokenizer(), kind, config, files, seed)


if __name__ == "__main__":
    main()
