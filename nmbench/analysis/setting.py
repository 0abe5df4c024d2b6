"""What a sparse cell and its dense twin share, the seed apart."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from nmbench.document.words import label


@dataclass(frozen=True, order=True)
class Setting:
    """What a sparse cell and its dense twin share, the seed apart. `train` is canonical JSON, `init` "" by default."""

    task: str
    model: str
    scale: str
    train: str
    init: str

    @property
    def training(self) -> str:
        """The training settings that are not the scale's own, for instance "epochs=3, lr=0.1"; "" for none."""
        return label("", self.train).strip(" ()")

    @property
    def untrained(self) -> bool:
        """Are its models neither trained nor evaluated? Only their cost and speed can be told then."""
        return bool(json.loads(self.train or "{}").get("untrained"))

    @property
    def described(self) -> str:
        """Model and scale, then what is not the scale's own; plain text."""
        parts = [self.model, f"scale {self.scale}"]
        parts += [f"training {self.training}"] if self.training else []
        parts += [f"initial weights {self.init}"] if self.init else []
        return ", ".join(parts)

    def __str__(self) -> str:
        """For instance "classification/resnet20 study (epochs=3)", as plain text."""
        init = f", initial weights {self.init}" if self.init else ""
        return f"{self.task}/{self.model} {self.scale}" + (f" ({self.training})" if self.training else "") + init


def titles(settings: Sequence[Setting]) -> dict[Setting, str]:
    """The shortest name of each that tells it from the others: its task, with its model, with everything."""
    found: dict[Setting, str] = {}
    for shorten in (lambda one: one.task, lambda one: f"{one.task}/{one.model}", str):
        counts = Counter(shorten(setting) for setting in settings)
        for setting in settings:
            if counts[shorten(setting)] == 1:
                found.setdefault(setting, shorten(setting))
    return {setting: found.get(setting, str(setting)) for setting in settings}
