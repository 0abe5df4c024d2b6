"""What a cell may be told beside its method's own settings.

A pruner is the method of a cell that is trained as the dense twin is, and then pruned. Of a training method that makes
its mask where a pass begins, channels may be reordered right before.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, Field

from nmbench._util.settings import Setting, Settings
from nmbench.sparsity.kept_mask import HOLD
from nmbench.sparsity.methods.base import Method
from nmbench.sparsity.pruning import registry
from nmbench.sparsity.pruning.base import Pruner


class Recipe(BaseModel):
    """What surrounds the pruner."""

    examples: int = Field(128, ge=1, description="training examples of calibration, at least; whole batches are taken")
    permute: bool = Field(False, description="channels are reordered first, so that the pattern keeps more")
    start: Literal["twin", "init"] = Field(
        "twin", description='what is pruned: the weights of the dense twin ("twin"), or `init` untrained ("init")'
    )

    @classmethod
    def of(cls, hyper: Mapping[str, Any]) -> Recipe:
        """The recipe's part of a cell's `hyper`."""
        return cls(**{key: value for key, value in hyper.items() if key in cls.model_fields})


#: the setting of cells whose channels may be reordered
PERMUTE = "permute"


def begins_to_hold(method: Method, phase: int) -> bool:
    """Is the mask made where training pass `phase` begins?"""
    return method.rule(phase, 0) == HOLD and (phase == 0 or method.rule(phase - 1, 0) != HOLD)


def with_permutation(cls: type[Method]) -> Settings:
    """The settings of a training method, and `permute` where a mask is made at the beginning of one of its passes."""
    own, method = cls.declared(), cls()
    if PERMUTE in own.root or not any(begins_to_hold(method, phase) for phase in range(method.phases)):
        return own
    about = "channels are reordered right before the mask is made, so that the pattern keeps more"
    return Settings({**own.root, PERMUTE: Setting(default=False, help=about)})


def declared(name: str) -> Settings:
    """Every setting of a cell that the pruner called `name` prunes. Raises ValueError for an unknown pruner."""
    own = registry.load(name).declared().root
    if taken := sorted(own.keys() & Recipe.model_fields.keys()):
        raise ValueError(f"pruner {name!r} may not have a setting {taken[0]!r}: each has one already")
    return Settings({**own, **Settings.declared({}, Recipe).root})


def pruner(name: str, hyper: Mapping[str, Any]) -> Pruner:
    """The pruner called `name`, with its part of a cell's `hyper`. Raises ValueError."""
    return registry.load(name)(**{key: value for key, value in hyper.items() if key not in Recipe.model_fields})
