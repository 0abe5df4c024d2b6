"""The first figure of a report: what every pattern and method costs in quality, against what it saves. `figure`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from nmbench.analysis.rows import Row
from nmbench.analysis.study import Study
from nmbench.document.model import Block, Picture
from nmbench.report.sections.cost import MACS, TIME, Cost, panel
from nmbench.report.sections.quality import compared
from nmbench.report.style import MOST_PANELS, few, few_labels, panels, save, styles

__all__ = ["figure"]

_DENSITY = Cost("density of the sparse layers", lambda row: row.means.get("density"))
_NAME = "overall-tradeoff.png"


def figure(study: Study, rows: Sequence[Row]) -> Iterator[Block]:
    """One panel a setting. x: measured time, else MACs, else density, as a share of dense; y: difference to dense."""
    shown, too_many = few_labels(rows)
    groups = [own for setting in study.settings if (own := compared(row for row in shown if row.setting == setting))]
    if not groups:
        return
    groups, left_out = few(groups, MOST_PANELS, "settings")
    # two columns at most: the figure must be legible on a phone
    whole, axes = panels([study.titles[own[0].setting] for own in groups], 2, height=3.0 if len(groups) == 1 else 2.2)
    look = styles(rows)
    for axis, own in zip(axes, groups, strict=True):
        panel(axis, own, _saved(own), look)
    save(whole, axes, study.figures / _NAME)
    caption = (
        "Up is better, left is cheaper. Difference to the dense twin (the star), mean over the seeds with its 95 % "
        "interval (none for one seed); in the grey zone a loss is within the margin that the task declares, and far "
        "beyond it the scale is logarithmic. The grey steps join the rows that no other row beats on both axes."
    )
    yield Picture(_NAME, "Quality against what it saves", "all tasks", caption + left_out + too_many)


def _saved(rows: Sequence[Row]) -> Cost:
    """The first that is known for more than half of the rows; measured speed says more than a count."""
    kinds = (TIME, MACS, _DENSITY)
    return next((kind for kind in kinds if sum(kind.read(row) is not None for row in rows) * 2 > len(rows)), _DENSITY)
