"""The embedded text: what it holds, that no source is met twice, and that it is always the same."""

import re
import runpy
from collections import Counter
from pathlib import Path

import pytest

SMALL = {"train": 520, "valid": 20, "test": 20}


def lines(info, split, column):
    return (info.path / "text" / f"{split}.{column}").read_text(encoding="utf-8").splitlines()


def test_there_are_as_many_pairs_as_promised(embedded):
    assert embedded.counts["train"] >= 20_000
    assert embedded.counts["valid"] >= 1_000
    assert embedded.counts["test"] >= 1_000
    for split, count in embedded.counts.items():
        assert len(lines(embedded, split, "en")) == len(lines(embedded, split, "de")) == count


def test_no_source_of_valid_or_test_is_in_train(embedded):
    sources = {split: lines(embedded, split, "en") for split in embedded.counts}
    everything = [line.casefold() for split in sources.values() for line in split]
    assert len(set(everything)) == len(everything)


def test_every_kind_is_in_every_split(embedded):
    promised = {"dates", "dates and times", "intervals", "relative times", "durations", "measures", "prices"}
    promised |= {"numbers in words", "lists of territories", "lists of languages"}
    for split in ("valid", "test"):
        counted = Counter(lines(embedded, split, "kind"))
        assert set(counted) == promised
        assert max(counted.values()) - min(counted.values()) <= 1
    assert set(lines(embedded, "train", "kind")) == promised | {"territories", "languages"}


def test_spaces_are_plain_and_sides_differ(embedded):
    for split in embedded.counts:
        english, german = lines(embedded, split, "en"), lines(embedded, split, "de")
        for line in english + german:
            assert re.search(r"[^\S ]|  |^ | $", line) is None, repr(line)
            assert line
        same = sum(a == b for a, b in zip(english, german, strict=True))
        assert same < 0.02 * len(english)  # names such as Ghana, numbers of carats


@pytest.mark.parametrize(
    ("english", "german"),
    [
        (r"^\w+day, \w+ \d+, \d{4}$", r"^\w+tag|Mittwoch, \d+\. \w+ \d{4}$"),
        (r"^\d+ \w+ ago$", r"^vor \d+ \w+$"),
        (r" kilometers per hour$", r" Kilometer pro Stunde$"),
        (r"^[\d,]+\.\d\d US dollars?$", r"^[\d.]+,\d\d US-Dollar$"),
        (r"^three hundred and forty", r"^dreihundert.*vierzig"),
        (r", and Germany$", r" und Deutschland$"),
    ],
)
def test_pairs_say_the_same_in_both_languages(embedded, english, german):
    pairs = zip(lines(embedded, "train", "en"), lines(embedded, "train", "de"), strict=True)
    found = [pair for pair in pairs if re.search(english, pair[0])]
    assert found
    assert all(re.search(german, pair[1]) for pair in found), found[0]


def test_the_sample_file_is_what_the_generator_gives(embedded):
    """`python tools/translation_samples.py` writes it again."""
    tool = runpy.run_path(str(Path(__file__).parents[3] / "tools" / "translation_samples.py"))
    pairs = list(zip(*(lines(embedded, "test", column) for column in ("kind", "en", "de")), strict=True))
    assert tool["FILE"].read_text(encoding="utf-8") == tool["page"](pairs[:200])
