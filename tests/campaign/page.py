"""What a campaign's trials come to, as a table and as a page of the documentation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

WORDS = {
    "kill": "processes killed (SIGKILL), at random moments and at system calls",
    "stop": "other signals: asked to end once and twice, hung up, stopped and continued",
    "call": "system calls that fail: EIO, ENOSPC, EACCES, ENOLCK",
    "kinds": "misbehaving tasks told by the right kind",
}
_PAGE = """# What a run withstands

A results folder is data, and what happens around a training must not cost it. `python -m tests.campaign` tries that,
and this page holds what it counted; a short form is part of `make test`. Trials are drawn by their number, so that each
can be repeated, and an interrupted campaign goes on where it stood.

{table}

A **kill**, a **signal** or a **failing call** hits the parent, a worker or all processes of a run of a dense cell and
its sparse twin. Afterwards no process may be left, no half record, no traceback. Then the same command runs again, and
must come to what an undisturbed run comes to: every cell `ok` once, what was finished before equal to the byte, and
bit-equal weights, metrics, mask flips, curves, audit and cost. The processes are forks of one that has imported torch,
and calls fail at the functions of Python that make them: a trial is cheap so, and leaves out an interpreter's start.

**Fuzzed inputs** are well-formed ones with values, keys, bytes or nesting changed. Each must be read, or refused by the
exception that its reader documents, within {seconds} seconds of processor time and 2 GiB of memory beyond what the
process had.

**Misbehaving tasks** return what they should not, raise what they like, run out of memory, flood the log, hang, die, or
leave threads and children behind; each cell's record has to name the kind, and the others go on.
"""


def table(trials: Sequence[dict[str, Any]]) -> str:
    """Counts by part, as markdown."""
    lines = ["| what | trials | well |", "|:--|--:|--:|"]
    for part, words in WORDS.items():
        mine = [trial for trial in trials if trial["part"] == part]
        count = sum(trial.get("inputs", 1) for trial in mine)
        wrong = sum(len(trial["wrong"]) for trial in mine) if part == "kinds" else sum(bool(t["wrong"]) for t in mine)
        lines += [f"| {words} | {count:,} | {count - wrong:,} |"] if mine else []
    for name in dict.fromkeys(trial["what"] for trial in trials if trial["part"] == "fuzz"):
        mine = [trial for trial in trials if trial["part"] == "fuzz" and trial["what"] == name]
        count, wrong = sum(trial["inputs"] for trial in mine), sum(trial["failed"] for trial in mine)
        lines.append(f"| fuzzed: {name} | {count:,} | {count - wrong:,} |")
    return "\n".join(lines)


def text(trials: Sequence[dict[str, Any]], seconds: int = 20) -> str:
    """The page."""
    return _PAGE.format(table=table(trials), seconds=seconds)
