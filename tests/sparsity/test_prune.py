"""`prune` on models of anybody: what is pruned, in which order, with which statistics, and what is said of it."""

import copy

import pytest
import torch
from pruning_toys import Images, Text, images, made, tokens
from torch import nn

from nmbench.sparsity import NMPattern, audit
from nmbench.sparsity.pruning import names, prune
from nmbench.sparsity.pruning.capture import Layer, Watch
from nmbench.sparsity.pruning.driver import _layers
from nmbench.sparsity.pruning.stages import Schedule, find_blocks
from nmbench.sparsity.select import choose, find_weights


def squares(model: nn.Module, batch: object) -> torch.Tensor:
    return model(batch).square().mean()


def layers_of(model: nn.Module, pattern: str = "2:4") -> list[Layer]:
    parsed = NMPattern.parse(pattern)
    lines = choose(find_weights(model), parsed, None)
    return _layers(model, lines, parsed)[0]


@pytest.mark.parametrize("name", names())
def test_every_pruner_prunes_convolutions_of_every_kind_and_short_groups(name):
    model = made(Images)
    report = prune(model, "2:4", name, images(), loss=squares)
    assert report.audit.ok
    assert audit(model, "2:4", report.lines).density < 0.55
    told = {layer.name: layer for layer in report.layers}
    assert told["stem.weight"].reason == "its grouped dimension is 3, below M = 4"
    assert told["head.weight"].reason == "left out by the choice of layers"
    assert told["blocks.1.first.weight"].density == 0.5
    assert all(layer.error is not None and 0 < layer.error < 1 for layer in report.layers if layer.pruned)
    assert not model.training
    assert torch.isfinite(model(images()[0])).all()


@pytest.mark.parametrize("pattern", ["2:4", "4:8@kernel"])
def test_the_statistics_are_those_of_the_products_that_really_run(pattern):
    model = made(Images)
    layers, outputs = layers_of(model, pattern), {}

    def keep(module: nn.Module, args: object, output: torch.Tensor) -> None:
        bias = 0 if module.bias is None else module.bias.view(-1, *[1] * (output.dim() - 2))
        outputs[module] = float((output - bias).double().square().sum())

    for layer in layers:
        layer.module.register_forward_hook(keep)
    with torch.no_grad(), Watch(layers, frozenset({"gram"})):
        model(images()[0])
    assert len(layers) >= 5
    for layer in layers:
        matrices = layer.layout.read(layer.parameter.detach())
        parts = zip(matrices, layer.statistics[0, layer.rows], strict=True)
        energy = sum(float(((w @ stats.gram) * w).double().sum()) for w, stats in parts)
        assert energy == pytest.approx(outputs[layer.module], rel=1e-4)
        assert torch.equal(layer.layout.write(matrices), layer.parameter)


def test_attention_is_pruned_whole_its_output_projection_too():
    model = made(Text)
    report = prune(model, "2:4", "sparsegpt", tokens())
    pruned = {layer.name: layer.density for layer in report.layers if layer.pruned}
    assert pruned["encoder.layers.1.self_attn.in_proj_weight"] == 0.5
    assert pruned["encoder.layers.1.self_attn.out_proj.weight"] == 0.5
    assert len(pruned) == 12


def test_blocks_that_follow_each_other_are_run_alone_with_the_same_result(monkeypatch):
    model = made(Text)
    layers = layers_of(model)
    assert [len(chain) for chain in _schedule(model, layers).chains] == [3, 1]
    alone = copy.deepcopy(model)
    prune(alone, "2:4", "sparsegpt", tokens())
    monkeypatch.setattr("nmbench.sparsity.pruning.stages._follows", lambda *arguments: False)
    prune(model, "2:4", "sparsegpt", tokens())
    assert all(map(torch.equal, alone.parameters(), model.parameters()))


def _schedule(model: nn.Module, layers: list[Layer]) -> Schedule:
    from nmbench.sparsity.pruning.calibration import Calibration

    with torch.no_grad():
        return Schedule(Calibration.checked(model, tokens(), None), layers, find_blocks(model, layers), frozenset())


class Skipping(nn.Module):
    """The second block also gets what the first was given."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList([nn.Sequential(nn.Linear(8, 8), nn.Tanh()) for _ in range(2)])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.blocks[1](self.blocks[0](x) + x)


@pytest.mark.parametrize("network", [Skipping, lambda: nn.Sequential(nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 8))])
def test_a_layer_is_calibrated_with_what_the_pruned_layers_before_it_give(network):
    model = made(network)
    x = torch.randn(40, 8)
    prune(model, "2:4", "sparsegpt", [x], layers=lambda name, module: True)
    inputs = []
    last = [m for m in model.modules() if isinstance(m, nn.Linear)][-1]
    last.register_forward_pre_hook(lambda module, args: inputs.append(args[0]))
    model(x)
    by_hand = nn.Sequential(made(network).get_submodule(_name(model, last)))
    prune(by_hand, "2:4", "sparsegpt", inputs, layers=lambda name, module: True)
    assert torch.equal(by_hand[0].weight, last.weight)


def _name(model: nn.Module, wanted: nn.Module) -> str:
    return next(name for name, module in model.named_modules() if module is wanted)


def test_blocks_may_be_named_and_a_layer_that_runs_twice_counts_twice():
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner, self.last = nn.Linear(8, 8), nn.Linear(8, 8)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.last(self.inner(torch.tanh(self.inner(x))))

    model = made(Twice)
    layers = layers_of(model)
    with torch.no_grad(), Watch(layers, frozenset({"norm"})) as watch:
        model(torch.randn(5, 8))
    assert [watch.uses[layer] for layer in layers] == [2, 1]
    assert layers[0].statistics[0, 8][0].tokens == 10
    assert prune(model, "2:4", "wanda", torch.randn(5, 8), blocks=["inner", model.last]).audit.ok


def test_a_layer_that_calibration_never_meets_is_named_and_left():
    model = made(lambda: nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 4)))
    model.unused = nn.Linear(8, 8)
    report = prune(model, "2:4", "wanda", torch.randn(6, 8), layers=["0", "unused"], forward=lambda m, x: m[1](m[0](x)))
    assert {layer.name: layer.reason for layer in report.layers}["unused.weight"] == (
        "calibration saw no product with it"
    )
    assert report.audit.ok
    assert int((model.unused.weight == 0).sum()) == 0
    assert prune(model, "2:4", "magnitude", layers=["unused"]).audit.ok


def test_batches_may_be_tensors_positional_or_keywords():
    class Sum(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer, self.head = nn.Linear(8, 8), nn.Linear(8, 2)

        def forward(self, a: torch.Tensor, b: torch.Tensor | float = 0.0) -> torch.Tensor:
            return self.head(self.layer(a + b))

    a, b = torch.randn(6, 8), torch.randn(6, 8)
    made_of = []
    for batch in (a + b, (a, b), {"a": a, "b": b}):
        model = made(Sum)
        report = prune(model, "2:4", "wanda", [batch])
        assert report.sequences == 6
        made_of.append(model.layer.weight)
    assert torch.equal(made_of[0], made_of[1])
    assert torch.equal(made_of[0], made_of[2])


def test_half_precision_and_tied_weights():
    model = made(lambda: nn.Sequential(nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 8), nn.Linear(8, 2))).bfloat16()
    model[2].weight = model[0].weight
    report = prune(model, "2:4", "sparsegpt", torch.randn(30, 8).bfloat16())
    assert [layer.name for layer in report.layers] == ["0.weight", "3.weight"]
    assert report.audit.ok
    assert model[2].weight is model[0].weight
    assert model[0].weight.dtype == torch.bfloat16


def test_the_report_reads_as_a_table():
    text = str(prune(made(Images), "2:4", "wanda", images(), error=False))
    assert text.splitlines()[0] == "wanda 2:4, 24 examples of calibration"
    assert "hidden.weight" in text
    assert "error" not in text


class Decoder(nn.Module):
    """Called as transformers calls its layers: keywords beside the hidden state, a tuple back, a cache if it may."""

    def __init__(self) -> None:
        super().__init__()
        self.attend, self.up = nn.Linear(8, 8), nn.Linear(8, 8)

    def forward(self, hidden, mask=None, position=None, cache=None):
        if cache is not None:
            cache.append(hidden)
        return (hidden + self.up(torch.tanh(self.attend(hidden * mask + position[0]))), None)


class Decoders(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.config = type("Config", (), {"use_cache": True})()
        self.layers, self.head = nn.ModuleList([Decoder() for _ in range(3)]), nn.Linear(8, 4)
        self.caches: list[list] = []

    def forward(self, hidden):
        mask, position = torch.ones(hidden.shape[1], 1), (torch.full((8,), 0.1),)
        cache = [] if self.config.use_cache else None
        self.caches.append(cache)
        for layer in self.layers:
            hidden = layer(hidden, mask=mask, position=position, cache=cache)[0]
        return self.head(hidden)


def test_blocks_as_transformers_calls_them_make_one_chain_and_keep_no_cache(monkeypatch):
    x = [torch.randn(2, 5, 8) for _ in range(2)]
    pruned = []
    for alone in (True, False):
        if not alone:
            monkeypatch.setattr("nmbench.sparsity.pruning.stages._follows", lambda *arguments: False)
        model = made(Decoders)
        assert prune(model, "2:4", "sparsegpt", x).audit.ok
        assert model.config.use_cache is True
        assert len(model.caches) == (3 if alone else 7)  # the first look; each batch into the chain, or to each of 3
        assert not any(model.caches)
        pruned.append(model)
    for a, b in zip(pruned[0].parameters(), pruned[1].parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


def test_a_weight_without_a_gradient_is_left():
    class Half(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.used, self.unused, self.head = nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.head(self.used(x) + self.unused(x).detach())

    report = prune(made(Half), "2:4", "pruner-zero", torch.randn(6, 8), loss=squares)
    reasons = {layer.name: layer.reason for layer in report.layers}
    assert reasons["unused.weight"] == "no gradient reaches it on the calibration data"
    assert reasons["used.weight"] == ""
