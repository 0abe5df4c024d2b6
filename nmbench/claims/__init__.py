"""The seed paper's claims, judged from records: `judge`.

A judgement is about the records that were given: short schedules on small data may refute what full ones confirm, and
the other way round. No row is picked by its result; every lambda_w of a sweep is judged by itself.
"""

from collections.abc import Sequence

from nmbench._util.groups import grouped
from nmbench.analysis.rows import Row
from nmbench.claims.cost import faster, negligible
from nmbench.claims.judgement import CLAIMS, Judgement, Outcome
from nmbench.claims.masks import decay, less_divergence, settling
from nmbench.claims.quality import larger_m, one_pass, two_four
from nmbench.records.frame import Loaded

__all__ = ["CLAIMS", "Judgement", "Outcome", "judge"]

_JUDGES = (less_divergence, decay, settling, two_four, larger_m, one_pass, faster, negligible)


def judge(loaded: Loaded, rows: Sequence[Row]) -> list[Judgement]:
    """Every judgement that the records allow, by claim."""
    settings = grouped((row.setting, row) for row in rows).values()
    found = [judgement for own in settings for judges in _JUDGES for judgement in judges(loaded, own)]
    return sorted(found, key=lambda judgement: judgement.claim)
