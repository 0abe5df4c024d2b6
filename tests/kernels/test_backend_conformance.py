"""The battery for backends: ours pass it, the libraries with a dense product inside; each promise can be broken."""

import pytest
import torch
from fake_libraries import FakeCuSparseLt, FakeCutlass, fakes
from torch.nn import functional as F

from nmbench.kernels import registry
from nmbench.kernels.backend import Backend
from nmbench.kernels.backends.dense import Dense
from nmbench.testing import check_backend


class Toy(Backend):
    """What a stranger would write first."""

    name = "toy"

    def refusal(self, problem):
        if problem.device not in ("cpu", "cuda"):
            return f"not on {problem.device}"
        return None if problem.kind == "linear" and problem.dtype == torch.float32 else "float32 linear layers only"

    def pack(self, weight, problem):
        return {"transposed": weight.t().contiguous()}

    def linear(self, x, packed, bias, problem):
        y = x @ packed["transposed"]
        return y if bias is None else y + bias

    def conv2d(self, x, packed, bias, problem):
        raise NotImplementedError


def test_dense_and_a_toy_pass():
    for backend in (Dense(), Toy()):
        battery = check_backend(backend)
        battery.raise_for_failures()
        assert battery.ran >= 11


@pytest.mark.slow
@pytest.mark.parametrize("backend", [FakeCuSparseLt(), FakeCutlass()], ids=lambda b: b.name)
def test_what_is_around_the_libraries_passes(backend):
    with fakes():
        battery = check_backend(backend)
    battery.raise_for_failures()
    assert battery.count("skipped") == 0


@pytest.mark.parametrize("name", ["cusparselt", "cutlass"])
@pytest.mark.skipif(torch.cuda.is_available(), reason="tests/gpu checks them where there is a GPU")
def test_without_a_gpu_the_libraries_say_so(name):
    battery = check_backend(registry.load(name))
    assert battery.ok
    assert "needs a GPU" in next(o.message for o in battery.outcomes if o.name == "linear-is-right")


def broken(**methods):
    return type("Broken", (Toy,), methods)()


@pytest.mark.parametrize(
    ("name", "backend"),
    [
        ("backend-is-declared", broken(name="")),
        ("refusing-never-raises", broken(refusal=lambda self, problem: 1 / (problem.rows - 5))),
        ("refusing-never-raises", broken(refusal=lambda self, problem: "")),
        ("linear-is-right", broken(linear=lambda self, x, packed, bias, p: x @ packed["transposed"])),
        (
            "linear-without-bias-is-right",
            broken(linear=lambda self, x, packed, bias, p: x @ packed["transposed"] + (1 if bias is None else bias)),
        ),
        (
            "convolution-is-right",
            broken(
                refusal=lambda self, p: None if (p.device, p.dtype) == ("cpu", torch.float32) else "float32 only",
                conv2d=lambda self, x, packed, bias, p: F.conv2d(x, packed["w"], bias),
                pack=lambda self, w, p: {"transposed": w.mT, "w": w},
            ),
        ),
        (
            "other-leading-sizes-are-taken",
            broken(
                linear=lambda self, x, packed, b, p: x.new_empty(p.rows, p.weight[0]).copy_(
                    x @ packed["transposed"] + (0 if b is None else b)
                )
            ),
        ),
        (
            "strides-do-not-matter",
            broken(
                linear=lambda self, x, packed, b, p: (
                    x.as_strided(x.shape, torch.empty(x.shape).stride()) @ packed["transposed"]
                    + (0 if b is None else b)
                )
            ),
        ),
        (
            "nothing-is-changed",
            broken(
                linear=lambda self, x, packed, b, p: Toy.linear(
                    self, x.add_(1).sub_(1).mul_(1.5).div_(1.5).add_(1e-3), packed, b, p
                )
            ),
        ),
        ("broken-patterns-are-told", broken(pack=lambda self, w, p: {"transposed": (w * (w != 1)).t()})),
        ("fewer-is-fine", broken(pack=lambda self, w, p: {"transposed": (w + (w[:1] == 0).all()).t().contiguous()})),
        ("weights-come-back", broken(unpack=lambda self, packed, p: packed["transposed"])),
        ("variants-are-right", broken(variants=lambda self, x, packed, b, p: [])),
        (
            "it-compiles",
            broken(
                linear=lambda self, x, packed, b, p: Toy.linear(self, x * float(x.numpy().sum() * 0 + 1), packed, b, p)
            ),
        ),
    ],
)
def test_each_promise_can_be_broken(name, backend):
    assert name in check_backend(backend).failed
