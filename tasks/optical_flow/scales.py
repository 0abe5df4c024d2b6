"""Every training setting of the optical-flow task, with its default at each scale; and the recipes of the stages.

stages          what to train on, one after the other, joined by "+" (names in RECIPES)
evaluate_on     what to evaluate on, joined by "+" (names in EVALUATIONS); the first gives the metrics
data            folder that holds the data sets as torchvision's loaders expect them (FlyingChairs/, FlyingThings3D/,
                Sintel/, KittiFlow/, hd1k/); "embedded" needs none
root_chairs, root_things, root_sintel, root_kitti, root_hd1k    the folder of one of them, if it is another
steps, batch, lr, weight_decay, crop_height, crop_width         of each stage; -1 takes the stage's own (RECIPES)
augment         "raft": photometric, eraser and spatial, as in the paper; "light": mirror images and crops only
updates         times that the update block refines the flow, in training
eval_updates    the same in evaluation
gamma, max_flow sequence loss: weight of an earlier estimate; pixels that move farther (px) are left out
clip            largest norm of the gradient
context_gain    initial weights of the context encoder's last convolution are multiplied by it. With fresh ones a
                short training may never leave the estimate that nothing moves (README); 1 leaves them as they are
warmup          share of a stage's steps in which the learning rate rises; then it falls linearly to 0
freeze_bn       from the second stage on, batch normalisation (raft_large's context encoder) keeps its statistics
train_pairs, val_pairs    use only so many, evenly over the data set; 0 uses all
eval_batch      pairs of equal size a forward pass in evaluation
amp             bfloat16 autocast, on CUDA only
workers         data-loading processes; the results do not depend on it
"""

from typing import Any, Final

__all__ = ["EVALUATIONS", "RECIPES", "SCALES"]

#: a stage's own settings, from the appendix and the training scripts of the RAFT paper
RECIPES: Final[dict[str, dict[str, Any]]] = {
    "embedded": {
        "steps": 5000,
        "batch": 4,
        "lr": 4e-4,
        "weight_decay": 1e-4,
        "crop_height": 128,
        "crop_width": 128,
    },
    "chairs": {
        "steps": 100_000,
        "batch": 12,
        "lr": 4e-4,
        "weight_decay": 1e-4,
        "crop_height": 368,
        "crop_width": 496,
    },
    "things": {
        "steps": 100_000,
        "batch": 6,
        "lr": 1.25e-4,
        "weight_decay": 1e-4,
        "crop_height": 400,
        "crop_width": 720,
    },
    # Sintel with FlyingThings3D, KITTI and HD1K among it, as in the paper
    "sintel": {
        "steps": 100_000,
        "batch": 6,
        "lr": 1.25e-4,
        "weight_decay": 1e-5,
        "crop_height": 368,
        "crop_width": 768,
    },
    "kitti": {
        "steps": 50_000,
        "batch": 6,
        "lr": 1e-4,
        "weight_decay": 1e-5,
        "crop_height": 288,
        "crop_width": 960,
    },
}
# where only Sintel and FlyingThings3D are at hand
RECIPES["sintel-things"] = RECIPES["sintel"]

EVALUATIONS: Final[tuple[str, ...]] = (
    "embedded",
    "chairs",
    "things-clean",
    "things-final",
    "sintel-clean",
    "sintel-final",
    "kitti",
    "hd1k",
)

_QUICK: dict[str, Any] = {
    "stages": "embedded",
    "evaluate_on": "embedded",
    "data": "embedded",
    "root_chairs": "",
    "root_things": "",
    "root_sintel": "",
    "root_kitti": "",
    "root_hd1k": "",
    "steps": 540,
    "batch": 2,
    "lr": 8e-4,
    "weight_decay": 1e-4,
    "crop_height": 128,
    "crop_width": 128,
    "augment": "light",
    "updates": 3,
    "eval_updates": 4,
    "gamma": 0.8,
    "max_flow": 400.0,
    "clip": 1.0,
    "context_gain": 0.1,
    "warmup": 0.1,
    "freeze_bn": True,
    "train_pairs": 0,
    "val_pairs": 0,
    "eval_batch": 4,
    "amp": False,
    "workers": 0,
}

_PAPER = _QUICK | {
    "stages": "chairs+things",
    "evaluate_on": "sintel-clean+sintel-final+kitti",
    "steps": -1,
    "batch": -1,
    "lr": -1.0,
    "weight_decay": -1.0,
    "crop_height": -1,
    "crop_width": -1,
    "augment": "raft",
    "updates": 12,
    "eval_updates": 32,
    "context_gain": 1.0,
    "warmup": 0.05,
    "eval_batch": 1,
    "amp": True,
    "workers": 8,
}

SCALES: dict[str, dict[str, Any]] = {
    "smoke": _QUICK | {"steps": 12, "train_pairs": 48, "val_pairs": 8},
    "quick": _QUICK,
    # the whole recipe on the embedded data
    "study": _QUICK | {"steps": 1500, "lr": 4e-4, "warmup": 0.05, "augment": "raft", "updates": 6, "eval_updates": 12},
    # the RAFT paper, C + T: generalisation to Sintel and KITTI, whose training sequences were not trained on
    "paper": _PAPER,
    # with the stages after it; evaluated on a fifth that they leave out, since the test sets have no public truth
    "paper-sintel": _PAPER | {"stages": "chairs+things+sintel", "evaluate_on": "sintel-clean+sintel-final"},
    "paper-kitti": _PAPER | {"stages": "chairs+things+sintel+kitti", "evaluate_on": "kitti"},
}
