"""A campaign of kills, signals, failing system calls, misbehaving tasks and fuzzed inputs.

    python -m tests.campaign [--short] [--folder FOLDER] [--page PAGE] [--only PART] [PART=NUMBER ...]

One JSON line a trial goes to trials.jsonl in FOLDER; trials that stand there are not done again, so that an interrupted
campaign goes on. Numbers are those of trials (kill=200), for fuzz those of inputs. Exit status 1 if any trial went
wrong; PAGE gets the counts. `--short` is what the test suite runs: a few of each, in a minute.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["CUDA_VISIBLE_DEVICES"] = ""

from tests.campaign import ends, fuzz, kinds, page, warm

LONG = {"kinds": 1, "kill": 200, "stop": 100, "call": 60, "fuzz": 50_000}
SHORT = {"kinds": 1, "kill": 2, "stop": 1, "call": 2, "fuzz": 400}
_BATCH = 500  # inputs of a fuzz trial
_FUZZERS = len(fuzz.FUZZERS)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.campaign", description=__doc__.split("\n\n")[0])
    parser.add_argument("numbers", nargs="*", metavar="PART=NUMBER")
    parser.add_argument("--short", action="store_true")
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "nmbench-campaign")
    parser.add_argument("--page", type=Path)
    options = parser.parse_args()
    numbers = SHORT if options.short else LONG
    if options.numbers:
        numbers = {part: int(number) for part, number in (text.split("=") for text in options.numbers)}
    options.folder.mkdir(parents=True, exist_ok=True)
    book = options.folder / "trials.jsonl"
    done = [json.loads(line) for line in book.read_text().splitlines()] if book.exists() else []
    warm.warm_up()
    scratch = Path(tempfile.mkdtemp(dir=options.folder))
    try:
        _campaign(numbers, scratch, book, done, options.short)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    if options.page is not None:
        options.page.write_text(page.text(done), encoding="utf-8")
    wrong = [trial for trial in done if trial["wrong"]]
    print(page.table(done), *(f"{trial['part']} {trial['number']}: {trial['wrong']}" for trial in wrong), sep="\n")
    return bool(wrong)


def _campaign(numbers: dict[str, int], scratch: Path, book: Path, done: list[Any], short: bool) -> None:
    """Trials of all parts in turn, those that are in `done` left out."""
    had = {(trial["part"], trial["number"]) for trial in done}
    counts = {
        part: -(-number // _BATCH) if part == "fuzz" and not short else number for part, number in numbers.items()
    }
    if short:
        counts["fuzz"] = _FUZZERS - 2  # fairseq and whole reports, the last, take longer than all the others
    todo = [(number, part) for part, count in counts.items() for number in range(count) if (part, number) not in had]
    for number, part in sorted(todo):
        begun = time.monotonic()
        what, wrong = _trial(part, number, numbers, scratch, short)
        trial = {"part": part, "number": number, **what, "wrong": wrong, "seconds": round(time.monotonic() - begun, 1)}
        done.append(trial)
        with book.open("a") as file:
            file.write(json.dumps(trial) + "\n")
        print(part, number, f"{trial['seconds']} s", "; ".join(wrong) or "well", flush=True)
        shutil.rmtree(scratch / f"{part}-{number}", ignore_errors=True)


def _trial(
    part: str, number: int, numbers: dict[str, int], scratch: Path, short: bool
) -> tuple[dict[str, Any], list[str]]:
    if part == "fuzz":
        return fuzz.batch(scratch, number, max(1, numbers["fuzz"] // _FUZZERS) if short else _BATCH)
    if part == "kinds":
        return kinds.all_of_them(scratch, short)
    trials: dict[str, Callable[[Path, int], tuple[dict[str, Any], list[str]]]] = {
        "kill": ends.kill,
        "stop": ends.stop,
        "call": ends.call,
    }
    return trials[part](scratch, number)


if __name__ == "__main__":
    sys.exit(main())
