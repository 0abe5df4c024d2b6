"""Every training setting of the translation task, with its default at each scale.

data            "embedded", or a folder with a corpus: raw text (train.en, train.de, test.en, ...), or what
                `fairseq-preprocess` wrote (dict.en.txt, train.en-de.en.idx, ...)
source_lang, target_lang    names of the two sides, as in the names of the files
pieces          subwords that are learnt from raw text, both sides together
post_process    how a preprocessed folder's subwords are joined: "sentencepiece", "subword_nmt" or "none"
tokenizer       how a preprocessed folder's words are joined: "none" or "moses" (needs sacremoses)
max_length      tokens a sentence may have, the end-of-sentence token included; longer pairs are left out, and counted
train_pairs, test_pairs     use only this many, evenly over the corpus; 0 uses all
updates         optimizer steps
max_tokens, update_freq     tokens of a batch (padding included), and batches a step, as fairseq means them
lr, warmup_updates, warmup_init_lr      Adam's peak rate, reached linearly; then 1 / sqrt(update)
adam_beta1, adam_beta2, adam_eps, weight_decay, clip_norm (0: none), label_smoothing
dropout, attention_dropout, activation_dropout
precision       "fp32", "bf16" or "fp16" (mixed); on CUDA only, a CPU always computes in fp32
beam, lenpen    beam size and length penalty of the search
max_len_a, max_len_b    a translation has at most a * (source tokens) + b tokens
workers         data-loading processes; the results do not depend on it
"""

from typing import Any

__all__ = ["SCALES"]

_QUICK: dict[str, Any] = {
    "data": "embedded",
    "source_lang": "en",
    "target_lang": "de",
    "pieces": 32_000,
    "post_process": "sentencepiece",
    "tokenizer": "none",
    "max_length": 256,
    "train_pairs": 0,
    "test_pairs": 0,
    "updates": 800,
    "max_tokens": 384,
    "update_freq": 1,
    "lr": 2e-3,
    "warmup_updates": 100,
    "warmup_init_lr": 1e-7,
    "adam_beta1": 0.9,
    "adam_beta2": 0.98,
    "adam_eps": 1e-8,
    "weight_decay": 0.0,
    "clip_norm": 1.0,
    "label_smoothing": 0.1,
    "dropout": 0.0,
    "attention_dropout": 0.0,
    "activation_dropout": 0.0,
    "precision": "fp32",
    "beam": 4,
    "lenpen": 0.6,
    "max_len_a": 1.5,
    "max_len_b": 10,
    "workers": 0,
}

SCALES: dict[str, dict[str, Any]] = {
    "smoke": _QUICK | {"updates": 120, "warmup_updates": 40, "test_pairs": 100, "beam": 2},
    "quick": _QUICK,
    "study": _QUICK | {"updates": 6000, "max_tokens": 1024, "warmup_updates": 400, "dropout": 0.1},
    # "Attention Is All You Need", base, on eight times 4096 tokens, as fairseq's examples train it
    "paper": _QUICK
    | {
        "max_length": 1024,
        "updates": 100_000,
        "max_tokens": 4096,
        "update_freq": 8,
        "lr": 7e-4,
        "warmup_updates": 4000,
        "clip_norm": 0.0,
        "dropout": 0.1,
        "precision": "bf16",
        "max_len_a": 0.0,
        "max_len_b": 200,
        "workers": 4,
    },
}
