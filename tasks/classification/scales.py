"""Every training setting of the classification task, with its default at each scale.

data            "embedded", or the root of an ImageFolder set: train/<class>/*, val/<class>/*
classes         number of classes that the data must have
image_size      height and width of the model's input, in pixels
transform       "digits" (shift by up to 2 px, never mirrored) or "imagenet" (random resized crop, mirror)
train_images, val_images    use only this many, evenly over the classes; 0 uses all
width           channels of the first stage of resnet-narrow; the other models ignore it
epochs, batch, accumulate   `accumulate` batches make one optimizer step
lr, warmup_epochs           peak learning rate, reached linearly; then a cosine to 0
momentum, weight_decay, label_smoothing
amp             bfloat16 autocast, on CUDA only
eval_batch      images a forward pass in evaluation; the metrics do not depend on it
workers         data-loading processes; the results do not depend on it
"""

from typing import Any

__all__ = ["SCALES"]

_QUICK: dict[str, Any] = {
    "data": "embedded",
    "classes": 10,
    "image_size": 32,
    "transform": "digits",
    "train_images": 0,
    "val_images": 0,
    "width": 16,
    "epochs": 7,
    "batch": 64,
    "accumulate": 1,
    "lr": 0.1,
    "momentum": 0.9,
    "weight_decay": 5e-5,
    "warmup_epochs": 1.0,
    "label_smoothing": 0.0,
    "amp": False,
    "eval_batch": 200,
    "workers": 0,
}

SCALES: dict[str, dict[str, Any]] = {
    "smoke": _QUICK | {"epochs": 3, "train_images": 1600, "val_images": 500, "warmup_epochs": 0.5},
    "quick": _QUICK,
    # more passes: the masks of a sparse method have time to settle
    "study": _QUICK | {"epochs": 12},
    # the ImageNet recipe of the authors of SR-STE
    "paper": _QUICK
    | {
        "classes": 1000,
        "image_size": 224,
        "transform": "imagenet",
        "epochs": 120,
        "batch": 256,
        "lr": 0.1,
        "warmup_epochs": 5.0,
        "amp": True,
        "workers": 8,
    },
}
