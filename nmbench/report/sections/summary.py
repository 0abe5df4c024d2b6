"""What a report says in words: how the cells ended, and what the verdicts are.

overview    one paragraph over everything
verdicts    one sentence a setting
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from nmbench.analysis.rows import Row
from nmbench.analysis.verdict import Lack, Verdict
from nmbench.document.words import number_word, plural, text
from nmbench.records.frame import Loaded, newest

__all__ = ["overview", "verdicts"]

_NOTHING = (Lack.NO_TWIN, Lack.OTHER_DATA, Lack.NO_VALUE)
_ORDER = (*Verdict, "undecided (no spread)", "undecided (1 seed)")


def overview(loaded: Loaded, rows: Sequence[Row]) -> str:
    """How many cells ended how, what could not be read, and the verdicts counted over all tasks."""
    cells = newest(loaded.frame)
    sentences = [_ended(Counter(cells["status"]))]
    if replaced := len(loaded.frame) - len(cells):
        sentences.append(f"{_count(replaced, 'older attempt')} of these cells {_is(replaced)} not counted.")
    if loaded.unfinished:
        sentences.append(
            f"{_count(loaded.unfinished, 'attempt')} left no record (killed, or still running) "
            f"and {_is(loaded.unfinished)} not counted."
        )
    if broken := len(loaded.unreadable):
        sentences.append(f"{_count(broken, 'record')} could not be read and {_is(broken)} listed below.")
    sentences.append(_verdict_count(rows))
    return " ".join(sentence for sentence in sentences if sentence)


def verdicts(rows: Sequence[Row]) -> str:
    """The rows of one setting by verdict, with the metric that it is about."""
    metric = rows[0].metric
    margin = f"{metric.margin:g} {metric.unit}".strip() if metric.margin else "0"
    found: dict[str, list[str]] = {}
    for row in rows:
        if row.comparison is not None:
            found.setdefault(row.words, []).append(row.name)
    said = [
        f"**{verdict}**: {text(', '.join(found[verdict]))}"
        for verdict in sorted(found, key=lambda name: (_ORDER.index(name) if name in _ORDER else len(_ORDER), name))
    ]
    direction = "higher" if metric.higher_is_better else "lower"
    about = f"Verdict on {text(metric.name)} ({direction} is better, margin {text(margin)})"
    if not metric.name:
        return "No cell of this setting ended well."
    return f"{about}: {'; '.join(said)}." if said else f"{about}: none, for want of a sparse cell that ended well."


def _ended(statuses: Counter[str]) -> str:
    total, good = sum(statuses.values()), statuses["ok"]
    if not total:
        return "There is no readable record here yet."
    others = ", ".join(f"{count} {status}" for status, count in sorted(statuses.items()) if status != "ok")
    if not others:
        return f"{'All' if total > 1 else 'The only'} {plural(total, 'cell') if total > 1 else 'cell'} ended well."
    if not good:
        return f"None of {plural(total, 'cell')} ended well ({others})."
    return f"{good} of {plural(total, 'cell')} ended well; {total - good} did not ({others})."


def _verdict_count(rows: Sequence[Row]) -> str:
    counted = Counter(row.words for row in rows if row.comparison is not None)
    if not counted:
        return "No sparse cell ended well, so nothing can be said about sparsity." if rows else ""
    total = sum(counted.values())
    said = ", ".join(f"{counted[name]} {name}" for name in [*_ORDER, *_NOTHING] if counted[name])
    return f"Against the dense twin, over {_count(total, 'combination').lower()} of pattern and method: {said}."


def _count(count: int, noun: str) -> str:
    return f"{number_word(count)} {plural(count, noun).split(' ', 1)[1]}"


def _is(count: int) -> str:
    return "is" if count == 1 else "are"
