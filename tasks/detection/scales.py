"""Every training setting of detection and segmentation (which is slower), with its default at each scale.

data            "embedded", or a root in the layout of COCO 2017: annotations/, train2017/, val2017/
classes         number of categories that the data must have
backbone_weights    a checkpoint (.pth, .safetensors) that the backbone starts from; "" starts from fresh weights
train_images, val_images    use only the first so many; 0 uses all
recipe          "task": the settings below; "config": pipeline, optimizer, schedule and hooks of the model's own config
long_side, short_side       images are scaled to fit into these, in px, keeping their shape (recipe "task")
mirror          mirror half of the training images (recipe "task")
epochs, lr      with recipe "config", 0 takes the config's own
batch           images that make one optimizer step, over all GPUs and accumulated parts
accumulate      forward passes of a GPU that make one optimizer step
weight_decay, clip, warmup_epochs   AdamW, gradient norm, a linear warm-up and then a cosine to 0 (recipe "task")
ema             momentum of mmengine's EMAHook, whose averaged weights are then evaluated; 0 is off
amp             float16 autocast with a loss scale (mmengine's AmpOptimWrapper), on CUDA only
gpus            processes that train together, one a GPU
eval_batch      images of a forward pass in evaluation
workers         data-loading processes; the results do not depend on it
"""

from typing import Any

__all__ = ["DETECTION", "SEGMENTATION"]

_QUICK: dict[str, Any] = {
    "data": "embedded",
    "classes": 10,
    "backbone_weights": "",
    "train_images": 0,
    "val_images": 0,
    "recipe": "task",
    "long_side": 128,
    "short_side": 128,
    "mirror": False,
    "epochs": 8,
    "lr": 3e-3,
    "batch": 4,
    "accumulate": 1,
    "weight_decay": 0.05,
    "clip": 10.0,
    "warmup_epochs": 0.4,
    "ema": 0.0,
    "amp": False,
    "gpus": 1,
    "eval_batch": 8,
    "workers": 0,
}

DETECTION: dict[str, dict[str, Any]] = {
    "smoke": _QUICK | {"epochs": 1, "train_images": 160, "val_images": 60},
    "quick": _QUICK,
    "study": _QUICK | {"epochs": 28},
    # the 1x schedule: 12 epochs of batch 16 (8 GPUs with 2 images each), rate 0.02, images of up to 1333 x 800
    "paper": _QUICK
    | {
        "classes": 80,
        "recipe": "config",
        "long_side": 1333,
        "short_side": 800,
        "mirror": True,
        "epochs": 0,
        "lr": 0.0,
        "batch": 16,
        "amp": True,
        "gpus": 8,
        "eval_batch": 1,
        "workers": 2,
    },
}

SEGMENTATION = {
    **DETECTION,
    "quick": DETECTION["quick"] | {"epochs": 6},
    "study": DETECTION["study"] | {"epochs": 21},
}
