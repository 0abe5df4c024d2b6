"""Which corpus a cell is trained on, and what is in it: counts, and what is left out for its length."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from nmbench.task import DataError, DataInfo, Spec
from nmbench_tasks._shared.folders import user_folder
from nmbench_tasks.translation import embedded, preprocessed, rawtext
from nmbench_tasks.translation.binarise import SPLITS
from nmbench_tasks.translation.corpus import Corpus
from nmbench_tasks.translation.scales import Settings

__all__ = ["prepare"]


def prepare(spec: Spec, root: Path) -> DataInfo:
    """The corpus that the setting `data` names, binarised. Raises DataError if it is missing or broken."""
    settings = Settings.of(spec)
    if settings.data == "embedded":
        info = embedded.prepare(spec, root)
    else:
        folder = user_folder(settings.data, "with a corpus in it")
        source = preprocessed if preprocessed.is_one(folder, settings) else rawtext
        info = source.prepare(folder, settings, root)
    return _within_length(info, settings)


def _within_length(info: DataInfo, settings: Settings) -> DataInfo:
    """`info` with the pairs that are short enough counted, and the others said."""
    corpus = Corpus(info.path, settings)
    limit = settings.max_length
    counts, notes = {}, list(info.notes)
    for split in SPLITS:
        if not corpus.has(split):
            continue
        dataset = corpus.dataset(split)
        long = int(((dataset.src_sizes > limit) | (dataset.tgt_sizes > limit)).sum())
        counts[split] = len(dataset) - long
        if long:
            notes.append(
                f"{long} of the {len(dataset)} pairs of {split} are left out: they have more than "
                f"max_length = {limit} tokens on a side."
            )
    for split in ("train", "test"):
        if counts.get(split) == 0:
            raise DataError(f"every pair of {split} has more than max_length = {limit} tokens; raise max_length")
    return replace(info, counts=counts, notes=tuple(notes))
