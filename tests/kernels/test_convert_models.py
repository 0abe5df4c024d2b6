"""`convert` on whole models: torch's encoders, whose fused path reads weights by name, and those of the tasks."""

import importlib.util
from importlib.metadata import entry_points

import pytest
import torch
from convert_toys import Compressed, assert_same, converted, finalised, outputs
from torch import nn

from nmbench.kernels import SparseLinear, apply_choices, load_converted, save_converted
from nmbench.kernels.conversion import rebuild

pytestmark = pytest.mark.usefixtures("own_cache")


@pytest.fixture
def without_fused_path():
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    yield
    torch.backends.mha.set_fastpath_enabled(before)


def encoder(**options) -> nn.Module:
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(32, 4, 64, batch_first=True, **options)
    return finalised(nn.TransformerEncoder(layer, 2, enable_nested_tensor=not options))


@pytest.mark.filterwarnings("ignore")
def test_a_converted_encoder_never_takes_the_fused_path(without_fused_path):
    model, x = encoder(), torch.randn(2, 5, 32)
    fast, _ = converted(model, x)
    assert isinstance(fast.layers[0].linear1, SparseLinear)
    torch.backends.mha.set_fastpath_enabled(True)
    calls = []

    class Counting(Compressed):
        def linear(self, *args):
            calls.append(1)
            return super().linear(*args)

    for layer in fast.layers:
        layer.linear1.packed.running = Counting()
    assert_same(model, fast, x)
    assert len(calls) == 2
    mask = torch.tensor([[False] * 5, [False] * 3 + [True] * 2])
    got = outputs(fast, x, src_key_padding_mask=mask)[0]
    torch.backends.mha.set_fastpath_enabled(False)
    torch.testing.assert_close(got[~mask], outputs(model, x, src_key_padding_mask=mask)[0][~mask], rtol=1e-4, atol=1e-4)


class Attention(nn.Module):
    """Chooses as fairseq's does, between a function that gets the weights and calls of the projections."""

    def __init__(self):
        super().__init__()
        self.q_proj, self.k_proj = nn.Linear(32, 32), nn.Linear(32, 32)
        self.skip_embed_dim_check = False

    def forward(self, x):
        if self.skip_embed_dim_check:
            return self.q_proj(x) @ self.k_proj(x).mT
        q, k = (nn.functional.linear(x, layer.weight, layer.bias) for layer in (self.q_proj, self.k_proj))
        return q @ k.mT


def test_an_attention_that_can_be_told_to_calls_its_projections(tmp_path):
    torch.manual_seed(0)
    model, x = finalised(nn.Sequential(Attention(), nn.Linear(5, 8))), torch.randn(2, 5, 32)
    fast, report = converted(model, x)
    assert [row.layers[0] for row in report.sparse] == ["0.q_proj", "0.k_proj", "1"]
    assert (model[0].skip_embed_dim_check, fast[0].skip_embed_dim_check) == (False, True)
    assert_same(model, fast, x)
    save_converted(tmp_path / "fast.safetensors", fast)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rebuild.registry, "load", lambda name: Compressed())
        for again in (load_converted(tmp_path / "fast.safetensors", model), apply_choices(model, report.choices)):
            assert again[0].skip_embed_dim_check
            assert_same(model, again, x)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "needs", "sparse"),
    [("classification", "torchvision", 9), ("translation", "fairseq", 32), ("detection", "mmdet", 27)],
)
def test_the_tasks_models(name, needs, sparse, tmp_path):
    from nmbench.task import Spec

    if importlib.util.find_spec(needs) is None:  # not imported here: the task knows how
        pytest.skip(f"needs {needs}")
    task = next(point for point in entry_points(group="nmbench.tasks") if point.name == name).load()()
    model_name = task.default_models.get("smoke", task.models[0])
    spec = Spec(name, model_name, "smoke", 0, dict(task.scales["smoke"]))
    model = finalised(task.build(spec))
    fast, report = converted(model, task.example_inputs(spec))
    assert len(report.sparse) == sparse
    assert all(row.reason for row in report.rows if not row.sparse)
    assert_same(model, fast, *task.example_inputs(spec))
    save_converted(tmp_path / "fast.safetensors", fast)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rebuild.registry, "load", lambda name: Compressed())
        assert_same(
            model, load_converted(tmp_path / "fast.safetensors", task.build(spec).eval()), *task.example_inputs(spec)
        )
