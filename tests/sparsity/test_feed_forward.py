"""The scope "ffn": which layers are feed-forward ones, in models as the libraries build and name them."""

import pytest
import torch
from torch import nn

from nmbench.sparsity import audit, sparsify
from nmbench.sparsity.feed_forward import feed_forward


def tree(**parts: nn.Module) -> nn.Module:
    made = nn.Module()
    for name, part in parts.items():
        made.add_module(name, part)
    return made


def called(name: str, **parts: nn.Module) -> nn.Module:
    """As `tree`, of a class that is called so."""
    made = tree(**parts)
    made.__class__ = type(name, (nn.Module,), {})
    return made


def attention() -> nn.Module:
    return tree(q_proj=nn.Linear(8, 8), k_proj=nn.Linear(8, 8), v_proj=nn.Linear(8, 8), o_proj=nn.Linear(8, 8))


def bert() -> nn.Module:
    inner = called("BertAttention", self=attention(), output=tree(dense=nn.Linear(8, 8)))
    return tree(
        embeddings=nn.Embedding(10, 8),
        layer=nn.ModuleList(
            [tree(attention=inner, intermediate=tree(dense=nn.Linear(8, 32)), output=tree(dense=nn.Linear(32, 8)))]
        ),
        pooler=tree(dense=nn.Linear(8, 8)),
    )


def llama() -> nn.Module:
    mlp = tree(gate_proj=nn.Linear(8, 24), up_proj=nn.Linear(8, 24), down_proj=nn.Linear(24, 8))
    return tree(layers=nn.ModuleList([tree(self_attn=attention(), mlp=mlp)]), lm_head=nn.Linear(8, 10))


def fused_gate() -> nn.Module:
    mlp = tree(gate_up_proj=nn.Linear(8, 48), down_proj=nn.Linear(24, 8))
    return tree(layers=nn.ModuleList([tree(self_attn=attention(), mlp=mlp)]))


def mixture() -> nn.Module:
    experts = nn.ModuleList([tree(w1=nn.Linear(8, 24), w2=nn.Linear(24, 8)) for _ in range(2)])
    return tree(layers=nn.ModuleList([tree(self_attn=attention(), moe=tree(gate=nn.Linear(8, 2), experts=experts))]))


def t5() -> nn.Module:
    dense = tree(wi=nn.Linear(8, 32), wo=nn.Linear(32, 8))
    layers = [
        called("T5LayerSelfAttention", SelfAttention=attention()),
        called("T5LayerCrossAttention", EncDecAttention=attention()),
        called("T5LayerFF", DenseReluDense=dense),
    ]
    return tree(block=nn.ModuleList([tree(layer=nn.ModuleList(layers))]))


def mmcv() -> nn.Module:
    ffn = called("FFN", layers=nn.Sequential(nn.Sequential(nn.Linear(8, 32), nn.ReLU()), nn.Linear(32, 8)))
    attentions = nn.ModuleList([called("MultiheadAttention", attn=nn.MultiheadAttention(8, 2))])
    layer = called("BaseTransformerLayer", attentions=attentions, ffns=nn.ModuleList([ffn]))
    return tree(encoder=tree(layers=nn.ModuleList([layer])), bbox_embed=called("MLP", layers=nn.Linear(8, 8)))


def fairseq() -> nn.Module:
    return tree(
        layers=nn.ModuleList(
            [tree(self_attn=attention(), encoder_attn=attention(), fc1=nn.Linear(8, 32), fc2=nn.Linear(32, 8))]
        )
    )


def apart() -> nn.Module:
    """Attention and feed-forward layers that are not in one module."""
    return tree(
        layers=nn.ModuleList([called("Attention", to_q=nn.Linear(8, 8)), called("FeedForward", net=nn.Linear(8, 8))])
    )


def encoder_layer() -> nn.Module:
    return nn.TransformerEncoderLayer(8, 2, 32)


def whole() -> nn.Module:
    return nn.Transformer(8, 2, 1, 1, 32)


FOUND = {
    bert: {"layer.0.intermediate.dense", "layer.0.output.dense"},
    llama: {"layers.0.mlp.gate_proj", "layers.0.mlp.up_proj", "layers.0.mlp.down_proj"},
    fused_gate: {"layers.0.mlp.gate_up_proj", "layers.0.mlp.down_proj"},
    mixture: {f"layers.0.moe.experts.{i}.{w}" for i in (0, 1) for w in ("w1", "w2")},
    t5: {"block.0.layer.2.DenseReluDense.wi", "block.0.layer.2.DenseReluDense.wo"},
    mmcv: {"encoder.layers.0.ffns.0.layers.0.0", "encoder.layers.0.ffns.0.layers.1"},
    fairseq: {"layers.0.fc1", "layers.0.fc2"},
    apart: {"layers.1.net"},
    encoder_layer: {"linear1", "linear2"},
    whole: {f"{part}.layers.0.linear{i}" for part in ("encoder", "decoder") for i in (1, 2)},
}


@pytest.mark.parametrize("make", FOUND, ids=lambda make: make.__name__)
def test_it_finds_them_and_nothing_of_attention(make):
    assert {name.removesuffix(".weight") for name in feed_forward(make())} == FOUND[make]


@pytest.mark.parametrize("name", ["vit_b_16", "swin_t"])
def test_it_finds_those_of_torchvision(name):
    models = pytest.importorskip("torchvision.models")
    with torch.device("meta"):
        model = getattr(models, name)()
    mlp = {name for name, p in model.named_parameters() if ".mlp." in name and p.dim() == 2}
    assert feed_forward(model) == mlp
    assert mlp


@pytest.mark.parametrize("name", ["resnet18", "efficientnet_b0"])
def test_a_convolutional_network_has_none(name):
    models = pytest.importorskip("torchvision.models")
    with torch.device("meta"):
        assert feed_forward(getattr(models, name)()) == set()


def test_layers_and_patterns_may_name_them():
    first = nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 32, batch_first=True), 2)
    wanted = {f"layers.{i}.linear{j}.weight" for i in (0, 1) for j in (1, 2)}
    handle = sparsify(first, "2:4", layers="ffn")
    assert {line.name for line in handle.layers if line.sparse} == wanted
    handle.finalize()
    assert audit(first, {"ffn": "2:4"}).ok
    other = nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 32, batch_first=True), 2)
    handle = sparsify(other, {"layers.0.*": "dense", "ffn": "1:4"})
    assert {line.name: str(line.pattern) for line in handle.layers if line.sparse} == dict.fromkeys(
        ("layers.1.linear1.weight", "layers.1.linear2.weight"), "1:4"
    )


def test_a_model_without_any_is_told():
    with pytest.raises(ValueError, match="layers: 'ffn' finds no feed-forward layer") as caught:
        sparsify(nn.Sequential(nn.Linear(8, 8)), "2:4", layers="ffn")
    assert "\n" not in str(caught.value)


def test_a_module_that_is_called_so_is_meant_first():
    model = tree(ffn=nn.Linear(8, 8), other=nn.TransformerEncoderLayer(8, 2, 32))
    handle = sparsify(model, "2:4", layers="ffn")
    assert {line.name for line in handle.layers if line.sparse} == {"ffn.weight"}
