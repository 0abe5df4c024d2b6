"""A pretrained backbone: torchvision's file loads whole, any other is refused with a reason."""

import pytest
import torch
import torchvision
from safetensors.torch import save_file

from nmbench.sparsity import audit, sparsify
from nmbench.task import DataError
from nmbench_tasks.detection import models

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def resnet50():
    torch.manual_seed(5)
    return torchvision.models.resnet50(weights=None)


@pytest.fixture
def spec(spec_of):
    def make(path):
        return spec_of(model="retinanet-r50", backbone_weights=str(path))

    return make


def test_torchvision_weights_initialise_the_backbone(resnet50, spec, built, tmp_path):
    path = tmp_path / "resnet50.pth"
    torch.save(resnet50.state_dict(), path)
    found, given = built(spec(path)).backbone.state_dict(), resnet50.state_dict()
    assert set(given) - set(found) == {"fc.weight", "fc.bias"}
    assert all(torch.equal(found[name], given[name]) for name in found)


def test_a_sparse_backbone_stays_as_sparse_as_it_came(resnet50, spec, built, tmp_path):
    """Saved from a finalised model, with safetensors; the stages that the config freezes keep their zeros."""
    import copy

    sparse = copy.deepcopy(resnet50)
    sparsify(sparse, "2:4", "one-shot", layers=["layer*"]).finalize()
    path = tmp_path / "sparse.safetensors"
    save_file({name: value.contiguous() for name, value in sparse.state_dict().items()}, path)
    model = built(spec(path))
    names = [n for n, p in model.backbone.named_parameters() if n.startswith("layer") and p.ndim == 4]
    handle = sparsify(model.backbone, "2:4", "ste", layers=names)
    handle.finalize()
    assert audit(model.backbone, "2:4", handle.layers).ok
    assert all(torch.equal(model.backbone.state_dict()[n], sparse.state_dict()[n]) for n in names)
    assert "backbone.layer1.0.conv1.weight" in models.frozen(model)


@pytest.mark.parametrize("wrap", ["state_dict", "backbone."])
def test_files_of_training_scripts_and_of_detectors_load_too(resnet50, spec, built, tmp_path, wrap):
    weights = resnet50.state_dict()
    if wrap.endswith("."):
        found = {wrap + name: value for name, value in weights.items()} | {"bbox_head.bias": torch.zeros(1)}
    else:
        found = {wrap: weights, "epoch": 3}
    torch.save(found, tmp_path / "weights.pth")
    model = built(spec(tmp_path / "weights.pth"))
    assert torch.equal(model.backbone.conv1.weight, weights["conv1.weight"])


def test_files_that_do_not_fit(spec, built, tmp_path, resnet50):
    nets = torchvision.models
    further = {**resnet50.state_dict(), "layer3.6.conv1.weight": torch.zeros(1)}
    for weights, text in (
        (nets.resnet18().state_dict(), "lacks .* of the .* weights of this ResNet"),
        (further, "it has .* weights that this ResNet has"),
        (nets.wide_resnet50_2().state_dict(), r"layer1.0.conv1.weight has shape \(128"),
    ):
        torch.save(weights, tmp_path / "weights.pth")
        with pytest.raises(DataError, match=text):
            built(spec(tmp_path / "weights.pth"))


def test_files_that_cannot_be_read(spec, built, tmp_path):
    with pytest.raises(DataError, match="there is no file"):
        built(spec(tmp_path / "nowhere.pth"))
    for name in ("torn.pth", "torn.safetensors"):
        (tmp_path / name).write_bytes(b"PK\x03\x04 and no more")
        with pytest.raises(DataError, match="cannot be read as weights"):
            built(spec(tmp_path / name))


class Evil:
    def __reduce__(self):
        return (print, ("executed",))


def test_a_checkpoint_executes_no_code(spec, built, tmp_path, capsys):
    torch.save({"state_dict": {"conv1.weight": torch.zeros(1)}, "hidden": Evil()}, tmp_path / "evil.pth")
    with pytest.raises(DataError, match="cannot be read as weights"):
        built(spec(tmp_path / "evil.pth"))
    assert "executed" not in capsys.readouterr().out
