"""The pattern that a weight keeps to is read off it."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nmbench.kernels import compress
from nmbench.kernels.infer import inferred
from nmbench.sparsity import NMPattern, nm_mask


def baked(shape, pattern, seed=0):
    weight = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    return weight * nm_mask(weight, pattern)


@pytest.mark.parametrize("pattern", ["2:4", "1:4", "4:8", "1:8", "2:8", "1:16", "2:16", "1:2", "3:5", "2:7", "8:32"])
@pytest.mark.parametrize("shape", [(64, 240), (32, 70, 3, 3)])
def test_the_pattern_that_was_put_there_is_found(pattern, shape):
    p = NMPattern.parse(pattern)
    assert inferred(baked(shape, p)) == p


def test_zeros_by_chance_are_no_sparser_pattern():
    weight = baked((4, 64), NMPattern(2, 4))
    weight[:, 0:2] = 0
    assert inferred(weight) == NMPattern(2, 4)


@pytest.mark.parametrize(
    "weight", [torch.randn(64, 64), torch.zeros(8, 8), torch.ones(4, 1)], ids=["dense", "zero", "thin"]
)
def test_no_pattern(weight):
    assert inferred(weight) is None


@given(out=st.integers(1, 5), width=st.integers(1, 70), density=st.floats(0, 1), seed=st.integers(0, 999))
@settings(max_examples=60, deadline=None)
def test_what_is_found_holds(out, width, density, seed):
    draw = torch.Generator().manual_seed(seed)
    weight = torch.randn(out, width, generator=draw) * (torch.rand(out, width, generator=draw) < density)
    found = inferred(weight)
    if found is not None:
        compress(weight, found)


def test_what_only_the_last_rows_break_is_seen():
    weight = baked((3000, 64), NMPattern(2, 4))
    weight[-1, -4:] = 1.0
    found = inferred(weight)
    assert found is None or found != NMPattern(2, 4)
