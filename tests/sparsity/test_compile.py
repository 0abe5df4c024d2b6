"""A sparse model under torch.compile equals the eager one."""

import pytest
import torch
from attach_toys import plain_twin
from sparsity_toys import batch, loss_of, mlp, sgd, train, weights
from torch import nn

from nmbench.sparsity import sparsify


def one_linear():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 4))


def compiled_equals_eager(backend, method, exact=True, make=mlp, steps=3):
    model, twin = make(), make()
    optimizers = [sgd(model), sgd(twin)]
    for m, optimizer in zip((model, twin), optimizers, strict=True):
        sparsify(m, "2:4", method, **({"lambda_w": 0.1} if method == "sr-ste" else {})).bind(optimizer)
    fast = torch.compile(model, backend=backend)
    tolerance = {"rtol": 0, "atol": 0} if exact else {"rtol": 1e-5, "atol": 1e-6}
    for step in range(steps):
        losses = []
        for m, optimizer in zip((fast, twin), optimizers, strict=True):
            optimizer.zero_grad()
            loss = loss_of(m, step)
            loss.backward()
            losses.append(loss.detach())
        torch.testing.assert_close(*losses, **tolerance)
        for a, b in zip(model.parameters(), twin.parameters(), strict=True):
            torch.testing.assert_close(a.grad, b.grad, **tolerance)
        for optimizer in optimizers:
            optimizer.step()
    torch.testing.assert_close(weights(model), weights(twin), **tolerance)


@pytest.mark.parametrize("method", ["dense", "sr-ste", "one-shot"])
@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_compiled_equals_eager(backend, method):
    torch.compiler.reset()
    compiled_equals_eager(backend, method)


def test_compiled_in_pieces_equals_eager():
    """A graph break in the middle of the forward pass."""
    torch.compiler.reset()

    class Broken(nn.Sequential):
        def forward(self, x):
            x = self[0](x)
            torch._dynamo.graph_break()
            return self[2](torch.tanh(x))

    model = Broken(*mlp())
    handle = sparsify(model, "2:4", "ste")
    x = batch(0)[0]
    fast = torch.compile(model, backend="eager")
    for _ in range(2):
        assert torch.equal(fast(x), plain_twin(handle, mlp())(x))
        assert handle._scope.depth == 0


@pytest.mark.slow
def test_compiled_by_inductor_equals_eager():
    torch.compiler.reset()
    compiled_equals_eager("inductor", "sr-ste", exact=False, make=one_linear, steps=2)


def test_a_compiled_model_follows_a_change_of_rule():
    """one-shot prunes after a step: the compiled graph of the dense rule must not run on."""
    torch.compiler.reset()
    model = mlp()
    optimizer = sgd(model)
    handle = sparsify(model, "2:4", "one-shot", at=1)
    handle.bind(optimizer)
    fast = torch.compile(model, backend="eager")
    x = batch(0)[0]
    assert torch.equal(fast(x), model(x))
    train(model, optimizer, [0])
    with torch.no_grad():
        dict(model.named_parameters())["0.weight"].add_(1.0)  # off zero: only the held mask prunes now
    assert torch.equal(fast(x), model(x))
