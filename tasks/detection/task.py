"""The two tasks' declarations; the work is in the modules that their methods import, so that declaring needs no mmdet.

scales      settings                      embedded, coco      data on disk
configs     a config by name or path      models, backbone    the detector, its candidates, pretrained weights
recipe      optimizer and schedule        datasets, batches   images in, their order and augmentation
train, runner, hooks   one training pass  evaluate, pictures  metrics, samples
engine      what has to happen before mmdet is imported
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from nmbench._util.machine import versions
from nmbench.task import DataInfo, Diagnosis, Metric, Run, Spec, Task
from nmbench_tasks.detection.scales import DETECTION, SEGMENTATION, Settings

if TYPE_CHECKING:
    from collections.abc import Iterable

    from torch import nn


def _average_precisions(prefix: str) -> tuple[Metric, ...]:
    """COCO's six average precisions; the sizes are of areas below 32^2, up to 96^2 and above 96^2 pixels."""
    small_samples = ("APs", "APm", "APl")
    names = ("AP", "AP50", "AP75", *small_samples)
    return tuple(Metric(f"{prefix}_{n}", unit="%", margin=2.0 if n in small_samples else 1.0) for n in names)


class _CocoTask(Task):
    """What detection and segmentation share."""

    requires = (
        "mmdet>=3.3,<3.4",
        "mmengine>=0.10.7,<0.11",
        "mmcv-lite>=2.1,<2.2 | mmcv>=2.0.0rc4,<2.2",
        "pycocotools>=2.0.8",
        "torchvision>=0.26",
        "scikit-learn>=1.4",
        "pillow>=10",
        "setuptools<81",
    )
    install = "pip install 'nmbench[detection-lite]', or 'nmbench[detection]' beside a full mmcv"
    open_models = True
    settings = Settings
    #: does the task need instance masks, and a model that predicts them?
    masks: ClassVar[bool] = False

    def diagnosis(self) -> Iterable[Diagnosis]:
        """mmdet, and where its compiled operators come from."""
        installed = versions()
        if "mmdet" not in installed:
            return
        if "mmcv" in installed:
            operators = f"operators of mmcv {installed['mmcv']}"
        elif "mmcv-lite" in installed:
            operators = f"mmcv-lite {installed['mmcv-lite']}, operators of torchvision"
        else:
            operators = "but neither mmcv nor mmcv-lite"
        ok = "mmcv" in installed or "mmcv-lite" in installed
        yield Diagnosis(f"mmdet {installed['mmdet']} ({operators})", ok)

    def prepare(self, spec: Spec, root: Path) -> DataInfo:
        """Make the embedded data below `root`, or check the COCO root that the setting `data` names.

        Raises DataError if the data are missing, broken or not what the settings say.
        """
        from nmbench_tasks.detection import coco, embedded

        settings = Settings.of(spec)
        if settings.data == "embedded":
            return embedded.prepare(spec, root)
        return coco.prepare(settings.data, settings.classes, self.masks, root, settings.val_images)

    def build(self, spec: Spec) -> nn.Module:
        """The detector of a built-in model, of a config that mmdet ships, or of a config file; initialised.

        Raises ConfigError for a config that does not exist or does not fit the task, DataError for a backbone
        checkpoint that cannot be read or is of another architecture.
        """
        from nmbench_tasks.detection.models import build

        return build(spec, self.masks)

    def candidates(self, model: nn.Module) -> Iterable[str]:
        """Every convolution and linear weight that trains, but those of the final class and box predictors."""
        from nmbench_tasks.detection.models import candidates

        return candidates(model)

    def train(self, model: nn.Module, run: Run) -> None:
        """One pass of the schedule by mmengine's Runner."""
        from nmbench_tasks.detection.train import train

        train(model, run)

    def evaluate(self, model: nn.Module, run: Run) -> dict[str, float]:
        """COCO's average precisions in %, by pycocotools; stores three pictures with their boxes and masks."""
        from nmbench_tasks.detection.evaluate import evaluate

        return evaluate(model, run, self.masks)

    def example_inputs(self, spec: Spec) -> tuple[Any, ...]:
        """One image of noise, (1, 3, height, width), its meta data and mode "tensor", on the CPU."""
        from nmbench_tasks.detection.models import example_inputs

        return example_inputs(spec)


class Detection(_CocoTask):
    """Object detection with mmdet; box AP, averaged over IoU 0.50 to 0.95, is the primary metric."""

    name = "detection"
    metrics = _average_precisions("box")
    models = ("faster-rcnn-r18-narrow", "retinanet-r18-narrow", "faster-rcnn-r50", "retinanet-r50")
    default_models: ClassVar[dict[str, str]] = {"paper": "faster-rcnn-r50"}
    scales = DETECTION


class Segmentation(_CocoTask):
    """Instance segmentation with mmdet; mask AP, averaged over IoU 0.50 to 0.95, is the primary metric."""

    name = "segmentation"
    metrics = (*_average_precisions("mask"), *_average_precisions("box"))
    models = ("mask-rcnn-r18-narrow", "mask-rcnn-r50")
    default_models: ClassVar[dict[str, str]] = {"paper": "mask-rcnn-r50"}
    scales = SEGMENTATION
    masks = True
