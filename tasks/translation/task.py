"""The task's declarations; the work is in the modules that its methods import, so that declaring needs no fairseq.

compat      what keeps fairseq importable         scales      settings
phrases...  the embedded text                     embedded    the embedded corpus on disk
rawtext     a user's text files                   prepare     any corpus, checked
binarise    from text to fairseq's binarised data corpus      binarised data, read
models      networks by name                      train       one training pass
evaluate    metrics
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from nmbench._util.machine import versions
from nmbench.task import DataInfo, Diagnosis, Metric, Run, Spec, Task
from nmbench_tasks.translation.scales import SCALES, Settings

if TYPE_CHECKING:
    from torch import Tensor, nn


class Translation(Task):
    """Machine translation with fairseq's Transformers; BLEU is the primary metric."""

    name = "translation"
    metrics = (
        Metric("bleu", margin=1.0),
        Metric("chrf", margin=1.0),
        Metric("loss", unit="nats", higher_is_better=False, margin=0.05),
        Metric("perplexity", higher_is_better=False, margin=0.1),
    )
    requires = (
        "fairseq==0.12.2",
        "babel>=2.15",
        "num2words>=0.5.13",
        "sentencepiece>=0.2",
        "sacrebleu>=2.4",
        "hydra-core>=1.3,<1.4",
        "omegaconf<2.4",
        "bitarray",
        "regex",
    )
    install = "pip install 'nmbench[translation]' && pip install --no-deps fairseq==0.12.2"
    models = (
        "transformer_narrow",
        "transformer",
        "transformer_wmt_en_de",
        "transformer_vaswani_wmt_en_de_big",
        "transformer_iwslt_de_en",
    )
    default_models: ClassVar[dict[str, str]] = {"paper": "transformer_wmt_en_de"}
    open_models = True
    scales: ClassVar[dict[str, dict[str, Any]]] = SCALES
    settings = Settings

    def __init__(self) -> None:
        self._prepared: dict[tuple[Any, ...], Path] = {}

    def diagnosis(self) -> Iterable[Diagnosis]:
        """fairseq, and whether its data utilities were compiled; nothing of it is imported."""
        if (version := versions().get("fairseq")) is not None:
            package = importlib.util.find_spec("fairseq")
            folders = map(Path, (package.submodule_search_locations if package else None) or [])
            compiled = any(any(folder.glob("data/data_utils_fast*.so")) for folder in folders)
            yield Diagnosis(
                f"fairseq {version} ({'with' if compiled else 'WITHOUT its'} compiled data utilities)", compiled
            )

    def prepare(self, spec: Spec, root: Path) -> DataInfo:
        """Make the embedded corpus below `root`, or check and binarise the one that the setting `data` names.

        Raises DataError if the corpus is missing, broken or not what the settings say.
        """
        from nmbench_tasks.translation.prepare import prepare

        info = prepare(spec, root)
        self._prepared[_corpus_of(spec)] = info.path
        return info

    def build(self, spec: Spec) -> nn.Module:
        """A Transformer for the dictionaries of the corpus that was prepared (of the embedded one if none was).

        Raises ValueError for an unknown name, RuntimeError if a corpus of the user's was not prepared before.
        """
        from nmbench_tasks.translation import models
        from nmbench_tasks.translation.corpus import Corpus, translation_task
        from nmbench_tasks.translation.embedded import ENTRIES

        settings = Settings.of(spec)
        if path := self._prepared.get(_corpus_of(spec)):
            task = Corpus(path, settings).task
        elif settings.data == "embedded":
            task = translation_task(settings, models.dictionary(ENTRIES), models.dictionary(ENTRIES))
        else:
            raise RuntimeError("prepare() first: the corpus' dictionary says how large the embeddings are")
        return models.build(spec.model, task, settings)

    def candidates(self, model: nn.Module) -> Iterable[str]:
        """All attention projections and feed-forward layers; the (tied) embeddings and output projection stay dense."""
        from nmbench_tasks.translation.models import candidates

        return candidates(model)

    def train(self, model: nn.Module, run: Run) -> None:
        """Adam with a warmed-up inverse square root, on fairseq's criterion and batches."""
        from nmbench_tasks.translation.train import train

        train(model, run)

    def evaluate(self, model: nn.Module, run: Run) -> dict[str, float]:
        """BLEU and chrF of a beam search on test, loss (nats a token) and perplexity; stores all texts."""
        from nmbench_tasks.translation.evaluate import evaluate

        return evaluate(model, run)

    def logits(self, output: Any, inputs: tuple[Any, ...], keywords: Mapping[str, Any]) -> Tensor:
        """Of the target tokens: (tokens, entries of the dictionary). fairseq's models are called with keywords."""
        from nmbench_tasks.translation.models import PAD

        # the decoder is fed the target one later, which is as long
        logits: Tensor = output[0][keywords["prev_output_tokens"] != PAD]
        return logits

    def example_inputs(self, spec: Spec) -> tuple[Any, ...]:
        """A source of 12 tokens, (1, 12), its length, (1,), and a target of 12 tokens, (1, 12), on the CPU."""
        import torch

        tokens = torch.arange(4, 16)[None]
        return tokens, torch.tensor([12]), tokens


def _corpus_of(spec: Spec) -> tuple[Any, ...]:
    settings = Settings.of(spec)
    return settings.data, settings.source_lang, settings.target_lang, settings.pieces, settings.max_length
