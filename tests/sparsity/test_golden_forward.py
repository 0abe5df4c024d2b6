"""What layers compute with, under the methods that have a forward pass of their own, against the authors' code."""

import json

import pytest
import torch
from golden import FOLDER, at, golden, off, on_weight

from nmbench.sparsity.entry import NothingSparseError
from nmbench.sparsity.methods.s_ste import soft_threshold
from nmbench.sparsity.methods.sampling import inclusion, sample_2_of_4


def passed(handle, layer, upstream):
    """(what the layer computes with, the gradient that its weight gets for `upstream`)."""
    made = handle.method.forward(layer, layer.parameter)
    (grad,) = torch.autograd.grad(made, layer.parameter, upstream)
    return made.detach(), grad


@pytest.mark.parametrize("pattern", ["2:4", "1:4", "4:8", "2:8"])
@pytest.mark.parametrize("kind", ["linear", "conv_nhwc"])
def test_sr_ste_has_the_authors_weight_and_gradient(kind, pattern):
    data, case = golden("sr-ste/sparse_ops"), f"{kind}.{pattern}"
    model, handle, layer = on_weight(data[f"{case}.weight"], pattern, "sr-ste", lambda_w=2e-4)
    made, grad = passed(handle, layer, data[f"{case}.grad_masked"])
    assert torch.equal(made, data[f"{case}.masked"])
    layer.parameter.grad = grad.clone()
    handle.bind(optimizer := torch.optim.SGD(model.parameters(), lr=0.0))
    optimizer.step()
    assert off(layer.grad, data[f"{case}.grad_weight"]) < 1e-6


def test_three_input_channels_are_no_group_where_theirs_cross_kernel_positions():
    data = golden("sr-ste/sparse_ops")
    assert (data["trap.conv_nhwc_cin3.2:4.masked"] == 0).any()
    with pytest.raises(NothingSparseError, match="its grouped dimension is 3, below M = 4"):
        on_weight(data["trap.conv_nhwc_cin3.2:4.weight"], "2:4", "sr-ste")


def test_the_soft_threshold_of_other_patterns_is_the_authors():
    data = golden("fst/masks")
    _, _, layer = on_weight(data["weight"], "1:2", "s-ste")
    assert off(soft_threshold(layer, data["weight"]), data["soft12.weight_sparse"]) < 1e-6


def test_s_ste_is_the_authors_soft_threshold_times_beta():
    data = golden("fst/masks")
    _, handle, layer = on_weight(data["weight"], "2:4", "s-ste")
    upstream = torch.randn(layer.parameter.shape)
    made, grad = passed(handle, layer, upstream)
    assert off(made, data["sste.scale"] * data["soft24.weight_sparse"]) < 1e-6
    assert layer.memory["beta"] == pytest.approx(float(data["sste.scale"]), rel=1e-6)
    assert torch.equal(grad, upstream)


@pytest.mark.parametrize("kind", ["linear", "exp", "step"])
def test_decaying_masks_fade_as_the_authors(kind):
    data = golden("decaying-mask/pgf_mask_decay")
    names = [key for key in data if key.endswith(".masked") and f".{kind}." in f"{key}."]
    assert names
    for name in names:
        pattern, _, *step = name.split(".")
        rate = {"rate": 1e-4} if kind != "step" else {}
        _, handle, layer = on_weight(
            data[f"{pattern}.weight"], pattern, "decaying-mask", decay=kind, fine=0, steps=10**6, **rate
        )
        at(handle, int(step[0][4:]) if step[0].startswith("step") else 0)
        made, grad = passed(handle, layer, data[f"{pattern}.grad_masked"])
        assert off(made, data[name]) < 1e-6
        assert torch.equal(grad, data[f"{pattern}.grad_masked"])


def test_structure_decay_has_the_authors_frames():
    frames = json.loads((FOLDER / "decaying-mask/pgf_structure_decay.json").read_text())
    names = {"SPARSIFY": "sparsify", "DENSIFY": "densify", "FINE": "geometric"}
    for key, expected in frames.items():
        kind, pattern, *lengths = key.split()
        total, dense, fine = (int(text.split("=")[1]) for text in lengths)
        shares = {"dense": dense / total, "fine": fine / total}
        _, handle, layer = on_weight(
            torch.randn(4, 64), pattern, "decaying-mask", structure=names[kind], steps=total, **shares
        )
        for epoch, text in expected.items():
            made = handle.method.pattern(layer, int(epoch))
            assert f"{made.n}:{made.m}" == text, (key, epoch)


def test_the_other_gradient_of_decaying_masks_is_that_of_praxis():
    data = golden("decaying-mask/praxis_2023_decays")
    _, handle, layer = on_weight(
        data["weight"], "2:4", "decaying-mask", decay="linear", rate=0.1, through=False, fine=0, steps=10**6
    )
    for updates in (0, 1, 2, 3, 5, 10, 16):
        at(handle, updates)
        made, grad = passed(handle, layer, data["grad_masked"])
        assert off(made, data[f"mask_decay.updates{updates}.masked"]) < 1e-6
        assert off(grad, data[f"mask_decay.updates{updates}.grad"]) < 1e-6


@pytest.mark.parametrize("pattern", ["2:4", "1:16"])
def test_maxq_multiplies_kept_weights_as_the_authors(pattern):
    data = golden("maxq/masks")
    _, handle, layer = on_weight(data["weight"], pattern, "maxq")
    upstream = torch.randn(layer.parameter.shape)
    made, grad = passed(handle, layer, upstream)
    assert off(made, data["weight"] * data[f"mullt_axis_query_v1.{pattern}.mask"]) < 1e-6
    assert torch.equal(grad, upstream)


def test_maskllm_has_the_authors_soft_mask_and_gradient():
    data = golden("maskllm/differentiable_mask")
    for pattern in sorted({key.split(".")[0] for key in data if key.endswith(".gate")}):
        groups = len(data[f"{pattern}.gate"])
        _, handle, layer = on_weight(torch.ones(groups, 4), pattern, "maskllm", steps=2000, prior=0)
        handle.start_phase(1)
        with torch.no_grad():
            layer.extra["gate"].copy_(data[f"{pattern}.gate"])
        for step in (0, 1000, 1999):
            at(handle, step)
            made = handle.method.soft(layer, data[f"{pattern}.gumbel"])
            expected = data[f"{pattern}.iteration{step}.mask"]
            (grad,) = torch.autograd.grad(made, layer.extra["gate"], data[f"{pattern}.grad_mask"].view(made.shape))
            made = made.detach()
            assert off(made.view(expected.shape), expected) < 1e-4
            assert off(grad, data[f"{pattern}.iteration{step}.grad_gate"]) < 1e-4
        mask = handle.method.mask(layer, layer.values)
        assert torch.equal(mask.view(-1).float(), data[f"{pattern}.eval_mask"].view(-1).float())


def test_maskllm_leads_with_the_prior_as_the_authors():
    data = golden("maskllm/differentiable_mask")
    prior = data["2:4.prior"]
    _, handle, layer = on_weight(prior + 0.01 * torch.rand(prior.shape), "2:4", "maskllm", prior=3, steps=2000)
    with torch.no_grad():
        layer.extra["gate"].copy_(data["2:4.gate"])
    handle.start_phase(1)
    handle.method.mask(layer, layer.values.detach())
    assert off(layer.extra["gate"].detach(), data["2:4.gate_after_prior3"]) < 1e-6


def test_sampled_gradients_have_the_authors_values_and_are_unbiased():
    data = golden("fst/mvue")
    grad, generator = data["grad"], torch.Generator().manual_seed(0)
    draws = sample_2_of_4(grad.expand(4000, *grad.shape), generator)
    assert ((draws.view(4000, -1, 4) != 0).sum(2) <= 2).all()
    seen = (draws != 0).any(0) & (data["mvue24_approx.value_when_kept"] != 0)
    values = torch.where(seen, draws.sum(0) / (draws != 0).sum(0), 0)
    assert off(values[seen], data["mvue24_approx.value_when_kept"][seen]) < 1e-4
    noise = 5 * draws.std(0) / 4000**0.5 + 1e-6
    assert ((draws.mean(0) - grad).abs() < noise).all()


@pytest.mark.parametrize(
    "four", [[1e6, 0, 0, 0], [3.0, 0, 0, 0], [10.0, 1e-8, 1e-8, 1e-8], [65536.0, 1.0, 1e-3, 0], [0.0] * 4]
)
def test_one_large_gradient_among_small_ones_is_sampled_as_it_is(four):
    grad = torch.tensor(four)
    draws = sample_2_of_4(grad.expand(20000, 4), torch.Generator().manual_seed(0))
    assert draws.isfinite().all()
    assert ((draws != 0).sum(1) <= 2).all()
    assert ((draws.mean(0) - grad).abs() <= 5 * draws.std(0) / 20000**0.5 + 1e-6 * grad.abs()).all()


def test_inclusion_adds_up_to_two():
    chance = torch.rand(100, 4, dtype=torch.float64)
    chance /= chance.sum(1, keepdim=True)
    assert torch.allclose(inclusion(chance).sum(1), torch.full((100,), 2.0, dtype=torch.float64))
