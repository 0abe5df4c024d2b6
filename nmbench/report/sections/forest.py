"""The forest plot: paired differences to the dense twin with their 95 % intervals, against the task's margin."""

import math
from collections.abc import Iterator, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from nmbench._util.groups import grouped
from nmbench.analysis.rows import Row
from nmbench.analysis.statistics import Comparison
from nmbench.analysis.study import Study
from nmbench.analysis.verdict import Verdict
from nmbench.document.model import Block, Prose
from nmbench.report.sections.quality import compared, counted
from nmbench.report.style import difference_axis, drawn, few, shorten

#: verdict -> colour, marker, filled?; the shape says it where the colour cannot
_LOOKS = {
    Verdict.BETTER: ("#0072B2", "^", True),
    Verdict.NOT_WORSE: ("#009E73", "o", True),
    Verdict.WORSE: ("#D55E00", "v", True),
    Verdict.PERHAPS_WORSE: ("#D55E00", "v", False),
    Verdict.UNDECIDED: ("#555555", "D", False),
}
_ONE_SEED = ("#555555", "x", True)
_TITLE = "Differences to the dense twin"
_MOST_LINES = 30


def figure(study: Study, rows: Sequence[Row]) -> Iterator[Block]:
    """One line a (pattern, method). x: sparse - dense, in the metric's unit."""
    shown, left_out = few(compared(rows), _MOST_LINES, "rows")
    if not shown:
        yield Prose(
            f"{_TITLE}: no figure. No sparse cell has a dense twin that ended well, so there is no difference to draw."
        )
        return
    whole = Figure(figsize=(7.5, 0.19 * len(shown) + 0.7))
    axis = whole.subplots()
    _draw(axis, shown)
    caption = (
        f"Sparse minus dense, paired by seed ({counted(row.pairs for row in shown)}): mean difference and its 95 % t "
        "interval over seeds (none for one seed). The line is no difference, the dashed line and the grey zone the "
        "margin that the task declares, far beyond which the scale is logarithmic; a verdict is read off the interval."
    )
    yield drawn(study, rows, "forest", _TITLE, caption + left_out, whole, [axis])


def _look(found: Comparison) -> tuple[str, str, bool]:
    return _LOOKS[found.verdict] if found.n > 1 else _ONE_SEED


def _draw(axis: Axes, rows: Sequence[Row]) -> None:
    difference_axis(axis, "x", rows)
    places = [(-place, row.comparison) for place, row in enumerate(rows) if row.comparison]
    for look, own in grouped((_look(found), (place, found)) for place, found in places).items():
        colour, marker, filled = look
        ends = [one.interval or (math.nan, math.nan) for _, one in own]
        gaps = [one.difference for _, one in own]
        axis.errorbar(
            gaps,
            [y for y, _ in own],
            xerr=[[abs(end[side] - gap) for end, gap in zip(ends, gaps, strict=True)] for side in (0, 1)],
            linestyle="",
            marker=marker,
            color=colour,
            mfc=colour if filled else "white",
            markersize=6,
            capsize=3,
            label="one seed" if look is _ONE_SEED else own[0][1].verdict.value,
        )
    for place in range(1, len(rows)):
        if rows[place].pattern != rows[place - 1].pattern:
            axis.axhline(0.5 - place, color="black", alpha=0.25, linewidth=0.6)
    axis.set_ylim(0.5 - len(rows), 0.5)
    axis.set_yticks([-place for place in range(len(rows))], [shorten(row.name, 40) for row in rows], fontsize=8)
    axis.tick_params(axis="y", length=0)
    axis.grid(axis="y", visible=False)
    axis.spines["left"].set_visible(False)
