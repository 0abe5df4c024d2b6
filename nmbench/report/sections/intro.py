"""What a reader meets first: the outcome in a sentence, and what to know before the numbers."""

import math
from collections import Counter
from collections.abc import Iterator, Sequence

from nmbench.analysis.pairs import decimals, in_short
from nmbench.analysis.rows import Row
from nmbench.analysis.setting import Setting
from nmbench.analysis.study import Study
from nmbench.analysis.verdict import Lack, Verdict
from nmbench.document.model import Block, Bullets, Prose
from nmbench.document.words import percent, plural, some, text
from nmbench.records.frame import Loaded
from nmbench.report.sections.quality import by_verdict, compared
from nmbench.report.sections.tradeoff import MACS

_NAMED = 3


def outcome(study: Study, rows: Sequence[Row]) -> Iterator[Block]:
    """The verdicts counted, the row that saves most without being worse, and what is not in the numbers."""
    for finding in filter(None, (_finding([row for row in rows if not row.setting.untrained]), _speed(rows))):
        yield Prose(finding)
    sentences = [_ended(Counter(study.cells["status"])), *_not_counted(study)]
    yield Prose(f"{' '.join(sentences)} [How to read this report](#how-to-read-this-report) is at its end.")


def _finding(rows: Sequence[Row]) -> str:
    """One or two sentences; "" without any row."""
    judged = [row for row in rows if row.comparison is not None]
    if not judged:
        return "**No sparse cell ended well**, so nothing can be said about sparsity." if rows else ""
    counts = Counter(row.words for row in sorted(judged, key=by_verdict))
    total = len(judged)
    words = "; ".join(f"{count} {name}" for name, count in counts.items())
    words = f"Of {plural(total, 'combination')} of pattern and method: {words}"
    good = [row for row in compared(rows) if row.verdict in (Verdict.BETTER, Verdict.NOT_WORSE)]
    if not good and all(row.pairs < 2 for row in judged):
        return f"**One seed decides nothing.** {words}. Two more seeds are the least that helps."
    if not good:
        return f"**Nothing is shown to be as good as dense.** {words}."
    verb = "is" if len(good) == 1 else "are"
    return f"**{len(good)} of {plural(total, 'combination')} {verb} not worse than dense.** {words}.{_saving(good)}"


def _speed(rows: Sequence[Row]) -> str:
    """What untrained models show: how much faster they run than dense."""
    ratios = [
        row.means["speed_dense_ms"] / row.means["speed_converted_ms"]
        for row in rows
        if row.setting.untrained and row.means.get("speed_converted_ms") and "speed_dense_ms" in row.means
    ]
    if not ratios:
        return ""
    faster = [ratio for ratio in ratios if ratio > 1]
    most = f", up to {max(faster):.2f} times as fast" if faster else ""
    of = f"{len(faster)} of {plural(len(ratios), 'untrained model')}"
    return f"**{of} ran faster than the fastest dense engine{most}.** Of quality they say nothing."


def _saving(rows: Sequence[Row]) -> str:
    """The row with the fewest multiply-accumulates, in words."""
    known = [(share, row) for row in rows if (share := MACS.read(row)) is not None and share < 1]
    if not known or (found := min(known, key=lambda one: one[0])[1]).comparison is None:
        return ""
    gap = in_short(found.comparison, found.metric.unit, decimals(found.metric))
    row = text(f"{found.name} in {found.setting.task}, {found.metric.name} {gap}")
    return f" The one of them that saves most: {row}, with {percent(MACS.read(found) or 1.0, 2)} of the MACs."


def _ended(statuses: Counter[str]) -> str:
    total, good = sum(statuses.values()), statuses["ok"]
    if not total:
        return "There is no readable record here yet."
    others = ", ".join(f"{count} {status}" for status, count in sorted(statuses.items()) if status != "ok")
    if not others:
        return f"All {plural(total, 'cell')} ended well." if total > 1 else "The only cell ended well."
    if not good:
        return f"None of {plural(total, 'cell')} ended well ({others})."
    return f"{good} of {plural(total, 'cell')} ended well; {total - good} did not ({others})."


def _not_counted(study: Study) -> Iterator[str]:
    if replaced := len(study.loaded.frame) - len(study.cells):
        yield f"{plural(replaced, 'older attempt')} of these cells {_is(replaced)} not counted."
    if unfinished := study.loaded.unfinished:
        yield (
            f"{plural(unfinished, 'attempt')} left no record (killed, or still running) and {_is(unfinished)} not "
            "counted."
        )
    if broken := len(study.loaded.unreadable):
        yield f"{plural(broken, 'record')} could not be read and {_is(broken)} listed below."


def _is(count: int) -> str:
    return "is" if count == 1 else "are"


# -- cautions -------------------------------------------------------------------------------------------------------
def cautions(study: Study, rows: Sequence[Row]) -> Iterator[Block]:
    """What is not as it should be, a sentence each."""
    words = (_twins(rows), _one_seed(rows), _not_finite(rows), _other_data(study.loaded), _other_hardware(study))
    if any(words):
        yield Bullets(tuple(filter(None, words)))


def _twins(rows: Sequence[Row]) -> str:
    """Rows that have nothing to be compared with, by the reason."""
    said = {
        Lack.NO_TWIN: "**No dense twin** to compare with",
        Lack.OTHER_DATA: "**The dense twin saw other data** (the fingerprints differ), so nothing is compared",
    }
    settings = {why: dict.fromkeys(row.setting for row in rows if row.lack is why) for why in said}
    return " ".join(
        f"{words}, for some or all rows of {text(some(map(_name, settings[why]), _NAMED))}."
        for why, words in said.items()
        if settings[why]
    )


def _one_seed(rows: Sequence[Row]) -> str:
    """Said where some rows have one; of all, the outcome says it."""
    found = [row for row in rows if row.lack is Lack.ONE_SEED]
    if len(found) in (0, sum(row.comparison is not None for row in rows)):
        return ""
    rows_ = "combination" if len(found) == 1 else "combinations"
    return (
        f"**One seed** in {len(found)} {rows_} of pattern and method: a difference without an interval, which decides "
        "nothing. Two more seeds are the least that helps."
    )


def _not_finite(rows: Sequence[Row]) -> str:
    broken = (row for row in rows if any(not math.isfinite(value) for value in row.values))
    found = [row for row in broken if not row.setting.untrained]
    if not found:
        return ""
    names = dict.fromkeys(
        f"{row.setting.task} {row.pattern} {row.method} ({row.metric.name or 'metric'})" for row in found
    )
    which = text(some(names, _NAMED))
    return f"**Values that are no numbers** were left out of {which}; the notes below the tables say which."


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


def _name(setting: Setting) -> str:
    return f"{setting.task}/{setting.model} ({setting.scale})"


def _other_hardware(study: Study) -> str:
    """Said where a cell and its dense twin were trained by GPUs or, without one, CPUs of two types, as on a cluster."""
    good = [record for record in study.counting if record.status.done and record.environment is not None]
    kind = {it.cell.id: it.environment.gpu or it.environment.cpu or "a CPU" for it in good if it.environment}
    sparse = [record.cell for record in good if not record.cell.is_dense and record.cell.twin.id in kind]
    apart = [(kind[cell.twin.id], kind[cell.id]) for cell in sparse if kind[cell.twin.id] != kind[cell.id]]
    if not apart:
        return ""
    kinds = some([text(" and ".join(pair)) for pair in dict.fromkeys(apart)], _NAMED)
    return (
        f"**Other hardware than the dense twin's** trained {plural(len(apart), 'cell')} ({kinds}): their arithmetic "
        "rounds differently, which counts into the difference; times are not compared."
    )
