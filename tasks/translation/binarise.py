"""From text to fairseq's binarised corpus: subwords by sentencepiece (BPE, one vocabulary for both languages), ids.

SPLITS         names of the splits, as fairseq knows them
Subwords       splits lines into pieces; Subwords.trained learns the pieces from a text
DIGITS, FIELD  how text is normalised before: not at all, each digit a piece of its own; or as the field does
binarise       text/ and subwords -> bpe/, bpe.model, binary/
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from nmbench_tasks.translation import compat  # noqa: F401

# isort: split
import io
from typing import Any

import sentencepiece
from fairseq import options
from fairseq_cli import preprocess

from nmbench.task import DataError

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


#: for the embedded phrases: a number is copied digit by digit, so digits must not grow together
DIGITS: dict[str, Any] = {"normalization_rule_name": "identity", "split_digits": True}
#: for a corpus: sentencepiece's own default, NFKC with the rules of machine translation
FIELD: dict[str, Any] = {"normalization_rule_name": "nmt_nfkc"}

#: pieces that fairseq's dictionary has by itself
_SPECIAL = ("<s>", "<pad>", "</s>", "<unk>")
_SILENT = 2  # log level above which sentencepiece speaks


class Subwords:
    """Lines of text to pieces, by a trained model (bytes, as sentencepiece saves it)."""

    def __init__(self, model: bytes) -> None:
        self.model = model
        self._processor = sentencepiece.SentencePieceProcessor(model_proto=model)

    @classmethod
    def trained(cls, lines: Iterable[str], pieces: int, options: dict[str, Any]) -> Subwords:
        """Learn `pieces` pieces from `lines`; the same lines give the same pieces.

        Raises DataError if the text is too small, or too rich in characters, for so many pieces.
        """
        writer = io.BytesIO()
        try:
            sentencepiece.SentencePieceTrainer.train(
                sentence_iterator=iter(lines),
                model_writer=writer,
                model_type="bpe",
                vocab_size=pieces,
                character_coverage=1.0,
                bos_id=-1,  # fairseq's dictionary brings its own
                eos_id=-1,
                num_threads=1,
                minloglevel=_SILENT,
                **options,
            )
        except RuntimeError as error:
            reason = str(error).strip().splitlines()[-1].rpartition("] ")[2]
            raise DataError(
                f"no {pieces} subwords can be made of this text; change the setting pieces\n{reason}"
            ) from error
        return cls(writer.getvalue())

    def split(self, lines: list[str]) -> list[str]:
        """Each line as its pieces with spaces between them."""
        return [" ".join(pieces) for pieces in self._processor.encode(lines, out_type=str)]

    def write_dictionary(self, path: Path) -> None:
        """fairseq's dictionary of all pieces, seen in training or not: its size depends on the number of pieces alone.

        It holds counts, which nothing reads for this model; they fall with the rank.
        """
        size = self._processor.get_piece_size()
        known = [self._processor.id_to_piece(index) for index in range(size)]
        lines = [f"{piece} {size - rank}\n" for rank, piece in enumerate(known) if piece not in _SPECIAL]
        path.write_text("".join(lines), encoding="utf-8")
