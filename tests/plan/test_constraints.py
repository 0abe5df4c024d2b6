"""constraints.txt names what the extras pull in, and nothing else (`make constraints` writes it)."""

from __future__ import annotations

import importlib.metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent.parent
#: installed by lines of their own, and what builds them
ALONE = {"fairseq", "wheel"}


def closure() -> tuple[set[str], set[str]]:
    """What nmbench pulls in with all its extras, as far as it is installed here; and what is not."""
    seen, waiting, absent = set[tuple[str, frozenset[str]]](), [Requirement("nmbench")], set[str]()
    waiting[0].extras = set(importlib.metadata.metadata("nmbench").get_all("Provides-Extra") or ())
    while waiting:
        wanted = waiting.pop()
        key = canonicalize_name(wanted.name), frozenset(wanted.extras)
        if key in seen:
            continue
        seen.add(key)
        try:
            requires = importlib.metadata.requires(wanted.name) or []
        except importlib.metadata.PackageNotFoundError:
            absent.add(key[0])
            continue
        extras = wanted.extras | {""}
        found = map(Requirement, requires)
        waiting += [r for r in found if r.marker is None or any(r.marker.evaluate({"extra": e}) for e in extras)]
    return {name for name, _ in seen}, absent


def test_no_name_is_outside_what_the_extras_pull_in():
    usual, _, sinks = (ROOT / "constraints.txt").read_text(encoding="utf-8").partition("# What only the extras mlflow")
    held, for_sinks = _names(usual), _names(sinks)
    known, absent = closure()
    assert held <= known | ALONE
    assert known - {"nmbench"} <= held | for_sinks, "what an extra pulls in is not held"
    assert absent <= for_sinks, "`make` installs all the others"


def _names(text: str) -> set[str]:
    return {canonicalize_name(line.partition("==")[0]) for line in text.splitlines() if "==" in line}
