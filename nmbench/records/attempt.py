"""The files of an attempt: their names, and who reads and writes them.

record.json            the record, written last (nmbench.records.schema) by the worker or by the scheduler beside it
lost.json              the same by a driver elsewhere, of an attempt that seemed to leave none; record.json wins
weights.safetensors    the evaluated weights (nmbench.records.weights)
per_example.json       {name: [number]}, one value an evaluation example in data-set order
texts.json             {name: [text]}, the same of texts
samples.json           a handful of examples to show (nmbench.contract.samples)
worker.log             what the worker printed
traceback.txt          of the exception that ended it
batches.txt            a checksum of each training batch, with --trace-batches
"""

import os
from collections.abc import Callable
from pathlib import Path

from nmbench._util.files import content
from nmbench.records.reading import parse
from nmbench.records.schema import Record, UnreadableRecord

RECORD = "record.json"
LOST = "lost.json"
WEIGHTS = "weights.safetensors"
PER_EXAMPLE = "per_example.json"
TEXTS = "texts.json"
LOG = "worker.log"
TRACEBACK = "traceback.txt"
BATCHES = "batches.txt"


def number_of(attempt: Path | str) -> int | None:
    """The k of a folder `attempt-<k>`, or of such a name; None for any other."""
    name = attempt if isinstance(attempt, str) else attempt.name
    digits = name.removeprefix("attempt-")
    return int(digits) if digits != name and digits.isascii() and digits.isdigit() and len(digits) < 10 else None


def overtaken(work: Path) -> bool:
    """Has a later attempt taken the resume state that was in the folder `work`? (nmbench.records.store)"""
    if work.exists():
        return False
    try:
        others = [number_of(path) or 0 for path in work.parent.iterdir()]
    except OSError:
        return False
    return max(others, default=0) > (number_of(work) or 0)


def record_of(attempt: Path) -> Path | None:
    """The file that says what became of an attempt; None where nothing does."""
    files = (f"{attempt}/{name}" for name in (RECORD, LOST))
    return next((Path(file) for file in files if os.path.lexists(file)), None)


def read_record(path: Path, read: Callable[[bytes, int], Record] = parse) -> Record:
    """The record in the file `path`, by a function of `reading`. Raises UnreadableRecord with the reason."""
    try:
        data = content(path)
    except OSError as error:
        raise UnreadableRecord(error.strerror or type(error).__name__) from error
    return read(data, number_of(path.parent) or 1)
