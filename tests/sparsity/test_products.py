"""The audited weight is the weight that multiplies, or the layer is called dense."""

import copy

import pytest
import torch
from sparsity_toys import convnet, mlp
from torch import nn

from nmbench.sparsity import Outcome, audit, multiplied, sparsify

IMAGES = torch.randn(2, 8, 6, 6)


class Standardised(nn.Conv2d):
    """Weight standardisation, as BiT and NFNets have it."""

    def forward(self, x):
        mean, std = self.weight.mean((1, 2, 3), keepdim=True), self.weight.std((1, 2, 3), keepdim=True)
        return self._conv_forward(x, (self.weight - mean) / (std + 1e-5), self.bias)


class Padded(nn.Conv2d):
    """A forward of its own that leaves the weight as it is."""

    def forward(self, x):
        return self._conv_forward(nn.functional.pad(x, (1, 1, 1, 1)), self.weight.to(x.dtype), self.bias)


class Centred(nn.Module):
    """Reads and changes the weight of another module."""

    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(8, 8)

    def forward(self, x):
        return nn.functional.linear(x, self.inner.weight - self.inner.weight.mean(1, keepdim=True))


class LowRank(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(8, 8)
        self.a, self.b = nn.Parameter(torch.randn(2, 8)), nn.Parameter(torch.randn(8, 2))

    def forward(self, x):
        return nn.functional.linear(x, self.inner.weight + self.b @ self.a)


class FusedAtEval(nn.Module):
    """RepVGG's: two branches in training, one convolution with the sum of their weights at eval."""

    def __init__(self):
        super().__init__()
        self.inner, self.point = nn.Conv2d(8, 8, 3, padding=1), nn.Conv2d(8, 8, 1, bias=False)

    def forward(self, x):
        if self.training:
            return self.inner(x) + self.point(x)
        weight = self.inner.weight + nn.functional.pad(self.point.weight, (1, 1, 1, 1))
        return nn.functional.conv2d(x, weight, self.inner.bias, padding=1)


class MergedAtEval(LowRank):
    """As loralib has it: eval() adds the product into the weight, train() takes it out again."""

    merged = False

    def train(self, mode=True):
        if self.merged == mode:
            with torch.no_grad():
                self.inner.weight += (-1 if mode else 1) * (self.b @ self.a)
            self.merged = not mode
        return super().train(mode)

    def forward(self, x):
        return self.inner(x) if self.merged else super().forward(x)


class Demodulated(nn.Module):
    """StyleGAN's: the weight is scaled for each input channel, the output by the norm of what came out of it."""

    def __init__(self):
        super().__init__()
        self.conv, self.after = nn.Conv2d(8, 8, 3), nn.Conv2d(8, 8, 1)

    def forward(self, x):
        weight = self.conv.weight * x.mean((0, 2, 3)).view(1, -1, 1, 1)
        scale = weight.square().sum((1, 2, 3)).rsqrt().view(1, -1, 1, 1)
        return self.after(nn.functional.conv2d(x, weight) * scale)


def finalised(model, layers=None):
    handle = sparsify(model, "2:4", "one-shot", layers=layers)
    handle.finalize()
    return handle


@pytest.mark.parametrize("layers", [None, ["0", "2"]])
def test_a_layer_whose_forward_changes_its_weight_stays_dense_with_a_reason(layers):
    model = nn.Sequential(Standardised(8, 8, 3), nn.ReLU(), Padded(8, 8, 3))
    with pytest.warns(UserWarning, match=r"0\.weight: its own forward changes the weight"):
        handle = finalised(model, layers)
    first, second = handle.layers
    assert (first.role, first.undone, second.role, second.undone) == ("dense", True, "sparse", False)
    assert "its own forward changes the weight" in first.reason
    report = audit(model, "2:4", handle.layers)
    assert (report.outcome, report.ok) == (Outcome.UNDONE, False)


def test_a_layer_that_was_left_out_knowingly_does_not_spoil_the_audit():
    model = nn.Sequential(Standardised(8, 8, 3), nn.ReLU(), Padded(8, 8, 3))
    handle = finalised(model, ["2"])
    assert audit(model, "2:4", handle.layers).ok


@pytest.mark.parametrize(
    ("make", "shape"),
    [(Centred, (4, 8)), (LowRank, (4, 8)), (FusedAtEval, (2, 8, 6, 6)), (MergedAtEval, (4, 8))],
)
def test_one_pass_finds_a_weight_that_others_change(make, shape):
    model = make()
    handle = finalised(model, ["inner"])
    before = copy.deepcopy(model.state_dict())
    assert audit(model, "2:4", handle.layers).ok  # from the weights alone nothing can be seen
    lines = multiplied(model, (torch.randn(shape),), handle.layers)
    line = next(i for i in lines if i.name == "inner.weight")
    assert (line.role, line.undone) == ("dense", True)
    assert not audit(model, "2:4", lines).ok
    torch.testing.assert_close(model.state_dict(), before)  # whatever eval() did with it was undone


CASES = {
    "mlp": (mlp, torch.randn(3, 8)),
    "convnet": (convnet, torch.randn(2, 3, 8, 8)),
    "demodulated": (Demodulated, IMAGES),
    "attention": (lambda: nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), torch.randn(2, 5, 8)),
    "transposed": (lambda: nn.ConvTranspose2d(8, 8, 3), IMAGES),
    "double": (lambda: mlp().double(), torch.randn(3, 8).double()),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("training", [True, False])
def test_weights_that_multiply_as_they_are_stay_sparse(name, training):
    make, x = CASES[name]
    model = make().train(training)
    handle = finalised(model)
    assert multiplied(model, (x,), handle.layers) == handle.layers
    assert model.training is training


def test_the_trial_of_a_forward_leaves_no_trace():
    class Counting(nn.Linear):
        def forward(self, x):
            self.calls = getattr(self, "calls", 0) + 1
            torch.rand(1)
            return super().forward(x)

    class Awkward(nn.Linear):
        def forward(self, x, scale):
            return super().forward(x) * scale

    model = nn.Sequential(Counting(8, 8), Awkward(8, 8))
    before, values = torch.get_rng_state(), model[0].weight.detach().clone()
    handle = sparsify(model, "2:4", "ste")
    assert torch.equal(torch.get_rng_state(), before)
    assert not hasattr(model[0], "calls")
    assert torch.equal(model[0].weight, values)
    assert [i.role for i in handle.layers] == ["sparse", "sparse"]  # what cannot be tried is left to the pass
