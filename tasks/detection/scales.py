"""Every training setting of detection and segmentation (which is slower), with its default at each scale."""

from typing import Literal

from pydantic import Field

from nmbench_tasks._shared import settings


class Settings(settings.Settings):
    """The settings at scale quick."""

    data: str = Field("embedded", description='"embedded", or a root in the layout of COCO 2017')
    classes: int = Field(10, ge=1, description="number of categories that the data must have")
    backbone_weights: str = Field("", description='checkpoint of the backbone (.pth, .safetensors); "": fresh weights')
    train_images: int = Field(0, ge=0, description="use only the first so many; 0 uses all")
    val_images: int = Field(0, ge=0, description="the same in evaluation")
    recipe: Literal["task", "config"] = Field(
        "task", description='"task": these settings; "config": pipeline, optimizer, schedule and hooks of the config'
    )
    long_side: int = Field(128, ge=1, description='images are scaled to fit into these, in px (recipe "task")')
    short_side: int = Field(128, ge=1, description="see long_side")
    mirror: bool = Field(False, description='mirror half of the training images (recipe "task")')
    epochs: int = Field(8, ge=0, description='passes over the training images; 0 with recipe "config": its own')
    lr: float = Field(3e-3, ge=0, description='learning rate; 0 with recipe "config": its own')
    batch: int = Field(4, ge=1, description="images of one optimizer step, over all GPUs and accumulated parts")
    accumulate: int = Field(1, ge=1, description="forward passes of a GPU that make one optimizer step")
    weight_decay: float = Field(0.05, ge=0, description='of AdamW (recipe "task")')
    clip: float = Field(10.0, ge=0, description='largest norm of the gradient (recipe "task")')
    warmup_epochs: float = Field(0.4, ge=0, description='linear warm-up, then a cosine to 0 (recipe "task")')
    ema: float = Field(
        0.0, ge=0, lt=1, description="momentum of mmengine's EMAHook, whose average is evaluated; 0 is off"
    )
    amp: bool = Field(False, description="float16 autocast with a loss scale (mmengine's AmpOptimWrapper), CUDA only")
    gpus: int = Field(1, ge=1, description="processes that train together, one a GPU")
    eval_batch: int = Field(8, ge=1, description="images of a forward pass in evaluation")
    workers: int = Field(0, ge=0, description="data-loading processes; the results do not depend on it")


DETECTION = {
    "smoke": Settings.scale(epochs=1, train_images=160, val_images=60),
    "quick": Settings.scale(),
    "study": Settings.scale(epochs=28),
    # the 1x schedule: 12 epochs of batch 16 (8 GPUs with 2 images each), rate 0.02, images of up to 1333 x 800
    "paper": Settings.scale(
        classes=80,
        recipe="config",
        long_side=1333,
        short_side=800,
        mirror=True,
        epochs=0,
        lr=0.0,
        batch=16,
        amp=True,
        gpus=8,
        eval_batch=1,
        workers=2,
    ),
}

SEGMENTATION = {**DETECTION, "quick": DETECTION["quick"] | {"epochs": 6}, "study": DETECTION["study"] | {"epochs": 21}}
