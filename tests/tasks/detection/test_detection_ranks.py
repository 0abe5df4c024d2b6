"""Two processes train one detector together, as the harness starts them for `gpus = 2`; gloo on the CPU."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from nmbench._util import random as rng
from nmbench.run import Run
from nmbench.sparsity import NMPattern, nm_mask, sparsify
from nmbench.task import DataInfo, Spec
from nmbench.worker.ranks import here
from nmbench_tasks.detection import Detection

NAME = "neck.fpn_convs.0.conv.weight"


def train(spec, data, folder):
    """What this rank saw and made of the training; also without any other rank."""
    rng.seed_all(0, "init")
    model = Detection().build(spec)
    handle = sparsify(model, "2:4", "sr-ste", layers=Detection().candidates(model), lambda_w=0.5)
    place = here()
    run = Run(spec, DataInfo(data, {}, ""), handle, folder, rank=place.rank, ranks=place.size)
    images, plain, gradients = [], [], []
    weight = dict(model.named_parameters())[NAME]
    first = weight.detach().clone()
    model.register_forward_pre_hook(
        lambda m, a, k: images.append([s.img_id for s in k["data_samples"]]), with_kwargs=True
    )
    bind = run.bind

    def bind_and_look(optimizer):
        optimizer.register_step_pre_hook(lambda *_: plain.append(weight.grad.detach().clone()))
        bind(optimizer)
        optimizer.register_step_pre_hook(lambda *_: gradients.append(weight.grad.detach().clone()))

    run.bind = bind_and_look
    Detection().train(model, run)
    place.part()
    losses = [loss for loss, _ in run.curve]
    seen = {"images": images, "plain": plain[0], "gradient": gradients[0], "first": first}
    return {"model": model.state_dict(), **seen, "losses": losses, "updates": run.updates}


def ranked(rank, folder):
    settings, data = json.loads((folder / "job.json").read_text())
    spec = Spec("detection", "retinanet-r18-narrow", "smoke", 0, settings)
    torch.save(train(spec, Path(data), folder), folder / f"rank-{rank}.pt")


@pytest.mark.slow
def test_two_ranks_train_one_model_on_the_batches_of_one_rank(spec_of, scenes_on_disk, tmp_path, two_ranks):
    # group normalisation only would make it exact; batch statistics are those of a rank, as everywhere in mmdet
    spec = spec_of(model="retinanet-r18-narrow", gpus=2, batch=4, train_images=8)
    (tmp_path / "job.json").write_text(json.dumps([dict(spec.train), str(scenes_on_disk.path)]))
    two_ranks(ranked)
    first, second = (torch.load(tmp_path / f"rank-{rank}.pt") for rank in (0, 1))
    (tmp_path / "one").mkdir()
    alone = train(replace(spec, train={**spec.train, "gpus": 1}), scenes_on_disk.path, tmp_path / "one")
    statistics = ("running_mean", "running_var")
    for name, value in first["model"].items():
        if not name.endswith(statistics):
            assert torch.equal(value, second["model"][name]), name
    assert first["updates"] == alone["updates"] == 4
    assert first["losses"] == second["losses"]
    # step by step the two see together what one rank sees, and no image twice
    for mine, other, both in zip(first["images"], second["images"], alone["images"], strict=True):
        assert sorted(mine + other) == sorted(both)
        assert len(mine) == len(other) == 2
    # the term of SR-STE is added once, after the gradients of the ranks were averaged
    assert torch.equal(first["plain"], second["plain"])
    assert torch.equal(first["gradient"], second["gradient"])
    kept = nm_mask(first["first"], NMPattern.parse("2:4"))
    term = first["gradient"] - first["plain"]
    assert torch.allclose(term, 0.5 * torch.where(kept, 0.0, first["first"]), atol=1e-6)
