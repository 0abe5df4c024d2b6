"""The Triton convolution, under the interpreter, against float64."""

import interpreted
import pytest
import torch
from interpreted import assert_near, data, packed, weight_of
from torch.nn.functional import conv2d

from nmbench.sparsity import NMPattern

pytest.importorskip("triton")
pytestmark = pytest.mark.slow


def compare(pattern: str, weight: tuple[int, ...], x: tuple[int, ...], dtype=torch.float32, **options) -> torch.Tensor:
    p = NMPattern.parse(pattern)
    w, image = weight_of(weight, p, dtype), data(x, dtype)
    bias = torch.randn(weight[0]).to(dtype)
    kernel = (weight[0], *weight[2:])
    got = interpreted.run(interpreted.conv2d, image, *packed(w, p), bias, kernel, p, **options)
    assert_near(got, conv2d(image.double(), w.double(), bias.double(), **options))
    return got


@pytest.mark.parametrize("pattern", ["2:4", "1:4", "1:16", "3:5", "4:8", "1:1"])
def test_patterns_with_a_short_last_group(pattern: str) -> None:
    compare(pattern, (5, 18, 3, 3), (2, 18, 5, 4), padding=(1, 1))


@pytest.mark.parametrize(
    "options",
    [
        {"stride": (2, 1)},
        {"padding": (0, 2)},
        {"dilation": (1, 2)},
        {"stride": (2, 2), "padding": (1, 1), "dilation": (2, 1)},
    ],
)
def test_stride_padding_dilation(options) -> None:
    compare("2:4", (4, 6, 2, 3), (1, 6, 6, 7), **options)


@pytest.mark.parametrize("options", [{}, {"stride": (2, 2)}, {"padding": (1, 1)}])
def test_one_by_one(options) -> None:
    compare("2:4", (5, 10, 1, 1), (2, 10, 3, 4), **options)


def test_an_image_of_more_than_two_to_the_31_elements() -> None:
    got, right = interpreted.run(interpreted.last_pixel_of_a_large_image)  # a wrong address would end that process
    assert_near(got, right)
    assert got[0, :, -1, -1].tolist() == [3] * 4
