"""What did not end well: cells that failed and records that cannot be read. `failures`, `unreadable`: at the end."""

from collections.abc import Iterator, Sequence

from nmbench.analysis.rows import Row
from nmbench.analysis.study import Study
from nmbench.document.model import Prose, Section
from nmbench.document.table import Cell, Column, Table
from nmbench.document.words import short
from nmbench.records.schema import Record


def failures(study: Study, rows: Sequence[Row]) -> Iterator[Section]:
    """The cells whose counting attempt did not end `ok`: kind, first line of the message, and how to run it again."""
    columns = (
        Column("cell", "Cell"),
        Column("status", "How it ended"),
        Column("message", "Message"),
        Column("command", "To run it again"),
    )
    failed = [(place, record) for place, record in zip(study.cells.index, study.counting, strict=True)
              if record.status.failed]  # fmt: skip
    body = tuple(
        (
            Cell(f"{record.cell.task}/{study.loaded.folders[place].parent.name}", code=True),
            Cell(record.status),
            Cell(short(_message(record)), code=True),
            Cell(" ".join((record.command or "-").split()), code=bool(record.command)),
        )
        for place, record in failed
    )
    yield Section("Failures", (Table("failures", "Failures", columns, body) if body else Prose("No cell failed."),))


def _message(record: Record) -> str:
    kind, message = (record.error.kind, record.error.message) if record.error else ("", "")
    return ": ".join(filter(None, [kind if kind != record.status else "", message]))


def unreadable(study: Study, rows: Sequence[Row]) -> Iterator[Section]:
    """Record files that could not be used, and those of which a part had to be left out, with the reasons."""
    columns = (Column("record", "Record"), Column("reason", "Why it could not be read"))
    for name, title, files, words in (
        ("unreadable", "Unreadable records", study.loaded.unreadable, "Nothing in this report comes from these files."),
        ("read-in-part", "Records read in part", study.loaded.problems, "The rest of these records is in this report."),
    ):
        body = tuple((Cell(file.path, code=True), Cell(short(file.reason), code=True)) for file in files)
        if body:
            yield Section(title, (Prose(words), Table(name, title, columns, body)))
