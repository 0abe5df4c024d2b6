"""Subwords by sentencepiece (BPE, one vocabulary for both languages), and fairseq's dictionary of them.

Subwords       splits lines into pieces; Subwords.trained learns the pieces from a text
DIGITS, FIELD  how text is normalised before: not at all, each digit a piece of its own; or as the field does
"""

from __future__ import annotations

import io
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import sentencepiece

from nmbench.task import DataError

__all__ = ["DIGITS", "FIELD", "Subwords"]

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
