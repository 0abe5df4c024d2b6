"""The files of an attempt: their names, and who reads and writes them.

record.json            the record, written last (nmbench.records.schema)
weights.safetensors    the evaluated weights (nmbench.records.weights)
per_example.json       {name: [number]}, one value an evaluation example in data-set order
texts.json             {name: [text]}, the same of texts
samples.json           a handful of examples to show (nmbench.contract.samples)
worker.log             what the worker printed
traceback.txt          of the exception that ended it
batches.txt            a checksum of each training batch, with --trace-batches
"""

import stat
from collections.abc import Callable
from pathlib import Path

from nmbench.records.reading import parse
from nmbench.records.schema import Record, UnreadableRecord

RECORD = "record.json"
WEIGHTS = "weights.safetensors"
PER_EXAMPLE = "per_example.json"
TEXTS = "texts.json"
LOG = "worker.log"
TRACEBACK = "traceback.txt"
BATCHES = "batches.txt"


def number_of(attempt: Path) -> int | None:
    """The k of a folder `attempt-<k>`; None for any other name."""
    digits = attempt.name.removeprefix("attempt-")
    return (
        int(digits) if digits != attempt.name and digits.isascii() and digits.isdigit() and len(digits) < 10 else None
    )


def read_record(path: Path, read: Callable[[bytes, int], Record] = parse) -> Record:
    """The record in the file `path`, by a function of `reading`. Raises UnreadableRecord with the reason."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # to open a pipe would wait for ever
            raise UnreadableRecord("not a regular file")
        data = path.read_bytes()
    except OSError as error:
        raise UnreadableRecord(error.strerror or type(error).__name__) from error
    return read(data, number_of(path.parent) or 1)
