"""The report's own sections, one subject a file: its tables and its figures together.

BUILT_IN     where each of their parts stands; strangers' sections come between them by their orders
"""

from __future__ import annotations

from nmbench.report.door import Entry, Place
from nmbench.report.sections import (
    cost,
    examples,
    failures,
    forest,
    glossary,
    heat_map,
    intro,
    layers,
    leaderboard,
    origins,
    overview,
    quality,
    remarks,
    seeds,
    speed,
    tradeoff,
    training,
)

__all__ = ["BUILT_IN"]

_ORDER = {
    Place.FRONT: (
        ("outcome", intro.outcome),
        ("cautions", intro.cautions),
        ("mixed-origins", origins.mixed_overall),
        ("tradeoff", tradeoff.figure),
        ("patterns-by-tasks", overview.patterns_by_tasks),
        ("heat-map", heat_map.patterns_by_tasks),
        ("leaderboard", leaderboard.leaderboard),
    ),
    Place.SETTING: (
        ("mixed-origins-of-setting", origins.mixed_in_setting),
        ("verdicts", quality.verdicts),
        ("quality", quality.table),
        ("methods-by-patterns", overview.methods_by_patterns),
        ("remarks", remarks.remarks),
        ("precision", seeds.precision),
        ("over-examples", seeds.over_evaluation),
        ("other-metrics", quality.others),
        ("size", cost.size),
        ("effort", cost.effort),
        ("speed", speed.speed),
        ("examples", examples.examples),
    ),
    Place.TASK: (
        ("quality-figure", quality.figure),
        ("forest", forest.figure),
        ("methods-figure", heat_map.methods_by_patterns),
        ("cost-figure", cost.figure),
        ("flips", training.flips),
        ("layers", layers.figure),
        ("curves", training.curves),
        ("left-dense", layers.left_dense),
    ),
    Place.END: (
        ("failures", failures.failures),
        ("unreadable", failures.unreadable),
        ("provenance", origins.provenance),
        ("reproduce", origins.reproduce),
        ("glossary", glossary.glossary),
    ),
}

BUILT_IN = tuple(
    Entry(name, place, 10 * turn, blocks)
    for place, entries in _ORDER.items()
    for turn, (name, blocks) in enumerate(entries, start=1)
)
