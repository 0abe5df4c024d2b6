"""The sr-ste term enters exactly once an optimizer step, in units of the mean loss.

`TERM` is large enough that a term multiplied by 2, by 12 or by a loss scale would be seen in every comparison.
"""

import pytest
import torch
from sparsity_toys import batch, loss_of, mlp, reference_mask, sgd, train, weights
from torch import nn

from nmbench.sparsity import sparsify

TERM = 0.5


def sparse(model, optimizer, lambda_w=TERM):
    handle = sparsify(model, "2:4", "sr-ste", lambda_w=lambda_w)
    handle.bind(optimizer)
    return handle


def assert_same(a, b, **tolerance):
    torch.testing.assert_close(weights(a), weights(b), **tolerance)


def micro_batches(model, optimizer, steps, k, after=lambda: None):
    """Each optimizer step accumulates the mean loss of k equal micro-batches."""
    for step in steps:
        optimizer.zero_grad()
        x, y = batch(step)
        for part, target in zip(x.chunk(k), y.chunk(k), strict=True):
            (nn.functional.mse_loss(model(part), target) / k).backward()
        after()
        optimizer.step()


def zero_loss_step(model, optimizer, backward):
    """The change of every weight when the loss says nothing: lr * TERM * (1 - E) * W, once."""
    before = weights(model)
    optimizer.zero_grad()
    backward()
    optimizer.step()
    after = weights(model)
    lr = optimizer.param_groups[0]["lr"]
    for name, w in before.items():
        if w.dim() == 2:
            expected = w - lr * TERM * w * ~reference_mask(w, 2, 4)
            torch.testing.assert_close(after[name], expected)


@pytest.mark.parametrize("k", [1, 2, 4, 16])
def test_gradient_accumulation(k):
    a, b = mlp(), mlp()
    oa, ob = sgd(a), sgd(b)
    ha, hb = sparse(a, oa), sparse(b, ob)
    micro_batches(a, oa, range(5), k)
    train(b, ob, range(5))
    assert_same(a, b, rtol=1e-4, atol=1e-5)
    assert ha.steps == hb.steps == len(ha.sad.history) == 5


@pytest.mark.parametrize("uses", [1, 2, 12])
def test_a_weight_that_is_used_often_in_a_forward(path, uses):
    class Recurrent(nn.Module):
        def __init__(self):
            super().__init__()
            self.cell = nn.Linear(8, 8)

        def forward(self, x):
            for _ in range(uses):
                x = torch.tanh(self.cell(x))
            return x

    torch.manual_seed(0)
    model = Recurrent()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    sparse(model, optimizer)
    zero_loss_step(model, optimizer, lambda: (model(torch.randn(3, 8)) * 0).sum().backward())


def scaled(model, optimizer, scaler, steps, clip=None):
    for step in steps:
        optimizer.zero_grad()
        scaler.scale(loss_of(model, step)).backward()
        if clip is not None:
            scaler.unscale_(optimizer)
            nn.utils.clip_grad_norm_(model.parameters(), clip)
        scaler.step(optimizer)
        scaler.update()


FUSED = [(torch.optim.SGD, {"momentum": 0.9}), (torch.optim.Adam, {}), (torch.optim.AdamW, {"weight_decay": 0.1})]


@pytest.mark.parametrize(("fused", "scale"), [(False, 1000.0), (True, 1024.0)])
@pytest.mark.parametrize(("optimizer", "settings"), FUSED, ids=["sgd", "adam", "adamw"])
def test_loss_scaling(optimizer, settings, fused, scale):
    a, b = mlp(), mlp()
    oa = optimizer(a.parameters(), lr=0.01, fused=fused, **settings)
    ob = optimizer(b.parameters(), lr=0.01, **settings)
    sparse(a, oa), sparse(b, ob)
    scaled(a, oa, torch.amp.GradScaler("cpu", init_scale=scale), range(6))
    train(b, ob, range(6))
    assert_same(a, b, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("fused", [False, True])
def test_loss_scaling_with_unscaled_and_clipped_gradients(fused):
    a, b = mlp(), mlp()
    oa, ob = torch.optim.SGD(a.parameters(), lr=0.1, fused=fused), torch.optim.SGD(b.parameters(), lr=0.1)
    sparse(a, oa), sparse(b, ob)
    scaled(a, oa, torch.amp.GradScaler("cpu", init_scale=4096.0), range(4), clip=0.05)
    micro_batches(b, ob, range(4), 1, after=lambda: nn.utils.clip_grad_norm_(b.parameters(), 0.05))
    assert_same(a, b, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("fused", [False, True])
def test_a_step_that_the_scaler_skips_counts_for_nothing(fused):
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, fused=fused)
    handle = sparse(model, optimizer)
    scaler = torch.amp.GradScaler("cpu", init_scale=128.0)
    scaled(model, optimizer, scaler, range(2))
    before, flips, masks = weights(model), handle.sad.history, {k: m.clone() for k, m in handle.masks.items()}
    optimizer.zero_grad()
    scaler.scale(loss_of(model, 2)).backward()
    model[2].bias.grad[0] = float("inf")
    scaler.step(optimizer)
    scaler.update()
    assert scaler.get_scale() == 64.0
    assert all(torch.equal(before[k], w) for k, w in weights(model).items())
    assert (handle.steps, handle.sad.history) == (2, flips)
    assert all(torch.equal(masks[k], m) for k, m in handle.masks.items())
    scaled(model, optimizer, scaler, range(3, 5))  # and training goes on
    assert handle.steps == len(handle.sad.history) == 4


def test_clipping_comes_before_the_term():
    """The term is outside the clipped norm: with gradients clipped to nearly nothing it is there in full."""
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    sparse(model, optimizer)

    def backward():
        loss_of(model, 0).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1e-12)

    zero_loss_step(model, optimizer, backward)


@pytest.mark.parametrize("by_keyword", [False, True])
def test_a_closure_makes_its_gradients_before_the_term(by_keyword):
    """`optimizer.step(closure)` runs forward and backward inside the step; the term must come after them."""
    a, b = mlp(), mlp()
    oa, ob = sgd(a), sgd(b)
    handle = sparse(a, oa)
    sparse(b, ob)
    for step in range(3):

        def closure(step=step):
            oa.zero_grad()
            loss = loss_of(a, step)
            loss.backward()
            return loss

        loss = oa.step(closure=closure) if by_keyword else oa.step(closure)
        assert loss.item() > 0
    train(b, ob, range(3))
    assert_same(a, b, rtol=0, atol=0)
    assert handle.steps == 3


def test_an_optimizer_that_calls_its_closure_many_times():
    """LBFGS minimises the loss and lambda / 2 |(1 - E) W|^2 together: with no loss the pruned weights go to zero."""
    model = nn.Sequential(nn.Linear(8, 4, bias=False))
    optimizer = torch.optim.LBFGS(model.parameters(), lr=1.0, max_iter=8, tolerance_change=-1)
    handle = sparse(model, optimizer)
    mask = handle.masks["0.weight"].clone()
    kept = weights(model)["0.weight"][mask]

    def closure():
        optimizer.zero_grad()
        loss = (model(torch.ones(1, 8)) * 0).sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    after = weights(model)["0.weight"]
    assert torch.equal(after[mask], kept)
    assert after[~mask].abs().max() < 1e-3
    assert handle.steps == 1


def test_by_hand_and_bound_are_the_same():
    a, b = mlp(), mlp()
    oa, ob = sgd(a), sgd(b)
    handle = sparsify(a, "2:4", "sr-ste", lambda_w=TERM)
    sparse(b, ob)
    for step in range(3):
        oa.zero_grad()
        loss_of(a, step).backward()
        handle.before_step()
        oa.step()
        handle.step()
    train(b, ob, range(3))
    assert_same(a, b, rtol=0, atol=0)


@pytest.mark.parametrize("method", ["ste", "sr-ste", "one-shot"])
def test_adding_the_term_twice_is_an_error(method):
    model = mlp()
    handle = sparsify(model, "2:4", method)
    loss_of(model, 0).backward()
    handle.before_step()
    with pytest.raises(RuntimeError, match=r"ran twice for one optimizer step \(0\.weight\)"):
        handle.before_step()
    handle.step()
    handle.before_step()


def test_bound_and_by_hand_together_is_an_error():
    model = mlp()
    optimizer = sgd(model)
    handle = sparse(model, optimizer)
    loss_of(model, 0).backward()
    handle.before_step()
    with pytest.raises(RuntimeError, match="not both"):
        optimizer.step()


def ranked(rank, folder):
    torch.distributed.init_process_group("gloo")
    for accumulate in (1, 2):
        model = mlp()
        handle = sparsify(model, "2:4", "sr-ste", lambda_w=TERM)
        wrapped = nn.parallel.DistributedDataParallel(model)
        optimizer = sgd(wrapped)
        handle.bind(optimizer)
        for step in range(4):
            optimizer.zero_grad()
            x, y = (t.chunk(2)[rank] for t in batch(step))
            for i, (part, target) in enumerate(zip(x.chunk(accumulate), y.chunk(accumulate), strict=True)):
                wrapped.require_backward_grad_sync = i == accumulate - 1
                (nn.functional.mse_loss(wrapped(part), target) / accumulate).backward()
            optimizer.step()
        made = {"weights": weights(model), "history": handle.sad.history}
        torch.save(made, folder / f"{accumulate}-{rank}.pt")
    torch.distributed.destroy_process_group()


@pytest.mark.slow
@pytest.mark.skipif(not torch.distributed.is_available(), reason="torch without torch.distributed")
def test_two_ranks_equal_one_process_on_the_joined_batch(two_ranks, tmp_path):
    """Without and with two micro-batches a rank; one pair of processes for both."""
    two_ranks(ranked)
    single = mlp()
    optimizer = sgd(single)
    handle = sparse(single, optimizer)
    train(single, optimizer, range(4))
    for accumulate in (1, 2):
        ranks = [torch.load(tmp_path / f"{accumulate}-{rank}.pt") for rank in (0, 1)]
        assert all(torch.equal(ranks[0]["weights"][k], w) for k, w in ranks[1]["weights"].items())
        torch.testing.assert_close(ranks[0]["weights"], weights(single), rtol=1e-4, atol=1e-6)
        assert ranks[0]["history"] == ranks[1]["history"] == handle.sad.history
