"""The page of `nmbench compare`: how two result sets differ as a whole, then every setting with its rows."""

from collections import Counter
from collections.abc import Sequence

from nmbench._util.groups import grouped
from nmbench.analysis.pairs import decimals, in_short
from nmbench.analysis.two_sets import Change, Fate, surroundings
from nmbench.analysis.verdict import Verdict
from nmbench.document.model import Block, Bullets, Prose, Report, Section
from nmbench.document.table import Cell, Column, Table
from nmbench.document.words import plural, some, text
from nmbench.records.frame import Loaded

#: rows that a note names
_NAMED = 6
#: in the order in which they are counted; other words come last
_ORDER = (
    *(Verdict.WORSE, Verdict.PERHAPS_WORSE, Verdict.BETTER, Verdict.NOT_WORSE, Fate.SAME),
    *("undecided", "undecided (1 seed)", *Fate),
)
_COLUMNS = (
    Column("pattern", "Pattern"),
    Column("method", "Method"),
    Column("seeds", "Seeds", "r"),
    Column("metric", "Metric"),
    Column("difference", "B - A [95 %]", "r"),
    Column("verdict", "Verdict"),
)


def page(first: Loaded, second: Loaded, names: tuple[str, str], changes: Sequence[Change]) -> Report:
    """The report on the changes from `first`, A, to `second`, B, whose `names` are plain text."""
    settings = grouped((change.row.setting, change) for change in changes)
    content = (
        Prose(_counted(changes)),
        *(block for loaded, side in ((first, "A"), (second, "B")) for block in _missing(loaded, side)),
        *_origins(first, second),
        *(_setting(f"{setting.task}: {setting.described}", own) for setting, own in settings.items()),
    )
    return Report(f"{names[0]} (A) and {names[1]} (B)", content)


def _setting(title: str, changes: Sequence[Change]) -> Section:
    return Section(title, (Table("changes", title, _COLUMNS, tuple(map(_cells, changes)), keys=2), *_remarks(changes)))


def _cells(change: Change) -> tuple[Cell, ...]:
    row, found = change.row, change.comparison
    metric = f"{row.metric.name} {'↑' if row.metric.higher_is_better else '↓'}" if row.metric.name else "-"
    difference = in_short(found, row.metric.unit, decimals(row.metric)) if found else "-"
    return (
        Cell(row.pattern_text),
        Cell(row.method_text),
        Cell(str(found.n) if found else "-", found.n if found else None),
        Cell(metric),
        Cell(difference, found.difference if found else None),
        Cell(change.words, strong=change.worse or change.words == Verdict.BETTER),
    )


def _counted(changes: Sequence[Change]) -> str:
    if not changes:
        return "Neither set has a readable record."
    counts = Counter(change.words for change in changes)
    order = sorted(counts, key=lambda name: (_ORDER.index(name) if name in _ORDER else len(_ORDER), name))
    return (
        f"Over {plural(len(changes), 'combination')} of setting, pattern and method, B against A: "
        f"{', '.join(f'{counts[name]} {name}' for name in order)}. "
        "Seeds are paired; the verdict is read off the 95 % interval against the task's margin, and no correction is "
        "made for the number of rows."
    )


def _missing(loaded: Loaded, side: str) -> list[Block]:
    """What of a set is not in the tables."""
    blocks: list[Block] = []
    if loaded.unreadable:
        blocks.append(Prose(f"{plural(len(loaded.unreadable), 'record')} of {side} could not be read:"))
        blocks.append(Bullets(tuple(f"{text(one.path)}: {text(one.reason)}" for one in loaded.unreadable)))
    return [*blocks, *([] if len(loaded.frame) else [Prose(f"{side} has no readable record.")])]


def _origins(first: Loaded, second: Loaded) -> list[Block]:
    differing = surroundings(first, second)
    if not differing:
        return [Prose("Versions, hardware and data are the same in both.")]
    columns = (Column("what", "What"), Column("a", "A"), Column("b", "B"))
    rows = tuple((Cell(key), *(Cell(_values(side)) for side in sides)) for key, sides in differing.items())
    return [Table("surroundings", "Where the two differ, which may be why results do", columns, rows)]


def _values(counts: Counter[str]) -> str:
    if len(counts) < 2:
        return next(iter(counts), "-")
    return ", ".join(f"{value} ({plural(count, 'cell')})" for value, count in sorted(counts.items()))


def _remarks(changes: Sequence[Change]) -> list[Block]:
    """The notes of the rows of one setting, each once, with the rows that it is about."""
    rows = grouped((note, change.row.name) for change in changes for note in change.notes)
    notes = tuple(f"{text(_some(names, len(changes)))}: {text(note)}." for note, names in rows.items())
    return [Bullets(notes)] if notes else []


def _some(names: Sequence[str], total: int) -> str:
    if len(names) == total > 1:
        return "all rows"
    return some(names, _NAMED)
