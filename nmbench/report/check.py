"""Is a report what its records give? `differences`, which writes nothing.

Compared are the texts of every page and table, to the last character. Of figures only that they are there: their bytes
depend on matplotlib's version. A figure that is out of date is noticed all the same, because every page holds a
fingerprint of all records.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Sequence
from pathlib import Path

from matplotlib.image import imread

from nmbench.report.write import DEFAULT, FORMATS, render

__all__ = ["differences", "formats_of"]

_DATA = re.compile(r'src="data:[^"]*"')
_FIGURE = re.compile(r"!\[[^\]]*\]\(([^)]+)\)|\\fitted\{([^}#]+)\}")


def formats_of(out: Path) -> list[str]:
    """The formats whose page is in `out`; the default ones where there is none."""
    return [name for name, page in FORMATS.items() if (out / page).is_file()] or list(DEFAULT)


def differences(results: Path, out: Path, title: str, formats: Sequence[str]) -> list[str]:
    """One line a file of the report in `out` that is not what the records below `results` give; [] where all are."""
    with tempfile.TemporaryDirectory(prefix="nmbench-report-") as scratch:
        wanted = render(results, title, formats, Path(scratch))
    said = [line for name, text in wanted.items() if (line := _difference(out / name, name, text))]
    figures = sorted(
        {figure for text in wanted.values() for pair in _FIGURE.findall(text) for figure in pair if figure}
    )
    said += [line for name in figures if (line := _picture(out / name, name))]
    kinds = {f".{name}" for name in formats}
    here = sorted(file for file in out.glob("tables/*") if file.suffix in kinds)
    return said + [
        f"tables/{file.name}: no part of this report" for file in here if f"tables/{file.name}" not in wanted
    ]


def _picture(file: Path, name: str) -> str:
    """Its bytes depend on matplotlib's version, so they are not compared; but it has to be a picture."""
    if not file.is_file():
        return f"{name}: missing"
    if file.suffix == ".png":
        try:
            imread(file)
        except Exception as error:  # whatever a decoder makes of broken bytes
            return f"{name}: is no picture that can be read ({type(error).__name__})"
    return ""


def _difference(file: Path, name: str, text: str) -> str:
    try:
        written = file.read_text(encoding="utf-8")
    except FileNotFoundError:
        return f"{name}: missing"
    except (OSError, UnicodeDecodeError) as error:
        return f"{name}: cannot be read ({type(error).__name__})"
    one, other = (_DATA.sub('src=""', page).splitlines() for page in (written, text))
    if one == other:
        return ""
    pairs = zip([*one, None], [*other, None], strict=False)
    line = next(number for number, (old, new) in enumerate(pairs, start=1) if old != new)
    return f"{name}: differs from line {line} on"
