"""Whole trajectories of methods that write the optimizer's update, or learn beside it, against the authors' code."""

import ast

import pytest
import torch
from golden import golden, metadata, off, on_weight
from torch import nn


@pytest.mark.parametrize("variant", [{}, {"foreach": True}, {"fused": True}], ids=["plain", "foreach", "fused"])
@pytest.mark.parametrize("run", ["auto_opt1", "auto_opt2"])
def test_step_trains_as_the_authors(run, variant):
    data, about = golden("step/adamw_step"), metadata("step/adamw_step")
    settings = ast.literal_eval(about[f"{run}.kw"])
    mean = "arithmetic" if settings.pop("option") == 1 else "geometric"
    _, handle, layer = on_weight(data[f"{run}.p0"], "2:4", "step", mean=mean, t_min=0, t_max=1, steps=10**6)
    other = nn.Parameter(data[f"{run}.q0"].clone())
    optimizer = torch.optim.AdamW([layer.parameter, other], lr=1e-2, weight_decay=0.05, **settings, **variant)
    handle.bind(optimizer)
    made, others = [], []
    for grad, grad_of_other in zip(data[f"{run}.grads_p"], data[f"{run}.grads_q"], strict=True):
        layer.parameter.grad, other.grad = grad.clone(), grad_of_other.clone()
        optimizer.step()
        made.append(layer.parameter.detach().clone())
        others.append(other.detach().clone())
    assert off(torch.stack(made), data[f"{run}.p"]) < 2e-6
    assert off(torch.stack(others), data[f"{run}.q"]) < 2e-6
    assert handle.method.memory["switched"] == int(about[f"{run}.switch_after_step"])


@pytest.mark.parametrize(("eps", "after"), [(1e3, 5), (1e-30, 10)])
def test_step_switches_within_its_shares(eps, after):
    """At once past t_min where the moment counts as settled, past t_max where it never does."""
    _, handle, layer = on_weight(torch.randn(8, 16), "2:4", "step", t_min=4 / 24, t_max=9 / 24, steps=24)
    optimizer = torch.optim.AdamW([layer.parameter], lr=1e-2, eps=eps)
    handle.bind(optimizer)
    for _ in range(12):
        layer.parameter.grad = torch.randn(8, 16)
        optimizer.step()
    assert handle.method.memory["switched"] == after


def test_ast_trains_as_the_authors_with_a_mask_that_is_one():
    data = golden("ast/adamw")
    _, handle, layer = on_weight(data["weight"], "2:4", "ast", every=10**6, decay=1e-2, ramp=0, steps=10**6)
    optimizer = torch.optim.AdamW([layer.parameter], lr=1e-2, weight_decay=0.05, betas=(0.9, 0.95))
    handle.bind(optimizer)
    made = []
    for grad in data["grads"]:
        layer.parameter.grad = grad.clone()
        optimizer.step()
        made.append(layer.parameter.detach().clone())
    assert off(torch.stack(made), data["bool.with_gradients.p"]) < 1e-5


def test_lbc_trains_as_the_authors():
    data = golden("lbc/nmconv")
    model, handle, layer = on_weight(data["2:4.weight0"], "2:4", "lbc", end=60 / 72, steps=12)
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9, weight_decay=1e-4)
    handle.bind(optimizer)
    masks, scores, weights = [], [], []
    for inputs, upstream in zip(data["2:4.inputs"], data["2:4.grad_outputs"], strict=True):
        masks.append(handle.masks["0.weight"].clone())
        optimizer.zero_grad()
        model(inputs).backward(upstream)
        optimizer.step()
        scores.append(layer.extra["score"].detach().clone())
        weights.append(layer.values.detach().clone())
    assert torch.equal(torch.stack(masks).float(), data["2:4.mask"].float())
    assert off(torch.stack(weights), data["2:4.weight"]) < 1e-5
    removed = scores[-1]  # the removal of the next step is in it already, so the scores are compared where they stay
    stays = removed != 0
    assert off(removed[stays], data["2:4.alpha"][-1][stays]) < 1e-5
    handle.finalize()
    assert ((model[0].weight != 0).movedim(1, -1).reshape(-1, 4).sum(1) == 2).all()
