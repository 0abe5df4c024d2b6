"""The report's own sections, one subject a file: its tables and its figures together."""

from collections.abc import Callable, Iterable, Iterator, Sequence

from nmbench.analysis.rows import Row
from nmbench.analysis.study import Study
from nmbench.report.door import Content, Entry, Place
from nmbench.report.sections import (
    cost,
    examples,
    failures,
    forest,
    glossary,
    intro,
    layers,
    leaderboard,
    origins,
    overview,
    patterns,
    quality,
    remarks,
    seeds,
    speed,
    tradeoff,
    training,
)
from nmbench.report.style import place_of

__all__ = ["BUILT_IN"]

Blocks = Callable[[Study, Sequence[Row]], Iterable[Content]]
#: settings of one task whose figures are drawn
_MOST_SETTINGS = 2


def _figure(blocks: Blocks) -> Blocks:
    """The same for the first settings of a task only: hundreds of figures would take long, and nobody reads them."""

    def limited(study: Study, rows: Sequence[Row]) -> Iterator[Content]:
        if place_of(study, rows) < _MOST_SETTINGS:
            yield from blocks(study, rows)

    return limited


def _trained(blocks: Blocks) -> Blocks:
    """The same without rows of untrained models, of which only cost and speed are told."""

    def limited(study: Study, rows: Sequence[Row]) -> Iterator[Content]:
        if trained := [row for row in rows if not row.setting.untrained]:
            yield from blocks(study, trained)

    return limited


_ORDER: dict[Place, dict[str, Blocks]] = {
    Place.FRONT: {
        "outcome": intro.outcome,
        "cautions": intro.cautions,
        "mixed-origins": origins.mixed_overall,
        "tradeoff": tradeoff.figure,
        "speed-tradeoff": tradeoff.measured,
        "patterns-by-tasks": _trained(overview.patterns_by_tasks),
        "leaderboard": _trained(leaderboard.leaderboard),
    },
    Place.SETTING: {
        "mixed-origins-of-setting": origins.mixed_in_setting,
        "quality": _trained(quality.table),
        "forest": _trained(_figure(forest.figure)),
        "remarks": remarks.remarks,
        "precision": seeds.precision,
        "over-examples": seeds.over_evaluation,
        "other-metrics": quality.others,
        "size": cost.size,
        "effort": _trained(cost.effort),
        "patterns": patterns.by_layer,
        "speed": speed.speed,
        "flips": _trained(_figure(training.flips)),
        "layers": _trained(_figure(layers.figure)),
        "curves": _trained(_figure(training.curves)),
        "examples": _trained(_figure(examples.examples)),
    },
    Place.TASK: {"left-dense": layers.left_dense},
    Place.END: {
        "failures": failures.failures,
        "unreadable": failures.unreadable,
        "provenance": origins.provenance,
        "reproduce": origins.reproduce,
        "glossary": glossary.glossary,
    },
}

BUILT_IN = tuple(
    Entry(name, place, 10 * turn, blocks)
    for place, entries in _ORDER.items()
    for turn, (name, blocks) in enumerate(entries.items(), start=1)
)
