"""The small built-in detectors: mmdet's own R50-FPN models with a narrow ResNet-18 of three stages, for one CPU core.

    BASES    name -> the base config of mmdet that it is made from
    apply    make that config's model the small one

Images of 128 px have no use for strides of 32 and more, so levels end at stride 16. Everything trains from fresh
weights: no stage is frozen, and the neck, which sees few images a batch, has group normalisation.
"""

from typing import Any

BASES = {
    "faster-rcnn-r18-narrow": "_base_/models/faster-rcnn_r50_fpn.py",
    "retinanet-r18-narrow": "_base_/models/retinanet_r50_fpn.py",
    "mask-rcnn-r18-narrow": "_base_/models/mask-rcnn_r50_fpn.py",
}

_WIDTH = 16  # channels of the stem and the first stage
_NECK = 32  # channels of the pyramid and the heads
_HIDDEN = 256  # outputs of the fully connected layers
_STRIDES = (4, 8, 16)
_ANCHOR = 6  # an anchor's side in strides: 24, 48 and 96 px
_PROPOSALS = 64


def apply(name: str, model: dict[str, Any]) -> None:
    """Change `model`, the model section of `BASES[name]`, in place."""
    _backbone_and_neck(model)
    if name.startswith("retinanet"):
        _one_stage(model)
    else:
        _two_stages(model)


def _backbone_and_neck(model: dict[str, Any]) -> None:
    stages = len(_STRIDES)
    model["backbone"].update(
        depth=18,
        stem_channels=_WIDTH,
        base_channels=_WIDTH,
        num_stages=stages,
        strides=(1, 2, 2),
        dilations=(1, 1, 1),
        out_indices=tuple(range(stages)),
        frozen_stages=-1,
        norm_eval=False,
        init_cfg=None,
    )
    model["neck"].update(
        in_channels=[_WIDTH * 2**stage for stage in range(stages)],
        out_channels=_NECK,
        num_outs=stages,
        norm_cfg={"type": "GN", "num_groups": 8},
    )


def _one_stage(model: dict[str, Any]) -> None:
    neck, head = model["neck"], model["bbox_head"]
    neck["start_level"] = 0
    neck.pop("add_extra_convs")
    head.update(in_channels=_NECK, feat_channels=_NECK, stacked_convs=2)
    head["anchor_generator"].update(octave_base_scale=_ANCHOR, scales_per_octave=1, ratios=[1.0], strides=_STRIDES)
    model["test_cfg"]["nms_pre"] = 4 * _PROPOSALS


def _two_stages(model: dict[str, Any]) -> None:
    rpn, roi = model["rpn_head"], model["roi_head"]
    rpn.update(in_channels=_NECK, feat_channels=_NECK)
    rpn["anchor_generator"].update(scales=[_ANCHOR], ratios=[1.0], strides=_STRIDES)
    roi["bbox_head"].update(in_channels=_NECK, fc_out_channels=_HIDDEN)
    _extractor(roi["bbox_roi_extractor"])
    if "mask_head" in roi:
        _extractor(roi["mask_roi_extractor"])
        roi["mask_head"].update(in_channels=_NECK, conv_out_channels=_NECK, num_convs=2)
    train, test = model["train_cfg"], model["test_cfg"]
    train["rpn"]["sampler"]["num"] = 64
    train["rcnn"]["sampler"]["num"] = 32
    for proposals in (train["rpn_proposal"], test["rpn"]):
        proposals.update(nms_pre=4 * _PROPOSALS, max_per_img=_PROPOSALS)


def _extractor(extractor: dict[str, Any]) -> None:
    extractor.update(out_channels=_NECK, featmap_strides=list(_STRIDES))
    extractor["roi_layer"]["sampling_ratio"] = 1
