"""Cost against quality: training, arithmetic and storage, each with the rows that no other row beats on both."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib.axes import Axes

from nmbench.analysis.rows import Row
from nmbench.report.layout import grid, name, save
from nmbench.report.panels import Drawn, Style, few, few_labels, setting_title, shorten
from nmbench.report.scale import edge, spread
from nmbench.report.sections.quality_figure import axis_label, finite, seeds_in_words

__all__ = ["cost", "front"]

_MOST_SETTINGS = 2
_MOST_ROWS = 40
_MOST_NAMES = 6  # rows of the front that are named in one panel


@dataclass(frozen=True)
class _Cost:
    """One kind of cost: its axis, and its value for a row, None where it is not known."""

    label: str
    read: Callable[[Row], float | None]


def _relative(part: str, whole: str) -> Callable[[Row], float | None]:
    def read(row: Row) -> float | None:
        value, dense = row.means.get(part), row.means.get(whole)
        return value / dense if value is not None and dense else None

    return read


def _time(row: Row) -> float | None:
    return 1.0 if row.is_dense else row.time_ratio


def _passes(row: Row) -> float | None:
    return row.means.get("training_passes")


_MACS = _Cost("MACs, share of dense", _relative("macs_effective", "macs_dense"))
_BYTES = _Cost("bytes, share of dense", _relative("bytes_compressed", "bytes_dense"))


def cost(rows: Sequence[Row], look: Mapping[str, Style], path: Path) -> Drawn:
    """One line a setting. x: training, MACs, bytes, each relative to the dense twin; y: the primary metric."""
    title = "Cost against quality"
    groups: list[tuple[str, list[Row]]] = []
    rows, too_many = few_labels(rows)
    for setting in dict.fromkeys(row.setting for row in rows):
        shown = [row for row in rows if row.setting == setting and finite(row)]
        if any(not row.is_dense for row in shown) and any(kind.read(row) for row in shown for kind in _kinds([])):
            groups.append((setting_title(setting, rows), shown))
    if not groups:
        return Drawn(None, title, "No sparse cell that ended well holds its cost.")
    groups, left_out = few(groups, _MOST_SETTINGS, "settings")
    cut = [(title_, *few(shown, _MOST_ROWS, "rows")) for title_, shown in groups]
    left_out += "".join(dict.fromkeys(words for _, _, words in cut))
    top = 0.3 if any(one for one, _, _ in cut) else 0.12
    figure, lines = grid([2.5] * len(cut), 3, 9.6, top=top, gap=0.15)
    outside, timed = False, True
    for places, (setting_name, shown, _) in zip(lines, cut, strict=True):
        kinds = _kinds(shown)
        timed &= kinds[0].read is _time
        for place, kind in zip(places, kinds, strict=True):
            outside |= _panel(place, shown, kind, look)
        name(places[0], shorten(setting_name, 44))
        places[0].set_ylabel(axis_label(shown[0].metric))
        for place in places[1:]:
            place.set_ylim(places[0].get_ylim())
            place.tick_params(labelleft=False)
    save(figure, [axis for line in lines for axis in line], path)
    training = (
        "training time over the dense twin's, from cells that ran alone"
        if timed
        else "training passes over the full schedule, for want of times from cells that ran alone"
    )
    caption = (
        f"{cut[0][1][0].metric.name} ({seeds_in_words([row for _, shown, _ in cut for row in shown])}) "
        f"against cost: {training}; multiply-accumulates of one example, only those with a non-zero weight; bytes of "
        "all parameters, sparse ones compressed. The grey steps join the rows that no other row beats on both axes, "
        f"at most {_MOST_NAMES} of them with their names; equal costs are drawn side by side."
    )
    caption += " A value far from all others is a marker at the edge." if outside else ""
    return Drawn(path.name, title, caption + left_out + too_many)


def front(points: Sequence[tuple[float, float]], higher_is_better: bool) -> list[int]:
    """Places of the points (cost, quality) that no other one beats: cheaper and as good, or better and as cheap."""
    turn = 1 if higher_is_better else -1
    order = sorted(range(len(points)), key=lambda place: (points[place][0], -turn * points[place][1], place))
    best, kept = -math.inf, []
    for place in order:
        if turn * points[place][1] > best:
            best = turn * points[place][1]
            kept.append(place)
    return kept


def _kinds(rows: Sequence[Row]) -> list[_Cost]:
    """Time where at least half of the sparse rows have one that may be compared; else passes."""
    sparse = [row for row in rows if not row.is_dense]
    timed = sum(row.time_ratio is not None for row in sparse) * 2 > len(sparse)
    training = _Cost("training time, times dense", _time) if timed else _Cost("training passes", _passes)
    return [training, _MACS, _BYTES]


def _panel(axis: Axes, rows: Sequence[Row], kind: _Cost, look: Mapping[str, Style]) -> bool:
    """Draw one setting's rows against one cost; whether a value lies beyond the edge."""
    metric = rows[0].metric
    quality = {row: statistics.fmean(finite(row)) for row in rows}
    dense = next((quality[row] for row in rows if row.is_dense), None)
    limits = spread(quality.values(), statistics.median(quality.values()) if dense is None else dense)
    room = 0.2 * (limits[1] - limits[0])
    better = (0.0, room) if metric.higher_is_better else (room, 0.0)
    axis.set_ylim(limits[0] - better[0], limits[1] + better[1])
    axis.set_xlabel(kind.label)
    if dense is not None:
        axis.axhline(dense, color="black", linewidth=0.8, alpha=0.5)
    known = [row for row in rows if kind.read(row) is not None]
    if not known:
        axis.text(0.5, 0.5, "not known", ha="center", va="center", transform=axis.transAxes)
        return False
    places = _side_by_side([float(kind.read(row) or 0.0) for row in known])
    points = [(float(kind.read(row) or 0.0), quality[row]) for row in known]
    best = front(points, metric.higher_is_better)
    axis.plot(
        [points[place][0] for place in best],
        [edge(points[place][1], limits)[0] for place in best],
        color="#999999",
        linewidth=1.0,
        drawstyle="steps-post",
        zorder=1,
    )
    drawn = [edge(quality[row], limits) for row in known]
    for label in dict.fromkeys(row.label for row in known):
        here = [place for place, row in enumerate(known) if row.label == label]
        style = look[label]
        axis.plot(
            [places[place] for place in here],
            [drawn[place][0] for place in here],
            linestyle="",
            marker=style.marker,
            color=style.colour,
            markerfacecolor=style.face,
            markersize=7 if label == "dense" else 5,
            clip_on=False,
            label=label,
        )
    _limits(axis, kind, [x for x, _ in points])
    _names(
        axis,
        [(places[place], drawn[place][0], known[place].name) for place in best],
        metric.higher_is_better,
    )
    return any(beyond for _, beyond in drawn)


def _limits(axis: Axes, kind: _Cost, values: Sequence[float]) -> None:
    """Room at the left for the names of the front."""
    low, high = min(values), max(values)
    if kind.read is _passes:
        axis.set_xticks(sorted(set(values)))
        axis.set_xlim(low - 0.6, high + 0.3)
    elif high <= 1.0 and kind.read is not _time:
        axis.set_xticks([0, 0.25, 0.5, 0.75, 1])
        axis.set_xlim(-0.3, 1.06)
    else:
        width = high - low or high or 1.0
        axis.set_xlim(low - 0.35 * width, high + 0.08 * width)


def _names(axis: Axes, points: Sequence[tuple[float, float, str]], higher: bool) -> None:
    """Name the front, from its best end, on its better and cheaper side: no other row can be there."""
    (left, right), (bottom, top) = axis.get_xlim(), axis.get_ylim()
    step = 0.06 if higher else -0.06
    taken: list[tuple[float, float]] = []
    for x, y, text in [point for point in points if point[2] != "dense"][::-1][:_MOST_NAMES]:
        place, height = (x - left) / (right - left) - 0.02, (y - bottom) / (top - bottom) + step
        free = [height + sign * count * step for sign in (1, -1) for count in range(20)]
        height = next(
            (
                one
                for one in free
                if 0.02 <= one <= 0.98
                and not any(abs(place - other) < 0.35 and abs(one - at) < 0.055 for other, at in taken)
            ),
            height,
        )
        taken.append((place, height))
        axis.annotate(
            shorten(text, 22),
            (x, y),
            (place, height),
            textcoords="axes fraction",
            fontsize=6.5,
            ha="right",
            va="center",
            arrowprops={"arrowstyle": "-", "linewidth": 0.4, "color": "#777777", "shrinkA": 0, "shrinkB": 3},
        )


def _side_by_side(values: Sequence[float]) -> list[float]:
    """The values, equal ones moved apart by a little, so that their markers can all be seen."""
    width = max(values) - min(values) or 1.0
    alike: dict[float, list[int]] = {}
    for place, value in enumerate(values):
        alike.setdefault(round(value, 3), []).append(place)
    moved = list(values)
    for group in alike.values():
        step = min(0.012, 0.1 / len(group)) * width
        for turn, place in enumerate(group):
            moved[place] += step * (turn - (len(group) - 1) / 2)
    return moved
