"""Masks of the methods that make their own, against the authors' code."""

import json

import pytest
import torch
from golden import FOLDER, at, golden, off, on_weight

from nmbench.sparsity import nm_mask
from nmbench.sparsity.methods.bi_mask import backward_mask
from nmbench.sparsity.methods.proxsparse import proximal


@pytest.mark.parametrize("layer", ["linear", "conv1d", "conv2d"])
def test_the_plain_mask_is_that_of_nvidias_asp(layer):
    data = golden("apex-asp/m4n2_1d")
    assert torch.equal(nm_mask(data[f"{layer}.weight"], "2:4"), data[f"{layer}.m4n2_1d"])


@pytest.mark.parametrize("pattern", ["2:4", "1:4", "4:8", "1:16"])
def test_the_plain_mask_is_that_of_praxis_along_both_axes(pattern):
    data = golden("decaying-mask/praxis_masks")
    for axis, dim in (("C", 0), ("R", 1)):
        assert torch.equal(nm_mask(data[f"weight.{pattern}"], pattern, dim=dim), data[f"mask.{pattern}.{axis}"])
    assert torch.equal(nm_mask(data["ties.weight"], "2:4"), data["ties.2:4.R"])


@pytest.mark.parametrize(("key", "pattern"), [("12", "1:2"), ("14", "1:4"), ("48", "4:8"), ("24_torch", "2:4")])
def test_the_plain_mask_is_that_of_the_authors_of_fst(key, pattern):
    data = golden("fst/masks")
    assert torch.equal(nm_mask(data["weight"], pattern), data[f"sparse{key}.mask"])


def test_fst_has_the_authors_tiles():
    data = golden("fst/masks")
    _, handle, _ = on_weight(data["weight"], "2:4", "fst", steps=100)
    assert torch.equal(handle.masks["0.weight"].float(), data["transposable.2:4.mask"].float())


@pytest.mark.parametrize("pattern", ["2:4", "1:4", "4:8"])
def test_bi_mask_has_the_authors_masks_output_and_gradients(pattern):
    data = golden("bi-mask/conv_type")
    if f"{pattern}.weight" not in data:
        pytest.skip("not in the data")
    model, handle, layer = on_weight(data[f"{pattern}.weight"].t(), pattern, "bi-mask")
    order = data[f"{pattern}.permutation"]
    layer.memory["order"] = order
    handle.bind(optimizer := torch.optim.SGD(model.parameters(), lr=0.0))
    inputs = data[f"{pattern}.input"].clone().requires_grad_()
    output = model(inputs)
    output.backward(data[f"{pattern}.grad_output"])
    masked = torch.where(layer.mask, layer.values.detach(), 0)
    assert torch.equal(layer.mask.t().float(), data[f"{pattern}.forward_mask"].float())
    assert torch.equal(backward_mask(layer, masked, order).t().float(), data[f"{pattern}.backward_mask"].float())
    identity = data[f"{pattern}.backward_mask_identity"]
    assert torch.equal(backward_mask(layer, masked).t().float(), identity.float())
    assert off(output.detach(), data[f"{pattern}.output"]) < 1e-6
    assert off(inputs.grad, data[f"{pattern}.grad_input"]) < 1e-6
    handle.before_step(optimizer)
    assert off(layer.grad.t(), data[f"{pattern}.grad_weight"]) < 1e-6


@pytest.mark.parametrize("pattern", ["2:4", "1:4", "4:8"])
@pytest.mark.parametrize("drop", [0.3, 0.1])
def test_rigl_drops_and_grows_as_the_authors(pattern, drop):
    data = golden("nm-rigl/nmsrigl_step")
    _, handle, layer = on_weight(data[f"{pattern}.weight"], pattern, "nm-rigl", drop=drop, steps=10**9)
    assert torch.equal(layer.mask.float(), data[f"{pattern}.mask0"].float())
    grown = handle.method.changed(layer, layer.values.detach(), data[f"{pattern}.dense_gradient"].abs())
    assert torch.equal(grown.float(), data[f"{pattern}.prune_ratio{drop}.after_grow"].float())


def test_rigl_changes_its_mask_when_the_authors_do_and_drops_as_much():
    told = json.loads((FOLDER / "nm-rigl/schedules.json").read_text())["cosine quantity=0.3 t_end=750 delta_t=100"]
    _, handle, layer = on_weight(torch.randn(100, 100), "2:4", "nm-rigl", every=100, drop=0.3, until=0.75, steps=1000)
    method, kept = handle.method, int(layer.mask.sum())
    assert sum(share is not None for share in told.values()) == 8
    for step, share in told.items():
        assert (method.rule(0, int(step)) == "follow") is (share is not None), step
        if share is not None:
            at(handle, int(step))
            growth = torch.where(layer.mask, 0.0, torch.rand(100, 100) + 1)  # what is dropped never comes back
            dropped = int((layer.mask & ~method.changed(layer, layer.values.detach(), growth)).sum())
            assert abs(dropped - share * kept) <= 1


def test_proxsparse_has_the_authors_proximal_step():
    data = golden("proxsparse/prox_op")
    _, _, layer = on_weight(data["weight"], "2:4", "proxsparse")
    for key in [key for key in data if key.startswith("lambda")]:
        made = layer.ungrouped(proximal(layer.groups(data["weight"]), float(key[6:])))
        assert off(made, data[key]) < 1e-5


def test_vnm_has_venoms_masks():
    data = golden("vnm/venom_mask")
    cases = [key.removesuffix(".mask") for key in data if key.endswith(".mask")]
    assert cases
    for case in cases:
        v, n, m = case.split(":")
        _, handle, _ = on_weight(data[f"{case}.weight"], f"{n}:{m}", "vnm", v=int(v))
        assert torch.equal(handle.masks["0.weight"].float(), data[f"{case}.mask"].float()), case
