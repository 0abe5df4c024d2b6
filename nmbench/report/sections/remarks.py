"""What the records of one setting say in words, below its tables: `remarks`, blocks of a setting.

What a trivial answer reaches (baselines), how the cells were trained and evaluated (facts), and sentences that the task
wrote for the reader (notes). What all cells share is said once; what they do not share is said with the rows that it is
true of.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence

from nmbench._util.groups import grouped
from nmbench.analysis.rows import Row
from nmbench.analysis.study import Study
from nmbench.document.model import Block, Bullets, Prose
from nmbench.document.words import code, text
from nmbench.records.schema import Record

Sentences = Callable[[Record], Iterable[str]]


def remarks(study: Study, rows: Sequence[Row]) -> Iterator[Block]:
    """ "For scale: zero flow reaches epe 8.80 px.", "How it was done: signature `nrefs:1`.", and the notes."""
    if baselines := _shared(study, rows, _baselines):
        yield Prose(f"For scale: {'; '.join(baselines)}.")
    if facts := _shared(study, rows, _facts):
        yield Prose(f"How it was done: {'; '.join(facts)}.")
    if notes := _shared(study, rows, _notes):
        yield Bullets(tuple(notes))


def _baselines(record: Record) -> Iterator[str]:
    units = {info.name: info.unit for info in record.metric_info}
    for name, values in record.baselines.items():
        reached = ", ".join(f"{text(key)} {_value(value, units.get(key, ''))}" for key, value in values.items())
        yield f"{text(name)} reaches {reached}"


def _facts(record: Record) -> Iterator[str]:
    for name, value in record.facts.items():
        yield f"{text(name)} {code(value)}"


def _notes(record: Record) -> Iterator[str]:
    yield from map(text, record.notes)


def _value(value: float | None, unit: str) -> str:
    number = "-" if value is None else f"{value:.4g}"
    return text(f"{number} {unit}".strip())


def _shared(study: Study, rows: Sequence[Row], sentences: Sentences) -> list[str]:
    """Every sentence; where not all records say it, with the rows (and seeds) whose records do."""
    cells = [(row, seed, record) for row in rows for seed, record in zip(row.seeds, study.records_of(row), strict=True)]
    where = grouped(
        (sentence, (row, seed)) for row, seed, record in cells for sentence in dict.fromkeys(sentences(record))
    )
    return [sentence if len(own) == len(cells) else f"{sentence} ({_cells(own)})" for sentence, own in where.items()]


def _cells(cells: Iterable[tuple[Row, int]]) -> str:
    return ", ".join(_cell(row, own) for row, own in grouped(cells).items())


def _cell(row: Row, seeds: Sequence[int]) -> str:
    some = f", seed {', '.join(map(str, seeds))}" if len(seeds) < len(row.seeds) else ""
    return text(row.name + some)
