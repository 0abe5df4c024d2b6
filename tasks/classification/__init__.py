"""Image classification: torchvision models, ImageFolder data, Lightning Fabric as the training engine."""

from nmbench_tasks.classification.task import Classification

__all__ = ["Classification"]
