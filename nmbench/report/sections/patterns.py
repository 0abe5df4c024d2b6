"""Which layers keep to patterns of their own, given to them or searched for. `patterns`, block of a setting."""

import math
from collections.abc import Iterator, Sequence

from nmbench.analysis.rows import Row
from nmbench.analysis.study import Study
from nmbench.document.model import Block, Fold
from nmbench.document.table import Cell, Column, Table
from nmbench.document.words import NBSP, percent, si, some
from nmbench.records.schema import Record
from nmbench.records.sections import LayerAudit

_MOST_NAMES = 6
_COLUMNS = (
    Column("pattern", "Pattern"),
    Column("method", "Method"),
    Column("keeps", "Layers keep"),
    Column("layers", "Layers"),
    Column("weights", "Weights", "r"),
    Column("density", "Density", "r"),
)
_NOTE = (
    "Layers with a pattern of their own, of the first seed of each row. Weights are those of the layers named, with "
    "their share of all layers that became sparse; density is that of the finished weights."
)


def by_layer(study: Study, rows: Sequence[Row]) -> Iterator[Block | Fold]:
    """One line for each pattern that layers of a row have; nothing where all rows have one pattern."""
    body = [line for row in rows for record in study.records_of(row)[:1] for line in _lines(row, record)]
    if body:
        table = Table("layer-patterns", "Patterns by layer", _COLUMNS, tuple(body), (_NOTE,), keys=3)
        yield Fold("Patterns by layer", (table,))


def _lines(row: Row, record: Record) -> Iterator[tuple[Cell, ...]]:
    sparse = [layer for layer in record.audit.layers if layer.role == "sparse"] if record.audit else []
    if row.is_dense or not any(layer.pattern for layer in sparse):
        return
    total = sum(map(_size, sparse))
    groups: dict[str, list[LayerAudit]] = {}
    for layer in sparse:
        groups.setdefault(layer.pattern or row.pattern_text, []).append(layer)
    for kept, layers in sorted(groups.items(), key=lambda item: -_density(item[1])):
        names = [layer.name.removesuffix(".weight") for layer in layers]
        weights = sum(map(_size, layers))
        yield (
            Cell(row.pattern_text),
            Cell(row.method_text),
            Cell(kept),
            Cell(some(names, _MOST_NAMES), ", ".join(names)),
            Cell(f"{si(weights)}{NBSP}({percent(weights / max(1, total))})", weights),
            Cell(f"{_density(layers):.4g}", _density(layers)),
        )


def _size(layer: LayerAudit) -> int:
    return math.prod(layer.shape or [0])


def _density(layers: Sequence[LayerAudit]) -> float:
    return sum(_size(layer) * (layer.density or 0.0) for layer in layers) / max(1, sum(map(_size, layers)))
