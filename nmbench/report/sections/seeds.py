"""What the seeds of a row can show, and, apart from it, what the evaluation examples say. Blocks of a setting."""

from collections.abc import Iterator, Sequence
from functools import lru_cache

from nmbench.analysis.examples import Difference, over_examples, per_example
from nmbench.analysis.pairs import decimals
from nmbench.analysis.rows import Row
from nmbench.analysis.study import Study
from nmbench.document.model import Fold
from nmbench.document.table import Cell, Column, Table, numeric
from nmbench.document.words import NBSP, number, plural, text
from nmbench.report.sections.quality import NAMES, compared, difference, names

_PRECISION = (
    "SD is the standard deviation of the paired differences. p is that of the paired t test; floor is the smallest "
    "p-value that an exact test (sign flips, Wilcoxon) of so many pairs can reach, whatever the data. Seen from: the "
    "true difference that so many seeds with this spread would have shown in four of five repetitions; nothing is "
    "known about a smaller one."
)
_EXAMPLES = (
    "Sparse - dense, averaged over the seeds first, with the 95 % interval of a paired bootstrap over evaluation "
    "examples: would other examples of the same kind say the same of these very models? It says nothing about other "
    "seeds, whose interval is another one; the two are not added up. Examples are taken as independent of each other."
)


def precision(study: Study, rows: Sequence[Row]) -> Iterator[Fold]:
    """One row a comparison with the dense twin, where any has more than one pair."""
    shown = compared(rows)
    if not any(row.pairs > 1 for row in shown):
        return
    columns = (
        *NAMES,
        Column("seeds", "Seeds", "r"),
        Column("sd", "SD", "r"),
        Column("p_value", "p", "r"),
        Column("p_floor", "p floor", "r"),
        Column("smallest_seen", "Seen from", "r"),
        Column("margin", "Margin", "r"),
    )
    table = Table("precision", "What the seeds can show", columns, tuple(map(_precise, shown)), (_PRECISION,), keys=2)
    yield Fold(table.title, (table,))


def _precise(row: Row) -> tuple[Cell, ...]:
    found, metric = row.comparison, row.metric
    assert found is not None
    digits, unit = decimals(metric), f"{NBSP}{metric.unit}" if metric.unit else ""

    def measured(value: float | None) -> Cell:
        return numeric(value, lambda known: f"{number(known, digits)}{unit}")

    return (
        *names(row),
        Cell(str(found.n), found.n),
        measured(found.sd),
        numeric(found.p_value, _p_text),
        Cell(_p_text(found.p_floor), found.p_floor),
        measured(found.smallest_seen),
        Cell(f"{metric.margin:g}{unit}", metric.margin),
    )


def _p_text(value: float) -> str:
    """Two digits, as 0.031; "< 0.001" below."""
    return f"<{NBSP}0.001" if value < 0.001 else f"{value:.2g}"


def over_evaluation(study: Study, rows: Sequence[Row]) -> Iterator[Fold]:
    """One row a value that a sparse row and its dense twin stored for every example."""
    twin = next((row for row in rows if row.is_dense), None)
    if twin is None:
        return
    # every row asks for the dense twin's values, which a cache of so many attempts still holds then
    read = lru_cache(maxsize=64)(per_example)
    sparse = [row for row in rows if not row.is_dense]
    found = [(row, over) for row in sparse for over in over_examples(row, twin, study.loaded, read)]
    if not found:
        return
    columns = (
        *NAMES,
        Column("value", "Value"),
        Column("examples", "Examples", "r"),
        Column("seeds", "Seeds", "r"),
        Column("difference", "Difference [95 % over examples]", "r"),
    )
    body = tuple(_over(row, over) for row, over in found)
    notes = (_EXAMPLES, *(note for row, over in found for note in _gaps(row, over)))
    table = Table("examples", "Over evaluation examples", columns, body, notes, keys=3)
    yield Fold(table.title, (table,))


def _gaps(row: Row, found: Difference) -> Iterator[str]:
    """In words, what of the stored values could not be used."""
    what = text(f"{row.name}: {found.name}")
    if found.left_out:
        yield f"{what} is not finite for {plural(found.left_out, 'example')}."
    if found.without:
        seeds = ", ".join(map(str, found.without))
        verb = "is" if len(found.without) == 1 else "are"
        yield f"{what} is missing, broken or of another length in seed {seeds}, which {verb} left out."


def _over(row: Row, found: Difference) -> tuple[Cell, ...]:
    return (
        *names(row),
        Cell(found.name),
        Cell(str(found.examples), found.examples),
        Cell(str(len(found.seeds)), len(found.seeds)),
        difference(found.mean, found.interval, 4),
    )
