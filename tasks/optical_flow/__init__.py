"""Optical flow: torchvision's RAFT, torchvision's flow data sets, Lightning Fabric."""

from nmbench_tasks.optical_flow.task import OpticalFlow

__all__ = ["OpticalFlow"]
