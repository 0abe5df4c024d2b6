"""A pruner as the method of a cell: trained as the dense twin is, then pruned. Its settings beside the pruner's own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, Field

from nmbench._util.settings import Settings
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


def declared(name: str) -> Settings:
    """Every setting of a cell that the pruner called `name` prunes. Raises ValueError for an unknown pruner."""
    own = registry.load(name).declared().root
    if taken := sorted(own.keys() & Recipe.model_fields.keys()):
        raise ValueError(f"pruner {name!r} may not have a setting {taken[0]!r}: each has one already")
    return Settings({**own, **Settings.declared({}, Recipe).root})


def pruner(name: str, hyper: Mapping[str, Any]) -> Pruner:
    """The pruner called `name`, with its part of a cell's `hyper`. Raises ValueError."""
    return registry.load(name)(**{key: value for key, value in hyper.items() if key not in Recipe.model_fields})
