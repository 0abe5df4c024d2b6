"""The difference to the dense twin over evaluation examples, from the values that tasks store beside their records.

The interval here is about the test set: would other examples of the same kind say the same of these very models? It
says nothing about other seeds, whose interval (analysis.statistics) is another one, and the two are not added up.
What a task stores is not always its primary metric: of translations it is the chrF and the loss of each sentence,
because corpus BLEU is no mean over sentences.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy import special

from nmbench._util.files import loads
from nmbench.analysis.pairs import fingerprint, pair
from nmbench.analysis.rows import Row
from nmbench.analysis.statistics import CONFIDENCE
from nmbench.records.frame import Loaded

FILE = "per_example.json"
#: bootstrap resamples; the ends of the interval then move by about 3 % of its width from one random seed to another
RESAMPLES = 1000

#: distinct values up to which resamples are drawn by their counts
_FEW = 500
#: examples from which on the percentiles are those of the normal law that they tend to
_MANY = 50_000

Array = npt.NDArray[np.float64]
Read = Callable[[Path], dict[str, Array]]


@dataclass(frozen=True)
class Difference:
    """Sparse - dense of one stored value, averaged over the seeds first and then over the examples.

    name: what the task calls the value ("correct", "epe", "chrf"). examples, seeds: how many stand behind it.
    mean: in the value's own unit. interval: 95 % percentile bootstrap over examples, None for fewer than two examples.
    left_out: examples without a finite value in every seed. without: paired seeds that could not be used, because one
    side stored nothing, or something broken or of another length.
    """

    name: str
    examples: int
    seeds: tuple[int, ...]
    mean: float
    interval: tuple[float, float] | None
    left_out: int = 0
    without: tuple[int, ...] = ()


def per_example(folder: Path) -> dict[str, Array]:
    """Name -> values (examples,), in data-set order; {} where the attempt stored none or the file cannot be read."""
    try:
        stored = loads((folder / FILE).read_bytes())
        return {name: np.array(values, dtype=np.float64) for name, values in stored.items()}
    except (OSError, ValueError, TypeError, AttributeError, OverflowError):
        return {}


def over_examples(row: Row, twin: Row, loaded: Loaded, read: Read = per_example) -> list[Difference]:
    """The stored values that `row` and its dense twin share, in the order in which they were stored.

    Cells are paired by seed, where both saw the same data. `read` gives one attempt's values; a caller with many rows
    caches it, because all of them ask for the dense twin's.
    """
    pairs = pair(row.places, twin.places, lambda place: fingerprint(loaded.records[place]))
    stored = [
        (seed, read(loaded.folders[first]), read(loaded.folders[second]))
        for seed, first, second in zip(pairs.seeds, pairs.first, pairs.second, strict=True)
    ]
    names = dict.fromkeys(name for _, mine, dense in stored for name in mine if name in dense)
    found = (_difference(name, [(seed, mine.get(name), dense.get(name)) for seed, mine, dense in stored])
             for name in names)  # fmt: skip
    return [difference for difference in found if difference is not None]


def _difference(name: str, pairs: Sequence[tuple[int, Array | None, Array | None]]) -> Difference | None:
    gaps = {
        seed: one - other
        for seed, one, other in pairs
        if one is not None and other is not None and one.shape == other.shape and one.ndim == 1
    }
    if not gaps:
        return None
    examples = max(gap.size for gap in gaps.values())
    gaps = {seed: gap for seed, gap in gaps.items() if gap.size == examples}
    means = np.mean(list(gaps.values()), axis=0)
    finite = means[np.isfinite(means)]
    if not finite.size:
        return None
    without = tuple(seed for seed, _, _ in pairs if seed not in gaps)
    return Difference(
        name, finite.size, tuple(gaps), float(finite.mean()), _interval(finite), means.size - finite.size, without
    )


def _interval(values: Array) -> tuple[float, float] | None:
    """Percentile bootstrap of the mean; the same values give the same interval.

    A resample of values of which few are distinct (right or wrong, averaged over seeds) is drawn as the count of each,
    which has the same law and takes no longer for a million examples than for a thousand.
    """
    if values.size < 2:
        return None
    draw = np.random.default_rng(0)
    tails = (50 * (1 - CONFIDENCE), 50 * (1 + CONFIDENCE))
    distinct, counts = np.unique(values, return_counts=True)
    if len(distinct) <= _FEW:
        resamples = draw.multinomial(values.size, counts / values.size, size=RESAMPLES) @ distinct / values.size
    elif values.size >= _MANY:
        half = float(special.ndtri(tails[1] / 100)) * float(values.std()) / math.sqrt(values.size)
        return float(values.mean()) - half, float(values.mean()) + half
    else:
        resamples = np.array([values[draw.integers(0, values.size, values.size)].mean() for _ in range(RESAMPLES)])
    low, high = np.percentile(resamples, tails)
    return float(low), float(high)
