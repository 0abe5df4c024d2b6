"""All that a section of a report may look at: `Study`."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pandas as pd

from nmbench._util.groups import grouped
from nmbench.analysis.rows import Row, compare
from nmbench.analysis.setting import Setting, titles
from nmbench.records.frame import Loaded, newest
from nmbench.records.schema import Record


@dataclass(frozen=True, eq=False)
class Study:
    """The records of one results folder with the rows that they give.

    Attributes:
        loaded: what was read.
        rows: every (setting, pattern, method, hyper), by setting; see `analysis.rows.compare`.
        figures: the folder that figures are drawn into.
        name: the results folder's name.
    """

    loaded: Loaded
    rows: tuple[Row, ...]
    figures: Path
    name: str = ""

    @classmethod
    def of(cls, loaded: Loaded, figures: Path, name: str = "") -> Study:
        """The study of everything in `loaded`."""
        return cls(loaded, tuple(compare(loaded.frame)), figures, name)

    @cached_property
    def cells(self) -> pd.DataFrame:
        """The attempt of each cell that counts, failed ones included; its index is the place in `loaded.records`."""
        return newest(self.loaded.frame)

    @cached_property
    def counting(self) -> tuple[Record, ...]:
        """The records of `cells`."""
        return tuple(self.loaded.records[place] for place in self.cells.index)

    @cached_property
    def settings(self) -> dict[Setting, tuple[Row, ...]]:
        """Rows by setting, in the order of `rows`."""
        return grouped((row.setting, row) for row in self.rows)

    @cached_property
    def tasks(self) -> dict[str, tuple[Row, ...]]:
        """Rows by task, in the order of `rows`."""
        return grouped((row.setting.task, row) for row in self.rows)

    def records_of(self, row: Row) -> tuple[Record, ...]:
        """The records of the row's cells that ended `ok`, by seed."""
        return tuple(self.loaded.records[place] for place in row.records)

    @cached_property
    def titles(self) -> dict[Setting, str]:
        """The shortest name of each setting that tells it from the others."""
        return titles(list(self.settings))
