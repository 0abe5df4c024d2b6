"""Networks by name, which of their weights may be sparse, and initial weights that fit or do not."""

import pytest
import torch
from safetensors.torch import load_file

import nmbench.records.weights
from nmbench.task import DataError
from nmbench_tasks.translation import Translation, compat, models
from nmbench_tasks.translation.corpus import translation_task
from nmbench_tasks.translation.scales import Settings

SHAPES = {  # encoder and decoder layers, units, feed-forward units, heads
    "transformer_narrow": (2, 128, 256, 4),
    "transformer": (6, 512, 2048, 8),
    "transformer_wmt_en_de": (6, 512, 2048, 8),
    "transformer_vaswani_wmt_en_de_big": (6, 1024, 4096, 16),
    "transformer_iwslt_de_en": (6, 512, 1024, 4),
}


def model_of(name, spec_of, entries=40, other=None, **over):
    spec = spec_of(max_length=32, **over)
    sides = models.dictionary(entries), models.dictionary(other or entries)
    return models.build(name, translation_task(Settings.of(spec), *sides), Settings.of(spec))


@pytest.mark.parametrize("name", Translation.models)
def test_declared_models_are_what_they_are_called(name, spec_of):
    layers, units, inner, heads = SHAPES[name]
    with torch.device("meta"):
        model = model_of(name, spec_of, dropout=0.3)
    for side in (model.encoder, model.decoder):
        assert len(side.layers) == layers
        assert side.layers[0].fc1.weight.shape == (inner, units)
        assert side.layers[0].self_attn.num_heads == heads
        assert side.dropout_module.p == 0.3


def test_an_unknown_name_is_told_its_nearest(spec_of):
    with pytest.raises(ValueError, match=r"'transformer_wmt_en'.*transformer_wmt_en_de"):
        model_of("transformer_wmt_en", spec_of)
    with pytest.raises(ValueError, match="no Transformer of fairseq is called 'lstm'"):
        model_of("lstm", spec_of)


def test_candidates_are_the_projections_and_the_feed_forward_layers(spec_of, sparsified):
    model = model_of("transformer_narrow", spec_of)
    layers = sparsified(model).layers
    found = {layer.name for layer in layers if layer.sparse}
    ends = ("q_proj", "k_proj", "v_proj", "out_proj")
    expected = {
        f"{side}.layers.{index}.{attention}.{end}.weight"
        for side, attentions in (("encoder", ["self_attn"]), ("decoder", ["self_attn", "encoder_attn"]))
        for index in (0, 1)
        for attention in attentions
        for end in ends
    }
    expected |= {
        f"{side}.layers.{i}.{fc}.weight" for side in ("encoder", "decoder") for i in (0, 1) for fc in ("fc1", "fc2")
    }
    assert found == expected


def test_what_stays_dense_is_listed_with_its_reason(spec_of, sparsified):
    tied = [layer for layer in sparsified(model_of("transformer_narrow", spec_of)).layers if not layer.sparse]
    assert [(layer.name, layer.reason) for layer in tied] == [
        ("encoder.embed_tokens.weight", "an embedding, tied to decoder.output_projection.weight")
    ]
    two = [layer for layer in sparsified(model_of("transformer_narrow", spec_of, other=50)).layers if not layer.sparse]
    assert [layer.name for layer in two] == ["encoder.embed_tokens.weight", "decoder.embed_tokens.weight"]
    assert two[1].reason == "an embedding, tied to decoder.output_projection.weight"


def test_weights_of_another_dictionary_are_refused_in_words(spec_of):
    smaller = model_of("transformer_narrow", spec_of, entries=48)
    model = model_of("transformer_narrow", spec_of, entries=40)
    with pytest.raises(DataError, match="dictionary of 48 entries, this corpus has one of 40") as caught:
        model.load_state_dict(smaller.state_dict())
    assert len(str(caught.value).splitlines()) == 2


def test_a_file_with_tied_weights_once_loads_strictly(spec_of, tmp_path):
    """safetensors keeps one name of a tied weight."""
    saved, path = model_of("transformer_narrow", spec_of), tmp_path / "weights.safetensors"
    nmbench.records.weights.save(saved, path)
    weights = load_file(path)
    assert len(weights) < len(saved.state_dict())
    one, other = (model_of("transformer_narrow", spec_of) for _ in range(2))
    nmbench.records.weights.load(one, path)
    other.load_state_dict(weights, strict=True)
    for model in (one, other):
        assert all(torch.equal(a, b) for a, b in zip(model.parameters(), saved.parameters(), strict=True))
        assert model.encoder.embed_tokens.weight is model.decoder.output_projection.weight
    del weights["decoder.layers.0.fc1.weight"]
    with pytest.raises(RuntimeError, match=r"decoder\.layers\.0\.fc1\.weight"):
        other.load_state_dict(weights, strict=True)
    untied = model_of("transformer_narrow", spec_of, other=48)
    state = untied.state_dict()
    del state["encoder.embed_tokens.weight"]
    with pytest.raises(RuntimeError, match=r"encoder\.embed_tokens\.weight"):
        untied.load_state_dict(state)


def test_equal_models_are_equal_in_every_buffer_after_a_load_too(spec_of):
    """fairseq leaves one uninitialised: files of equal models would differ."""
    model = model_of("transformer_narrow", spec_of)
    for _ in range(2):
        buffers = [value for name, value in model.named_buffers() if name.endswith("_float_tensor")]
        assert len(buffers) == 2
        assert not any(value.any() for value in buffers)
        model.load_state_dict({key: torch.full_like(value, 7) for key, value in model.state_dict().items()})


def test_shadows_in_weights_of_unmodified_fairseq_are_dropped(spec_of):
    model = model_of("transformer_tiny", spec_of)
    state = model.state_dict()
    state |= {f"encoder.layers.0.{name}": torch.zeros(3) for name in compat.SHADOWS}
    model.load_state_dict(state, strict=True)
    state["encoder.layers.0.in_proj_wieght"] = torch.zeros(3)
    with pytest.raises(RuntimeError, match="in_proj_wieght"):
        model.load_state_dict(state, strict=True)


def test_cost_sees_the_projections(spec_of, sparsified):
    """fairseq's attention is functional: its projections are no module calls, and still must be counted."""
    from nmbench.sparsity import cost

    spec = spec_of()
    model = Translation().build(spec)
    handle = sparsified(model)
    handle.finalize()
    found = cost(model, Translation().example_inputs(spec), "2:4", handle.layers)
    sparse = {layer.name: layer for layer in found.layers if layer.name in {h.name for h in handle.layers if h.sparse}}
    assert all(layer.macs == 12 * layer.weights for layer in sparse.values())  # twelve tokens on each side
    assert all(layer.macs_effective == layer.macs / 2 for layer in sparse.values())
