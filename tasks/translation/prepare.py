"""Which corpus a cell is trained on, and what is in it: counts, and what is left out for its length.

prepare               the corpus that the setting `data` names
is_preprocessed, preprocessed    one that `fairseq-preprocess` binarised already, and its checks
"""

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np

from nmbench.task import DataError, DataInfo, Spec
from nmbench_tasks._shared.folders import stamp, user_folder
from nmbench_tasks.translation import embedded, rawtext
from nmbench_tasks.translation.binarise import SPLITS
from nmbench_tasks.translation.corpus import Corpus
from nmbench_tasks.translation.scales import Settings


def prepare(spec: Spec, root: Path) -> DataInfo:
    """The corpus that the setting `data` names, binarised. Raises DataError if it is missing or broken."""
    settings = Settings.of(spec)
    if settings.data == "embedded":
        info = embedded.prepare(spec, root)
    else:
        folder = user_folder(settings.data, "with a corpus in it")
        own = is_preprocessed(folder, settings)
        info = preprocessed(folder, settings) if own else rawtext.prepare(folder, settings, root)
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
        if len(dataset) != info.counts.get(split, len(dataset)):
            raise DataError(f"{info.counts[split]} pairs of {split} became {len(dataset)} when they were binarised")
        for language, tokens in zip(corpus.languages, (dataset.src, dataset.tgt), strict=True):
            empty = np.flatnonzero(tokens.sizes <= 1)  # the end-of-sentence token alone
            if len(empty):
                raise DataError(
                    f"{split}.{language}: sentence {empty[0] + 1} is empty in subwords ({len(empty)} are)\n"
                    "remove the pair from both sides"
                )
        long = int(((dataset.src_sizes > limit) | (dataset.tgt_sizes > limit)).sum())
        counts[split] = len(dataset) - long
        if long:
            notes.append(
                f"{long} of the {len(dataset)} pairs of {split} are left out: they have more than "
                f"max_length = {limit} tokens on a side."
            )
    for side in (0, 1):
        corpus.text("test", side)  # raises if the text beside does not fit the pairs
    for split in ("train", "test"):
        if counts.get(split) == 0:
            raise DataError(f"every pair of {split} has more than max_length = {limit} tokens; raise max_length")
    return replace(info, counts=counts, notes=tuple(notes))


def is_preprocessed(folder: Path, settings: Settings) -> bool:
    """Does `folder` hold binarised data, or at least one of its dictionaries?"""
    languages = (settings.source_lang, settings.target_lang)
    return any((folder / f"dict.{language}.txt").exists() for language in languages) or any(folder.glob("train.*.idx"))


def preprocessed(folder: Path, settings: Settings) -> DataInfo:
    """Counts and fingerprint of the data in `folder`, which stay where they are.

    The fingerprint covers the dictionaries, and names and sizes of the rest.

    Raises DataError: a split is missing or unreadable, its sides differ in length, or a token is not in the dictionary.
    """
    corpus = Corpus(folder, settings)
    splits = [split for split in SPLITS if split != "valid" or corpus.has(split)]
    fingerprint = hashlib.sha256()
    for language in corpus.languages:
        fingerprint.update((folder / f"dict.{language}.txt").read_bytes())
    for split in splits:
        dataset = corpus.dataset(split)
        if len(dataset) == 0:
            raise DataError(f"the split {split} in {folder} is empty")
        sides = ((dataset.src, corpus.task.source_dictionary), (dataset.tgt, corpus.task.target_dictionary))
        for language, (tokens, dictionary) in zip(corpus.languages, sides, strict=True):
            place = f"{folder.name}/{split}.{'-'.join(corpus.languages)}.{language}"
            file = Path(f"{corpus.folder / place.rpartition('/')[2]}.bin")
            if file.stat().st_size != tokens.sizes.sum(dtype=np.int64) * np.dtype(tokens._index.dtype).itemsize:
                raise DataError(f"{place}.bin is not as long as its .idx says; it was cut off, or is of another make")
            largest = int(np.memmap(file, tokens._index.dtype, mode="r").max())
            if largest >= len(dictionary):
                raise DataError(
                    f"{place} has token {largest}, dict.{language}.txt only {len(dictionary)} entries\n"
                    "they are not of one make: binarise the text again"
                )
            stamp(fingerprint, file.name, file.stat().st_size)
    return DataInfo(folder, {split: len(corpus.dataset(split)) for split in splits}, fingerprint.hexdigest())
