"""Where the numbers come from, and a warning where one table mixes origins."""

import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence

from nmbench.analysis.origins import mixture, origins
from nmbench.analysis.rows import Row
from nmbench.analysis.study import Study
from nmbench.contract import samples
from nmbench.document.model import Banner, Block, Prose, Section, Shell
from nmbench.document.table import Cell, Column, Table
from nmbench.document.words import plural, text
from nmbench.records.attempt import PER_EXAMPLE, RECORD, record_of
from nmbench.records.frame import Loaded


def mixed_overall(study: Study, rows: Sequence[Row]) -> Iterator[Block]:
    """Above the tables that put settings and tasks together; those of one setting have a banner of their own."""
    yield from mixed_in_setting(study, rows, "that stand together in this report")


def mixed_in_setting(study: Study, rows: Sequence[Row], where: str = "of this table") -> Iterator[Block]:
    """A warning where the cells do not share everything but pattern and method."""
    records = (record for row in rows for record in study.records_of(row))
    if differing := mixture(records):
        what = "; ".join(f"{text(key)}: {_values(values)}" for key, values in differing.items())
        yield Banner(
            f"**Mixed origins.** The cells {where} differ in more than pattern and method. {what}. "
            "Differences between rows may come from this."
        )


def provenance(study: Study, rows: Sequence[Row]) -> Iterator[Section]:
    """One row a key and value, with the number of cells that have it, and one hash over all that was read."""
    columns = (Column("what", "What"), Column("value", "Value"), Column("cells", "Cells", "r"))
    body = tuple(
        (Cell(key), Cell(value), Cell(str(count), count))
        for key, values in sorted(origins(study.counting).items())
        for value, count in _ordered(values)
    )
    if not body:
        words = Prose("There is no readable record, so there is nothing to say about origins.")
        yield Section("Provenance", (words,))
        return
    records = plural(len(study.loaded.records), "readable record")
    words = Prose(f"Fingerprint of the {records}: `{fingerprint(study.loaded)}`.")
    yield Section("Provenance", (words, Table("provenance", "Provenance", columns, body)))


def reproduce(study: Study, rows: Sequence[Row]) -> Iterator[Section]:
    """The commands that give these results and this report."""
    matrices = sorted({record.matrix for record in study.counting if record.matrix})
    lines = tuple(f"nmbench {verb} {matrix}" for matrix in matrices or [study.name] for verb in ("run", "report"))
    words = Prose(
        "`nmbench run` does only the cells that have not ended well yet; `nmbench report` writes this page again, with "
        "equal bytes where the records are equal."
    )
    yield Section("How to reproduce", (Shell(lines), words))


def fingerprint(loaded: Loaded) -> str:
    """16 hexadecimal digits over the bytes of all readable records and of what tables and examples read beside them."""
    whole = hashlib.sha256()
    for folder in loaded.folders:
        record = record_of(folder) or folder / RECORD
        for file in (record, folder / PER_EXAMPLE, folder / samples.FILE):
            whole.update(hashlib.sha256(file.read_bytes()).digest() if file.is_file() else b"-")
    return whole.hexdigest()[:16]


def _values(values: Counter[str]) -> str:
    return ", ".join(f"{text(value)} ({plural(count, 'cell')})" for value, count in _ordered(values))


def _ordered(values: Counter[str]) -> list[tuple[str, int]]:
    return sorted(values.items(), key=lambda item: (-item[1], item[0]))
