"""From settings to what is to be done: stages, evaluation sets, folders. Everything is checked here, before any work.

stages, evaluations   those that the settings name
root_of               the folder that holds one of torchvision's data sets
held_out              is a part of this evaluation set kept from training?
"""

import difflib
from pathlib import Path

from nmbench.task import DataError
from nmbench_tasks.optical_flow.scales import EVALUATIONS, RECIPES, Settings, Stage

#: px; RAFT's correlation pyramid takes no smaller images
LEAST = 128
#: stage -> (data set, repeat, scales), as RAFT's authors mixed them
MIX: dict[str, list[tuple[str, int, tuple[float, float]]]] = {
    "embedded": [("embedded", 1, (-0.1, 0.5))],
    "chairs": [("chairs", 1, (-0.1, 1.0))],
    "things": [("things", 1, (-0.4, 0.8))],
    "sintel": [
        ("sintel", 100, (-0.2, 0.6)),
        ("kitti", 200, (-0.3, 0.5)),
        ("hd1k", 5, (-0.5, 0.2)),
        ("things-clean", 1, (-0.2, 0.6)),
    ],
    "sintel-things": [("sintel", 100, (-0.2, 0.6)), ("things-clean", 1, (-0.2, 0.6))],
    "kitti": [("kitti", 1, (-0.2, 0.4))],
}
#: without a public split for validation: what is trained on is not evaluated on
_NO_VAL = ("sintel", "kitti", "hd1k")


def stages(settings: Settings) -> list[Stage]:
    """In the order in which they are trained.

    Raises ValueError for a name that is none, DataError for crops that RAFT cannot take.
    """
    return [_stage(name, settings) for name in _names("stages", settings.stages, tuple(RECIPES))]


def evaluations(settings: Settings) -> list[str]:
    """Names of evaluation sets, the primary one first. Raises ValueError for a name that is none."""
    return _names("evaluate_on", settings.evaluate_on, EVALUATIONS)


def family(name: str) -> str:
    """The data set of a variant: sintel of sintel-clean."""
    return name.partition("-")[0]


def trains_on(stage: Stage) -> set[str]:
    """The data sets of a stage."""
    return {family(name) for name, _, _ in MIX[stage.name]}


def held_out(settings: Settings, dataset: str) -> bool:
    """Is a fifth of `dataset` (for instance "sintel") left out of training, and only that fifth evaluated?"""
    evaluated = {family(name) for name in evaluations(settings)}
    trained = {name for stage in stages(settings) for name in trains_on(stage)}
    return dataset in _NO_VAL and dataset in evaluated & trained


def root_of(settings: Settings, dataset: str) -> Path:
    """The folder to give to torchvision's loader of `dataset`. Raises DataError if the settings name none."""
    named = getattr(settings, f"root_{dataset}") or settings.data
    if named == "embedded":
        raise DataError(
            f"the stages or evaluations need the data set {dataset!r}, and the setting data is 'embedded'\n"
            f'name the folder that holds it: train = {{ data = "/path/to/flow" }} or root_{dataset} = "/path"'
        )
    return Path(named).expanduser()


def _names(key: str, value: str, known: tuple[str, ...]) -> list[str]:
    names = [part.strip() for part in value.split("+")]
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name, known, 1, cutoff=0.0)
            raise ValueError(f"the setting {key} names {name!r}; did you mean {near[0]!r}? (all: {', '.join(known)})")
    return names


def _stage(name: str, settings: Settings) -> Stage:
    over = settings.model_dump(include=set(Stage.model_fields))
    stage = RECIPES[name].model_copy(update={"name": name} | {key: own for key, own in over.items() if own >= 0})
    for key, px in (("crop_height", stage.crop_height), ("crop_width", stage.crop_width)):
        if px < LEAST or px % 8:
            raise DataError(
                f"the setting {key} is {px} px; RAFT takes multiples of 8 from {LEAST} px on, "
                f"for instance {max(LEAST, -(-px // 8) * 8)}"
            )
    for key, value in (("steps", stage.steps), ("batch", stage.batch)):
        if value < 1:
            raise ValueError(f"the setting {key} is {value}; it must be at least 1, or -1 for the stage's own")
    return stage
