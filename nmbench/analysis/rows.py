"""From the frame to the rows of a report: cells grouped over seeds and paired with their dense twins.

A pair is two `ok` cells of the same setting and seed whose data fingerprints agree. Where attempts of one cell, or the
seeds of one row, saw different data, the row's notes say so.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from nmbench._util.groups import grouped
from nmbench.analysis.pairs import Pairs, pair
from nmbench.analysis.setting import Setting
from nmbench.analysis.statistics import Comparison, paired
from nmbench.analysis.verdict import Lack, Verdict
from nmbench.contract.spec import Metric
from nmbench.document.words import label
from nmbench.plan.cell import DENSE, pattern_of
from nmbench.records.frame import newest
from nmbench.sparsity.allocation import Patterns

Cell = Mapping[str, Any]


@dataclass(frozen=True, eq=False)
class Row:
    """One (setting, pattern, method, hyper) over its seeds.

    Attributes:
        pattern: None for the dense twin.
        metric: the primary metric, with the strictest margin that the setting's records declare.
        cells: cells of this row, failed ones included.
        seeds, values: those that ended `ok`, with their primary value.
        comparison: with the dense twins; None for the dense twin itself and where no cell ended `ok`.
        means: mean over the `ok` cells of each numeric column that all of them have.
        time_ratio: training time over the dense twin's, mean over the pairs whose times may be compared, else None.
        step_ratio: the same of the median time of an optimizer step; of two passes that are the second's.
        shadow: for a dense row, the pattern of the mask that was only watched (for SAD).
        notes: what a reader must know about the pairing, in words.
        records: positions of the `ok` cells in `Loaded.records`.
    """

    setting: Setting
    pattern: Patterns | None
    method: str
    hyper: str
    metric: Metric
    cells: int
    seeds: tuple[int, ...]
    values: tuple[float, ...]
    comparison: Comparison | None
    means: Mapping[str, float]
    time_ratio: float | None
    step_ratio: float | None
    shadow: str | None
    notes: tuple[str, ...]
    records: tuple[int, ...]

    @property
    def is_dense(self) -> bool:
        """Is it the dense twin of the others?"""
        return self.pattern is None

    @property
    def pattern_text(self) -> str:
        """The pattern, or "dense"."""
        return DENSE if self.pattern is None else str(self.pattern)

    @property
    def label(self) -> str:
        """Its name among rows of one pattern: "dense", or the method with its settings."""
        return DENSE if self.is_dense else self.method_text

    @property
    def method_text(self) -> str:
        """The method and, in brackets, its settings where they are not the default ones."""
        return label(self.method, self.hyper)

    @property
    def name(self) -> str:
        """Its name where patterns meet: "dense", or the pattern and the method with its settings."""
        return DENSE if self.is_dense else f"{self.pattern} {self.method_text}"

    @property
    def verdict(self) -> Verdict | None:
        """The comparison's; None for the dense twin and where no cell ended `ok`."""
        return None if self.comparison is None else self.comparison.verdict

    @property
    def lack(self) -> Lack | None:
        """Why its comparison says nothing, if that has a reason."""
        return None if self.comparison is None else self.comparison.lack

    @property
    def words(self) -> str:
        """The verdict for people; "reference" for the dense twin, "failed" where no cell ended `ok`."""
        if not self.seeds:
            return "failed"
        return "reference" if self.comparison is None else self.comparison.words

    @property
    def pairs(self) -> int:
        """How many of its cells were compared with their dense twins."""
        return 0 if self.comparison is None else self.comparison.n

    @property
    def places(self) -> dict[int, int]:
        """Seed -> position in `Loaded.records`."""
        return dict(zip(self.seeds, self.records, strict=True))

    @property
    def order(self) -> tuple[bool, float, str, str, str]:
        """Sorts rows of any setting: the dense twin first, then by falling density, pattern and method."""
        return _order((self.pattern_text, self.method, self.hyper))


def compare(attempts: pd.DataFrame) -> list[Row]:
    """The rows of all settings: by setting, then the dense twin first, then by falling density and method."""
    moved = _moved(attempts)
    cells = [{**cell, "_moved": cell["cell_id"] in moved} for cell in _plain(newest(attempts))]
    names = ("task", "model", "scale", "train", "init")
    settings = grouped((Setting(*(cell[name] for name in names)), cell) for cell in cells)
    return [row for setting in sorted(settings) for row in _rows(setting, settings[setting])]


def _moved(attempts: pd.DataFrame) -> set[str]:
    """Ids of the cells whose `ok` attempts do not all have one data fingerprint."""
    good = attempts[attempts["status"].eq("ok") & attempts["data_fingerprint"].notna()]
    kinds = good.drop_duplicates(["cell_id", "data_fingerprint"])
    return set(kinds.loc[kinds.duplicated("cell_id"), "cell_id"])


def _plain(attempts: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows as dictionaries of Python values; absent ones are None. `_index` is the position in the records."""
    columns = [column.astype(object).where(column.notna(), None).tolist() for _, column in attempts.items()]
    names = [*map(str, attempts.columns), "_index"]
    return [dict(zip(names, values, strict=True)) for values in zip(*columns, attempts.index.tolist(), strict=True)]


def _rows(setting: Setting, cells: Sequence[Cell]) -> list[Row]:
    metric = _metric(cells)
    twins = {cell["seed"]: cell for cell in cells if cell["pattern"] == DENSE and cell["status"] == "ok"}
    by_seed = sorted(cells, key=lambda cell: (cell["seed"] is None, cell["seed"]))
    groups = grouped(((cell["pattern"], cell["method"], cell["hyper"]), cell) for cell in by_seed)
    return [_row(setting, key, metric, groups[key], twins) for key in sorted(groups, key=_order)]


def _row(
    setting: Setting, key: tuple[str, str, str], metric: Metric, cells: Sequence[Cell], twins: Mapping[Any, Cell]
) -> Row:
    # one cell a seed: a second one (an old id scheme, say) must not count as a further seed
    ended = [cell for cell in cells if cell["status"] == "ok"]
    good = list({cell["seed"]: cell for cell in ended}.values())
    dense = key[0] == DENSE
    pairs = pair({} if dense else {cell["seed"]: cell for cell in good}, twins, _data)
    notes = [*_pair_notes(pairs), *_data_notes(ended, good, metric)]
    comparison = None
    if good and not dense:
        comparison = paired(*_values(pairs, metric), metric.higher_is_better, metric.margin)
        if not comparison.n:
            comparison = replace(comparison, lack=_why_nothing(pairs))
        if comparison.dropped:
            notes.append(f"{comparison.dropped} of {len(pairs.seeds)} pairs without a finite {metric.name}")
    return Row(
        setting,
        pattern_of(key[0]),
        *key[1:],
        metric=metric,
        cells=len({cell["seed"] for cell in cells}),
        seeds=tuple(cell["seed"] for cell in good),
        values=tuple(_value(cell, metric) for cell in good),
        comparison=comparison,
        means=_means(good),
        time_ratio=_ratio(pairs, _trained),
        step_ratio=_ratio(pairs, lambda cell: float(cell["step_ms_median"] or 0.0)),
        shadow=next((cell["sad_pattern"] for cell in good if cell["sad_pattern"]), None) if dense else None,
        notes=tuple(notes),
        records=tuple(cell["_index"] for cell in good),
    )


def _metric(cells: Sequence[Cell]) -> Metric:
    """The primary metric that the newest `ok` records declare, with the strictest margin among them."""
    declared = [cell for cell in cells if cell["primary_metric"]]
    if not declared:
        return Metric("")
    last = max(declared, key=lambda cell: (cell["status"] == "ok", cell["_index"]))
    same = [cell for cell in declared if cell["primary_metric"] == last["primary_metric"]]
    margin = min(abs(cell["margin"]) for cell in same)
    return Metric(last["primary_metric"], last["primary_unit"], last["higher_is_better"], margin)


def _data(cell: Cell) -> str | None:
    fingerprint: str | None = cell["data_fingerprint"]
    return fingerprint


def _pair_notes(pairs: Pairs[Cell]) -> list[str]:
    """In words, why cells have no partner."""
    reasons = {
        "without a dense twin that ended well": pairs.alone,
        "not paired, because its dense twin saw other data (the fingerprints differ)": pairs.other_data,
    }
    return [f"seed {', '.join(map(str, seeds))}: {why}" for why, seeds in reasons.items() if seeds]


def _data_notes(ended: list[Cell], good: list[Cell], metric: Metric) -> list[str]:
    """In words: cells that are not one measurement of one thing, and values that are none."""
    seeds = {
        "its attempts saw different data (the fingerprints differ); the newest one that ended well counts": [
            cell["seed"] for cell in good if cell["_moved"]
        ],
        "two cells of one seed; the last one counts": [
            cell["seed"] for cell in good if sum(one["seed"] == cell["seed"] for one in ended) > 1
        ],
        # of a sparse row, the pairs that are dropped for this are counted with its comparison
        f"no finite {metric.name}": [
            cell["seed"] for cell in good if cell["pattern"] == DENSE and not math.isfinite(_value(cell, metric))
        ],
    }
    notes = [f"seed {', '.join(map(str, found))}: {why}" for why, found in seeds.items() if found]
    if len({cell["data_fingerprint"] for cell in good}) > 1:
        notes.append("its seeds saw different data (the fingerprints differ)")
    return notes


def _why_nothing(pairs: Pairs[Cell]) -> Lack:
    """What a row lacks that has no pair to be compared."""
    if pairs.seeds:
        return Lack.NO_VALUE
    return Lack.OTHER_DATA if pairs.other_data else Lack.NO_TWIN


def _values(pairs: Pairs[Cell], metric: Metric) -> tuple[list[float], list[float]]:
    return [_value(cell, metric) for cell in pairs.first], [_value(twin, metric) for twin in pairs.second]


def _value(cell: Cell, metric: Metric) -> float:
    value = cell.get(f"metric.{metric.name}")
    return math.nan if value is None else float(value)


def _means(cells: list[Cell]) -> dict[str, float]:
    names = [name for name, value in (cells[0] if cells else {}).items() if type(value) in (int, float)]
    columns = {name: [cell[name] for cell in cells] for name in names}
    return {name: sum(values) / len(values) for name, values in columns.items() if None not in values}


def _ratio(pairs: Pairs[Cell], time: Callable[[Cell], float]) -> float | None:
    """Mean of sparse / dense time. Both ran alone, in one go and on the same hardware, or do not count."""
    ratios = [
        time(cell) / time(twin)
        for cell, twin in zip(pairs.first, pairs.second, strict=True)
        if all(one["alone"] and not one["resumed"] and time(one) > 0 for one in (cell, twin))
        and (cell["cpu"], cell["gpu"]) == (twin["cpu"], twin["gpu"])
    ]
    return sum(ratios) / len(ratios) if ratios else None


def _trained(cell: Cell) -> float:
    """Seconds of training, with those of a pass that was taken over from the dense twin; 0 where they are not known."""
    return float((cell["train_total_s"] if cell["reused"] else cell["train_s"]) or 0.0)


def _order(key: tuple[str, str, str]) -> tuple[bool, float, str, str, str]:
    text, method, hyper = key
    pattern = pattern_of(text)
    # text order would put a method's default settings, "{}", last
    return (pattern is not None, -pattern.density if pattern else 0.0, text, method, "" if hyper == "{}" else hyper)
