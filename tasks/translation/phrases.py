"""The embedded corpus as text: phrases in English and German, always the same ones for the same library versions.

KINDS       every kind of phrase that is drawn, and its share of the text
SIZES       pairs by split
VERSIONS    what the text depends on: the libraries that carry it, with their versions
corpus      all pairs of all splits; no source occurs twice, in one split or in two
"""

import itertools
from collections.abc import Iterator
from importlib.metadata import version
from random import Random
from typing import NamedTuple

from nmbench_tasks.translation.phrases_drawn import AMOUNTS, LISTS, TIMES, Draw, Pair, names

KINDS: dict[str, Draw] = TIMES | AMOUNTS | LISTS
SIZES = {"train": 24_000, "valid": 1_000, "test": 1_000}
VERSIONS = {package: version(package) for package in ("babel", "num2words")}
_SEED = 20210208


class Phrase(NamedTuple):
    """One pair and the kind of phrase that it is."""

    kind: str
    pair: Pair


def corpus() -> dict[str, list[Phrase]]:
    """Split -> its phrases, in the order in which they are written. Every kind has the same share of each split."""
    rng = Random(_SEED)
    seen: set[str] = set()
    train = [Phrase(kind, pair) for kind, pair in names() if _new(pair, seen)]
    drawn = {kind: _distinct(draw, rng, seen) for kind, draw in KINDS.items()}
    found: dict[str, list[Phrase]] = {}
    for split in ("test", "valid", "train"):
        phrases = train if split == "train" else []
        for kind in itertools.islice(itertools.cycle(KINDS), SIZES[split] - len(phrases)):
            phrases.append(Phrase(kind, next(drawn[kind])))
        rng.shuffle(phrases)
        found[split] = phrases
    return found


def _distinct(draw: Draw, rng: Random, seen: set[str]) -> Iterator[Pair]:
    while True:
        pair = draw(rng)
        if _new(pair, seen):
            yield pair


def _new(pair: Pair, seen: set[str]) -> bool:
    """Is this source new? Capitals do not make one: they are no reason to count a phrase as unseen."""
    key = pair.english.casefold()
    if key in seen or not pair.english or not pair.german:
        return False
    seen.add(key)
    return True
