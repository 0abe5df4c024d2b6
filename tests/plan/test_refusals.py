"""What a plan refuses is what attaching the method to a model refuses, pattern by pattern, word for word."""

import functools

import pytest
import torch
from torch import nn

from nmbench.plan.describe import MethodDescriptions, describe_methods
from nmbench.plan.refusals import refused
from nmbench.sparsity import methods, sparsify
from nmbench.sparsity.allocation import read
from nmbench.sparsity.pruning import names as pruners
from nmbench.sparsity.pruning import prune

PATTERNS = (
    *("1:2", "2:4", "1:4", "3:4", "4:8", "1:16", "4:16", "3:7", "32:64", "4:4"),
    *("2:4@kernel", "1:16@kernel", "*.0=4:8,*=1:4", "*.0=dense,*=2:4@kernel"),
)


@functools.cache
def declared():
    answer = MethodDescriptions.model_validate(describe_methods())
    return {name: told.declaration for name, told in answer.methods.items()}


def model():
    torch.manual_seed(0)
    first = nn.Sequential(nn.Conv2d(64, 8, 2), nn.Flatten(), nn.Linear(8, 64))
    return nn.Sequential(first, nn.Sequential(nn.Linear(64, 6)))


def trained(name, text):
    """Attach, and make two steps of the last pass."""
    made = model()
    handle = sparsify(made, text, name, steps=4)
    handle.start_phase(handle.method.phases - 1)
    optimizer = torch.optim.AdamW(made.parameters(), lr=1e-3)
    handle.bind(optimizer)
    for _ in range(2):
        made(torch.randn(3, 64, 2, 2)).square().mean().backward()
        optimizer.step()


@pytest.mark.parametrize("name", sorted(set(methods.names()) - {"dense"}))
def test_the_plan_and_attaching_agree(name):
    for text in PATTERNS:
        if "=" in text and not declared()[name].layerwise:
            continue
        if why := refused(declared()[name].refusals, read(text)):
            with pytest.raises(ValueError, match="cannot do") as caught:
                trained(name, text)
            assert str(caught.value).startswith(f"method {name!r} cannot do {why}")
        else:
            trained(name, text)


@pytest.mark.parametrize("name", pruners())
def test_pruners_do_every_pattern(name):
    assert declared()[name].refusals == ()
    for text in ("3:7", "1:16@kernel", "*.0=4:8,*=1:4"):
        prune(model(), text, name, [torch.randn(4, 64, 2, 2)], loss=lambda made, batch: made(batch).square().mean())
