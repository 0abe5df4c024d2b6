"""Masks of the methods that make their own, against the authors' code."""

import pytest
import torch
from golden import golden, off, on_weight

from nmbench.sparsity.methods.bi_mask import backward_mask
from nmbench.sparsity.methods.proxsparse import proximal
from nmbench.sparsity.methods.tiles import transposable_mask


def test_fst_has_the_authors_tiles():
    data = golden("fst/masks")
    _, handle, _ = on_weight(data["weight"], "2:4", "fst", steps=100)
    assert torch.equal(handle.masks["0.weight"].float(), data["transposable.2:4.mask"].float())


@pytest.mark.parametrize("pattern", ["2:4", "4:8"])
def test_transposable_masks_are_exact_and_near_the_optimum(pattern):
    n = int(pattern.partition(":")[0])
    blocks, optimum = transposable_case(pattern)
    mask = transposable_mask(blocks, n)
    assert (mask.sum(1) == n).all()
    assert (mask.sum(2) == n).all()
    share = (blocks * mask).sum((1, 2)) / optimum
    assert float(share.mean()) > 0.998
    assert float(share.max()) < 1 + 1e-6


def transposable_case(pattern):
    """The blocks of the golden data with the integer programme's sum; of 4:8, blocks of its own by the assignment."""
    data = golden("transposable/hubara")
    if f"{pattern}.blocks" in data:
        blocks = data[f"{pattern}.blocks"].abs()
        return blocks, (blocks * data[f"{pattern}.optimal_ip"]).sum((1, 2))
    blocks = torch.randn(60, 8, 8, generator=torch.Generator().manual_seed(0)).abs()
    return blocks, torch.tensor([best_of(block) for block in blocks])


def best_of(block):
    """The largest sum of n = 4 in each row and column: a linear programme, whose vertices are integral."""
    from scipy.optimize import linprog

    m = len(block)
    rows = torch.kron(torch.eye(m), torch.ones(1, m))
    columns = torch.kron(torch.ones(1, m), torch.eye(m))
    found = linprog(-block.flatten().double(), A_eq=torch.cat([rows, columns]), b_eq=[4.0] * 2 * m, bounds=(0, 1))
    return -found.fun


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
