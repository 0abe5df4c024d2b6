"""SAMPLES.md: the first two hundred test pairs of the embedded corpus, so that a reader can see what it is made of.

python tools/translation_samples.py     write the file again
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from nmbench_tasks.translation.phrases import VERSIONS, corpus

FILE = Path(__file__).parent.parent / "tasks" / "translation" / "SAMPLES.md"
PAIRS = 200


def page(pairs: Iterable[tuple[str, str, str]]) -> str:
    """The file's text for rows of (kind, English, German)."""
    made_of = " and ".join(f"{package} {version}" for package, version in VERSIONS.items())
    rows = [f"| {kind} | {english} | {german} |\n" for kind, english, german in pairs]
    head = f"# The first {len(rows)} test pairs of the embedded corpus\n\nMade with {made_of}.\n\n"
    return head + "| kind | English | German |\n|:--|:--|:--|\n" + "".join(rows)


if __name__ == "__main__":
    chosen = corpus()["test"][:PAIRS]
    FILE.write_text(page((phrase.kind, *phrase.pair) for phrase in chosen), encoding="utf-8")
