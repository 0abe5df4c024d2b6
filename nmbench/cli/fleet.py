"""`nmbench run M --on E`: from the options of `run` to a driver of cells that run elsewhere."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from nmbench._util.errors import UsageError
from nmbench.cli.common import Selection

if TYPE_CHECKING:
    from nmbench.plan.cell import Cell
    from nmbench.running.fleet import Fleet
    from nmbench.running.order import Options
    from nmbench.running.progress import Progress

_SETTLE_S = 60.0
_GPU_CPUS = 4  # cores for each GPU, where nobody says how many


@dataclass(frozen=True)
class Remote:
    """What was typed. arguments: of `nmbench run`, for the nodes."""

    engine: str
    options: Sequence[str]
    arguments: Sequence[str]
    workers: int
    pack: int
    device: str
    timeout: float | None
    again: bool

    def driver(self, chosen: Selection, options: Options, progress: Progress, written: Callable[[Path], None]) -> Fleet:
        """Ready to run cells. Raises UsageError where the engine is not there, or an option is none."""
        from nmbench.engines import engine
        from nmbench.engines.options import merged
        from nmbench.running.fleet import Fleet
        from nmbench.running.flight import Terms

        given = merged(self.engine, chosen.matrix.engine, self.options)
        settle = number("settle", given.pop("settle", None), _SETTLE_S)
        poll = number("poll", given.pop("poll", None), 10.0)
        found = engine(self.engine, given)
        gpus = self.device == "cuda" or (self.device == "auto" and found.accelerated)
        terms = Terms(
            (sys.executable, "-m", "nmbench", "run", *self.arguments),
            workers=self.workers,
            pack=self.pack,
            again=self.again,
            cpus=int(number("cpus-per-task", given.get("cpus-per-task"), _GPU_CPUS if gpus else 1)),
            gpus=gpus,
            exclusive=given.get("exclusive") == "",
            minutes=None if self.timeout is None else math.ceil(self.timeout / 60),
            settle_s=settle,
            poll_s=poll,
        )
        return Fleet(chosen.store, chosen.catalogue, options, progress, found, terms, written)


def number(key: str, text: str | None, default: float) -> float:
    """An option of an engine that is one, at least 0. Raises UsageError."""
    try:
        value = default if text is None else float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < math.inf:
        raise UsageError(f"--engine {key}={text}: give a number")
    return value


@dataclass(frozen=True)
class Named:
    """A cell by its id, as a driver asks for it: `ID`, `ID@CODE`, `ID@CODE@ATTEMPT`.

    code: hash of the code that it is to be run with; "" for any. after: only attempts after this one make it done.
    """

    id: str
    code: str = ""
    after: int = 0

    @classmethod
    def parse(cls, text: str) -> Named:
        """Raises UsageError."""
        cell, _, rest = text.partition("@")
        code, _, after = rest.partition("@")
        if not cell or not (after or "0").isdecimal():
            raise UsageError(f"--cell {text!r}: write the id of a cell, as `nmbench plan` lists it")
        return cls(cell, code, int(after or 0))


def named_cells(chosen: Selection, texts: Sequence[str]) -> tuple[list[Cell], dict[str, str]]:
    """The cells that are named and not done, and by id the code that they are to be run with."""
    from nmbench.running.losses import newest_record

    by_id = {cell.id: cell for cell in chosen.cells}
    names = [Named.parse(text) for text in texts]
    if unknown := [name.id for name in names if name.id not in by_id]:
        raise UsageError(f"--cell {unknown[0]}: the matrix {chosen.matrix.name} has no such cell here")
    cells = []
    for name in names:
        record, _ = newest_record(chosen.store, by_id[name.id], name.after, again=bool(name.after))
        if record is None or not record.status.done:
            cells.append(by_id[name.id])
    return cells, {name.id: name.code for name in names if name.code}
