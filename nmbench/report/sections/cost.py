"""What a setting's models cost: tables of `size` and training `effort`, blocks of a setting."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from nmbench.analysis.rows import Row
from nmbench.analysis.study import Study
from nmbench.document.model import Block, Prose
from nmbench.document.table import Cell, Column, Table, filled, numeric
from nmbench.document.words import NBSP, binary, percent, si
from nmbench.report.sections.quality import NAMES, names

_NO_COST = "No cell of this setting ended well, so there is no cost to show."
_TIME_NOTE = (
    "Time is that of training, relative to the dense twin, and shown only where both ran alone on the machine, in one "
    "go and on the same hardware (`-` elsewhere)."
)
_MEMORY_NOTE = "Memory is the most that the process took until training ended: the GPU's where one was used."
_PASSES_NOTE = "A pass is the full schedule; a method with 2 passes trains twice as many steps as its dense twin."


def size(study: Study, rows: Sequence[Row]) -> Iterator[Block]:
    """Parameters, arithmetic and storage of one model of each row that ended well."""
    columns = (
        *NAMES,
        Column("nonzeros", "Parameters", "r"),
        Column("macs", "MACs", "r"),
        Column("bytes", "Bytes", "r"),
    )
    body = tuple(
        (
            *names(row),
            _shrunk(row, "parameters", "nonzeros", si, lambda before, after: percent(after / before, 2)),
            _shrunk(row, "macs_dense", "macs_effective", si, lambda before, after: percent(after / before, 2)),
            _shrunk(row, "bytes_dense", "bytes_compressed", binary, lambda before, after: f"{before / after:.2f}×"),
        )
        for row in rows
        if row.seeds
    )
    notes = ("With their share of the dense figure; after the bytes, how many times smaller.",)
    yield Table("cost", "Cost and gain", columns, body, notes, keys=2) if body else Prose(_NO_COST)


def effort(study: Study, rows: Sequence[Row]) -> Iterator[Block]:
    """Mask flips, passes, time and memory of training of each row that ended well."""
    good = [row for row in rows if row.seeds]
    if not good:
        return
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
            numeric(row.means.get("sad_total"), si),
            numeric(row.means.get("sad_per_weight"), "{:.3g}".format),
            numeric(row.means.get("training_passes"), "{:g}×".format),
            _time(row),
            numeric(row.means.get("peak_gpu_bytes", row.means.get("peak_rss_bytes")), binary),
        )
        for row in good
    )
    table = filled(Table("training", "Training effort", columns, body, keys=2))
    yield replace(table, notes=tuple(_notes(good, table)))


def _notes(rows: Sequence[Row], table: Table) -> Iterator[str]:
    keys = {column.key for column in table.columns}
    if "time" in keys:
        yield _TIME_NOTE
    if "memory" in keys:
        yield _MEMORY_NOTE
    if any(row.means.get("training_passes", 1) > 1 for row in rows):
        yield _PASSES_NOTE
    if shadows := sorted({str(row.shadow) for row in rows if row.shadow}):
        yield f"The dense row's SAD is that of a shadow mask ({', '.join(shadows)}), which was only watched."


def _shrunk(
    row: Row, dense: str, left: str, shown: Callable[[float], str], gain: Callable[[float, float], str]
) -> Cell:
    """What is left of it, and what that gains, after the dense figure; the dense one alone where nothing went."""
    before, after = row.means.get(dense), row.means.get(left)
    if before is None or after is None:
        return Cell("-")
    text = shown(before)
    if before and after and before != after:
        text += f"{NBSP}→ {shown(after)}{NBSP}({gain(before, after)})"
    return Cell(text, after, parts=(("dense", before),))


def _time(row: Row) -> Cell:
    if row.is_dense:
        return Cell("1×", 1.0, parts=(("s", row.means.get("train_s")),))
    return numeric(row.time_ratio, "{:.2f}×".format, s=row.means.get("train_s"))
