"""From text to fairseq's binarised corpus, by sentencepiece and by fairseq's own preprocessing.

SPLITS       names of the splits, as fairseq knows them
binarise     text/ and subwords -> bpe/, bpe.model, binary/
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from nmbench_tasks.translation import compat  # noqa: F401
from nmbench_tasks.translation.subwords import Subwords

# isort: split
from fairseq import options
from fairseq_cli import preprocess

__all__ = ["SPLITS", "binarise"]

SPLITS = ("train", "valid", "test")
#: sentences of (split, language), to be read more than once
Lines = Mapping[tuple[str, str], Iterable[str]]
_CHUNK = 100_000  # sentences in memory at a time


def binarise(folder: Path, lines: Lines, subwords: Subwords, source: str, target: str) -> None:
    """Write `folder`/bpe (text in subwords) and `folder`/binary (what `fairseq-preprocess` makes of it).

    `lines` are the sentences of (split, language); a split that is not there is left out.
    """
    (folder / "bpe").mkdir()
    (folder / "bpe.model").write_bytes(subwords.model)
    subwords.write_dictionary(folder / "bpe" / "dict.txt")
    for (split, language), sentences in lines.items():
        remaining = iter(sentences)
        with (folder / "bpe" / f"{split}.{language}").open("w", encoding="utf-8") as file:
            while chunk := list(itertools.islice(remaining, _CHUNK)):
                file.writelines(f"{pieces}\n" for pieces in subwords.split(chunk))
    splits = [split for split in SPLITS if (split, source) in lines]
    _fairseq_preprocess(folder / "bpe", folder / "binary", splits, source, target)


def _fairseq_preprocess(text: Path, destination: Path, splits: list[str], source: str, target: str) -> None:
    arguments = ["--source-lang", source, "--target-lang", target, "--destdir", str(destination)]
    arguments += ["--joined-dictionary", "--srcdict", str(text / "dict.txt"), "--workers", "1"]
    for split in splits:
        arguments += [f"--{split}pref", str(text / split)]
    with _log_closed(preprocess.logger):
        preprocess.main(options.get_preprocessing_parser().parse_args(arguments))
    (destination / "preprocess.log").unlink(missing_ok=True)  # it holds times and paths: no two runs write the same


@contextmanager
def _log_closed(logger: logging.Logger) -> Iterator[None]:
    """fairseq adds a file to its logger at each call and never closes it."""
    before, level = logger.handlers[:], logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        for handler in set(logger.handlers) - set(before):
            logger.removeHandler(handler)
            handler.close()
        logger.setLevel(level)
