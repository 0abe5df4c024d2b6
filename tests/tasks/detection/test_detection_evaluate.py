"""Metrics by CocoMetric: what perfect, shifted and absent detections score; pictures; what evaluation leaves alone."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from nmbench.contract.samples import read, write
from nmbench_tasks.detection import Detection, Segmentation, datasets, engine
from nmbench_tasks.detection.evaluate import _decoded
from nmbench_tasks.detection.scales import Settings


class Oracle(nn.Module):
    """Answers with the truth, its boxes moved right by `shift` px and its scores `score`; `keep` of each image."""

    def __init__(self, run, shift=0.0, score=0.9, keep=None):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        settings = Settings.of(run.spec)
        data = datasets.build(run.data.path, "val", datasets.pipeline(settings, True, False), settings)
        self.infos = {info["img_id"]: info for info in (data.get_data_info(i) for i in range(len(data)))}
        self.shift, self.score, self.keep = shift, score, keep

    def test_step(self, batch):
        from mmengine.structures import InstanceData

        for sample in batch["data_samples"]:
            true = self.infos[sample.img_id]["instances"][: self.keep]
            boxes = torch.tensor([t["bbox"] for t in true]).reshape(-1, 4) + torch.tensor(
                [self.shift, 0, self.shift, 0]
            )
            shape = sample.ori_shape
            masks = np.array([_decoded(t["mask"], shape) for t in true]).reshape(-1, *shape)
            sample.pred_instances = InstanceData(
                bboxes=boxes,
                labels=torch.tensor([t["bbox_label"] for t in true], dtype=torch.long),
                scores=torch.full((len(true),), self.score),
                masks=torch.from_numpy(masks),
            )
        return batch["data_samples"]


@pytest.fixture
def oracle_run(run_of, spec_of):
    engine.load()
    return run_of(spec_of(task="segmentation", val_images=40))


def test_the_truth_scores_a_hundred_percent(oracle_run):
    metrics = Segmentation().evaluate(Oracle(oracle_run), oracle_run)
    assert set(metrics) == {metric.name for metric in Segmentation.metrics}
    assert set(metrics.values()) == {100.0}
    assert oracle_run.notes == []
    assert Segmentation.metrics[0].name == "mask_AP"
    assert Detection.metrics[0].name == "box_AP"
    assert {metric.unit for metric in Segmentation.metrics} == {"%"}


def test_a_shift_costs_the_strict_overlaps_of_small_boxes_first(oracle_run):
    metrics = Segmentation().evaluate(Oracle(oracle_run, shift=6.0), oracle_run)
    assert metrics["box_AP50"] > metrics["box_AP75"] > 0
    assert metrics["box_APs"] < metrics["box_APm"] < metrics["box_APl"]
    assert metrics["mask_AP"] == 100.0  # the masks did not move


@pytest.mark.parametrize(("keep", "low", "high"), [(1, 10, 90), (0, 0, 0)])
def test_what_is_missed_costs(oracle_run, keep, low, high):
    metrics = Segmentation().evaluate(Oracle(oracle_run, keep=keep), oracle_run)
    assert low <= metrics["box_AP"] <= high


def test_sizes_that_val_has_not_are_said(run_of, spec_of):
    run = run_of(spec_of(task="segmentation", val_images=1))
    metrics = Segmentation().evaluate(Oracle(run), run)
    assert all(math.isfinite(value) for value in metrics.values())
    assert metrics["box_AP"] == 100.0
    assert any("val has no large objects, so APl says nothing" in note for note in run.notes)
    assert metrics["mask_APl"] == 0.0


def test_a_mask_model_can_be_evaluated_on_its_boxes_alone(run_of, spec_of, built):
    spec = spec_of(model="mask-rcnn-r18-narrow")
    metrics = Detection().evaluate(built(spec), run_of(spec))
    assert list(metrics) == ["box_AP", "box_AP50", "box_AP75", "box_APs", "box_APm", "box_APl"]


def test_three_pictures_are_stored_the_same_ones_for_every_model(oracle_run, run_of, tmp_path):
    good, bad = oracle_run, run_of(oracle_run.spec, "other")
    Segmentation().evaluate(Oracle(good), good)
    Segmentation().evaluate(Oracle(bad, score=0.2), bad)
    assert [sample.name for sample in good.samples] == [sample.name for sample in bad.samples]
    assert len(good.samples) == 3
    for right, unsure in zip(good.samples, bad.samples, strict=True):
        assert set(right.given) == {"image", "truth"}
        assert np.array_equal(right.given["truth"], unsure.given["truth"])
        assert right.given["image"].shape == right.output["detected"].shape == (320, 320, 3)
        assert not np.array_equal(right.given["truth"], right.given["image"])
        assert not np.array_equal(right.output["detected"], right.given["image"])
        assert np.array_equal(unsure.output["detected"], unsure.given["image"])  # 0.2 is below what is drawn
    write(good.samples, tmp_path / "samples.json")
    assert len(read(tmp_path / "samples.json")) == 3


def test_masks_are_decoded_from_all_of_cocos_forms():
    square = np.zeros((8, 9), bool)
    square[2:5, 3:7] = True
    polygon = [[3, 2, 7, 2, 7, 5, 3, 5]]
    counts, last = [0], False
    for value in square.ravel(order="F"):
        if value != last:
            counts.append(0)
            last = value
        counts[-1] += 1
    from pycocotools import mask

    compressed = mask.encode(np.asfortranarray(square.astype(np.uint8)))
    for form in (polygon, {"size": [8, 9], "counts": counts}, compressed):
        assert np.array_equal(_decoded(form, (8, 9, 3)), square)
