"""What a reader must know before the numbers, because the results are not as they should be: `cautions`."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from nmbench.analysis.rows import Row, Setting
from nmbench.analysis.verdict import Lack
from nmbench.document.words import plural, text
from nmbench.records.frame import Loaded

__all__ = ["cautions"]

_NAMED = 3


def cautions(loaded: Loaded, rows: Sequence[Row]) -> tuple[str, ...]:
    """Sentences in inline markdown: no dense twin, one seed, values that are no numbers, other data, newer records."""
    said = [
        _twins(rows),
        _one_seed(rows),
        _not_finite(rows),
        _other_data(loaded),
        _newer(loaded),
    ]
    return tuple(sentence for sentence in said if sentence)


def _twins(rows: Sequence[Row]) -> str:
    """Rows that have nothing to be compared with, by the reason."""
    said = {
        Lack.NO_TWIN: "**No dense twin** to compare with",
        Lack.OTHER_DATA: "**The dense twin saw other data** (the fingerprints differ), so nothing is compared",
    }
    settings = {why: dict.fromkeys(row.setting for row in rows if row.lack is why) for why in said}
    return " ".join(
        f"{words}, for some or all rows of {_some(map(_name, settings[why]))}."
        for why, words in said.items()
        if settings[why]
    )


def _one_seed(rows: Sequence[Row]) -> str:
    found = [row for row in rows if row.lack is Lack.ONE_SEED]
    if not found:
        return ""
    of = "every" if len(found) == sum(row.comparison is not None for row in rows) else str(len(found))
    rows_ = "combination" if of in ("every", "1") else "combinations"
    return (
        f"**One seed** in {of} {rows_} of pattern and method: a difference without an interval, which "
        "decides nothing. Two more seeds are the least that helps."
    )


def _not_finite(rows: Sequence[Row]) -> str:
    found = [row for row in rows if any(not math.isfinite(value) for value in row.values)]
    if not found:
        return ""
    names = dict.fromkeys(
        f"{row.setting.task} {row.pattern_text} {row.method} ({row.metric.name or 'metric'})" for row in found
    )
    return f"**Values that are no numbers** were left out of {_some(names)}; the notes below the tables say which."


def _other_data(loaded: Loaded) -> str:
    attempts = loaded.frame
    good = attempts[attempts["status"].eq("ok") & attempts["data_fingerprint"].notna()]
    kinds = good.groupby("cell_id")["data_fingerprint"].nunique()
    if not (count := int((kinds > 1).sum())):
        return ""
    return (
        f"**Different data**: {plural(count, 'cell')} ran more than once, on data whose fingerprints differ. The "
        "newest attempt that ended well counts."
    )


def _newer(loaded: Loaded) -> str:
    count = sum("newer than this nmbench" in one.reason for one in loaded.unreadable)
    if not count:
        return ""
    return f"**Records of a newer nmbench**: {plural(count, 'record')}, not read here. Update nmbench to see them."


def _some(names: Iterable[str]) -> str:
    listed = list(names)
    shown = text(", ".join(listed[:_NAMED]))
    return f"{shown} and {len(listed) - _NAMED} more" if len(listed) > _NAMED else shown


def _name(setting: Setting) -> str:
    return f"{setting.task}/{setting.model} ({setting.scale})"
