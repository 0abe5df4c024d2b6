"""The tables of what a setting's models cost: `size` (what they take) and `effort` (what training them took)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from nmbench.analysis.rows import Row
from nmbench.document.table import Cell, Column, Table, filled
from nmbench.document.words import NBSP, binary, percent, si
from nmbench.report.sections.tables import NAMES, names

__all__ = ["effort", "size"]

_TIME = (
    "Time is that of training, relative to the dense twin, and shown only where both ran alone on the machine, in one "
    "go and on the same hardware (`-` elsewhere)."
)
_MEMORY = "Memory is the most that the process took until training ended: the GPU's where one was used."
_PASSES = "A pass is the full schedule; a method with 2 passes trains twice as many steps as its dense twin."


def size(rows: Sequence[Row]) -> Table | None:
    """The rows of one setting that ended well: parameters, arithmetic and storage of one model; None without such."""
    columns = (
        *NAMES,
        Column("nonzeros", "Parameters", "r"),
        Column("macs", "MACs", "r"),
        Column("bytes", "Bytes", "r"),
    )
    body = tuple(
        (*names(row), _shrunk(row, "parameters", "nonzeros"), _shrunk(row, "macs_dense", "macs_effective"), _bytes(row))
        for row in rows
        if row.seeds
    )
    notes = ("With their share of the dense figure; after the bytes, how many times smaller.",)
    return Table("cost", "Cost and gain", columns, body, notes, keys=2) if body else None


def effort(rows: Sequence[Row]) -> Table | None:
    """The rows of one setting that ended well: mask flips, passes, time and memory of training; None without such."""
    good = [row for row in rows if row.seeds]
    columns = (
        *NAMES,
        Column("sad", "Flips", "r"),
        Column("sad_per_weight", "Flips per weight", "r"),
        Column("passes", "Passes", "r"),
        Column("time", "Time", "r"),
        Column("memory", "Memory", "r"),
    )
    body = tuple(
        (
            *names(row),
            _mean(row, "sad_total", si),
            _mean(row, "sad_per_weight", lambda value: f"{value:.3g}"),
            _mean(row, "training_passes", lambda value: f"{value:g}×"),
            _time(row),
            _memory(row),
        )
        for row in good
    )
    table = filled(Table("training", "Training effort", columns, body, keys=2))
    return replace(table, notes=tuple(_notes(good, table))) if body else None


def _notes(rows: Sequence[Row], table: Table) -> list[str]:
    keys = {column.key for column in table.columns}
    notes = [_TIME] if "time" in keys else []
    notes += [_MEMORY] if "memory" in keys else []
    notes += [_PASSES] if any(row.means.get("training_passes", 1) > 1 for row in rows) else []
    if shadows := sorted({row.shadow for row in rows if row.shadow}):
        notes.append(f"The dense row's SAD is that of a shadow mask ({', '.join(shadows)}), which was only watched.")
    return notes


def _mean(row: Row, name: str, shown: Callable[[float], str]) -> Cell:
    value = row.means.get(name)
    return Cell("-") if value is None else Cell(shown(value), value)


def _shrunk(row: Row, dense: str, left: str) -> Cell:
    """What is left of it, and its share, after the dense figure; the dense one alone where nothing went."""
    before, after = row.means.get(dense), row.means.get(left)
    if before is None or after is None:
        return Cell("-")
    parts = (("dense", before),)
    if before == after or not before:
        return Cell(si(before), after, parts=parts)
    return Cell(f"{si(before)}{NBSP}→ {si(after)}{NBSP}({percent(after / before, 2)})", after, parts=parts)


def _bytes(row: Row) -> Cell:
    before, after = row.means.get("bytes_dense"), row.means.get("bytes_compressed")
    if before is None or after is None:
        return Cell("-")
    parts = (("dense", before),)
    if before == after or not after:
        return Cell(binary(before), after, parts=parts)
    return Cell(f"{binary(before)}{NBSP}→ {binary(after)}{NBSP}({before / after:.2f}×)", after, parts=parts)


def _time(row: Row) -> Cell:
    if row.is_dense:
        return Cell("1×", 1.0, parts=(("s", row.means.get("train_s")),))
    if row.time_ratio is None:
        return Cell("-")
    return Cell(f"{row.time_ratio:.2f}×", row.time_ratio, parts=(("s", row.means.get("train_s")),))


def _memory(row: Row) -> Cell:
    gpu = row.means.get("peak_gpu_bytes")
    value = gpu if gpu is not None else row.means.get("peak_rss_bytes")
    return Cell("-") if value is None else Cell(binary(value), value)
