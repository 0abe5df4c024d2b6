"""Where the numbers come from, and a warning where one table mixes origins.

origins       key -> {value: cells}, over some records
mixed_overall, mixed_in_setting     the banner above a table, blocks of the front and of a setting
provenance, reproduce               the table of origins, and the commands, at the end
fingerprint   one hash over all records
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from nmbench.analysis.rows import Row
from nmbench.analysis.study import Study
from nmbench.contract import samples
from nmbench.document.model import Banner, Block, Prose, Section, Shell
from nmbench.document.table import Cell, Column, Table
from nmbench.document.words import plural, short, text
from nmbench.records.fields import canonical, flat_environment
from nmbench.records.frame import Loaded
from nmbench.records.schema import Record

__all__ = ["fingerprint", "mixed_in_setting", "mixed_overall", "origins", "provenance", "reproduce"]

_NO_GPU = "none"


def origins(records: Iterable[Record]) -> dict[str, Counter[str]]:
    """Every key of the environments, the plugin and the data fingerprint, with its values and their number of cells."""
    known = [(record["status"] == "ok", _origin(record)) for record in records]
    found: dict[str, Counter[str]] = {}
    for key in dict.fromkeys(key for _, origin in known for key in origin):
        # another task's data, and those that a failed cell never reached, are no gap
        gaps_count = " of " not in key
        asked = (origin for good, origin in known if key in origin or (gaps_count and good))
        found[key] = Counter(_word(key, origin.get(key)) for origin in asked)
    return found


def mixed_overall(study: Study, rows: Sequence[Row]) -> Iterator[Block]:
    """Above the tables that put settings and tasks together; those of one setting have a banner of their own."""
    yield from _banner(study, rows, "that stand together in this report")


def mixed_in_setting(study: Study, rows: Sequence[Row]) -> Iterator[Block]:
    """A warning where the cells of one setting do not share everything but pattern and method."""
    yield from _banner(study, rows, "of this table")


def _banner(study: Study, rows: Sequence[Row], where: str) -> Iterator[Banner]:
    records = (record for row in rows for record in study.records_of(row))
    differing = {key: values for key, values in origins(records).items() if len(values) > 1}
    if differing:
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
    matrices = sorted({str(record["matrix"]) for record in study.counting if record.get("matrix")})
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
        for name in ("record.json", "per_example.json", samples.FILE):
            file = folder / name
            whole.update(hashlib.sha256(file.read_bytes()).digest() if file.is_file() else b"-")
    return whole.hexdigest()[:16]


def _origin(record: Record) -> dict[str, Any]:
    plugin = record.get("plugin") or {}
    task = record["cell"]["task"]
    origin = flat_environment(record)
    if distribution := plugin.get("distribution"):
        origin[f"plugin of {task}"] = f"{distribution} {plugin.get('version') or ''}".strip()
    if digest := (record.get("data") or {}).get("fingerprint"):
        origin[f"data of {task}"] = str(digest)[:16]
    return origin


def _word(key: str, value: Any) -> str:
    if value is None:
        return _NO_GPU if key in ("gpu", "driver") else "not recorded"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return short(value if isinstance(value, str) else canonical(value), 80)


def _values(values: Counter[str]) -> str:
    return ", ".join(f"{text(value)} ({plural(count, 'cell')})" for value, count in _ordered(values))


def _ordered(values: Counter[str]) -> list[tuple[str, int]]:
    return sorted(values.items(), key=lambda item: (-item[1], item[0]))
