"""`convert` on a CPU as a whole: BatchNorm folded, ReLU and additions fused, the result held against the dense one."""

import copy
import pickle
from unittest import mock

import pytest
import torch
from convert_toys import priced
from torch import nn
from torch.nn import functional as F

from nmbench.kernels import SparseConv2d, convert, engines, load_converted, save_converted, timing
from nmbench.kernels.backends.cpu import Cpu
from nmbench.kernels.conversion import choose, gain
from nmbench.kernels.conversion.agreement import agreement
from nmbench.kernels.conversion.fold import fold_batch_norms
from nmbench.sparsity import sparsify

pytestmark = pytest.mark.usefixtures("own_cache")


class Block(nn.Module):
    """As in a ResNet: one ReLU module used twice, an addition in place."""

    def __init__(self, width: int = 32, down: bool = False):
        super().__init__()
        stride = 2 if down else 1
        self.conv1, self.bn1 = nn.Conv2d(width, width, 3, stride, 1, bias=False), nn.BatchNorm2d(width)
        self.conv2, self.bn2 = nn.Conv2d(width, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.down = nn.Sequential(nn.Conv2d(width, width, 1, 2, bias=False), nn.BatchNorm2d(width)) if down else None

    def forward(self, x):
        out = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        out += x if self.down is None else self.down(x)
        return self.relu(out)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.bn, self.relu = nn.Conv2d(32, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU()
        self.blocks = nn.Sequential(Block(), Block(down=True))
        self.head = nn.Linear(32, 16)

    def forward(self, x):
        return self.head(self.blocks(self.relu(self.bn(self.conv(x)))).mean((2, 3)))


def trained(model):
    """With statistics of BatchNorm that are not those of a new one; 2:4."""
    torch.manual_seed(0)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
            module.weight.data.normal_()
            module.bias.data.normal_()
    sparsify(model, "2:4", "one-shot").finalize()
    return model.eval()


@pytest.fixture
def every_layer(monkeypatch):
    """Sparse wins always."""
    monkeypatch.setattr(choose, "CLEAR_WIN", 1e9)
    monkeypatch.setattr(gain, "NOT_SLOWER", 1e9)


def fast(model, *inputs, **options):
    return convert(model, inputs, backends=["cpu"], budget_s=0.01, cache=False, **options)


@pytest.mark.usefixtures("every_layer")
def test_a_residual_network_is_folded_fused_and_right():
    model, x = trained(Net()), torch.randn(2, 32, 9, 9)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    made, report = fast(model, x)
    assert "6 BatchNorms folded, 5 ReLUs fused, 2 additions fused" in report.notes
    assert isinstance(made, Net)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in made.modules())
    for image in (x, x[:1], torch.randn(3, 32, 16, 11)):
        torch.testing.assert_close(made(image), model(image), rtol=1e-4, atol=1e-4)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items()), "it is left alone"


@pytest.mark.usefixtures("every_layer")
def test_a_fused_model_is_saved_copied_pickled_and_compiled(tmp_path):
    model, x = trained(Net()), torch.randn(2, 32, 9, 9)
    made, _ = fast(model, x)
    save_converted(tmp_path / "m.safetensors", made)
    loaded = load_converted(tmp_path / "m.safetensors", Net().eval())
    wanted = made(x)
    for other in (loaded, copy.deepcopy(made), pickle.loads(pickle.dumps(made))):
        assert torch.equal(other(x), wanted)
    with torch.no_grad():
        torch.testing.assert_close(torch.compile(made, backend="eager", fullgraph=True)(x), wanted)


@pytest.mark.usefixtures("every_layer")
def test_what_is_used_elsewhere_is_not_fused():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.bn, self.other = nn.Conv2d(32, 32, 1), nn.BatchNorm2d(32), nn.Conv2d(32, 32, 1)

        def forward(self, x):
            y = self.conv(x)
            z = self.other(x)
            x = x.mul_(2)  # what the other one read is changed before the sum
            return self.bn(y) + y.relu(), z + F.relu(z), self.other(x) + z

    model, x = trained(nn.Sequential(Twice())), torch.randn(2, 32, 5, 5)
    made, report = fast(model, x.clone())
    assert not any("fused" in note or "folded" in note for note in report.notes)
    assert any("that of the dense model" in note for note in report.notes), "each pass has inputs of its own"
    for got, right in zip(made(x.clone()), model(x.clone()), strict=True):
        torch.testing.assert_close(got, right, rtol=1e-4, atol=1e-4)


def test_batch_norm_is_left_where_the_convolution_is_shared_or_follows_no_trace():
    class Loop(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.bn = nn.Conv2d(8, 8, 1), nn.BatchNorm2d(8)

        def forward(self, x):
            return self.bn(self.conv(x)) if x.sum() > 0 else x  # torch.fx cannot follow this

    shared = nn.Sequential(nn.Conv2d(8, 8, 1), nn.BatchNorm2d(8), nn.Conv2d(8, 8, 1), nn.BatchNorm2d(8))
    shared[2].weight = shared[0].weight
    hooked = nn.Sequential(nn.Conv2d(8, 8, 1), nn.BatchNorm2d(8))
    hooked[0].register_forward_hook(lambda *_: None)
    for model in (Loop(), shared, hooked):
        assert fold_batch_norms(model.eval()) == 0


def test_depthwise_and_grouped_convolutions_fold_too():
    model = trained_norms(nn.Sequential(nn.Conv2d(8, 16, 3, groups=8), nn.BatchNorm2d(16), nn.Hardswish())).double()
    x = torch.randn(2, 8, 7, 7).double()
    right = model(x)
    assert fold_batch_norms(model) == 1
    torch.testing.assert_close(model(x), right)


def trained_norms(model):
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
    return model.eval()


@pytest.mark.usefixtures("every_layer")
def test_a_conversion_that_went_wrong_as_a_whole_is_not_handed_back(monkeypatch):
    model, x = trained(Net()), torch.randn(2, 32, 9, 9)
    monkeypatch.setattr(Cpu, "bound", _drops_what_is_added(Cpu.bound))
    made, report = fast(model, x)
    assert torch.equal(made(x), model(x))
    assert not report.sparse
    assert any("off by" in note for note in report.notes)
    with pytest.raises(RuntimeError, match="in place"):
        fast(copy.deepcopy(model), x, inplace=True)


@pytest.mark.parametrize("inplace", [False, True])
def test_layers_that_win_alone_and_lose_together_stay_dense(inplace):
    model, x = trained(Net()), torch.randn(2, 32, 9, 9)
    right = model(x)
    with priced(cpu=1.0, sparse=60.0):  # the others take 50
        made, report = convert(model, [x], backends=["cpu"], cache=False, inplace=inplace)
    assert (made is model) == inplace
    assert not report.sparse
    assert all("as a whole it would be slower: 0.06 ms" in row.reason for row in report.rows)
    torch.testing.assert_close(made(x), right, rtol=1e-4, atol=1e-4)
    with priced(cpu=1.0, sparse=40.0):
        assert any("as a whole it takes 0.04 ms" in note for note in convert(model, [x], cache=False)[1].notes)


def test_a_whole_that_cannot_be_timed_says_so():
    with priced(cpu=1.0):
        invented = timing.compare

        def busy(candidates, *args, **options):
            if "sparse" in candidates:
                raise OSError("busy")
            return invented(candidates, *args, **options)

        with mock.patch.object(timing, "compare", busy):
            _, report = convert(trained(Net()), [torch.randn(2, 32, 9, 9)], backends=["cpu"], cache=False)
    assert any("could not be timed as a whole: OSError: busy" in note for note in report.notes)


def _drops_what_is_added(bound):
    def changed(self, packed, problem):
        run = bound(self, packed, problem)
        return lambda x, bias, addend=None, relu=False: run(x, bias, None, relu)

    return changed


def test_what_is_drawn_or_chosen_is_not_called_wrong():
    right, far = torch.randn(8), torch.randn(8)
    assert agreement(right, right * (1 + 1e-6), lambda: right).wrong == ""
    assert "off by" in agreement(right, far, lambda: right * (1 + 1e-7)).wrong
    assert agreement(right, far, lambda: torch.randn(8)).wrong == ""
    assert "another form" in agreement(right, far[:4], lambda: right).wrong
    assert agreement([right], [far[:4]], lambda: [right[:3]]).wrong == ""
    nan = right.clone()
    nan[0] = float("nan")
    assert agreement(right, nan, lambda: right).wrong
    assert agreement(nan, nan, lambda: nan).wrong == ""


def test_a_result_without_a_tensor_is_not_called_equal():
    held = agreement(object(), object(), object)
    assert held.off is None
    assert held.wrong == ""
    assert "no tensor" in held.words


@pytest.mark.usefixtures("every_layer")
def test_fused_layers_take_a_sum_that_is_broadcast_and_a_move_to_another_dtype():
    class Sum(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.shift = nn.Conv2d(32, 32, 1), nn.Parameter(torch.randn(32, 1, 1))

        def forward(self, x):
            return F.relu(self.conv(x) + self.shift)

    model, x = trained(nn.Sequential(Sum())), torch.randn(2, 32, 5, 5)
    made, report = fast(model, x)
    assert "1 ReLUs fused, 1 additions fused" in report.notes
    assert isinstance(made[0].conv, SparseConv2d)
    torch.testing.assert_close(made(x), model(x), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(made.double()(x.double()), model.double()(x.double()), rtol=1e-4, atol=1e-4)


def test_dense_engines_agree_and_say_what_is_missing(monkeypatch):
    model, x = trained(Net()), torch.randn(1, 32, 9, 9)
    runs, _ = engines.ready(model, [x], engines.QUICK)
    for run in runs.values():
        torch.testing.assert_close(run(), model(x), rtol=1e-4, atol=1e-4)
    monkeypatch.setattr(engines.importlib.util, "find_spec", lambda name: None)
    _, refused = engines.ready(model, [x], ["onnxruntime", "openvino"])
    assert all("nmbench[engines]" in why for why in refused.values())


@pytest.mark.parametrize("name", ["onnxruntime", "openvino"])
def test_other_engines_run_the_same_model(name):
    pytest.importorskip(name)
    pytest.importorskip("onnxscript")
    model, x = trained(Net()), torch.randn(1, 32, 9, 9)
    runs, refused = engines.ready(model, [x], [name])
    assert not refused
    result = runs[name]()
    got = torch.as_tensor(next(iter(result.values())) if hasattr(result, "values") else result[0])
    torch.testing.assert_close(got, model(x), rtol=1e-4, atol=1e-4)
