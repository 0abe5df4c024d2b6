"""The search for a pattern of each layer."""

import json
from dataclasses import replace

import pytest
import torch
from golden import FOLDER, golden, off, on_weight
from method_toys import step_of, zoo

from nmbench.sparsity import audit, cost, sparsify
from nmbench.sparsity.allocation import kernel_shares


def test_shares_of_layers_are_the_authors():
    data = json.loads((FOLDER / "dominosearch/erk.json").read_text())
    for sparsity, shares in data["erk"].items():
        made = kernel_shares(list(data["shapes"].values()), float(sparsity))
        assert made == pytest.approx(list(shares.values()), abs=1e-6)


@pytest.mark.parametrize("n", [16, 12, 4])
def test_one_step_of_the_search_is_the_authors(n):
    data = golden("dominosearch/search_ops")
    model, handle, layer = on_weight(data["weight"], "1:16", "domino", steps=10**6)
    handle.start_phase(1)
    layer.memory.update(n=n, factor=0.37)
    handle.start_phase(1)
    handle.refresh()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    made = handle.method.forward(layer, layer.parameter)
    made.backward(data["grad_masked"])
    assert off(made.detach(), data[f"N{n}.masked"]) < 1e-6
    assert off(layer.grad, data[f"N{n}.grad_without"]) < 1e-6
    handle.before_step(optimizer)
    assert off(layer.grad, data[f"N{n}.grad_with_penalty"]) < 1e-6
    assert off(layer.memory["threshold"].flatten().sort().values, data["threshold"].flatten().sort().values) < 1e-6


def test_layers_end_with_patterns_of_their_own_that_add_up():
    model = zoo()
    handle = sparsify(model, "1:4", "domino", steps=12, search=0.5, every=2, votes=0.1)
    for phase in (0, 1):
        handle.start_phase(phase)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
        handle.bind(optimizer)
        for number in range(12):
            step_of(model, optimizer, number)
    handle.finalize()
    own = {line.name: line.pattern for line in handle.layers if line.pattern is not None}
    assert own
    assert {pattern.m for pattern in own.values()} == {4}
    report = audit(model, "1:4", handle.layers)
    assert report.ok
    assert report.density <= 0.3  # a quarter, and a little for groups that are short
    assert {line.pattern for line in report.layers} > {None}
    images = (torch.randn(1, 8, 6, 6),)
    same = cost(model, images, "1:4", handle.layers).bytes_compressed
    assert same != cost(model, images, "1:4", [replace(line, pattern=None) for line in handle.layers]).bytes_compressed
