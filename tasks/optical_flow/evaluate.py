"""Metrics of a model on each evaluation set, computed in float32; the first set's are the task's.

evaluate    the metrics
Padding     images padded to what RAFT takes, and flows cut back
flow_picture, image_picture    for the report: the usual colour wheel, hue for direction and strength for length
"""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional
from torchvision.utils import flow_to_image

from nmbench.task import Run, evaluating
from nmbench_tasks._shared.folders import spread
from nmbench_tasks.optical_flow import plan
from nmbench_tasks.optical_flow.data import normalised
from nmbench_tasks.optical_flow.metrics import Errors, measure, summary
from nmbench_tasks.optical_flow.prepare import evaluation_set
from nmbench_tasks.optical_flow.scales import Settings
from nmbench_tasks.optical_flow.sets import FlowSet, Pair

_SMALL = 256  # px: a picture that is no wider is shown at twice its size
_WIDE = 640  # px: one that is wider is shown smaller


def flow_picture(flow: Tensor, truth: Tensor, valid: Tensor) -> NDArray[np.uint8]:
    """`flow` (2, height, width) as RGB; the longest vector of `truth` has full strength, in every cell alike.

    Longer estimates are shown at full strength too. Where `truth` is unknown it is shown as no motion.
    """
    longest = torch.linalg.vector_norm(torch.where(valid, truth, 0.0), dim=0).max().clamp(min=1e-6)
    length = torch.linalg.vector_norm(flow, dim=0).clamp(min=1e-6)
    within = torch.nan_to_num(flow * (longest / length).clamp(max=1.0))
    # torchvision divides by the longest vector of what it is given: one of that length goes along
    scale = torch.zeros_like(within)
    scale[0] = longest
    return image_picture(flow_to_image(torch.stack([within, scale]).float())[0])


def image_picture(picture: Tensor) -> NDArray[np.uint8]:
    """(3, height, width) uint8 -> (h, w, 3), twice as large if small, at most 640 px wide."""
    width = picture.shape[-1]
    factor = 2.0 if width <= _SMALL else min(1.0, _WIDE / width)
    if factor != 1.0:
        mode = "nearest" if factor > 1 else "area"
        picture = functional.interpolate(picture[None].float(), scale_factor=factor, mode=mode)[0]
    return picture.round().to(torch.uint8).permute(1, 2, 0).contiguous().numpy()


_SHOWN = 2  # pairs kept as pictures


def evaluate(model: nn.Module, run: Run) -> dict[str, float]:
    """The metrics of the first evaluation set; the others' are stored as facts, and each pair's error with them.

    What the answer "nothing moves" reaches is the baseline `zero flow`. The model's mode is left as it was.
    """
    settings = Settings.of(run.spec)
    names = plan.evaluations(settings)
    found: dict[str, float] = {}
    run.store_fact("updates in evaluation", settings.eval_updates)
    with torch.no_grad(), evaluating(model):
        for number, name in enumerate(names):
            pairs = evaluation_set(name, settings, run.data.path)
            errors, still = _errors(model, pairs, run, shown=_SHOWN if number == 0 else 0)
            values = summary(errors)
            if number == 0:
                found = values
                run.store_per_example("epe", [error.epe for error in errors])
                run.store_baseline("zero flow", **summary(still))
                continue
            run.store_per_example(f"epe {name}", [error.epe for error in errors])
            for metric, value in values.items():
                run.store_fact(f"{metric} on {name}", round(value, 4))
            run.store_fact(f"zero-flow epe on {name}", round(summary(still)["epe"], 4))
    return found


def _errors(model: nn.Module, pairs: FlowSet, run: Run, shown: int) -> tuple[list[Errors], list[Errors]]:
    """Errors of the model and of zero flow, pair by pair; the first pair, one in the middle... are kept to show."""
    settings = Settings.of(run.spec)
    places = spread(len(pairs), shown) if shown else []
    errors: list[Errors] = []
    still: list[Errors] = []
    for group in _groups(pairs, settings.eval_batch):
        flows = _estimate(model, group, settings.eval_updates, street=pairs.sparse)
        for pair, flow in zip(group, flows, strict=True):
            place = len(errors)
            if not pair.valid.any():
                continue
            errors.append(measure(flow, pair.flow, pair.valid))
            still.append(measure(torch.zeros_like(flow), pair.flow, pair.valid))
            if place in places:
                _show(run, f"{pairs.name} pair {place + 1}", pair, flow)
        run.alive()
    return errors, still


def _groups(pairs: FlowSet, most: int) -> Iterator[Sequence[Pair]]:
    """Consecutive pairs of one size, at most `most` together."""
    group: list[Pair] = []
    for place in range(len(pairs)):
        pair = pairs[place]
        if group and (len(group) == most or group[0].flow.shape != pair.flow.shape):
            yield group
            group = []
        group.append(pair)
    if group:
        yield group


def _estimate(model: nn.Module, group: Sequence[Pair], updates: int, street: bool) -> Tensor:
    """The last estimate for pairs of one size, (pairs, 2, height, width), on the CPU."""
    device = next(model.parameters()).device
    height, width = group[0].flow.shape[-2:]
    padding = Padding(height, width, street)
    first, second = (
        padding.pad(normalised(torch.stack(images).to(device)))
        for images in ([pair.first for pair in group], [pair.second for pair in group])
    )
    flows: Tensor = model(first, second, num_flow_updates=updates)[-1]
    return padding.cut(flows).float().cpu()


def _show(run: Run, name: str, pair: Pair, flow: Tensor) -> None:
    run.store_sample(
        name,
        given={
            "image 1": image_picture(pair.first),
            "image 2": image_picture(pair.second),
            "true flow": flow_picture(pair.flow, pair.flow, pair.valid),
        },
        output={"flow": flow_picture(flow, pair.flow, pair.valid)},
    )


_MULTIPLE = 8  # px, of the model's input


class Padding:
    """Repeats the border until height and width are multiples of 8; `street` adds rows at the bottom only, as KITTI."""

    def __init__(self, height: int, width: int, street: bool = False) -> None:
        down, across = -height % _MULTIPLE, -width % _MULTIPLE
        top = 0 if street else down // 2
        self._sides = (across // 2, across - across // 2, top, down - top)

    def pad(self, images: Tensor) -> Tensor:
        """(batch, channels, height, width), float, with its border repeated."""
        return functional.pad(images, self._sides, mode="replicate") if any(self._sides) else images

    def cut(self, flows: Tensor) -> Tensor:
        """Of (..., padded height, padded width) the part that `pad` was given."""
        left, right, top, bottom = self._sides
        return flows[..., top : flows.shape[-2] - bottom, left : flows.shape[-1] - right]
