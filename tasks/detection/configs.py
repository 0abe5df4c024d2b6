"""mmdet configs by name or path, fitted to a task: class count, no downloads, and the small built-in models.

ConfigError   there is no such config, or it does not fit the task
load          a built-in model, the name of a config that mmdet ships, or a path -> mmengine Config
has_masks     does its model predict instance masks?
fit           the same with its model made ready for a cell's settings, and what was changed in it, in words
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mmengine.config import Config

from nmbench._util.errors import first_line
from nmbench.task import Spec
from nmbench_tasks._shared.settings import unknown_name
from nmbench_tasks.detection import narrow
from nmbench_tasks.detection.scales import Settings

#: built-in models that are configs of mmdet's under a shorter name
_SHIPPED = {
    "faster-rcnn-r50": "faster-rcnn_r50_fpn_1x_coco",
    "retinanet-r50": "retinanet_r50_fpn_1x_coco",
    "mask-rcnn-r50": "mask-rcnn_r50_fpn_1x_coco",
}


class ConfigError(ValueError):
    """A config that does not exist, cannot be read, or describes a model that the task cannot use."""


def load(name: str) -> Config:
    """The config called `name`. Raises ConfigError."""
    if name in narrow.BASES:
        config = _read(_folder() / narrow.BASES[name])
        narrow.apply(name, config.model)
        return config
    if name.endswith(".py") or "/" in name:
        path = Path(name).expanduser()
        if not path.is_file():
            raise ConfigError(f"there is no config file {path}")
        return _read(path)
    shipped = {path.stem: path for path in _folder().rglob("*.py") if not {"_base_", "common"} & set(path.parts)}
    stem = _SHIPPED.get(name, name)
    if stem not in shipped:
        raise ConfigError(
            f"{unknown_name('detection model', name, [*narrow.BASES, *_SHIPPED, *shipped])}\n"
            "a model is built in, a config that mmdet ships, or the path of a config file ending in .py"
        )
    return _read(shipped[stem])


def fit(spec: Spec, masks: bool) -> tuple[Config, list[str]]:
    """The config of `spec.model` with the class count of its settings and without anything to download.

    Returns the config, and a sentence for each change of substance. Raises ConfigError.
    """
    config, settings = load(spec.model), Settings.of(spec)
    _check_heads(spec.model, config, masks)
    _set_classes(config.model, settings.classes)
    pretrained = sorted({str(source) for source in _strip_pretrained(config.model)})
    changes = []
    if settings.backbone_weights:
        changes.append(f"the backbone starts from the weights in {Path(settings.backbone_weights).name}")
    elif pretrained:
        _thaw(config.model.get("backbone", {}))
        changes.append(
            f"{spec.model} is meant to start from {', '.join(pretrained)}, which is not downloaded: it starts from "
            "fresh weights, and no stage or batch normalisation of its backbone is frozen "
            "(give a checkpoint in backbone_weights)"
        )
    return config, changes


def has_masks(config: Config) -> bool:
    """Does the model of `config` predict instance masks (and so need them in training)?"""
    return _has_head(config.model, "mask_head")


def _folder() -> Path:
    """The configs in mmdet's wheel."""
    import mmdet

    return Path(mmdet.__file__).parent / ".mim" / "configs"


def _read(path: Path) -> Config:
    try:
        return Config.fromfile(str(path))
    except Exception as error:  # a config is a program: it may raise anything
        raise ConfigError(f"the config {path} cannot be read ({first_line(error)})") from error


def _check_heads(name: str, config: Config, masks: bool) -> None:
    model = config.get("model")
    if not isinstance(model, dict):
        raise ConfigError(f"the config {name} has no model section")
    if not _has_head(model, "bbox_head"):
        raise ConfigError(f"the model of {name} ({model.get('type', '?')}) has no bbox head: it detects no objects")
    if masks and not has_masks(config):
        raise ConfigError(
            f"the model of {name} ({model.get('type', '?')}) has no mask head, which segmentation needs; "
            "try mask-rcnn-r50, or the task detection"
        )


def _has_head(model: dict[str, Any], head: str) -> bool:
    return bool(model.get(head) or (model.get("roi_head") or {}).get(head))


def _sections(node: Any) -> Iterator[dict[str, Any]]:
    """Every dict in a config, the outer ones first."""
    if isinstance(node, dict):
        yield node
        node = list(node.values())
    if isinstance(node, (list, tuple)):
        for child in node:
            yield from _sections(child)


def _set_classes(model: dict[str, Any], classes: int) -> None:
    """Class counts of all heads for objects (a semantic head counts stuff, which the data have not)."""
    for section in _sections({k: v for k, v in model.items() if "semantic" not in k}):
        if isinstance(section.get("num_classes"), int):
            section["num_classes"] = classes


def _strip_pretrained(model: dict[str, Any]) -> Iterator[str]:
    """Take out every order to load weights; yields where they were to come from."""
    for section in _sections(model):
        init = section.get("init_cfg")
        orders = init if isinstance(init, (list, tuple)) else [init]
        kept = [order for order in orders if not (isinstance(order, dict) and order.get("type") == "Pretrained")]
        yield from (order["checkpoint"] for order in orders if order and order not in kept)
        if len(kept) < len(orders):
            section["init_cfg"] = kept or None
        if isinstance(section.get("pretrained"), str):
            yield section.pop("pretrained")


def _thaw(backbone: dict[str, Any]) -> None:
    """Frozen stages and statistics make sense with pretrained weights only."""
    if "frozen_stages" in backbone:
        backbone["frozen_stages"] = -1
    if "norm_eval" in backbone:
        backbone["norm_eval"] = False
    norm = backbone.get("norm_cfg")
    if isinstance(norm, dict) and norm.get("requires_grad") is False:
        norm["requires_grad"] = True
