"""Models and backends for the tests of `convert`, on the CPU.

Compressed   a backend that keeps the compressed weight and multiplies with it decompressed: right, on any device
priced       timing.compare with invented times (a context manager), so that any backend can win
converted    convert with those times
finalised    a model whose weights keep to a pattern
assert_same  two models give the same tensors
"""

import contextlib
from collections.abc import Iterator
from unittest import mock

import torch
from torch import nn
from torch.nn import functional as F
from torch.utils import _pytree as pytree

from nmbench.kernels import NMTensor, compress, convert, decompress, timing
from nmbench.kernels.backend import Backend
from nmbench.kernels.timing import Timing
from nmbench.sparsity import sparsify


@torch.library.custom_op("nmbench_tests::compressed_linear", mutates_args=())
def compressed_linear(
    x: torch.Tensor,
    values: torch.Tensor,
    positions: torch.Tensor,
    bias: torch.Tensor | None,
    shape: list[int],
    pattern: str,
) -> torch.Tensor:
    from nmbench.sparsity import NMPattern

    weight = decompress(NMTensor(values, positions, NMPattern.parse(pattern), tuple(shape)))
    with torch.autocast(x.device.type, enabled=False):  # of which a kernel knows nothing
        return F.linear(x, weight, bias)


@compressed_linear.register_fake
def _(x, values, positions, bias, shape, pattern):
    return x.new_empty((*x.shape[:-1], shape[0]))


class Compressed(Backend):
    name = "compressed"

    def refusal(self, problem):
        return None if problem.dtype.itemsize > 1 and problem.device in ("cpu", "cuda") else "unsupported dtype"

    def pack(self, weight, problem):
        stored = compress(weight, problem.pattern)
        return {"values": stored.values, "positions": stored.positions}

    def linear(self, x, packed, bias, problem):
        shape = list(problem.weight)
        return compressed_linear(x, packed["values"], packed["positions"], bias, shape, str(problem.pattern))

    def conv2d(self, x, packed, bias, problem):
        weight = decompress(NMTensor(packed["values"], packed["positions"], problem.pattern, problem.weight))
        return F.conv2d(x, weight, bias, problem.stride, problem.padding, problem.dilation, problem.groups)


@contextlib.contextmanager
def priced(**us: float) -> Iterator[list[dict]]:
    """Times by backend, 50 for one that is not named; yields the candidates of each comparison, which ran once each."""
    seen = []

    def compare(candidates, device, *, budget_s=0.3, graph=True):
        seen.append({name: [_shape(call()) for call in calls] for name, calls in candidates.items()})
        return {name: Timing(us.get(name, 50.0), 0.0, 0.0, 1, "invented") for name in candidates}

    with mock.patch.object(timing, "compare", compare):
        yield seen


def converted(model, inputs, us=None, **options):
    with priced(**{"compressed": 1.0, **(us or {})}):
        return convert(model, inputs, **{"backends": [Compressed()], **options})


def outputs(model, *args, **kwargs) -> list[torch.Tensor]:
    torch.manual_seed(1)
    with torch.no_grad():
        return [t for t in pytree.tree_leaves(model(*args, **kwargs)) if isinstance(t, torch.Tensor)]


def assert_same(model, fast, *args, tolerance=1e-5, **kwargs):
    for a, b in zip(outputs(model, *args, **kwargs), outputs(fast, *args, **kwargs), strict=True):
        torch.testing.assert_close(b, a, rtol=tolerance, atol=tolerance)


def _shape(result):
    return pytree.tree_leaves(result)[0].shape


def finalised(model: nn.Module, pattern: str = "2:4", dtype: torch.dtype = torch.float32, layers=None) -> nn.Module:
    sparsify(model, pattern, "one-shot", layers=layers).finalize()
    return model.to(dtype).eval()


def mlp() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(24, 32), nn.ReLU(), nn.Linear(32, 20))


def convnet() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(8, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 16, 1, bias=False), nn.Flatten(), nn.Linear(16 * 36, 4)
    )
