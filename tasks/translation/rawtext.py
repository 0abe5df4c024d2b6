"""A corpus of the user's as text files: one sentence a line, line n of train.de translates line n of train.en.

prepare     checked, split into subwords, and binarised below the data root
scanned     the checks of one file
Lines       its sentences
"""

import hashlib
import itertools
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

from nmbench.task import DataError, DataInfo, made_once
from nmbench_tasks.translation.binarise import FIELD, SPLITS, Subwords, binarise
from nmbench_tasks.translation.scales import Settings

#: lines that the subwords are learnt from, evenly over the corpus
_LEARNT_FROM = 2_000_000


class Lines:
    """The sentences of a file, to be read as often as one likes, without all of them in memory.

    A line ends at a line feed and nowhere else, as in `scanned`: a carriage return within one is part of it.
    Iterating raises DataError for a line that is no UTF-8.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def __iter__(self) -> Iterator[str]:
        with self.path.open("rb") as file:
            for number, line in enumerate(file, 1):
                yield _decoded(self.path, number, line).strip()


def prepare(folder: Path, settings: Settings, root: Path) -> DataInfo:
    """The text in `folder`, binarised below `root`; done again only when a file changed.

    Raises DataError: a file is missing, two sides differ in length, a line is empty or no UTF-8.
    """
    source, target, pieces = settings.source_lang, settings.target_lang, settings.pieces
    files = _files(folder, source, target)
    stamps = [[path.name, path.stat().st_size, path.stat().st_mtime_ns] for path in files.values()]
    key = {"files": stamps, "pieces": pieces, "sentencepiece": version("sentencepiece")}
    name = "text-" + hashlib.sha256(f"{folder.resolve()}{key}".encode()).hexdigest()[:12]
    place = root / "translation" / name

    def make(partial: Path) -> dict[str, Any]:
        found = {where: scanned(path) for where, path in files.items()}
        for split in dict.fromkeys(split for split, _ in files):
            _same_length(files[split, source], found[split, source][0], files[split, target], found[split, target][0])
        digest = hashlib.sha256("".join(f"{where}{found[where][1]}" for where in files).encode()).hexdigest()
        lines = {where: Lines(path) for where, path in files.items()}
        train = [lines["train", source], lines["train", target]]
        step = -(-2 * found["train", source][0] // _LEARNT_FROM)
        learnt = itertools.islice(itertools.chain(*train), 0, None, step)
        binarise(partial, lines, Subwords.trained(learnt, pieces, FIELD), source, target)
        (partial / "text").mkdir()
        for language in (source, target):  # what the translations are compared with
            text = "".join(f"{line}\n" for line in lines["test", language])
            (partial / "text" / f"test.{language}").write_text(text, encoding="utf-8")
        return {"counts": {split: found[split, source][0] for split, _ in files}, "fingerprint": digest}

    manifest = made_once(place, key, make)
    return DataInfo(place, manifest["counts"], manifest["fingerprint"])


def scanned(path: Path) -> tuple[int, str]:
    """Number of lines of `path`, hash of its bytes. Raises DataError for an empty line or one that is no UTF-8."""
    digest, number = hashlib.sha256(), 0
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            digest.update(line)
            if not _decoded(path, number, line).strip():
                raise DataError(f"{path}, line {number} is empty\nremove the pair from both sides")
    if number == 0:
        raise DataError(f"{path} is empty")
    return number, digest.hexdigest()


def _decoded(path: Path, number: int, line: bytes) -> str:
    try:
        return line.decode("utf-8-sig" if number == 1 else "utf-8")  # a byte order mark is no word of the sentence
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path}, line {number}: byte 0x{error.object[error.start]:02x} at position {error.start + 1} is no UTF-8\n"
            "convert the file (iconv -f LATIN1 -t UTF-8, say) or remove the pair from both sides"
        ) from error


def _files(folder: Path, source: str, target: str) -> dict[tuple[str, str], Path]:
    """(split, language) -> file. The split valid may be missing: nothing is chosen by it."""
    files = {(split, language): folder / f"{split}.{language}" for split in SPLITS for language in (source, target)}
    if not any(files["valid", language].exists() for language in (source, target)):
        files = {where: path for where, path in files.items() if where[0] != "valid"}
    missing = [path.name for path in files.values() if not path.is_file()]
    if missing:
        raise DataError(
            f"{folder} has no {', '.join(missing)}\n"
            f"a corpus is train.{source}, train.{target}, test.{source}, ... or what fairseq-preprocess wrote"
        )
    return files


def _same_length(one: Path, lines: int, other: Path, others: int) -> None:
    if lines != others:
        raise DataError(
            f"{one} has {lines} lines, {other.name} has {others}\nline n of the one must be the translation of line n "
            "of the other"
        )
