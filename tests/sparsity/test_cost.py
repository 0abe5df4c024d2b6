"""MACs against torch's own counter and against products by hand; bytes against the formula."""

import pytest
import torch
from sparsity_toys import mlp
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from nmbench.sparsity import NMPattern, cost, sparsify
from nmbench.sparsity.costs import compressed_bytes
from nmbench.sparsity.mask import Grouping
from nmbench.sparsity.select import LayerInfo

torchvision = pytest.importorskip("torchvision")


def of_torch(model, *inputs):
    """Multiply-accumulates by torch's counter, which counts two operations for each."""
    model.eval()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(*inputs)
    return counter.get_total_flops() // 2


def test_resnet50_has_4_09_giga_macs():
    model, x = torchvision.models.resnet50(), torch.zeros(1, 3, 224, 224)
    counted = cost(model, (x,))
    assert counted.macs_dense == of_torch(model, x)
    assert counted.macs_dense / 1e9 == pytest.approx(4.09, abs=0.005)
    assert counted.parameters == 25_557_032
    assert counted.bytes_dense == 4 * counted.parameters
    assert counted.other_macs == 0


def test_a_sparse_resnet_halves_the_macs_of_its_sparse_layers():
    model, x = torchvision.models.resnet18(), torch.zeros(1, 3, 64, 64)
    dense = cost(model, (x,))
    handle = sparsify(model, "2:4")
    handle.finalize()
    sparse = cost(model, (x,), "2:4", handle.layers)
    assert sparse.macs_dense == dense.macs_dense
    lines = {line.name: line for line in sparse.layers}
    for info in handle.layers:
        line = lines[info.name]
        assert line.macs_effective == (line.macs / 2 if info.sparse else line.macs)
    assert sparse.macs_effective == round(sum(line.macs_effective for line in sparse.layers))


@pytest.mark.parametrize(
    ("layer", "shape", "macs"),
    [
        (nn.Linear(8, 3), (5, 8), 5 * 8 * 3),
        (nn.Linear(8, 3, bias=False), (5, 8), 5 * 8 * 3),
        (nn.Linear(8, 3), (2, 5, 8), 10 * 8 * 3),
        (nn.Linear(8, 3), (8,), 8 * 3),
        (nn.Linear(8, 3, bias=False), (8,), 8 * 3),
        (nn.Conv1d(4, 6, 3), (2, 4, 10), 2 * 6 * 8 * 4 * 3),
        (nn.Conv2d(4, 6, 3, padding=1), (2, 4, 5, 5), 2 * 6 * 25 * 4 * 9),
        (nn.Conv2d(4, 6, 3), (4, 5, 5), 6 * 9 * 4 * 9),
        (nn.Conv2d(4, 6, 3, stride=2, dilation=2), (1, 4, 9, 9), 6 * 9 * 4 * 9),
        (nn.Conv2d(8, 6, 3, groups=2), (1, 8, 5, 5), 6 * 9 * 4 * 9),
        (nn.Conv3d(4, 6, 2), (1, 4, 3, 3, 3), 6 * 8 * 4 * 8),
        (nn.ConvTranspose2d(4, 6, 3, stride=2), (1, 4, 5, 5), 25 * 4 * 6 * 9),
        (nn.ConvTranspose2d(8, 6, 3, groups=2), (2, 8, 5, 5), 2 * 25 * 8 * 3 * 9),
    ],
    ids=lambda v: str(v) if isinstance(v, (nn.Module, tuple)) else "",
)
def test_macs_by_hand(layer, shape, macs):
    counted = cost(layer, (torch.zeros(shape),))
    assert counted.macs_dense == macs
    assert {line.name: line.macs for line in counted.layers}["weight"] == macs


@pytest.mark.parametrize(
    "product",
    [
        lambda w, x: torch.mv(w, x),
        lambda w, x: torch.addmv(torch.zeros(3), w, x),
        lambda w, x: torch.bmm(x.expand(1, 1, 8), w.t()[None]),
        lambda w, x: torch.baddbmm(torch.zeros(1, 1, 3), x.expand(1, 1, 8), w.t()[None]),
        lambda w, x: torch.einsum("oi,i->o", w, x),
    ],
    ids=["mv", "addmv", "bmm", "baddbmm", "einsum"],
)
def test_functional_products_are_counted_for_their_weight(product):
    class Functional(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.ones(3, 8))

        def forward(self, x):
            return product(self.weight, x)

    counted = cost(Functional(), (torch.zeros(8),))
    assert (counted.layers[0].macs, counted.other_macs) == (24, 0)


def test_a_layer_that_runs_twelve_times_counts_twelve_times():
    class Often(nn.Module):
        def __init__(self):
            super().__init__()
            self.cell = nn.Linear(8, 8)

        def forward(self, x):
            for _ in range(12):
                x = self.cell(x)
            return x

    counted = cost(Often(), (torch.zeros(2, 8),))
    assert (counted.parameters, counted.macs_dense) == (72, 12 * 2 * 64)


@pytest.mark.parametrize("need_weights", [True, False])
def test_attention_by_hand(need_weights):
    class Attend(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = nn.MultiheadAttention(8, 2, batch_first=True)

        def forward(self, x):
            return self.inner(x, x, x, need_weights=need_weights)[0]

    counted = cost(Attend(), (torch.zeros(2, 5, 8),))
    assert counted.other_macs == 2 * 2 * (5 * 5 * 4 * 2)
    assert counted.macs_dense - counted.other_macs == 2 * 5 * (8 * 24 + 8 * 8)
    assert {line.name: line.macs for line in counted.layers}["inner.in_proj_weight"] == 2 * 5 * 8 * 24


@pytest.mark.parametrize(
    ("shape", "pattern", "itemsize", "expected"),
    [
        ((4, 8), "2:4", 4, 16 * 4 + 16 * 2 // 8),  # 16 kept values, 2 bits each
        ((4, 8), "2:4", 2, 16 * 2 + 4),
        ((4, 8), "1:8", 4, 4 * 4 + 2),  # 4 values, 3 bits each: 12 bits are 2 bytes
        ((4, 8), "4:4", 4, 32 * 4 + 8),
        ((4, 8), "1:1", 4, 32 * 4),  # no position to tell
        ((4, 6), "2:4", 4, 16 * 4 + 4),  # a short group takes the room of a whole one
        ((4, 6, 3, 3), "2:4", 4, 4 * 9 * 4 * 4 + 4 * 9),
        ((4, 6, 3, 3), "1:16@kernel", 4, 14 * 4 + 7),  # 216 weights: 13.5 groups
        # a transposed convolution, its 12 inputs in 2 parts of 6: 4 groups for each of 6 x 9 columns
        ((12, 6, 3, 3), "2:4", 4, 4 * 54 * 2 * 4 + 4 * 54 * 2 * 2 // 8),
    ],
)
def test_compressed_bytes_by_hand(shape, pattern, itemsize, expected):
    info = LayerInfo("w", shape, "sparse", grouping=Grouping(0, 2) if shape[0] == 12 else Grouping())
    assert compressed_bytes(info, NMPattern.parse(pattern), itemsize) == expected


def test_only_sparse_layers_are_compressed():
    model = mlp()
    handle = sparsify(model, "2:4", layers=["0"])
    handle.finalize()
    x = torch.zeros(1, 8)
    counted = cost(model, (x,), handle.pattern, handle.layers)
    assert counted.bytes_dense == 4 * (96 + 12 + 48 + 4)
    assert counted.bytes_compressed == 48 * 4 + 48 * 2 // 8 + 4 * (12 + 48 + 4)
    assert cost(model, (x,)).bytes_compressed == counted.bytes_dense
    assert counted.nonzeros == 48 + 12 + 48 + 4
    assert counted.macs_effective == 48 + 48


def test_an_attached_model_is_refused():
    model = mlp()
    handle = sparsify(model, "2:4")
    with pytest.raises(ValueError, match="finalize"):
        cost(model, (torch.zeros(1, 8),))
    handle.finalize()
    assert cost(model, (torch.zeros(1, 8),)).macs_dense == 144


def test_the_mode_of_every_module_is_restored_also_after_an_error():
    model = nn.Sequential(nn.Dropout(), nn.BatchNorm1d(8), nn.Linear(8, 4))
    model[1].eval()
    fast = torch.backends.mha.get_fastpath_enabled()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    cost(model, (torch.randn(3, 8),))
    with pytest.raises(RuntimeError):
        cost(model, (torch.randn(3, 9),))
    assert [m.training for m in model.modules()] == [True, True, False, True]
    assert torch.backends.mha.get_fastpath_enabled() is fast
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())  # no running statistics moved
