"""About 60 models of timm, torchvision and transformers, with random weights, through the N:M core.

    python tests/campaign/models.py [--only TEXT] [--out FILE]

Each: attach, one optimizer step, finalize, audit, and comparison: outputs before and after finalize() are equal, and
every audited weight multiplies as sparse as it is. One JSON line a model goes to FILE (default: models.jsonl in the
temporary folder); models that are in it already are not run again. Prints a table at the end; exit status 1 if any
model failed.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from nmbench.sparsity import audit, multiplied, sparsify

NAMES = {
    "timm": """
    resnet18 resnet50 resnext50_32x4d wide_resnet50_2 seresnet18 resnetv2_50 resnetv2_50x1_bit efficientnet_b0
    tf_efficientnetv2_s mobilenetv3_small_100 mobilenetv2_050 ghostnet_100 densenet121 dla34 hrnet_w18_small
    regnetx_002 regnety_002 repvgg_a0 nf_resnet50 convnext_atto convnextv2_atto vit_tiny_patch16_224
    deit_tiny_patch16_224 swin_tiny_patch4_window7_224 mixer_s32_224 poolformer_s12 pvt_v2_b0 mobilevit_xxs
    edgenext_xx_small coat_lite_tiny levit_128s cait_xxs24_224 xcit_nano_12_p16_224 beit_base_patch16_224
    volo_d1_224 maxvit_nano_rw_256
    """,
    "torchvision": """
    alexnet vgg11_bn resnet18 resnext50_32x4d squeezenet1_1 shufflenet_v2_x0_5 mobilenet_v2 mobilenet_v3_small
    mnasnet0_5 efficientnet_b0 regnet_y_400mf convnext_tiny vit_b_32 swin_t googlenet
    """,
    "transformers": """
    bert gpt2 t5 distilbert roberta albert opt llama mistral vit
    """,
}
SMALL = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "vocab_size": 128,
}
_OTHER_NAMES = {
    "gpt2": {"n_embd": 64, "n_layer": 2, "n_head": 4, "vocab_size": 128},
    "t5": {"d_model": 64, "d_kv": 16, "d_ff": 128, "num_layers": 2, "num_heads": 4, "vocab_size": 128},
    "distilbert": {"dim": 64, "hidden_dim": 128, "n_layers": 2, "n_heads": 4, "vocab_size": 128},
    "albert": {**SMALL, "embedding_size": 32},
    "opt": {**SMALL, "ffn_dim": 128, "word_embed_proj_dim": 64},
    "llama": {**SMALL, "num_key_value_heads": 2},
    "mistral": {**SMALL, "num_key_value_heads": 2},
    "vit": {**SMALL, "image_size": 32, "patch_size": 8},
}


def of_timm(name: str) -> tuple[nn.Module, Any]:
    """A model of timm, and inputs for it."""
    import timm

    size = int(name.rsplit("_", 1)[-1]) if name.rsplit("_", 1)[-1] in ("224", "256") else 96
    if name.startswith(("coat", "levit")):
        size = 224
    return timm.create_model(name, num_classes=10), torch.randn(2, 3, size, size)


def of_torchvision(name: str) -> tuple[nn.Module, Any]:
    """A model of torchvision, and inputs for it."""
    import torchvision

    extra = {"aux_logits": False, "init_weights": False} if name == "googlenet" else {}
    size = 224 if name.startswith(("vit", "alexnet", "vgg", "swin")) else 96
    return torchvision.models.get_model(name, num_classes=10, **extra), torch.randn(2, 3, size, size)


def of_transformers(name: str) -> tuple[nn.Module, Any]:
    """A model of transformers, and inputs for it."""
    import transformers

    config = transformers.AutoConfig.for_model(name, **_OTHER_NAMES.get(name, SMALL))
    model = transformers.AutoModel.from_config(config)
    if name == "vit":
        return model, torch.randn(2, 3, 32, 32)
    if name == "t5":
        model = model.encoder
    return model, torch.randint(2, 120, (2, 12))


MAKERS = {"timm": of_timm, "torchvision": of_torchvision, "transformers": of_transformers}
BUILDERS: dict[str, Callable[[str], tuple[nn.Module, Any]]] = {
    f"{library}/{name}": MAKERS[library] for library, names in NAMES.items() for name in names.split()
}


def output(model: nn.Module, inputs: Any) -> Tensor:
    """What the model makes of the inputs; of several tensors the first."""
    made: Any = model(inputs)
    return made if isinstance(made, Tensor) else made[0]


def run(key: str) -> dict[str, Any]:
    """One model: numbers, and `fault` ("" if all held)."""
    torch.manual_seed(0)
    model, inputs = BUILDERS[key](key.split("/", 1)[1])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        handle = sparsify(model, "2:4", "sr-ste")
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    handle.bind(optimizer)
    output(model.train(), inputs).float().square().mean().backward()
    optimizer.step()
    with torch.no_grad():
        before = output(model.eval(), inputs)
        handle.finalize()
        after = output(model, inputs)
    lines = multiplied(model, (inputs,), handle.layers)
    report = audit(model, "2:4", handle.layers)
    told, late = ([line.undone for line in some].count(True) for some in (handle.layers, lines))
    faults = {
        "no step was counted": handle.steps != 1,
        "finalize changes the output": not torch.allclose(before, after, rtol=1e-4, atol=1e-5, equal_nan=True),
        "groups break the pattern": report.violations > 0,
        f"{late - told} audited weights multiply dense": late > told,
    }
    return {
        "model": key,
        "sparse": len(report.sparse),
        "layers": len(report.layers),
        "undone": told,
        "density": round(report.density, 4),
        "flips": handle.sad.total,
        "fault": "; ".join(text for text, holds in faults.items() if holds),
    }


def attempt(key: str) -> dict[str, Any]:
    """One line of the file: the model, what came of it, and the seconds."""
    start = time.perf_counter()
    try:
        row = run(key)
    except ImportError as error:
        row = {"model": key, "skipped": str(error)}
    except Exception as error:  # a model that fails is a row, not the end of the campaign
        row = {"model": key, "fault": f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"}
    return {**row, "seconds": round(time.perf_counter() - start, 1)}


def main() -> int:
    """Run what is not in the file yet; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="run models whose name contains TEXT")
    parser.add_argument("--out", type=Path, default=Path(tempfile.gettempdir()) / "models.jsonl")
    args = parser.parse_args()
    torch.set_num_threads(1)
    lines = args.out.read_text().splitlines() if args.out.exists() else []
    rows = {row["model"]: row for row in map(json.loads, lines)}
    chosen = [key for key in BUILDERS if args.only in key]
    with args.out.open("a") as file:
        for key in chosen:
            if key not in rows:
                rows[key] = attempt(key)
                file.write(json.dumps(rows[key]) + "\n")
                file.flush()
    print(f"{'model':42} {'sparse':>9} {'undone':>6} {'density':>7} {'flips':>8} {'s':>6}  result")
    for row in (rows[key] for key in chosen):
        result = row.get("fault") or (f"skipped: {row['skipped']}" if "skipped" in row else "ok")
        share = f"{row.get('sparse', '-')}/{row.get('layers', '-')}"
        numbers = (row.get("undone", "-"), row.get("density", "-"), row.get("flips", "-"), row["seconds"])
        print(f"{row['model']:42} {share:>9} {numbers[0]:>6} {numbers[1]:>7} {numbers[2]:>8} {numbers[3]:>6}  {result}")
    return int(any(rows[key].get("fault") for key in chosen))


if __name__ == "__main__":
    raise SystemExit(main())
