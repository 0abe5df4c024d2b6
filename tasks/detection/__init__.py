"""Object detection and instance segmentation: mmdet models, COCO data, mmengine as the training engine."""

from nmbench_tasks.detection.task import Detection, Segmentation

__all__ = ["Detection", "Segmentation"]
