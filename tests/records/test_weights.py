"""A model's tensors in a file and back, whatever shares its memory."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from nmbench.records import weights
from nmbench.sparsity import sparsify


class Tied(nn.Module):
    def __init__(self, fills: bool = False) -> None:
        super().__init__()
        self.embed, self.body, self.head = nn.Embedding(6, 4), nn.Linear(4, 4), nn.Linear(4, 6, bias=False)
        self.head.weight = self.embed.weight
        self.register_buffer("flat", self.body.weight.data.view(-1))
        if fills:  # as the translation task's models do
            self.register_load_state_dict_pre_hook(self._fill)

    @staticmethod
    def _fill(model: nn.Module, state: dict[str, torch.Tensor], prefix: str, *_: object) -> None:
        for name, twin in (("embed.weight", "head.weight"), ("head.weight", "embed.weight")):
            if prefix + name not in state and prefix + twin in state:
                state[prefix + name] = state[prefix + twin]


@pytest.mark.parametrize("fills", [False, True])
def test_there_and_back(fills: bool, tmp_path: Path) -> None:
    model, other = Tied(fills), Tied(fills)
    weights.save(model, tmp_path / "w.safetensors", {"who": "me"})
    assert len(load_file(tmp_path / "w.safetensors")) < len(model.state_dict())
    weights.load(other, tmp_path / "w.safetensors")
    for name, value in model.state_dict().items():
        assert torch.equal(value, other.state_dict()[name]), name
    assert other.head.weight is other.embed.weight
    assert [one.name for one in tmp_path.iterdir()] == ["w.safetensors"]


@pytest.mark.parametrize("name", ["embed.weight", "head.weight"])
def test_either_name_of_a_tensor_is_enough(name: str, tmp_path: Path) -> None:
    model, other = Tied(), Tied()
    state = {key: value.clone() for key, value in model.state_dict().items()}
    save_file({key: state[key] for key in (name, "body.weight", "body.bias")}, tmp_path / "w")
    weights.load(other, tmp_path / "w")
    assert torch.equal(other.head.weight, model.head.weight)


def test_what_does_not_fit_is_named(tmp_path: Path) -> None:
    state = {key: value.clone() for key, value in Tied().state_dict().items()}
    del state["body.bias"]
    save_file({**state, "more": torch.ones(1)}, tmp_path / "w")
    with pytest.raises(RuntimeError, match=r"does not fit Tied:\nMissing .*'body.bias'\nUnexpected .*'more'"):
        weights.load(Tied(), tmp_path / "w")
    save_file({**state, "body.bias": torch.ones(5)}, tmp_path / "w")
    with pytest.raises(RuntimeError, match="size mismatch"):
        weights.load(Tied(), tmp_path / "w")


def test_nothing_is_taken_for_an_empty_tensor(tmp_path: Path) -> None:
    model = nn.Module()
    model.register_buffer("a", torch.empty(0))
    model.register_buffer("b", torch.empty(0))
    save_file({"a": torch.empty(0)}, tmp_path / "w")
    with pytest.raises(RuntimeError, match="Missing key"):
        weights.load(model, tmp_path / "w")


@pytest.mark.filterwarnings("ignore:TypedStorage")
def test_bad_places(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"there is no folder .*none to write w to"):
        weights.save(Tied(), tmp_path / "none" / "w")
    with pytest.raises(IsADirectoryError, match="is a folder; name a file in it"):
        weights.save(Tied(), tmp_path)
    (tmp_path / "w").write_bytes(b"kept")
    broken = Tied()
    broken.register_buffer("sparse", torch.eye(3).to_sparse())
    with pytest.raises(RuntimeError, match="memory format"):
        weights.save(broken, tmp_path / "w")
    assert [(one.name, one.read_bytes()) for one in tmp_path.iterdir()] == [("w", b"kept")], "what was there stays"
    with pytest.raises(SafetensorError):
        weights.load(Tied(), tmp_path / "w")
    with pytest.raises(FileNotFoundError):
        weights.load(Tied(), tmp_path / "none")


@pytest.mark.parametrize("wrap", [lambda state: state, lambda state: {"state_dict": state, "epoch": 3}])
def test_a_strangers_state_dict_is_read_too(wrap: Any, tmp_path: Path) -> None:
    model, other = Tied(), Tied()
    torch.save(wrap(model.state_dict()), tmp_path / "w.pt")
    weights.load(other, tmp_path / "w.pt", pickled=True)
    assert torch.equal(other.body.weight, model.body.weight)
    with pytest.raises(SafetensorError):
        weights.load(other, tmp_path / "w.pt")


class Code:
    def __reduce__(self) -> Any:
        return print, ("this ran",)


@pytest.mark.parametrize("held", [Code(), {"a": Code()}, [torch.zeros(1)], {"a": 1}])
def test_a_pickle_of_something_else_is_refused_and_not_run(held: Any, tmp_path: Path, capsys: Any) -> None:
    torch.save(held, tmp_path / "w.pt")
    with pytest.raises(ValueError, match="state dict"):
        weights.load(Tied(), tmp_path / "w.pt", pickled=True)
    (tmp_path / "w.bin").write_bytes(b"torn")
    with pytest.raises(ValueError, match="neither a safetensors file nor a state dict"):
        weights.load(Tied(), tmp_path / "w.bin", pickled=True)
    assert "this ran" not in capsys.readouterr().out


def test_what_a_method_learns_beside_the_weights_need_not_be_in_the_file(tmp_path: Path) -> None:
    dense, other = nn.Sequential(nn.Linear(8, 4)), nn.Sequential(nn.Linear(8, 4))
    weights.save(dense, tmp_path / "dense.safetensors")
    handle = sparsify(other, "2:4", "maskllm")
    gate = other[0].weight_gate.detach().clone()
    weights.load(other, tmp_path / "dense.safetensors")
    assert torch.equal(dict(other.named_parameters())["0.weight"], dense[0].weight)
    assert torch.equal(other[0].weight_gate, gate)
    assert handle.steps == 0
