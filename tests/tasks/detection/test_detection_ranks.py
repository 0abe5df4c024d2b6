"""Two processes train one detector together, as the harness starts them for `gpus = 2`; gloo on the CPU."""

import os
import socket
import subprocess
import sys
from contextlib import closing
from dataclasses import replace

import pytest
import torch

from nmbench.sparsity import NMPattern, nm_mask

# what a rank does, in a process of its own: argv is the spec's settings as JSON, data and output
RANK = """
import json, os, sys
from pathlib import Path
import torch
torch.set_num_threads(1)
from nmbench._util import random as rng
from nmbench.worker.ranks import here
from nmbench.run import Run
from nmbench.sparsity import sparsify
from nmbench.task import DataInfo, Spec
from nmbench_tasks.detection import Detection
settings, data, out = json.loads(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3])
spec = Spec("detection", "retinanet-r18-narrow", "smoke", 0, settings)
rng.seed_all(0, "init")
model = Detection().build(spec)
handle = sparsify(model, "2:4", "sr-ste", layers=Detection().candidates(model), lambda_w=0.5)
place = here()
run = Run(spec, DataInfo(data, {}, ""), handle, out, rank=place.rank, ranks=place.size)
images, plain, gradients = [], [], []
name = "neck.fpn_convs.0.conv.weight"
weight = dict(model.named_parameters())[name]
first = weight.detach().clone()
model.register_forward_pre_hook(
    lambda m, a, k: images.append([s.img_id for s in k["data_samples"]]), with_kwargs=True)
bind = run.bind
def bind_and_look(optimizer):
    optimizer.register_step_pre_hook(lambda *_: plain.append(weight.grad.detach().clone()))
    bind(optimizer)
    optimizer.register_step_pre_hook(lambda *_: gradients.append(weight.grad.detach().clone()))
run.bind = bind_and_look
Detection().train(model, run)
torch.save({"model": model.state_dict(), "images": images, "plain": plain[0], "gradient": gradients[0], "first": first,
            "losses": [c[0] for c in run.curve], "updates": run.updates}, out / f"rank-{run.rank}.pt")
place.part()
"""


def train(ranks, spec, data, folder):
    import json

    folder.mkdir()
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    common = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    if ranks > 1:
        common |= {"WORLD_SIZE": str(ranks), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    command = [sys.executable, "-c", RANK, json.dumps(dict(spec.train)), str(data.path), str(folder)]
    each = [{**common, "RANK": str(r), "LOCAL_RANK": str(r)} if ranks > 1 else common for r in range(ranks)]
    started = [subprocess.Popen(command, env=env, stderr=subprocess.PIPE, text=True) for env in each]
    for process in started:
        _, errors = process.communicate(timeout=200)
        assert process.returncode == 0, errors
    return [torch.load(folder / f"rank-{rank}.pt") for rank in range(ranks)]


@pytest.mark.slow
def test_two_ranks_train_one_model_on_the_batches_of_one_rank(spec_of, scenes_on_disk, tmp_path):
    # group normalisation only would make it exact; batch statistics are those of a rank, as everywhere in mmdet
    spec = spec_of(gpus=2, batch=4, train_images=8)
    first, second = train(2, spec, scenes_on_disk, tmp_path / "two")
    (alone,) = train(1, replace(spec, train={**spec.train, "gpus": 1}), scenes_on_disk, tmp_path / "one")
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
