"""Every training setting of the translation task, with its default at each scale."""

from typing import Literal

from pydantic import Field

from nmbench_tasks._shared import settings


class Settings(settings.Settings):
    """The settings at scale quick."""

    data: str = Field("embedded", description='"embedded", or a folder: raw text, or what fairseq-preprocess wrote')
    source_lang: str = Field("en", description="name of the source, as in the names of the files")
    target_lang: str = Field("de", description="name of the target, as in the names of the files")
    pieces: int = Field(32_000, ge=1, description="subwords that are learnt from raw text, both sides together")
    post_process: str = Field("sentencepiece", description='joins subwords: "sentencepiece", "subword_nmt" or "none"')
    tokenizer: Literal["none", "moses"] = Field("none", description="joins a preprocessed folder's words")
    max_length: int = Field(256, ge=1, description="tokens of a sentence, its end included; longer pairs are left out")
    train_pairs: int = Field(0, ge=0, description="use only this many, evenly over the corpus; 0 uses all")
    test_pairs: int = Field(0, ge=0, description="the same in evaluation")
    updates: int = Field(800, ge=1, description="optimizer steps")
    max_tokens: int = Field(384, ge=1, description="tokens of a batch, padding included, as fairseq means them")
    update_freq: int = Field(1, ge=1, description="batches of a step")
    lr: float = Field(2e-3, ge=0, description="Adam's peak rate, reached linearly; then 1 / sqrt(update)")
    warmup_updates: int = Field(100, ge=0, description="steps to the peak rate")
    warmup_init_lr: float = Field(1e-7, ge=0, description="rate at the first of them")
    adam_beta1: float = Field(0.9, ge=0, lt=1, description="decay of Adam's first moment")
    adam_beta2: float = Field(0.98, ge=0, lt=1, description="decay of Adam's second moment")
    adam_eps: float = Field(1e-8, ge=0, description="of Adam")
    weight_decay: float = Field(0.0, ge=0, description="of Adam, added to the gradient")
    clip_norm: float = Field(1.0, ge=0, description="largest norm of the gradient; 0 is none")
    label_smoothing: float = Field(0.1, ge=0, lt=1, description="of the training loss")
    dropout: float = Field(0.0, ge=0, lt=1, description="of the sublayers' outputs")
    attention_dropout: float = Field(0.0, ge=0, lt=1, description="of the attention weights")
    activation_dropout: float = Field(0.0, ge=0, lt=1, description="inside the feed-forward layers")
    precision: Literal["fp32", "bf16", "fp16"] = Field("fp32", description="mixed, on CUDA only; a CPU takes fp32")
    beam: int = Field(4, ge=1, description="beam size of the search")
    lenpen: float = Field(0.6, description="length penalty of the search")
    max_len_a: float = Field(1.5, ge=0, description="a translation has at most max_len_a * (source tokens) ...")
    max_len_b: int = Field(10, ge=0, description="... + max_len_b tokens")
    workers: int = Field(0, ge=0, description="data-loading processes; the results do not depend on it")


SCALES = {
    "smoke": Settings.scale(updates=120, warmup_updates=40, test_pairs=100, beam=2),
    "quick": Settings.scale(),
    "study": Settings.scale(updates=6000, max_tokens=1024, warmup_updates=400, dropout=0.1),
    # "Attention Is All You Need", base, on eight times 4096 tokens, as fairseq's examples train it
    "paper": Settings.scale(
        max_length=1024,
        updates=100_000,
        max_tokens=4096,
        update_freq=8,
        lr=7e-4,
        warmup_updates=4000,
        clip_norm=0.0,
        dropout=0.1,
        precision="bf16",
        max_len_a=0.0,
        max_len_b=200,
        workers=4,
    ),
}
