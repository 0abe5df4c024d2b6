"""A converted model's weights travel: state dicts, files, earlier choices."""

import copy
import json

import pytest
import torch
from convert_toys import Compressed, converted, convnet, finalised, mlp
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from nmbench.kernels import SparseLinear, apply_choices, load_converted, registry, save_converted
from nmbench.kernels.registry import Found
from nmbench.sparsity import sparsify

pytestmark = pytest.mark.usefixtures("own_cache")


@pytest.fixture(autouse=True)
def _installed(monkeypatch):
    """As if another package had registered it."""
    known = {**registry.backends(), "compressed": Found("compressed", Compressed())}
    monkeypatch.setattr(registry, "backends", lambda: known)


NAMED = ["compressed"]


def other(model):
    """Another model of the same architecture, with other weights."""
    fresh = finalised(model)
    for parameter in fresh.parameters():
        parameter.data.mul_(1.5).masked_fill_(parameter.abs() < 0.05, 0)
    return fresh


def test_a_state_dict_is_compressed_and_loads_into_another_converted_model(tmp_path):
    x = torch.randn(2, 8, 6, 6)
    fast, _ = converted(finalised(convnet()), x, backends=NAMED)
    state = fast.state_dict()
    assert {
        "0.packed.values",
        "0.packed.positions",
        "0.packed.pattern",
        "0.bias",
        "2.packed.values",
        "4.packed.values",
    } <= set(state)
    save_file(state, tmp_path / "state.safetensors")
    again, _ = converted(other(convnet()), x, backends=NAMED)
    assert not torch.allclose(again(x), fast(x))
    again.load_state_dict(load_file(tmp_path / "state.safetensors"))
    assert torch.equal(again(x), fast(x))


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda s: s | {"0.weight": torch.ones(32, 24)}, "0.weight: the group of inputs 0 to 3"),
        (lambda s: s | {"0.weight": torch.ones(3, 24)}, "0.weight has shape"),
    ],
)
def test_weights_that_do_not_fit_are_told_and_change_nothing(spoil, words):
    x = torch.randn(5, 24)
    model = finalised(mlp())
    fast, _ = converted(model, x, backends=NAMED)
    with pytest.raises(RuntimeError, match=words):
        fast.load_state_dict(spoil(model.state_dict()))
    torch.testing.assert_close(fast(x), model(x))


def test_a_file_makes_the_converted_model_of_a_fresh_one(tmp_path):
    x = torch.randn(2, 8, 6, 6)
    fast, _ = converted(finalised(convnet()), x, backends=NAMED)
    save_converted(tmp_path / "fast.safetensors", fast)
    fresh = convnet().eval()
    for parameter in fresh.parameters():
        nn.init.normal_(parameter)
    again = load_converted(tmp_path / "fast.safetensors", fresh)
    assert torch.equal(again(x), fast(x))
    assert [type(m) for m in again] == [type(m) for m in fast]
    assert type(fresh[0]) is nn.Conv2d
    assert load_converted(tmp_path / "fast.safetensors", fresh, inplace=True) is fresh


def test_tied_layers_and_a_root_layer_come_back(tmp_path):
    model = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8))
    model[1].weight = model[0].weight
    x = torch.randn(3, 8)
    fast, _ = converted(finalised(model), x, backends=NAMED)
    save_converted(tmp_path / "tied.safetensors", fast)
    again = load_converted(tmp_path / "tied.safetensors", model)
    assert again[0].packed is again[1].packed
    assert torch.equal(again(x), fast(x))
    root, _ = converted(finalised(nn.Linear(8, 8)), x, backends=NAMED)
    save_converted(tmp_path / "root.safetensors", root)
    assert torch.equal(load_converted(tmp_path / "root.safetensors", nn.Linear(8, 8))(x), root(x))


def test_files_that_do_not_fit_are_told(tmp_path):
    path = tmp_path / "fast.safetensors"
    path.write_bytes(b"torn")
    with pytest.raises(ValueError, match="holds no converted model"):
        load_converted(path, mlp())
    save_file(mlp().state_dict(), path)
    with pytest.raises(ValueError, match="holds no converted model"):
        load_converted(path, mlp())
    fast, _ = converted(finalised(mlp()), torch.randn(5, 24), backends=NAMED)
    save_converted(path, fast)
    with pytest.raises(ValueError, match="no linear or convolution layer '2'"):
        load_converted(path, nn.Sequential(nn.Linear(24, 32)))
    with pytest.raises(ValueError, match="does not fit"):
        load_converted(path, nn.Sequential(nn.Linear(24, 30), nn.ReLU(), nn.Linear(30, 20)))


def test_choices_are_applied_without_timing():
    model, x = finalised(mlp()), torch.randn(5, 24)
    fast, report = converted(model, x, backends=NAMED)
    again = apply_choices(model, report.choices)
    assert torch.equal(again(x), fast(x))
    assert type(model[0]) is nn.Linear
    assert type(apply_choices(model, {"2": report.choices["2"]})[0]) is nn.Linear
    assert type(apply_choices(model, report.choices, inplace=True)[0]) is SparseLinear


def test_choices_that_do_not_fit_are_told():
    model = mlp()
    chosen = {"2": {"backend": "compressed", "pattern": "2:4", "settings": {}}}
    with pytest.raises(ValueError, match="2: the group of inputs 0 to 3 of output"):
        apply_choices(model, chosen)
    with pytest.raises(ValueError, match="no linear or convolution layer '7'"):
        apply_choices(model, {"7": chosen["2"]})
    with pytest.raises(ValueError, match="no backend 'gone'"):
        apply_choices(finalised(model), {"2": chosen["2"] | {"backend": "gone"}})
    sparsify(model, "2:4")
    with pytest.raises(ValueError, match="finalize"):
        apply_choices(model, chosen)


def along_a_kernel():
    torch.manual_seed(0)
    return finalised(nn.Sequential(nn.Conv2d(8, 16, 3, bias=False)), "2:4@kernel"), torch.randn(2, 8, 6, 6)


def test_groups_along_a_kernel_are_kept_in_files_and_state_dicts(tmp_path):
    model, x = along_a_kernel()
    fast, report = converted(model, x, pattern="2:4@kernel", backends=NAMED)
    twin = copy.deepcopy(model)
    twin[0].weight.data.mul_(-2)
    other, _ = converted(twin, x, pattern="2:4@kernel", backends=NAMED)
    assert report.sparse[0].pattern == "2:4@kernel"
    other.load_state_dict(fast.state_dict())
    save_converted(tmp_path / "k.safetensors", fast)
    for again in (other, load_converted(tmp_path / "k.safetensors", model), apply_choices(model, report.choices)):
        assert torch.equal(again(x), fast(x))
        assert str(again[0].packed.problem.pattern) == "2:4@kernel"


def test_its_first_parameter_tells_dtype_and_device():
    class First(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner, self.norm = nn.Linear(24, 24, bias=False), nn.LayerNorm(24)

        def forward(self, x):
            return self.norm(self.inner(x.to(next(self.parameters()).dtype)).float())

    model = First()
    finalised(model.inner, dtype=torch.bfloat16)
    fast, report = converted(model, torch.randn(5, 24), backends=NAMED)
    assert len(report.sparse) == 1
    x = torch.randn(5, 24)
    torch.testing.assert_close(fast(x), model(x))
    assert next(fast.half().parameters()).dtype == torch.float16
    assert sum(p.numel() for p in fast.parameters()) == 48
    assert not any("like" in name for name in fast.state_dict())
    fast.load_state_dict(fast.state_dict())


def test_a_file_whose_backend_is_not_there_runs_dense(tmp_path, monkeypatch):
    model, x = finalised(mlp()), torch.randn(5, 24)
    fast, _ = converted(model, x, backends=NAMED)
    save_converted(tmp_path / "fast.safetensors", fast)
    with monkeypatch.context() as patch:
        patch.setattr(registry, "backends", lambda: {})
        again = load_converted(tmp_path / "fast.safetensors", model)
        assert "compressed, 2:4, float32, running dense: there is no backend 'compressed'" in str(again)
        torch.testing.assert_close(again(x), model(x))
        save_converted(tmp_path / "again.safetensors", again)
        own = load_converted(tmp_path / "fast.safetensors", model, backends=[Compressed()])
        assert own[0].packed.running.name == "compressed"
    back = load_converted(tmp_path / "again.safetensors", model)
    assert back[0].packed.running.name == "compressed", "the file still names it"


@pytest.mark.parametrize(
    "spoil",
    [
        lambda told: [],
        lambda told: {"0": None},
        lambda told: {"0": {"backend": "compressed"}},
        lambda told: {"0": told["0"] | {"backend": 3}},
        lambda told: {"0": told["0"] | {"settings": [1]}},
        lambda told: {"0": told["0"] | {"settings": {"block": "wide"}}},
        lambda told: {"0": told["0"] | {"input": [5, {}]}},
        lambda told: {"0": told["0"] | {"input": True}},
        lambda told: {"0": told["0"] | {"pattern": "many"}},
    ],
)
def test_a_file_that_was_edited_is_refused_in_words(tmp_path, spoil):
    fast, _ = converted(finalised(mlp()), torch.randn(5, 24), backends=NAMED)
    path = tmp_path / "fast.safetensors"
    save_converted(path, fast)
    with safe_open(path, "pt") as file:
        told = json.loads(file.metadata()["nmbench.converted"])
    save_file(load_file(path), path, {"nmbench.converted": json.dumps(spoil(told))})
    with pytest.raises(ValueError, match=r"fast.safetensors|write N:M"):
        load_converted(path, mlp())
