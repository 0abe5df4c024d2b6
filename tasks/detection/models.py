"""The detector of a cell: built, initialised, a pretrained backbone loaded; and which of its weights may be sparse.

build            mmdet's model, ready to be sparsified and trained
candidates       all convolution and linear weights but the frozen ones and the final predictors
frozen           names of the weights that do not train
example_inputs   one image for MACs and latency
"""

import re
from functools import partial
from typing import Any

from torch import Tensor, nn

from nmbench._util import random as rng
from nmbench._util.errors import first_line
from nmbench.sparsity.select import find_weights
from nmbench.task import Spec
from nmbench_tasks.detection import engine
from nmbench_tasks.detection.scales import Settings

#: key of a sample's meta data: as many proposals as the config allows, whatever the weights
FIXED = "fixed_proposals"
#: the layers of a bbox head that say what an object is and where: fc_cls, retina_reg, conv_centerness, cls_branches.0
_PREDICTOR = re.compile(
    r"(^|\.)bbox_head\.(.*[._])?(cls|reg|obj|centerness|iou|pred)(_refine|_branches)?(\.\d+)*\.weight$"
)


def build(spec: Spec, masks: bool) -> nn.Module:
    """The model of `spec`, initialised as mmdet does it, in training mode (frozen stages are frozen then).

    Raises ConfigError for a config that does not fit, DataError for backbone weights that do not.
    """
    engine.load()
    from mmengine.registry import MODELS

    from nmbench_tasks.detection import backbone, configs

    config, _ = configs.fit(spec, masks)
    try:
        model = MODELS.build(config.model)
    except (KeyError, TypeError, ValueError, AttributeError, AssertionError) as error:
        raise configs.ConfigError(f"mmdet cannot build the model of {spec.model}: {first_line(error)}") from error
    model.init_weights()
    if getattr(model, "with_rpn", False):
        model.rpn_head.predict = partial(_proposals, model.rpn_head)
    if given := Settings.of(spec).backbone_weights:
        backbone.load(model, given)
    detector: nn.Module = model.train()
    return detector


def _proposals(head: Any, features: tuple[Tensor, ...], samples: list[Any], *args: Any, **kwargs: Any) -> list[Any]:
    """What `head` proposes; for the example inputs, the most that it may keep, each as often as that takes.

    The layers of the second stage run once for each proposal, and how many suppression leaves depends on the weights:
    a sparse model and its dense twin would differ in MACs for a reason that is none.
    """
    found = type(head).predict(head, features, samples, *args, **kwargs)
    if not samples[0].metainfo.get(FIXED):
        return list(found)
    return [
        _repeated(one, head.test_cfg.max_per_img, sample.img_shape) for one, sample in zip(found, samples, strict=True)
    ]


def _repeated(found: Any, count: int, shape: tuple[int, int]) -> Any:
    """`count` proposals: those found again and again, or the whole image if there is none."""
    import torch

    if len(found):
        return found[torch.arange(count, device=found.bboxes.device) % len(found)]
    whole = found.bboxes.new_tensor([[0, 0, shape[1], shape[0]]]).expand(count, 4)
    zeros = found.scores.new_zeros(count)
    return type(found)(bboxes=whole, scores=zeros, labels=zeros.long())


def candidates(model: nn.Module) -> list[str]:
    """Names of all convolution and linear weights that train, but those of the final class and box predictors.

    The predictors of a region proposal network are not final and so are candidates; so is the mask predictor.
    """
    weights = [weight for weight in find_weights(model) if weight.grouping is not None]
    return [w.name for w in weights if w.parameter.requires_grad and not _PREDICTOR.search(w.name)]


def frozen(model: nn.Module) -> list[str]:
    """Names of the convolution and linear weights that do not train."""
    return [w.name for w in find_weights(model) if w.grouping is not None and not w.parameter.requires_grad]


def example_inputs(spec: Spec) -> tuple[list[Any] | Tensor | str, ...]:
    """Positional inputs of the model for one image of noise: backbone, neck and heads run, without a last nms.

    The image has the settings' sides (the longer one across), rounded up to 32 as the model pads its batches. The
    second stage of a two-stage detector runs on as many proposals as its config allows.
    """
    engine.load()
    import torch
    from mmdet.structures import DetDataSample

    settings = Settings.of(spec)
    height, width = (-(-side // 32) * 32 for side in (settings.short_side, settings.long_side))
    generator = torch.Generator().manual_seed(rng.stream(spec.seed, "example"))
    shape = (height, width)
    meta = {"ori_shape": shape, "img_shape": shape, "pad_shape": shape, "batch_input_shape": shape, "img_id": 0}
    sample = DetDataSample(metainfo={**meta, "scale_factor": (1.0, 1.0), FIXED: True})
    return torch.randn(1, 3, *shape, generator=generator), [sample], "tensor"
