"""Where numbers come from: versions, hardware, code and data of records."""

from collections import Counter
from collections.abc import Iterable
from typing import Any

from nmbench._util.settings import canonical
from nmbench.document.words import short
from nmbench.records.schema import Record

Origins = dict[str, Counter[str]]
#: after it stands whose own it is; between tasks, or methods, that is no difference
_OF = " of "


def origins(records: Iterable[Record]) -> Origins:
    """Every key of the environments, with plugin, code and data of each task: its values and their number of cells."""
    # most cells of a matrix ran in one place: each of those is looked at once
    places = Counter((record.status.done, tuple(_origin(record).items())) for record in records)
    known = [(good, dict(origin), cells) for (good, origin), cells in places.items()]
    found: Origins = {}
    for key in dict.fromkeys(key for _, origin, _ in known for key in origin):
        # another task's data, and those that a failed cell never reached, are no gap
        gaps_count = _OF not in key
        found[key] = Counter()
        for good, origin, cells in known:
            if key in origin or (gaps_count and good):
                found[key][_word(key, origin.get(key))] += cells
    return found


def mixture(records: Iterable[Record]) -> Origins:
    """What the records do not share; {} where they were made alike."""
    return {key: values for key, values in origins(records).items() if len(values) > 1}


def _origin(record: Record) -> dict[str, Any]:
    """One record's versions and hardware; what its task and method have of their own is named after them."""
    task, method = record.cell.task, record.cell.method
    origin = record.environment.flat() if record.environment else {}
    # the hash of what all cells execute, then of the task's own code, then of the method's, if it is not ours
    keys = ("code", f"code{_OF}{task}", f"code{_OF}{method}")
    origin |= dict(zip(keys, str(origin.pop("code", None) or "").split("-"), strict=False))
    if record.plugin and record.plugin.distribution:
        origin[f"plugin{_OF}{task}"] = f"{record.plugin.distribution} {record.plugin.version or ''}".strip()
    if record.data and record.data.fingerprint:
        origin[f"data{_OF}{task}"] = record.data.fingerprint[:16]
    return {key: _scalar(value) for key, value in origin.items() if value != ""}


def _scalar(value: Any) -> str | bool | None:
    return value if value is None or isinstance(value, str | bool) else canonical(value)


def _word(key: str, value: str | bool | None) -> str:
    if value is None:
        return "none" if key in ("gpu", "driver") else "not recorded"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return short(value, 80)
