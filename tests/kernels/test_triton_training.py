"""Fused passes of training under the interpreter: mask, masked weight and flips bit for bit, and the SR-STE term."""

import interpreted
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nmbench.sparsity import NMPattern, nm_mask
from nmbench.sparsity.mask import Grouping, torch_mask
from nmbench.sparsity.methods.sr_ste import SRSTE

pytest.importorskip("triton")
pytestmark = pytest.mark.slow

DTYPES = [torch.float32, torch.float16, torch.bfloat16, torch.float64]
WORDS = {2: torch.int16, 4: torch.int32, 8: torch.int64}
hypothesis = settings(
    max_examples=40, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
)


def random(shape: tuple[int, ...], dtype: torch.dtype, seed: int, ties: bool = False) -> torch.Tensor:
    made = torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return ((made * 2).round() / 2 if ties else made).to(dtype)


def bits(x: torch.Tensor) -> torch.Tensor:
    return x.contiguous().view(WORDS[x.element_size()])


def compare(weights: list[torch.Tensor], pattern: NMPattern, groupings: list[Grouping] | None = None) -> list[str]:
    groupings = groupings or [Grouping()] * len(weights)
    before = [torch.rand(w.shape, generator=torch.Generator().manual_seed(9)) < 0.5 for w in weights]
    masks = [torch.empty_like(w, dtype=torch.bool).copy_(m) for w, m in zip(weights, before, strict=True)]
    modes, masks, made, flips, alone = interpreted.run(interpreted.renew, weights, masks, pattern, groupings)
    for i, (w, g) in enumerate(zip(weights, groupings, strict=True)):
        expected = nm_mask(w, pattern, dim=g.dim, groups=g.groups)
        assert torch.equal(expected, torch_mask(w, pattern, g))
        assert torch.equal(masks[i], expected)
        assert torch.equal(bits(made[i]), bits(torch.where(expected, w, w.new_zeros(()))))
        assert torch.equal(bits(alone[i]), bits(made[i]))
        assert made[i].stride() == alone[i].stride() == w.stride()
        assert flips[i] == (expected != before[i]).sum()
    return modes


@given(
    shape=st.one_of(
        st.tuples(st.integers(1, 9), st.integers(1, 40)),
        st.tuples(st.integers(1, 5), st.integers(1, 20), st.integers(1, 3), st.integers(1, 3)),
    ),
    m=st.integers(1, 17),
    data=st.data(),
    axis=st.sampled_from(["input", "kernel"]),
    dtype=st.sampled_from(DTYPES),
    ties=st.booleans(),
    channels_last=st.booleans(),
    seed=st.integers(0, 99),
)
@hypothesis
def test_any_weight(shape, m, data, axis, dtype, ties, channels_last, seed) -> None:
    pattern = NMPattern(data.draw(st.integers(1, m)), m, axis)
    weight = random(shape, dtype, seed, ties)
    if len(shape) == 4 and channels_last and axis == "input":
        weight = weight.to(memory_format=torch.channels_last)
    compare([weight], pattern)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("text", ["2:4", "1:4", "4:8", "2:8", "1:16", "1:2", "4:4", "1:1", "2:4@kernel"])
def test_whole_groups_side_by_side_are_read_as_one_run(text: str, dtype: torch.dtype) -> None:
    pattern = NMPattern.parse(text)
    layers = [random((5, 64), dtype, 1, ties=True), random((3, 16, 3, 3), dtype, 2)]
    if pattern.axis == "input":
        layers[1] = layers[1].to(memory_format=torch.channels_last)
    assert compare(layers, pattern) == ["vector", "vector"]


@pytest.mark.parametrize("text", ["2:4", "3:5", "4:8", "1:16"])
def test_many_weights_of_every_shape_in_one_launch(text: str) -> None:
    shapes = [(4, 32), (3, 7), (6, 18, 3, 3), (4, 16, 1, 1), (2, 1, 3, 3), (5, 242)]
    modes = compare([random(s, torch.float32, i, ties=True) for i, s in enumerate(shapes)], NMPattern.parse(text))
    assert "columns" in modes


@pytest.mark.parametrize(
    ("shape", "text", "mode"),
    [
        *(((3, 70), text, "loop") for text in ("20:33", "32:64@kernel")),
        *(((40, 256), "2:4", "vector"), ((40, 200, 3, 3), "2:4", "columns")),  # more than one tile
    ],
)
def test_the_way_in_which_it_is_read(shape: tuple[int, ...], text: str, mode: str) -> None:
    assert compare([random(shape, torch.float16, 0, ties=True)], NMPattern.parse(text)) == [mode]


def test_a_grouped_transposed_convolution_and_memory_that_is_not_aligned() -> None:
    compare([random((12, 5, 2, 2), torch.float32, 0, ties=True)], NMPattern(2, 4), [Grouping(0, 2)])
    assert compare([random((1 + 16 * 16,), torch.float32, 0)[1:].view(16, 16)], NMPattern(2, 4)) == ["columns"]


def test_zeros_of_either_sign_and_infinities_keep_the_lowest_index() -> None:
    line = [-0.0, 0.0, 0.0, -0.0, float("inf"), -float("inf"), float("inf"), 1.0]
    weight, mask = torch.tensor([line * 2]), torch.zeros((1, 16), dtype=torch.bool)
    _, (mask,), *_ = interpreted.run(interpreted.renew, [weight], [mask], NMPattern(2, 4), [Grouping()])
    assert mask.tolist() == [[True, True, False, False] * 4]


@pytest.mark.parametrize("aligned", [True, False])
@pytest.mark.parametrize("lambda_w", [2e-4, -0.3, 1e-30])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_the_term_of_sr_ste(dtype: torch.dtype, lambda_w: float, aligned: bool) -> None:
    shapes = [(8, 32), (48, 64)] if aligned else [(3, 7), (5, 6, 3, 3)]
    weights = [random(s, dtype, i) for i, s in enumerate(shapes)]
    grads = [random(s, dtype, 9 + i) for i, s in enumerate(shapes)]
    masks = [nm_mask(w, "2:4") for w in weights]
    got = interpreted.run(interpreted.decay, [g.clone() for g in grads], weights, masks, lambda_w)
    method = SRSTE(lambda_w=lambda_w)
    for grad, weight, mask, made in zip(grads, weights, masks, got, strict=True):
        exact = grad.double() + lambda_w * torch.where(mask, 0.0, weight.double())
        by_torch = grad.clone()
        method.gradient(by_torch, weight, mask)
        assert torch.equal(made[mask], grad[mask])
        # the product is rounded once more than in torch where the processor fuses it with the sum
        torch.testing.assert_close(made, exact.to(dtype), rtol=2 * torch.finfo(dtype).eps, atol=1e-7)
        if dtype.itemsize > 2:  # torch rounds the factor to 16 bits too
            torch.testing.assert_close(made, by_torch, rtol=2 * torch.finfo(dtype).eps, atol=1e-7)
