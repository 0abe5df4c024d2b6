"""The functional dispatcher and the registry behind it."""

import importlib.metadata

import pytest
import torch
from torch.nn import functional as F

from nmbench import kernels
from nmbench.kernels import compress, registry
from nmbench.kernels.backends.dense import Dense
from nmbench.sparsity import NMPattern, nm_mask


def baked(shape, pattern="2:4", dtype=torch.float32):
    weight = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    return (weight * nm_mask(weight, NMPattern.parse(pattern))).to(dtype)


@pytest.mark.parametrize("form", ["tensor", "compressed", "packed"])
def test_linear(form):
    weight, x, bias = baked((6, 21)), torch.randn(2, 3, 21), torch.randn(6)
    given = {
        "tensor": weight,
        "compressed": compress(weight, "2:4"),
        "packed": kernels.pack(weight, (1, 21), pattern="2:4"),
    }[form]
    torch.testing.assert_close(kernels.linear(x, given, bias), F.linear(x, weight, bias))


@pytest.mark.parametrize("form", ["tensor", "compressed", "packed"])
def test_conv2d(form):
    weight, x, bias = baked((6, 5, 3, 3)), torch.randn(2, 10, 8, 7), torch.randn(6)
    given = {
        "tensor": weight,
        "compressed": compress(weight, "2:4"),
        "packed": kernels.pack(weight, (2, 10, 8, 7), stride=2, padding=(1, 0), groups=2),
    }[form]
    got = kernels.conv2d(x, given, bias, 2, (1, 0), groups=2)
    torch.testing.assert_close(got, F.conv2d(x, weight, bias, 2, (1, 0), groups=2))


def test_what_goes_wrong_is_told():
    weight, x = baked((6, 20)), torch.randn(3, 20)
    with pytest.raises(ValueError, match="no backend 'cutlas'; did you mean 'cutlass'"):
        kernels.linear(x, weight, backend="cutlas")
    if not torch.cuda.is_available():
        with pytest.raises(ValueError, match="cutlass: needs a GPU, not cpu"):
            kernels.linear(x, weight, backend="cutlass")
    with pytest.raises(ValueError, match="2 or 4 dimensions"):
        kernels.linear(x, weight[0])


class Point:
    """An entry point of another package."""

    def __init__(self, name, load, dist="stranger"):
        self.name, self.load, self.value = name, load, f"{dist}:{name}"
        self.dist = type("Dist", (), {"name": dist, "version": "1.0"})


def named(name):
    return type("Other", (Dense,), {"name": name})


def _exits():
    raise SystemExit("bye")


@pytest.mark.parametrize(
    ("load", "words"),
    [
        (lambda: 1 / 0, "ZeroDivisionError"),
        (_exits, "SystemExit: bye"),
        (lambda: dict, "is not a subclass of nmbench.kernels.Backend"),
        (lambda: named("else"), "its class is named 'else'"),
        (lambda: type("Abstract", (kernels.Backend,), {"name": "other"}), "TypeError"),
    ],
)
def test_a_broken_backend_is_a_reason(load, words, monkeypatch):
    points = [*importlib.metadata.entry_points(group=registry.GROUP), Point("other", load)]
    monkeypatch.setattr(registry, "entry_points", lambda group: points)
    registry.backends.cache_clear()
    try:
        found = registry.backends()
        assert words in found["other"].reason
        assert list(found) == ["cusparselt", "cutlass", "triton", "cpu", "cpu-rows", "other", "dense"]
        with pytest.raises(ValueError, match="'other' cannot be used"):
            registry.load("other")
    finally:
        registry.backends.cache_clear()


def test_a_stranger_cannot_take_our_names(monkeypatch):
    points = [Point("dense", lambda: named("dense")), *importlib.metadata.entry_points(group=registry.GROUP)]
    points.append(Point("other", lambda: named("other")))
    monkeypatch.setattr(registry, "entry_points", lambda group: points)
    registry.backends.cache_clear()
    try:
        assert type(registry.load("dense")) is Dense
        assert registry.load("other").name == "other"
    finally:
        registry.backends.cache_clear()


def test_a_backend_whose_refusal_raises_is_passed_over(monkeypatch):
    class Raising(Dense):
        name = "raising"

        def refusal(self, problem):
            raise KeyError("boom")

    weight, x = baked((6, 20)), torch.randn(3, 20)
    known = {one.name: registry.Found(one.name, one) for one in (Raising(), Dense())}
    monkeypatch.setattr(registry, "backends", lambda: known)
    torch.testing.assert_close(kernels.linear(x, weight), F.linear(x, weight))
    with pytest.raises(ValueError, match=r"raising: its refusal\(\) raised KeyError: 'boom'"):
        kernels.linear(x, weight, backend="raising")


def test_integers():
    weight, x = baked((6, 20)).sign().to(torch.int8), torch.ones(3, 20, dtype=torch.int8)
    with pytest.raises(ValueError, match=r"a bias of torch\.float32 cannot be added to sums of integers"):
        kernels.linear(x, weight, torch.full((6,), 0.9), backend="dense")
    got = kernels.linear(x, weight, torch.ones(6, dtype=torch.int32), backend="dense")
    assert torch.equal(got, x.int() @ weight.int().t() + 1)
    with pytest.raises(ValueError, match="dense: unsupported dtype uint8"):
        kernels.linear(x.to(torch.uint8), weight.to(torch.uint8), backend="dense")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"padding": "same"}, "padding is 'same'"),
        ({"stride": 0}, "stride is 0: give a whole number from 1 on"),
        ({"dilation": (1, 2, 3)}, "dilation is"),
        ({"padding": (0, -1)}, "padding is"),
    ],
)
def test_convolutions_that_cannot_be_are_told(options, said):
    weight, x = baked((6, 8, 3, 3)), torch.randn(2, 8, 9, 9)
    with pytest.raises(ValueError, match=said):
        kernels.conv2d(x, weight, **options)
    with pytest.raises(ValueError, match="an input of 4 dimensions"):
        kernels.conv2d(x[0], weight)
