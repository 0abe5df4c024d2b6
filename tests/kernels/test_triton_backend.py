"""The backend packs a weight with NMTensor and runs it, and says in words what it cannot take."""

from __future__ import annotations

import interpreted
import pytest
import torch
from interpreted import assert_near, data, weight_of
from torch.nn import functional as F

from nmbench.kernels.backend import Problem
from nmbench.kernels.backends.triton import Triton
from nmbench.sparsity import NMPattern

PROBLEM = Problem("linear", (6, 20), (3, 20), 3, NMPattern(2, 4), torch.float16, "cuda", (9, 0))


@pytest.mark.parametrize("rows", [3, 40])  # split-K and the plain kernel
@pytest.mark.parametrize("pattern", ["2:4", "3:5", "1:16"])
def test_a_linear_layer(pattern, rows):
    pytest.importorskip("triton")
    p = NMPattern.parse(pattern)
    weight, x, bias = weight_of((6, 20), p, torch.float32), data((rows, 20), torch.float32), torch.randn(6)
    problem = Problem("linear", (6, 20), (rows, 20), rows, p, torch.float32, "cpu")
    got = interpreted.run(interpreted.backend, x, weight, bias, problem)
    assert_near(got, F.linear(x.double(), weight.double(), bias.double()))


@pytest.mark.parametrize("kernel", [(1, 1), (3, 3)])
def test_a_convolution(kernel):
    pytest.importorskip("triton")
    p = NMPattern(2, 4)
    weight, x = weight_of((5, 10, *kernel), p, torch.float32), data((2, 10, 5, 4), torch.float32)
    bias = torch.randn(5)
    problem = Problem("conv2d", (5, 10, *kernel), tuple(x.shape), 40, p, torch.float32, "cpu")
    got = interpreted.run(interpreted.backend, x, weight, bias, problem)
    assert_near(got, F.conv2d(x.double(), weight.double(), bias.double()))


def test_what_it_takes_and_a_weight_that_breaks_the_pattern():
    pytest.importorskip("triton")
    assert Triton().refusal(PROBLEM) is None
    with pytest.raises(ValueError, match="has 4 non-zeros, not 2:4"):
        Triton().pack(torch.ones(6, 20), PROBLEM)
