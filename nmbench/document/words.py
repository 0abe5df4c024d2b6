"""Numbers and strangers' text as they stand in a report, whose texts are inline markdown."""

import itertools
import json
import re
from collections.abc import Container, Iterable, Sequence

#: a space at which a table cell is not wrapped
NBSP = "\N{NO-BREAK SPACE}"
#: a link, a reference, a footnote, a box to tick
_LINK = re.compile(r"\][(\[:]|\[\^|\[[ xX]?\]")


def text(value: object) -> str:
    """`value` on one line with everything escaped that markdown or HTML would read."""
    line = " ".join(str(value).split()).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    # an underscore inside a word is no emphasis, and lambda_w is easier to read than lambda\\_w
    line = re.sub(r"[\\`*|~$#]|(?<!\w)_|_(?!\w)", r"\\\g<0>", line)
    # the ends of an interval are no link
    return re.sub(r"[\[\]]", r"\\\g<0>", line) if _LINK.search(line) else line


def code(value: object) -> str:
    """`value` on one line as inline code; a table's cell must escape its pipes besides."""
    line = " ".join(str(value).split())
    fence = "`" * (1 + max((len(run) for run in re.findall("`+", line)), default=0))
    pad = " " if "`" in line else ""
    return f"{fence}{pad}{line}{pad}{fence}" if line else ""


def short(value: str, length: int = 160) -> str:
    """The first non-empty line of `value`, cut at `length` characters with an ellipsis."""
    line = next((line.strip() for line in value.splitlines() if line.strip()), "")
    return line if len(line) <= length else line[: length - 1].rstrip() + "…"


def label(method: str, hyper: str) -> str:
    """A method and, in brackets, its settings where they are not the default ones; `hyper` is canonical JSON."""
    words = ", ".join(_setting(key, value) for key, value in json.loads(hyper).items())
    return f"{method} ({words})" if words else method


def _setting(key: str, value: object) -> str:
    if isinstance(value, dict):
        return f"{key}: {', '.join(_setting(inner, part) for inner, part in value.items())}"
    return f"{key}={value if isinstance(value, str) else json.dumps(value)}"


def number(value: float, decimals: int) -> str:
    """With fixed decimals; never a negative zero."""
    return f"{round(value, decimals) + 0.0:.{decimals}f}"


def signed(value: float, decimals: int) -> str:
    """With its sign, zero without one."""
    rounded = round(value, decimals) + 0.0
    return f"{rounded:+.{decimals}f}" if rounded else f"{rounded:.{decimals}f}"


def si(value: float) -> str:
    """Three digits and a factor of 1000, as 1.23 G with a space that does not break."""
    return _scaled(value, 1000.0, ("", "k", "M", "G", "T", "P"))


def binary(value: float) -> str:
    """Bytes with three digits and a factor of 1024, as 1.23 MiB with a space that does not break."""
    return _scaled(value, 1024.0, ("B", "KiB", "MiB", "GiB", "TiB"))


def _scaled(value: float, base: float, units: Sequence[str]) -> str:
    step = 0
    # 999.9 would be printed as 1000 of its unit, hence a little below the base
    while abs(value) >= base * 0.9995 and step < len(units) - 1:
        value, step = value / base, step + 1
    if step == 0:
        return f"{value:.0f}{NBSP}{units[0]}".rstrip(NBSP)
    decimals = 2 if abs(value) < 9.995 else 1 if abs(value) < 99.95 else 0
    return f"{value:.{decimals}f}{NBSP}{units[step]}"


def percent(share: float, digits: int = 3) -> str:
    """A share as a percentage with so many significant digits; the space does not break."""
    return f"{float(f'{100 * share:.{digits}g}'):g}{NBSP}%"


def unused(name: str, taken: Container[str], first: int = 2) -> str:
    """`name`, or where it is taken `name-2`, `name-3`, ..."""
    names = itertools.chain([name], (f"{name}-{count}" for count in itertools.count(first)))
    return next(free for free in names if free not in taken)


def some(names: Iterable[str], most: int) -> str:
    """The first of the names, and how many more there are."""
    listed = list(names)
    return ", ".join(listed[:most]) + (f" and {len(listed) - most} more" if len(listed) > most else "")


def plural(count: int, noun: str) -> str:
    """A count with its noun: 1 cell, 2 cells."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
