"""Parts of a sparse model that run by themselves, and pieces of a pass that run again, see masked weights."""

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from nmbench.sparsity import sparsify


class Reader(nn.Module):
    """Reads the weight of a layer that it holds, instead of calling it."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(16, 16, bias=False)

    def forward(self, x):
        return nn.functional.linear(x, self.fc.weight)


class Recomputing(Reader):
    """Runs its product again in the backward pass."""

    def __init__(self, reentrant: bool) -> None:
        super().__init__()
        self.reentrant, self.seen = reentrant, []

    def forward(self, x):
        def product(y):
            self.seen.append(int((self.fc.weight == 0).sum()))
            return nn.functional.linear(y, self.fc.weight)

        return checkpoint(product, x, use_reentrant=self.reentrant)


def test_a_part_that_reads_a_layers_weight_may_be_called_by_itself():
    model = nn.Sequential(nn.Sequential(Reader(), nn.ReLU()), nn.Linear(16, 4))
    handle = sparsify(model, "2:4")
    x = torch.randn(3, 16)
    expected = x @ (model[0][0].fc._parameters["weight"] * handle.masks["0.0.fc.weight"]).T
    torch.testing.assert_close(model[0][0](x), expected)
    torch.testing.assert_close(model[0](x), expected.relu())


def test_a_module_around_the_model_reads_the_parameter():
    class Penalised(nn.Module):
        def __init__(self, model):
            super().__init__()
            self.model = model

        def forward(self, x):
            return self.model(x), self.model[0].weight

    model = nn.Sequential(nn.Linear(16, 4))
    sparsify(model, "2:4")
    assert Penalised(model)(torch.randn(3, 16))[1] is model[0]._parameters["weight"]


@pytest.mark.parametrize("reentrant", [True, False])
def test_what_is_computed_again_in_the_backward_pass_is_masked_too(reentrant):
    model = Recomputing(reentrant)
    sparsify(model, "2:4")
    model(torch.randn(3, 16, requires_grad=True)).sum().backward()
    assert model.seen == [128, 128]
