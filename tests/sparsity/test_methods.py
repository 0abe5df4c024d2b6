"""Each method against its formula, computed by hand in numpy: no torch gradient, no mask of the core."""

import copy

import numpy as np
import pytest
import torch
from sparsity_toys import batch, loss_of, mlp, reference_mask, sgd, train, weights
from torch import nn

from nmbench.sparsity import sparsify
from nmbench.sparsity.methods import load, names

LR, MOMENTUM, DECAY = 0.1, 0.9, 0.01


def mask_of(weight, n=2, m=4):
    return reference_mask(torch.from_numpy(weight), n, m).numpy()


def gradient(weight, step):
    """d mean((x w^T - y)^2) / dw, as numpy float64."""
    x, y = (t.double().numpy() for t in batch(step))
    error = x @ weight.T - y
    return 2 * error.T @ x / error.size


def by_hand(weight, steps, lambda_w, momentum=MOMENTUM, decay=DECAY):
    """W <- W - lr v,  v <- momentum v + g(E W) + lambda_w (1 - E) W + decay W."""
    velocity = np.zeros_like(weight)
    for step in range(steps):
        mask = mask_of(weight)
        grad = gradient(weight * mask, step) + lambda_w * ~mask * weight + decay * weight
        velocity = momentum * velocity + grad if step else grad
        weight = weight - LR * velocity
    return weight


def one_layer(dtype=torch.float64):
    torch.manual_seed(3)
    return nn.Sequential(nn.Linear(8, 4, bias=False)).to(dtype)


def train_double(model, optimizer, steps):
    for step in steps:
        x, y = (t.to(next(model.parameters()).dtype) for t in batch(step))
        optimizer.zero_grad()
        nn.functional.mse_loss(model(x), y).backward()
        optimizer.step()


@pytest.mark.parametrize("steps", [1, 2, 7])
@pytest.mark.parametrize(("momentum", "decay"), [(0.0, 0.0), (MOMENTUM, DECAY)])
@pytest.mark.parametrize(
    ("method", "hyper", "lambda_w"),
    [
        ("ste", {}, 0.0),
        ("sr-ste", {}, 2e-4),
        ("sr-ste", {"lambda_w": 0.5}, 0.5),
        ("sr-ste", {"lambda_w": -0.3}, -0.3),
        ("sr-ste", {"lambda_w": 0}, 0.0),
    ],
)
def test_ste_and_sr_ste_follow_the_formula(path, method, hyper, lambda_w, steps, momentum, decay):
    model = one_layer()
    start = model[0].weight.detach().numpy().copy()
    optimizer = sgd(model, LR, momentum, decay)
    sparsify(model, "2:4", method, **hyper).bind(optimizer)
    train_double(model, optimizer, range(steps))
    expected = by_hand(start, steps, lambda_w, momentum, decay)
    np.testing.assert_allclose(weights(model)["0.weight"].numpy(), expected, rtol=1e-11, atol=1e-13)


def test_the_toy_tells_the_terms_apart():
    """Or the tests above would hold for any method: each term moves the result by far more than the tolerance."""
    start = one_layer()[0].weight.detach().numpy().copy()
    results = [by_hand(start, 7, lambda_w) for lambda_w in (0.0, 2e-4, 0.5, -0.3)]
    gaps = [np.abs(a - b).max() for i, a in enumerate(results) for b in results[:i]]
    assert min(gaps) > 1e-6
    assert (mask_of(results[2]) != mask_of(start)).any()


def test_sr_ste_goes_through_adams_moments():
    """Adam with a gradient that holds the term by hand; adding lr lambda W after the update is another number."""
    model, lambda_w = one_layer(), 0.3
    by_hand_weight = model[0].weight.detach().clone().requires_grad_()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01, weight_decay=0.1)
    reference = torch.optim.AdamW([by_hand_weight], lr=0.01, weight_decay=0.1)
    sparsify(model, "2:4", "sr-ste", lambda_w=lambda_w).bind(optimizer)
    for step in range(6):
        train_double(model, optimizer, [step])
        current = by_hand_weight.detach().numpy()
        mask = mask_of(current)
        by_hand_weight.grad = torch.from_numpy(gradient(current * mask, step) + lambda_w * ~mask * current)
        reference.step()
    np.testing.assert_allclose(weights(model)["0.weight"], by_hand_weight.detach(), rtol=1e-9, atol=1e-12)
    moment = optimizer.state[model[0]._parameters["weight"]]["exp_avg"]
    np.testing.assert_allclose(moment, reference.state[by_hand_weight]["exp_avg"], rtol=1e-9, atol=1e-12)


def one_shot_by_hand(weight, at, steps):
    velocity, mask = np.zeros_like(weight), None
    for step in range(steps):
        if step == at:
            mask = mask_of(weight)
            weight = weight * mask
        kept = np.ones_like(weight) if mask is None else mask
        grad = (gradient(weight, step) * kept) + DECAY * weight
        velocity = MOMENTUM * velocity + grad if step else grad
        weight = (weight - LR * velocity) * kept
    return weight if steps > at else weight * mask_of(weight)


@pytest.mark.parametrize("at", [0, 1, 3])
def test_one_shot_prunes_after_the_given_steps_and_holds_the_mask(path, at):
    model = one_layer()
    start = model[0].weight.detach().numpy().copy()
    optimizer = sgd(model, LR, MOMENTUM, DECAY)
    handle = sparsify(model, "2:4", "one-shot", at=at)
    handle.bind(optimizer)
    train_double(model, optimizer, range(6))
    np.testing.assert_allclose(weights(model)["0.weight"], one_shot_by_hand(start, at, 6), rtol=1e-11, atol=1e-13)
    assert handle.sad.history[at:] == [0] * (6 - at)


@pytest.mark.parametrize("method", ["one-shot", "asp"])
def test_a_held_mask_keeps_pruned_weights_out_of_the_optimizers_state(method):
    model = mlp()
    handle = sparsify(model, "2:4", method)
    if method == "asp":
        handle.start_phase(1)
    optimizer = sgd(model)
    handle.bind(optimizer)
    train(model, optimizer, range(3))
    for name, mask in handle.masks.items():
        velocity = optimizer.state[dict(model.named_parameters())[name]]["momentum_buffer"]
        assert not velocity[~mask].any()
        assert velocity[mask].any()


def test_asp_trains_dense_then_prunes_once_and_trains_again():
    model, twin = mlp(), mlp()
    optimizer, dense = sgd(model), sgd(twin)
    handle = sparsify(model, "2:4", "asp")
    handle.bind(optimizer)
    assert handle.method.phases == 2
    train(model, optimizer, range(4))
    train(twin, dense, range(4))
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), twin.parameters(), strict=True))
    expected = {k: w * reference_mask(w, 2, 4) if w.dim() == 2 else w for k, w in weights(model).items()}
    handle.start_phase(1)
    assert all(torch.equal(w, expected[k]) for k, w in weights(model).items())
    held = {k: m.clone() for k, m in handle.masks.items()}
    optimizer = sgd(model)
    handle.bind(optimizer)
    train(model, optimizer, range(4))
    assert (handle.phase, handle.steps, len(handle.sad.history)) == (1, 8, 8)
    assert all(torch.equal(handle.masks[k], m) and not weights(model)[k][~m].any() for k, m in held.items())
    assert handle.sad.history[4:] == [0] * 4


def test_dense_with_its_shadow_mask_is_bitwise_an_untouched_model():
    model, twin = mlp(), mlp()
    optimizer, plain = sgd(model), sgd(twin)
    handle = sparsify(model, "2:4", "dense")
    handle.bind(optimizer)
    train(model, optimizer, range(6))
    train(twin, plain, range(6))
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), twin.parameters(), strict=True))
    assert torch.equal(model(batch(0)[0]), twin(batch(0)[0]))
    assert handle.sad.total > 0
    assert torch.equal(handle.masks["0.weight"], reference_mask(weights(model)["0.weight"], 2, 4))


@pytest.mark.parametrize("pattern", ["4:4", "1:1", "3:3", "16:16@kernel"])
@pytest.mark.parametrize("method", ["dense", "ste", "sr-ste", "one-shot", "asp"])
def test_n_equal_to_m_is_bitwise_dense(path, method, pattern):
    model, twin = mlp(), mlp()
    optimizer, plain = sgd(model), sgd(twin)
    handle = sparsify(model, pattern, method)
    assert all(info.sparse for info in handle.layers)
    for phase in range(handle.method.phases):
        handle.start_phase(phase)
        handle.bind(optimizer)
        train(model, optimizer, range(3))
        train(twin, plain, range(3))
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), twin.parameters(), strict=True))
    assert torch.equal(model(batch(9)[0]), twin(batch(9)[0]))
    assert handle.sad.total == 0
    handle.finalize()
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), twin.parameters(), strict=True))


def test_two_graphs_alive_at_once_keep_their_own_weights():
    """The memory of a masked weight is not given to the next forward pass while a graph still needs it."""
    model, twin = mlp(), None
    sparsify(model, "2:4", "ste")
    twin = copy.deepcopy(model)
    first = loss_of(model, 0)
    for parameter in model.parameters():
        parameter.data.add_(0.5)  # not in place on the parameter itself: backward refuses that, as in a dense model
    loss_of(model, 1).backward()
    model.zero_grad()
    first.backward()
    loss_of(twin, 0).backward()
    assert all(torch.equal(a.grad, b.grad) for a, b in zip(model.parameters(), twin.parameters(), strict=True))


def test_the_five_methods_are_installed():
    assert {"dense", "one-shot", "asp", "ste", "sr-ste"} <= set(names())
    assert [load(name).name for name in names()] == names()


@pytest.mark.parametrize(
    ("method", "hyper", "says"),
    [
        ("sr_ste", {}, "did you mean 'sr-ste'"),
        ("xyzzy", {}, "there are: "),
        ("sr-ste", {"lambda_v": 1e-4}, "did you mean 'lambda_w'"),
        ("ste", {"lambda_w": 1e-4}, "it takes none"),
        ("sr-ste", {"lambda_w": "2e-4"}, "must be like 0.0002"),
        ("sr-ste", {"lambda_w": True}, "must be like 0.0002"),
        ("one-shot", {"at": 1.5}, "must be like 0"),
        ("one-shot", {"at": -1}, "at must be at least 0, not -1"),
    ],
)
def test_a_wrong_method_or_setting_is_named(method, hyper, says):
    with pytest.raises(ValueError, match="method") as caught:
        sparsify(mlp(), "2:4", method, **hyper)
    assert says in str(caught.value)


@pytest.mark.parametrize("method", ["ste", "one-shot"])
def test_n_equal_to_m_is_bitwise_dense_without_gradients_too(path, method):
    """torch folds a strided 3-d input by whether the weight requires a gradient, even under no_grad."""
    torch.manual_seed(0)
    model = nn.Linear(8, 24)
    x = torch.randn(2, 5, 8).transpose(0, 1)
    with torch.no_grad():
        expected = model(x)
    with torch.inference_mode():
        assert torch.equal(model(x), expected)
    handle = sparsify(model, "4:4", method)
    for _ in range(2):
        with torch.no_grad():
            assert torch.equal(model(x), expected)
        with torch.inference_mode():
            assert torch.equal(model(x), expected)
    model.requires_grad_(False)
    frozen = model(x)
    handle.finalize()
    assert torch.equal(model(x), frozen)
