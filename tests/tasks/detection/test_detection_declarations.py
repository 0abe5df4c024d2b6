"""What the parent learns of the two tasks, with mmdet and without; and that learning it imports nothing heavy."""

import importlib.metadata

import pytest

from nmbench.plan.describe import describe_task
from nmbench_tasks.detection import Detection

REFERENCES = {"detection": "nmbench_tasks.detection:Detection", "segmentation": "nmbench_tasks.detection:Segmentation"}


@pytest.mark.parametrize("name", REFERENCES)
def test_it_is_described(name):
    told = describe_task(REFERENCES[name])
    assert told["status"] == "ok", told["reason"]
    said = told["declaration"]
    assert said["name"] == name
    assert said["metrics"][0]["name"] == {"detection": "box_AP", "segmentation": "mask_AP"}[name]
    assert set(said["scales"]) == {"smoke", "quick", "study", "paper"}
    assert said["open_models"]
    assert set(said["default_models"].values()) <= set(said["models"])


@pytest.mark.parametrize("name", REFERENCES)
def test_without_mmdet_it_is_unavailable_and_says_how_to_add_it(name, monkeypatch):
    version = importlib.metadata.version

    def absent(distribution):
        if distribution == "mmdet":
            raise importlib.metadata.PackageNotFoundError(distribution)
        return version(distribution)

    monkeypatch.setattr(importlib.metadata, "version", absent)
    told = describe_task(REFERENCES[name])
    assert told["status"] == "unavailable"
    assert told["reason"].startswith("needs mmdet>=3.3,<3.4; pip install 'nmbench[detection-lite]'")


def test_the_paper_scale_is_the_1x_schedule(run_of, spec_of, monkeypatch):
    """12 epochs with drops after 8 and 11, SGD at 0.02, 1333 x 800, as mmdet's own config has it."""
    from nmbench_tasks.detection import configs, datasets, engine, recipe

    engine.load()
    spec = spec_of(model="faster-rcnn-r50", scale="paper", **Detection.scales["paper"] | {"classes": 10})
    given = []
    monkeypatch.setattr(datasets, "build", lambda *a: (given.append(a[4]), range(33))[1])
    run = run_of(spec)
    run.ranks, run.device = 8, "cuda"
    plan = recipe.plan(configs.fit(spec, masks=False)[0], run, masks=False)
    assert plan.loop["max_epochs"] == 12
    assert plan.optimizer["optimizer"] == {"type": "SGD", "lr": 0.02, "momentum": 0.9, "weight_decay": 0.0001}
    assert plan.optimizer["type"] == "AmpOptimWrapper"
    assert plan.schedule[0] == {"type": "LinearLR", "start_factor": 0.001, "by_epoch": False, "begin": 0, "end": 500}
    assert plan.schedule[1]["milestones"] == [8, 11]
    assert (plan.batch, plan.images) == (2, 32)
    assert plan.grouping == {"type": "AspectRatioBatchSampler"}
    (dataset,) = given
    assert {"type": "Resize", "scale": (1333, 800), "keep_ratio": True} in dataset["pipeline"]


def test_other_epochs_stretch_a_configs_schedule(run_of, spec_of):
    from nmbench_tasks.detection import configs, recipe

    spec = spec_of(model="faster-rcnn-r50", recipe="config", epochs=24, lr=0.01)
    plan = recipe.plan(configs.fit(spec, masks=False)[0], run_of(spec), masks=False)
    assert plan.loop["max_epochs"] == plan.schedule[1]["end"] == 24
    assert plan.schedule[1]["milestones"] == [16, 22]
    assert plan.schedule[0]["end"] == 500
    assert plan.optimizer["optimizer"]["lr"] == 0.01
