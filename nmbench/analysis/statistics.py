"""The comparison of a sparse model with its dense twin, over seeds.

The interval and the verdict speak about the spread between seeds, and about nothing else: not about another data set,
another schedule or better-tuned hyper-parameters, nor about one given model. They are not corrected for the number of
rows in a table: of forty methods that in truth equal the dense model, one will be called better by chance alone.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from scipy import special  # scipy.stats takes a second to import

from nmbench.analysis.verdict import Lack, Verdict, verdict

CONFIDENCE = 0.95
#: how often `smallest_seen` is to be found
POWER = 0.8

Array = np.ndarray[tuple[int], np.dtype[np.float64]]


@dataclass(frozen=True)
class Comparison:
    """A paired comparison over seeds, in the metric's unit.

    Attributes:
        n: pairs that were compared.
        difference: mean of sparse - dense (NaN for n = 0); positive means a larger value, not a better one.
        sd: standard deviation of the differences (n - 1 in the denominator), None for n < 2.
        interval: 95 % t interval of the mean difference, None for n < 2.
        verdict: read off the interval, see `analysis.verdict`; undecided for n < 2.
        lack: why nothing could be read. No spread: all differences are the same and not zero, as coarse metrics give;
            the interval has no width then, which is no evidence.
        dropped: pairs left out because a value was missing or not finite.
        p_value: two-sided p-value of the paired t test; None for n < 2 and where the differences have no spread.
        smallest_seen: the true difference that this n and sd would have shown, see there; None as for `p_value`.
    """

    n: int
    difference: float
    sd: float | None
    interval: tuple[float, float] | None
    verdict: Verdict
    lack: Lack | None = None
    dropped: int = 0
    p_value: float | None = None
    smallest_seen: float | None = None

    @property
    def p_floor(self) -> float:
        """The smallest p-value that an exact test of `n` pairs can reach, see `p_floor`."""
        return p_floor(self.n)

    @property
    def words(self) -> str:
        """The verdict for people, with what it lacks: "undecided (1 seed)", "no dense twin"."""
        if self.lack is None:
            return self.verdict.value
        return f"{self.verdict} ({self.lack})" if self.n else self.lack.value

    @property
    def in_words(self) -> str:
        """The same with the number of pairs where they do not tell: "undecided (3 seeds)"."""
        return f"undecided ({self.n} seeds)" if self.words == Verdict.UNDECIDED else self.words


def p_floor(n: int) -> float:
    """2 / 2^n, at most 1: what a two-sided exact test of n pairs gives where all n differences have one sign.

    That holds for the sign-flip (permutation) test and for Wilcoxon's signed-rank test. With 5 seeds it is 0.0625:
    no exact test reaches 0.05 then, whatever the data; with 6 it is 0.031, which no correction over a table survives.
    """
    return min(1.0, 2.0 ** (1 - n))


def smallest_seen(sd: float, n: int) -> float:
    """The true mean difference, in the unit of `sd`, that a paired t test at 5 % (two-sided) finds with power `POWER`.

    The same as: the difference whose 95 % interval would lie on one side of 0 in four of five repetitions. From the
    noncentral t distribution; `sd` is the standard deviation of the differences, taken as the true one, which for few
    seeds is itself uncertain (of three seeds, its 95 % interval goes from half of it to six times).
    Raises ValueError for n < 2.
    """
    if n < 2:
        raise ValueError(f"{n} pairs have no spread")
    return _noncentrality(n) * sd / math.sqrt(n)


@cache
def _noncentrality(n: int) -> float:
    """The noncentrality at which the t test of n pairs rejects with probability `POWER`."""
    # the chance to reject on the other side is below 1e-6 here
    return float(special.nctdtrinc(n - 1, 1 - POWER, _critical(n)))


def paired(
    sparse: Sequence[float], dense: Sequence[float], higher_is_better: bool = True, margin: float = 0.0
) -> Comparison:
    """Compare the values of one seed each, pair by pair; `margin` >= 0 is in the metric's unit.

    The verdict is read off the 95 % interval of the mean difference (`analysis.verdict`). Equal values in every pair
    (a pattern with N = M, say) are "not worse", also with margin 0.

    It does not show that two models are equal: "undecided" is not "no difference", and "not worse" depends on the
    margin that was declared before. It takes the differences as normal, which few seeds cannot check, and it knows
    nothing about the noise of the test set, which all seeds share.
    Raises ValueError if the lengths differ or the margin is negative or not finite.
    """
    if len(sparse) != len(dense):
        raise ValueError(f"{len(sparse)} sparse values cannot be paired with {len(dense)} dense ones")
    if not (math.isfinite(margin) and margin >= 0):
        raise ValueError(f"a margin is finite and not negative, got {margin}")
    pairs = [(s, d) for s, d in zip(sparse, dense, strict=True) if math.isfinite(s - d)]
    n, dropped = len(pairs), len(sparse) - len(pairs)
    if n == 0:
        return Comparison(0, math.nan, None, None, Verdict.UNDECIDED, Lack.NO_TWIN, dropped)
    differences = np.array([s - d for s, d in pairs], dtype=float)
    mean = float(differences.mean())
    if n == 1:
        return Comparison(1, mean, None, None, Verdict.UNDECIDED, Lack.ONE_SEED, dropped)
    sd = float(differences.std(ddof=1))
    # subtraction leaves rounding noise of this order, which is no spread
    noise = 1e-12 * max(max(abs(s), abs(d)) for s, d in pairs)
    if sd <= noise and abs(mean) > noise:
        return Comparison(n, mean, sd, (mean, mean), Verdict.UNDECIDED, Lack.NO_SPREAD, dropped)
    if sd <= noise:
        return Comparison(n, mean, sd, (0.0, 0.0), verdict((0.0, 0.0), higher_is_better, margin), None, dropped)
    error = sd / math.sqrt(n)
    half = _critical(n) * error
    interval, p_value = (mean - half, mean + half), 2.0 * float(special.stdtr(n - 1, -abs(mean) / error))
    read = verdict(interval, higher_is_better, margin)
    return Comparison(n, mean, sd, interval, read, None, dropped, p_value, smallest_seen(sd, n))


@cache
def _critical(n: int) -> float:
    """The quantile of Student's t that gives n pairs an interval of `CONFIDENCE`."""
    return float(special.stdtrit(n - 1, (1 + CONFIDENCE) / 2))
