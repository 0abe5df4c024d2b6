"""Layers that stay dense in a converted model: the same results as torch's, wherever they run."""

import copy
import pickle

import pytest
import torch
from convert_toys import Compressed, priced
from torch import nn

from nmbench.kernels import convert, load_converted, save_converted
from nmbench.kernels.conversion.reordered import ReorderedLayer, reordered, takes
from nmbench.sparsity import sparsify

pytestmark = [
    pytest.mark.usefixtures("own_cache"),
    pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="this torch has no oneDNN"),
]
SHAPES = [
    (nn.Linear(12, 7), (5, 12), (5, 7)),
    (nn.Linear(12, 7, bias=False), (2, 3, 12), (2, 3, 7)),
    (nn.Conv2d(8, 6, 3, stride=2, padding=1), (2, 8, 9, 7), (2, 6, 5, 4)),
    (nn.Conv2d(8, 8, 3, groups=4, dilation=2, padding="same", bias=False), (1, 8, 9, 7), (1, 8, 9, 7)),
]


class Fusing(Compressed):
    """A backend as `cpu` is one for `convert`, without anything to compile."""

    fuses = True

    def conv2d(self, x, packed, bias, problem, addend=None, relu=False):
        y = super().conv2d(x, packed, bias, problem)
        y = y if addend is None else y + addend
        return y.relu() if relu else y


def of(layer: nn.Module) -> ReorderedLayer:
    layer = copy.deepcopy(layer).requires_grad_(False).to(memory_format=torch.channels_last)
    assert takes(layer)
    return reordered(layer)


@pytest.mark.parametrize(("layer", "shape", "result"), SHAPES)
def test_products_are_torchs_with_what_is_fused(layer, shape, result):
    torch.manual_seed(0)
    made, x, addend = of(layer), torch.randn(shape), torch.randn(result)
    with torch.no_grad():
        right = layer(x)
        torch.testing.assert_close(made(x), right, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(made(x, addend), right + addend, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(made(x, addend[..., :1]), right + addend[..., :1], atol=1e-5, rtol=1e-5)
        made.relu = True
        torch.testing.assert_close(made(x), right.relu(), atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(made(x, addend), (right + addend).relu(), atol=1e-5, rtol=1e-5)
        assert made(x[:0]).shape == right[:0].shape


def test_a_weight_that_changes_is_reordered_anew():
    made, x = of(nn.Linear(12, 7)), torch.randn(5, 12)
    with torch.no_grad():
        made(x)
        made.weight.mul_(2.0)
        torch.testing.assert_close(made(x), nn.functional.linear(x, made.weight, made.bias))
        made.load_state_dict(nn.Linear(12, 7).state_dict())
        torch.testing.assert_close(made(x), nn.functional.linear(x, made.weight, made.bias))


def test_it_copies_pickles_moves_and_has_gradients_as_torchs():
    made, x = of(nn.Conv2d(8, 6, 3)), torch.randn(1, 8, 5, 5)
    with torch.no_grad():
        right = made(x)
        for other in (copy.deepcopy(made), pickle.loads(pickle.dumps(made))):
            torch.testing.assert_close(other(x), right)
        assert made.double()(x.double()).dtype == torch.float64
        with pytest.raises(RuntimeError, match="type"):
            made(x)
    made.float().requires_grad_(True)(x).sum().backward()
    assert made.weight.grad is not None


def test_a_converted_model_has_them_and_loads_with_them(tmp_path, monkeypatch):
    torch.manual_seed(0)
    monkeypatch.setattr("nmbench.kernels.conversion.remaining._gains", lambda *_: True)

    def net() -> nn.Module:
        torch.manual_seed(0)
        first, second = nn.Conv2d(3, 16, 3), nn.Conv2d(16, 64, 3)
        return nn.Sequential(first, nn.BatchNorm2d(16), nn.ReLU(), second, nn.ReLU()).eval()

    model, x = net(), torch.randn(1, 3, 32, 32)
    sparsify(model, "1:16", "one-shot").finalize()
    with priced(compressed=1.0):
        fast, report = convert(model, x, pattern="1:16", backends=[Fusing()])
    assert len(report.sparse) == 1
    first = fast[0] if isinstance(fast, nn.Sequential) else fast.get_submodule("0")
    assert isinstance(first, ReorderedLayer)
    assert first.relu, "what follows it is fused"
    assert any("dense weights reordered" in note for note in report.notes)
    save_converted(tmp_path / "fast.safetensors", fast)
    again = load_converted(tmp_path / "fast.safetensors", net(), backends=[Fusing()])
    with torch.no_grad():
        torch.testing.assert_close(again(x), fast(x))
        torch.testing.assert_close(fast(x), model(x), atol=1e-4, rtol=1e-4)
    assert sum(isinstance(module, ReorderedLayer) for module in again.modules()) == 1
