"""COCO's average precisions on the split val, by mmengine's test loop, mmdet's CocoMetric and pycocotools."""

import contextlib
import io
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from nmbench.task import Run, evaluating
from nmbench_tasks._shared.folders import spread
from nmbench_tasks._shared.loading import Loader
from nmbench_tasks.detection import coco, engine
from nmbench_tasks.detection.scales import Settings

#: pictures that the report shows
SHOWN = 3
#: score from which a detection is drawn, as in mmdet's own pictures
_DRAWN_FROM = 0.3
#: our name -> that of mmdet's CocoMetric
_NAMES = {"AP": "mAP", "AP50": "mAP_50", "AP75": "mAP_75", "APs": "mAP_s", "APm": "mAP_m", "APl": "mAP_l"}
_SIZES = {"APs": "small", "APm": "medium", "APl": "large"}


def evaluate(model: nn.Module, run: Run, masks: bool) -> dict[str, float]:
    """box_AP ... box_APl and, with `masks`, mask_AP ... mask_APl, in %, of `model` as it is, in float32.

    The model's mode and the global generators are left as they were.
    """
    engine.load()
    from mmdet.evaluation import CocoMetric
    from mmengine.dataset import pseudo_collate

    from nmbench_tasks.detection import datasets
    from nmbench_tasks.detection.runner import CellRunner

    settings, root = Settings.of(run.spec), run.data.path
    dataset = datasets.build(root, "val", datasets.pipeline(settings, masks, train=False), settings)
    kinds = {"box": "bbox", "mask": "segm"} if masks else {"box": "bbox"}
    watcher = _watcher(run, dataset, masks)
    with contextlib.redirect_stdout(io.StringIO()), evaluating(model):  # pycocotools prints its progress
        metric = CocoMetric(ann_file=str(coco.instances(root, "val")), metric=list(kinds.values()))
        metric.img_ids = [dataset.get_data_info(i)["img_id"] for i in range(len(dataset))]
        runner = CellRunner(
            str(next(model.parameters()).device),
            model=model,
            work_dir=str(run.checkpoint_dir / "mmengine"),
            test_dataloader=Loader(
                dataset, pseudo_collate, batch_size=settings.eval_batch, num_workers=settings.workers
            ),
            test_cfg={"type": "TestLoop"},
            test_evaluator=[metric],
            custom_hooks=[watcher],
        )
        found = runner.test()
    return {
        f"{kind}_{name}": _percent(found, f"coco/{theirs}_{key}", name, run)
        for kind, theirs in kinds.items()
        for name, key in _NAMES.items()
    }


def _percent(found: Mapping[str, float], key: str, name: str, run: Run) -> float:
    """A precision in %. A model without a single detection has none in `found`: that is 0."""
    value = float(found.get(key, 0.0))
    if value < 0:  # pycocotools' word for: no such objects
        run.note(f"val has no {_SIZES.get(name, 'such')} objects, so {name} says nothing; it is given as 0")
        return 0.0
    return round(100.0 * value, 4)  # CocoMetric gives three decimals


def _watcher(run: Run, dataset: Any, masks: bool) -> Any:
    """A hook that keeps the heart beating and stores `SHOWN` pictures, evenly spread over `dataset`."""
    from mmengine.hooks import Hook

    names = dataset.metainfo["classes"]
    chosen = spread(len(dataset), SHOWN)
    infos = {dataset.get_data_info(i)["img_id"]: dataset.get_data_info(i) for i in chosen}

    class Watcher(Hook):
        def after_test_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
            run.alive()
            for sample in outputs or []:
                if info := infos.get(sample.img_id):
                    _store(run, info, sample.pred_instances.cpu(), names, masks)

    return Watcher()


def _store(run: Run, info: Mapping[str, Any], predicted: Any, names: tuple[str, ...], masks: bool) -> None:
    """One image, its true objects, and those that the model is fairly sure of."""
    from PIL import Image, ImageOps

    from nmbench_tasks.detection.pictures import drawn

    with Image.open(info["img_path"]) as opened:
        image = np.asarray(ImageOps.exif_transpose(opened).convert("RGB"))  # turned, as the loader does it
    true = info["instances"]
    labels = [instance["bbox_label"] for instance in true]
    truth = drawn(
        image,
        np.array([instance["bbox"] for instance in true]),
        labels,
        [names[label] for label in labels],
        np.array([_decoded(instance["mask"], image.shape) for instance in true]) if masks else None,
    )
    sure = predicted[predicted.scores > _DRAWN_FROM]
    labels = sure.labels.tolist()
    texts = [f"{names[label]} {score:.2f}" for label, score in zip(labels, sure.scores.tolist(), strict=True)]
    answer = drawn(image, sure.bboxes.numpy(), labels, texts, np.asarray(sure.masks) if masks else None)
    plain = drawn(image, np.empty((0, 4)), [], [])
    run.store_sample(f"val image {info['img_id']}", {"image": plain, "truth": truth}, {"detected": answer})


def _decoded(segmentation: Any, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """A mask (height, width) bool from COCO's polygons or run lengths."""
    from pycocotools import mask

    height, width = shape[:2]
    if isinstance(segmentation, list):
        segmentation = mask.merge(mask.frPyObjects(segmentation, height, width))
    elif isinstance(segmentation["counts"], list):
        segmentation = mask.frPyObjects(segmentation, height, width)
    return np.asarray(mask.decode(segmentation), dtype=bool)
