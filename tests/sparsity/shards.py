"""Two gloo ranks, each with its rows, for test_strange_tensors.py: a file for each case that held on each rank."""

import pytest
import torch
import torch.distributed as dist
from sparsity_toys import batch, loss_of, mlp, reference_mask, sgd, train, weights
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FullyShardedDataParallel, fully_shard
from torch.distributed.tensor import Shard, distribute_tensor
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module

from nmbench.sparsity import NothingSparseError, audit, nm_mask, sparsify

X = batch(0)[0]
METHODS = {"sr-ste": {"lambda_w": 0.5}, "one-shot": {}, "ste": {}}


def whole(tensor):
    return tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor


def compare(model, handle, twin, other, steps=4):
    """Both train on the same batches on every rank, so that averaged gradients are those of one process."""
    optimizers = [sgd(model), sgd(twin)]
    handle.bind(optimizers[0])
    other.bind(optimizers[1])
    for step in range(steps):
        for network, optimizer in zip((model, twin), optimizers, strict=True):
            optimizer.zero_grad()
            loss_of(network, step).backward()
            optimizer.step()
    flips = torch.tensor(handle.sad.history)
    dist.all_reduce(flips)
    assert flips.tolist() == other.sad.history
    torch.testing.assert_close(whole(model(X)), twin(X))
    for stage in ("trained", "finalised"):
        for (name, parameter), expected in zip(model.named_parameters(), weights(twin).values(), strict=True):
            torch.testing.assert_close(whole(parameter.detach()), expected, msg=f"{stage} {name}")
        handle.finalize()
        other.finalize()
    assert audit(model, "2:4", handle.layers).ok
    torch.testing.assert_close(whole(model(X)), twin(X))


def fsdp(mesh, first):
    for method, hyper in METHODS.items():
        model, twin = mlp(), mlp()
        other = sparsify(twin, "2:4", method, **hyper)
        if first:
            shard(model, mesh)
            handle = sparsify(model, "2:4", method, **hyper)
        else:
            handle = sparsify(model, "2:4", method, **hyper)
            model(X)
            shard(model, mesh)
        compare(model, handle, twin, other)
        assert type(model).__name__ == "FSDPSequential"


def shard(model, mesh):
    fully_shard(model[0], mesh=mesh)
    fully_shard(model, mesh=mesh)


def tensor_parallel(mesh):
    """Columns of the first layer and rows of the second: its 12 inputs are cut into 6 and 6, through a group of 4."""
    model, twin = nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 4)), None
    twin = nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 4))
    for network in (model, twin):
        torch.manual_seed(5)
        for parameter in network.parameters():
            nn.init.normal_(parameter)
    parallelize_module(model, mesh, {"0": ColwiseParallel(), "2": RowwiseParallel()})
    handle, other = sparsify(model, "2:4", "sr-ste"), sparsify(twin, "2:4", "sr-ste")
    torch.testing.assert_close(whole(model(X)), twin(X))
    train(model, sgd(model), range(1))
    handle.finalize()
    other.finalize()


def refused(mesh):
    model = mlp()
    parallelize_module(model, mesh, {"2": RowwiseParallel()})
    with pytest.raises(ValueError, match="cut the groups"):
        sparsify(model, "2:4")
    assert type(model[0]) is nn.Linear


def fsdp1():
    """It flattens the weights, so that no group can be seen in them."""

    def wrap(model):
        return FullyShardedDataParallel(model, device_id=torch.device("cpu"), use_orig_params=True)

    with pytest.raises(NothingSparseError, match=r"FSDP 1 .*fully_shard"):
        sparsify(wrap(mlp()), "2:4")
    model = mlp()
    handle = sparsify(model, "2:4", "sr-ste")
    wrapped = wrap(model)
    optimizer = sgd(wrapped)
    handle.bind(optimizer)
    loss_of(wrapped, 0).backward()
    with pytest.raises(RuntimeError, match=r"FSDP 1 .*fully_shard"):
        optimizer.step()


def mask(mesh):
    weight = torch.randn(8, 16, generator=torch.Generator().manual_seed(1))
    made = nm_mask(distribute_tensor(weight, mesh, [Shard(0)]), "2:4")
    assert torch.equal(made.full_tensor(), reference_mask(weight, 2, 4))


def ranked(rank, folder):
    dist.init_process_group("gloo")
    mesh = init_device_mesh("cpu", (2,))
    cases = {
        "fsdp-first": lambda: fsdp(mesh, True),
        "fsdp-after": lambda: fsdp(mesh, False),
        "tensor-parallel": lambda: tensor_parallel(mesh),
        "mask": lambda: mask(mesh),
        "refused": lambda: refused(mesh),
        "fsdp-1": fsdp1,
    }
    for name, case in cases.items():
        case()
        (folder / f"{name}.{rank}").touch()
    dist.barrier()
    dist.destroy_process_group()
