"""Every training setting of the optical-flow task, with its default at each scale; and the recipes of the stages."""

from typing import Any, Final, Literal

from pydantic import BaseModel, Field

from nmbench_tasks._shared import settings


class Stage(BaseModel):
    """Steps of `batch` crops of (crop_height, crop_width) px; `lr` is the peak of the cycle."""

    name: str = ""
    steps: int
    batch: int
    lr: float
    weight_decay: float
    crop_height: int
    crop_width: int


#: a stage's own settings, from the appendix and the training scripts of the RAFT paper
RECIPES: Final[dict[str, Stage]] = {
    "embedded": Stage(steps=5000, batch=4, lr=4e-4, weight_decay=1e-4, crop_height=128, crop_width=128),
    "chairs": Stage(steps=100_000, batch=12, lr=4e-4, weight_decay=1e-4, crop_height=368, crop_width=496),
    "things": Stage(steps=100_000, batch=6, lr=1.25e-4, weight_decay=1e-4, crop_height=400, crop_width=720),
    # Sintel with FlyingThings3D, KITTI and HD1K among it, as in the paper
    "sintel": Stage(steps=100_000, batch=6, lr=1.25e-4, weight_decay=1e-5, crop_height=368, crop_width=768),
    "kitti": Stage(steps=50_000, batch=6, lr=1e-4, weight_decay=1e-5, crop_height=288, crop_width=960),
}
# where only Sintel and FlyingThings3D are at hand
RECIPES["sintel-things"] = RECIPES["sintel"]

_BY_PASS = ("things-clean", "things-final", "sintel-clean", "sintel-final")
EVALUATIONS: Final[tuple[str, ...]] = ("embedded", "chairs", *_BY_PASS, "kitti", "hd1k")


class Settings(settings.Settings):
    """The settings at scale quick. Where -1 is allowed it takes the stage's own (RECIPES)."""

    stages: str = Field("embedded", description='what to train on, one after the other, joined by "+"')
    evaluate_on: str = Field("embedded", description='what to evaluate on, joined by "+"; the first gives the metrics')
    data: str = Field("embedded", description='folder with the data sets as torchvision expects them, or "embedded"')
    root_chairs: str = Field("", description="folder that holds FlyingChairs/, if it is another than data")
    root_things: str = Field("", description="the same for FlyingThings3D/")
    root_sintel: str = Field("", description="the same for Sintel/")
    root_kitti: str = Field("", description="the same for KittiFlow/")
    root_hd1k: str = Field("", description="the same for hd1k/")
    steps: int = Field(540, ge=-1, description="optimizer steps of each stage; -1: the stage's own")
    batch: int = Field(2, ge=-1, description="pairs of a step; -1: the stage's own")
    lr: float = Field(8e-4, ge=-1, description="peak learning rate; -1: the stage's own")
    weight_decay: float = Field(1e-4, ge=-1, description="of AdamW; -1: the stage's own")
    crop_height: int = Field(128, ge=-1, description="px, a multiple of 8; -1: the stage's own")
    crop_width: int = Field(128, ge=-1, description="px, a multiple of 8; -1: the stage's own")
    augment: Literal["raft", "light"] = Field(
        "light",
        description='"raft": colours, erasing, zoom and crops, as in the paper; "light": mirror images and crops',
    )
    updates: int = Field(3, ge=1, description="times that the update block refines the flow, in training")
    eval_updates: int = Field(4, ge=1, description="the same in evaluation")
    gamma: float = Field(0.8, gt=0, description="weight of an earlier estimate in the sequence loss")
    max_flow: float = Field(400.0, gt=0, description="px; pixels that move farther are left out of the loss")
    clip: float = Field(1.0, ge=0, description="largest norm of the gradient")
    # with fresh weights a short training may never leave the estimate that nothing moves (README)
    context_gain: float = Field(0.1, description="factor on the initial weights of the context encoder's last layer")
    warmup: float = Field(0.1, ge=0, le=1, description="share of a stage in which the rate rises; then linearly to 0")
    schedule: Literal["own", "authors"] = Field(
        "own",
        description='"authors": OneCycleLR of 100 steps more than are trained, as RAFT\'s; "own": of the stage',
    )
    freeze_bn: bool = Field(True, description="batch normalisation keeps its statistics from the second stage on")
    train_pairs: int = Field(0, ge=0, description="use only so many, evenly over the data set; 0 uses all")
    val_pairs: int = Field(0, ge=0, description="the same in evaluation")
    eval_batch: int = Field(4, ge=1, description="pairs of equal size of a forward pass in evaluation")
    amp: bool = Field(False, description="bfloat16 autocast, on CUDA only")
    workers: int = Field(0, ge=0, description="data-loading processes; the results do not depend on it")


_PAPER: dict[str, Any] = {
    "stages": "chairs+things",
    "evaluate_on": "sintel-clean+sintel-final+kitti",
    **dict.fromkeys(("steps", "batch", "lr", "weight_decay", "crop_height", "crop_width"), -1),
    "augment": "raft",
    "updates": 12,
    "eval_updates": 32,
    "context_gain": 1.0,
    "warmup": 0.05,
    "schedule": "authors",
    "eval_batch": 1,
    "amp": True,
    "workers": 8,
}

SCALES = {
    "smoke": Settings.scale(steps=12, train_pairs=48, val_pairs=8),
    "quick": Settings.scale(),
    # the whole recipe on the embedded data
    "study": Settings.scale(steps=1500, lr=4e-4, warmup=0.05, augment="raft", updates=6, eval_updates=12),
    # the RAFT paper, C + T: generalisation to Sintel and KITTI, whose training sequences were not trained on
    "paper": Settings.scale(**_PAPER),
    # with the stages after it; evaluated on a fifth that they leave out, since the test sets have no public truth
    "paper-sintel": Settings.scale(
        **_PAPER | {"stages": "chairs+things+sintel", "evaluate_on": "sintel-clean+sintel-final"}
    ),
    "paper-kitti": Settings.scale(**_PAPER | {"stages": "chairs+things+sintel+kitti", "evaluate_on": "kitti"}),
}
