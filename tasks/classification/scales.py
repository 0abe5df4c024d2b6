"""Every training setting of the classification task, with its default at each scale."""

from typing import Literal

from pydantic import Field

from nmbench_tasks._shared import settings


class Settings(settings.Settings):
    """The settings at scale quick."""

    data: str = Field("embedded", description='"embedded", or the root of an ImageFolder set: train/*/*, val/*/*')
    classes: int = Field(10, ge=1, description="number of classes that the data must have")
    image_size: int = Field(32, ge=1, description="height and width of the model's input, in pixels")
    transform: Literal["digits", "imagenet"] = Field(
        "digits", description='"digits" (shifted by up to 2 px) or "imagenet" (random resized crop, mirrored)'
    )
    lighting: float = Field(
        0.0,
        ge=0,
        description="deviation of colour noise along ImageNet's principal components, in training; 0: none",
    )
    train_images: int = Field(0, ge=0, description="use only this many, evenly over the classes; 0 uses all")
    val_images: int = Field(0, ge=0, description="the same in evaluation")
    width: int = Field(16, ge=1, description="channels of the first stage of resnet-narrow; other models ignore it")
    epochs: int = Field(7, ge=1, description="passes over the training images")
    batch: int = Field(64, ge=1, description="images of a forward pass")
    accumulate: int = Field(1, ge=1, description="batches that make one optimizer step")
    lr: float = Field(0.1, ge=0, description="peak learning rate, reached linearly; then a cosine to 0")
    momentum: float = Field(0.9, ge=0, lt=1, description="of SGD")
    weight_decay: float = Field(5e-5, ge=0, description="of SGD")
    warmup_epochs: float = Field(1.0, ge=0, description="epochs in which the rate rises; may be a fraction")
    schedule: Literal["own", "authors"] = Field(
        "own", description='the first update has the first rate of the warm-up ("own"), or 0 as in the authors\' code'
    )
    label_smoothing: float = Field(0.0, ge=0, lt=1, description="of the training loss")
    amp: bool = Field(False, description="bfloat16 autocast, on CUDA only")
    eval_batch: int = Field(200, ge=1, description="images of a forward pass in evaluation; no metric depends on it")
    workers: int = Field(0, ge=0, description="data-loading processes; the results do not depend on it")


SCALES = {
    "smoke": Settings.scale(epochs=3, train_images=1600, val_images=500, warmup_epochs=0.5),
    "quick": Settings.scale(),
    # more passes: the masks of a sparse method have time to settle
    "study": Settings.scale(epochs=12),
    # the ImageNet recipe of the authors of SR-STE
    "paper": Settings.scale(
        classes=1000,
        image_size=224,
        transform="imagenet",
        lighting=0.1,
        epochs=120,
        batch=256,
        lr=0.1,
        warmup_epochs=5.0,
        schedule="authors",
        amp=True,
        workers=8,
    ),
}
