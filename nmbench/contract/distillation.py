"""Knowledge distillation: settings of a cell that learns from its dense twin (Hinton et al. 2015).

loss = (1 - weight) * task's loss + weight * T^2 * mean over rows of KL(softmax(twin / T) || softmax(own / T))
"""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, Field

from nmbench._util.settings import Settings


class Distillation(BaseModel):
    """What a matrix may say of it."""

    weight: Annotated[float, Field(gt=0, le=1, description="share of the loss; the task's own has the rest")] = 0.5
    temperature: Annotated[float, Field(gt=0, description="T, by which the logits of both are divided")] = 2.0


DECLARED = Settings.declared({}, Distillation)
