"""What the interval of a difference says: `verdict`, the one place where an interval becomes a word."""

from enum import StrEnum


class Verdict(StrEnum):
    """Where the interval lies, turned so that positive is good; in the order in which a report counts them."""

    BETTER = "better"
    NOT_WORSE = "not worse"
    WORSE = "worse"
    PERHAPS_WORSE = "worse, perhaps within the margin"
    UNDECIDED = "undecided"

    @property
    def below(self) -> bool:
        """Is all of the interval on the bad side of 0, by the margin or perhaps by less?"""
        return self in (Verdict.WORSE, Verdict.PERHAPS_WORSE)


class Lack(StrEnum):
    """Why nothing can be read off a comparison, whose verdict is "undecided" then."""

    ONE_SEED = "1 seed"
    NO_SPREAD = "no spread"
    NO_TWIN = "no dense twin"
    OTHER_DATA = "twin saw other data"
    NO_VALUE = "no finite pair"


def verdict(interval: tuple[float, float], higher_is_better: bool = True, margin: float = 0.0) -> Verdict:
    """Read off the interval of a mean difference, turned so that positive is good; `margin` >= 0, in its unit.

    better                              all of it is above 0
    not worse                           all of it is above -margin (also when all of it is below 0), or it is [0, 0]
    worse                               all of it is below 0, and at -margin or beyond
    worse, perhaps within the margin    all of it is below 0, and -margin lies in it
    undecided                           anything else: the seeds do not tell
    """
    low, high = interval if higher_is_better else (-interval[1], -interval[0])
    if low > 0:
        return Verdict.BETTER
    if low > -margin or low == high == 0:
        return Verdict.NOT_WORSE
    if high >= 0:
        return Verdict.UNDECIDED
    return Verdict.WORSE if high <= -margin else Verdict.PERHAPS_WORSE
