"""mmdet's data sets on the COCO layout, and the steps that make a model's input of an image.

pipeline   the task's own steps
build      the data set of a split
"""

import contextlib
import copy
import io
from pathlib import Path
from typing import Any

from mmdet.registry import DATASETS

from nmbench_tasks.detection import coco
from nmbench_tasks.detection.configs import ConfigError
from nmbench_tasks.detection.scales import Settings

_META = ("img_id", "img_path", "ori_shape", "img_shape", "scale_factor")


def pipeline(settings: Settings, masks: bool, train: bool) -> list[dict[str, Any]]:
    """COCO's usual steps: decode, fit into long_side x short_side, and mirror half of the training images."""
    resize = {"type": "Resize", "scale": (settings.long_side, settings.short_side), "keep_ratio": True}
    decode = {"type": "LoadImageFromFile"}
    if not train:
        return [decode, resize, {"type": "PackDetInputs", "meta_keys": _META}]
    steps: list[dict[str, Any]] = [decode, {"type": "LoadAnnotations", "with_bbox": True, "with_mask": masks}, resize]
    if settings.mirror:
        steps.append({"type": "RandomFlip", "prob": 0.5})
    return [*steps, {"type": "PackDetInputs"}]


def build(
    root: Path, split: str, steps: list[dict[str, Any]], settings: Settings, given: dict[str, Any] | None = None
) -> Any:
    """mmdet's data set for `split` of the COCO layout in `root`; training leaves images without objects out.

    `given` is a config's own data set: its pipeline and its wrappers are kept and only the data below it replaced.
    """
    wanted = {
        "type": "CocoDataset",
        "data_root": str(root),
        "ann_file": str(coco.instances(Path(), split)),
        "data_prefix": {"img": f"{coco.images(Path(), split)}/"},
        "metainfo": {"classes": coco.categories(root)},
        "test_mode": split == "val",
    }
    if only := settings.train_images if split == "train" else settings.val_images:
        wanted["indices"] = only
    if given is None:
        wanted |= {"pipeline": steps, "filter_cfg": {"filter_empty_gt": True, "min_size": 1}}
        return _silently(wanted)
    config = copy.deepcopy(given)
    innermost = config
    while "dataset" in innermost:
        innermost = innermost["dataset"]
    if "pipeline" not in innermost:
        raise ConfigError(f"this config has no single COCO data set ({innermost.get('type')}); set recipe = 'task'")
    for key in set(innermost) - {"pipeline", "filter_cfg"}:
        del innermost[key]
    innermost.update(wanted)
    return _silently(config)


def _silently(config: dict[str, Any]) -> Any:
    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools prints its progress
        return DATASETS.build(config)
