"""Configs by name and path, and the models made of them: heads, class counts, candidates, nothing downloaded."""

import copy
from dataclasses import replace

import pytest
import torch
from mmdet.structures import DetDataSample
from torch import nn

from nmbench.sparsity import cost
from nmbench_tasks.detection import Detection, Segmentation, configs, models, narrow
from nmbench_tasks.detection.configs import ConfigError

pytestmark = pytest.mark.slow
BUILT_IN = [*Detection.models, *Segmentation.models]
PREDICTORS = {
    "faster-rcnn": {"roi_head.bbox_head.fc_cls.weight", "roi_head.bbox_head.fc_reg.weight"},
    "retinanet": {"bbox_head.retina_cls.weight", "bbox_head.retina_reg.weight"},
    "mask-rcnn": {"roi_head.bbox_head.fc_cls.weight", "roi_head.bbox_head.fc_reg.weight"},
}
# convolutions (transposed ones too) and linear layers of the whole model
COUNTS = {
    "faster-rcnn-r18-narrow": (24, 4),
    "retinanet-r18-narrow": (27, 0),
    "mask-rcnn-r18-narrow": (28, 4),
    "faster-rcnn-r50": (64, 4),
    "retinanet-r50": (71, 0),
    "mask-rcnn-r50": (70, 4),
}


def layers(model, *kinds) -> set[str]:
    return {f"{name}.weight" for name, module in model.named_modules() if isinstance(module, kinds)}


@pytest.mark.parametrize("name", BUILT_IN)
def test_all_layers_but_the_final_predictors_are_candidates(built, spec_of, name):
    task = Segmentation() if name in Segmentation.models else Detection()
    model = built(spec_of(model=name, task=task.name))
    convolutions, linear = layers(model, nn.Conv2d, nn.ConvTranspose2d), layers(model, nn.Linear)
    assert (len(convolutions), len(linear)) == COUNTS[name]
    candidates = list(task.candidates(model))
    left_out = PREDICTORS[name.rsplit("-", 2 if "narrow" in name else 1)[0]]
    assert (convolutions | linear) - set(candidates) == left_out
    assert len(candidates) == len(set(candidates)) == sum(COUNTS[name]) - 2


@pytest.mark.parametrize(
    ("name", "left_out"),
    [
        ("fcos_r50-caffe_fpn_gn-head_1x_coco", {"conv_cls", "conv_reg", "conv_centerness"}),
        ("cascade-rcnn_r50_fpn_1x_coco", {f"{i}.{n}" for i in range(3) for n in ("fc_cls", "fc_reg")}),
        ("yolox_tiny_8xb8-300e_coco", {f"multi_level_conv_{n}.{i}" for i in range(3) for n in ("cls", "reg", "obj")}),
    ],
)
def test_any_config_that_mmdet_ships_is_a_model(built, spec_of, name, left_out):
    model = built(spec_of(model=name))
    every = layers(model, nn.Conv2d, nn.ConvTranspose2d, nn.Linear)
    missing = {n.partition("bbox_head.")[2].removesuffix(".weight") for n in every - set(models.candidates(model))}
    assert missing == left_out


@pytest.mark.parametrize("name", ["faster-rcnn-r18-narrow", "mask-rcnn-r18-narrow", "retinanet-r18-narrow"])
def test_heads_have_the_classes_of_the_data(built, spec_of, name):
    model = built(spec_of(model=name, classes=7))
    if name.startswith("retinanet"):
        assert model.bbox_head.retina_cls.out_channels == 7  # one anchor a position
    else:
        assert model.roi_head.bbox_head.fc_cls.out_features == 8  # and background
        assert model.roi_head.bbox_head.fc_reg.out_features == 28
    if name.startswith("mask"):
        assert model.roi_head.mask_head.conv_logits.out_channels == 7


def test_initialisation_was_not_skipped(built, spec_of):
    """mmdet's own: the focal loss' bias in RetinaNet, normal weights of 0.01 in the RPN, 0.001 in the box head."""
    retina = built(spec_of(model="retinanet-r18-narrow"))
    assert torch.allclose(retina.bbox_head.retina_cls.bias, torch.tensor(-4.595), atol=1e-3)
    faster = built(spec_of())
    assert faster.rpn_head.rpn_conv.weight.std().item() == pytest.approx(0.01, rel=0.1)
    assert faster.roi_head.bbox_head.fc_reg.weight.std().item() == pytest.approx(0.001, rel=0.1)
    assert faster.is_init
    assert faster.training


def test_nothing_is_to_be_downloaded(spec_of):
    given, changes = configs.fit(spec_of(model="faster-rcnn-r50", backbone_weights="/x/r50.pth"), masks=False)
    assert given.model.backbone.frozen_stages == 1  # as the config has it
    assert changes == ["the backbone starts from the weights in r50.pth"]
    config, changes = configs.fit(spec_of(model="faster-rcnn-r50"), masks=False)
    assert "torchvision://" not in config.model.__repr__()
    assert config.model.backbone.frozen_stages == -1
    assert config.model.backbone.norm_eval is False
    assert len(changes) == 1
    assert "torchvision://resnet50" in changes[0]
    frozen, _ = configs.fit(spec_of(model="faster-rcnn_r50-caffe_fpn_1x_coco"), masks=False)
    assert frozen.model.backbone.norm_cfg.requires_grad is True


@pytest.mark.parametrize(
    ("name", "masks", "text"),
    [
        ("faster-rcnn-r19-narrow", False, "nearest names are .*faster-rcnn-r18-narrow"),
        ("no/such/config.py", False, "there is no config file no/such/config.py"),
        ("rpn_r50_fpn_1x_coco", False, "RPN.* has no bbox head"),
        ("faster-rcnn-r18-narrow", True, "has no mask head"),
    ],
)
def test_configs_that_cannot_be(built, spec_of, name, masks, text):
    with pytest.raises(ConfigError, match=text) as caught:
        built(spec_of(model=name, task="segmentation" if masks else "detection"))
    assert len(str(caught.value).splitlines()) <= 2


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("model = dict(type='FasterRCNN'", "cannot be read"),
        ("optimizer = 1", "no model section"),
        ("model = dict(type='NoSuchNet', bbox_head=dict(num_classes=3))", "cannot build the model .*NoSuchNet"),
        ("model = dict(type='FasterRCNN', roi_head=dict(bbox_head=dict(x=1)))", "cannot build the model"),
    ],
)
def test_config_files_that_are_broken(built, spec_of, tmp_path, source, text):
    path = tmp_path / "broken.py"
    path.write_text(source)
    with pytest.raises(ConfigError, match=text):
        built(spec_of(model=str(path)))


@pytest.mark.parametrize("name", narrow.BASES)
def test_the_cost_counts_backbone_neck_and_heads(built, spec_of, name):
    spec = spec_of(model=name, long_side=128, short_side=128)
    model = built(spec)
    counted = {layer.name: layer.macs for layer in cost(model, models.example_inputs(spec)).layers}
    every = layers(model, nn.Conv2d, nn.ConvTranspose2d, nn.Linear)
    assert {n for n in every if counted[n] == 0} == set()
    # the stem: 64 x 64 outputs, 16 channels, 7 x 7 x 3 inputs each
    assert counted["backbone.conv1.weight"] == 64 * 64 * 16 * 7 * 7 * 3
    if not name.startswith("retinanet"):
        assert counted["roi_head.bbox_head.fc_cls.weight"] == 64 * 256 * 11  # 64 proposals


def test_the_macs_of_a_two_stage_detector_depend_on_neither_weights_nor_image(built, spec_of):
    """Its second stage runs once for each proposal, of which other weights leave another number."""
    spec = spec_of(task="segmentation")
    image, samples, mode = models.example_inputs(spec)
    counts = set()
    for seed in range(2):
        model = built(replace(spec, seed=seed))
        if seed:
            model.rpn_head.test_cfg.min_bbox_size = 10**4  # no proposal is left
        for scale in (1.0, 50.0):
            counts.add(cost(copy.deepcopy(model), (image * scale, samples, mode)).macs_dense)
    assert len(counts) == 1
    model.eval()
    real = DetDataSample(metainfo=samples[0].metainfo | {models.FIXED: False})
    [found] = model.rpn_head.predict(model.extract_feat(image), [real])
    assert len(found) == 0  # only where costs are counted
