"""What `prepare` does: the embedded pairs are made, a user's data sets are checked file by file.

parts_of_stage       the data sets of a stage, with how often each pair of theirs comes in an epoch
evaluation_set       the pairs of an evaluation
prepare              all of them -> DataInfo
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from nmbench.task import DataError, DataInfo
from nmbench_tasks._shared.folders import spread
from nmbench_tasks.optical_flow import embedded, plan, sets
from nmbench_tasks.optical_flow.scales import Settings, Stage
from nmbench_tasks.optical_flow.sets import FlowSet, open_set


@dataclass(frozen=True)
class Part:
    """`pairs`, each of which comes `repeat` times an epoch; `scales`: log2 of the zoom; `mirror`: across and down."""

    pairs: FlowSet
    repeat: int
    scales: tuple[float, float]
    mirror: tuple[float, float] = (0.5, 0.1)


def parts_of_stage(stage: Stage, settings: Settings, embedded_root: Path) -> list[Part]:
    """Raises DataError if one of the data sets is missing."""
    parts = []
    for name, repeat, scales in plan.MIX[stage.name]:
        family = plan.family(name)
        pairs = open_set(name, _root(settings, family, embedded_root))
        if plan.held_out(settings, family):
            pairs = pairs.part(held_out=False)
        # a street never stands on its head, and KITTI's own stage does without mirror images altogether
        mirror = (0.0, 0.0) if stage.name == "kitti" else (0.5, 0.0) if pairs.sparse else (0.5, 0.1)
        parts.append(Part(_few(pairs, settings.train_pairs), repeat, scales, mirror))
    return parts


def evaluation_set(name: str, settings: Settings, embedded_root: Path) -> FlowSet:
    """The pairs of the evaluation `name`. Raises DataError if they are missing."""
    family = plan.family(name)
    pairs = open_set(name, _root(settings, family, embedded_root), "val")
    if plan.held_out(settings, family):
        pairs = pairs.part(held_out=True)
    return _few(pairs, settings.val_pairs)


def prepare(settings: Settings | Mapping[str, Any], root: Path) -> DataInfo:
    """Everything that `settings` train or evaluate on. Raises DataError for the first thing that is wrong."""
    settings = Settings.model_validate(settings)
    wanted, evaluated = plan.stages(settings), plan.evaluations(settings)
    families = {name for stage in wanted for name in plan.trains_on(stage)}
    families |= {plan.family(name) for name in evaluated}
    info = embedded.prepare(root) if "embedded" in families else None
    place = info.path if info else Path(settings.data).expanduser()
    fingerprint = hashlib.sha256((info.fingerprint if info else "").encode())
    counts: dict[str, int] = {}
    for stage in wanted:
        parts = parts_of_stage(stage, settings, place)
        for part in parts:
            least = sets.check(part.pairs, _root(settings, plan.family(part.pairs.name), place), fingerprint)
            _check_known(part.pairs)
            _check_crop(stage, settings.augment, part.pairs.name, least)
        counts[f"{stage.name} train"] = sum(len(part.pairs) for part in parts)
    for name in evaluated:
        pairs = evaluation_set(name, settings, place)
        sets.check(pairs, _root(settings, plan.family(name), place), fingerprint)
        _check_known(pairs)
        counts[f"{name} val"] = len(pairs)
    if info and families == {"embedded"}:
        return info  # with the hash of its pixels
    notes = tuple(
        f"A fifth of the scenes of {family} is left out of training, and only that fifth is evaluated."
        for family in sorted(families)
        if plan.held_out(settings, family)
    )
    return DataInfo(place, counts, fingerprint.hexdigest(), notes)


def _check_known(pairs: FlowSet) -> None:
    """The loss and the metrics are means over the pixels whose flow is known: there must be one."""
    if not any(pairs[place].valid.any() for place in range(len(pairs))):
        raise DataError(
            f"no pixel of {pairs.name} has a known flow: none in its {len(pairs)} pairs, such as {pairs.files(0)[2]}"
        )


def _check_crop(stage: Stage, augment: str, name: str, least: tuple[int, int]) -> None:
    """With "raft" a pair smaller than the crop is zoomed until it fits; "light" zooms nothing."""
    if augment == "light" and (least[0] < stage.crop_height or least[1] < stage.crop_width):
        raise DataError(
            f"{name} has images of {least[1]} x {least[0]} px, the crops of stage {stage.name} are "
            f"{stage.crop_width} x {stage.crop_height} px\n"
            "set crop_width and crop_height to less, or augment to 'raft', which zooms"
        )


def _root(settings: Settings, family: str, embedded_root: Path) -> Path:
    return embedded_root if family == "embedded" else plan.root_of(settings, family)


def _few(pairs: FlowSet, count: int) -> FlowSet:
    """`count` of the pairs, evenly over the set; all of them for 0."""
    return replace(pairs, rows=[pairs.rows[place] for place in spread(len(pairs), count)])
