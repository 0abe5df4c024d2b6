"""mmdet, ready for use: its operators in place, its registries filled, its loggers quiet.

load    to be called before anything of mmdet or mmcv.ops is imported; cheap when called again
"""

from __future__ import annotations

import functools

from nmbench_tasks.detection import operators

__all__ = ["load"]


@functools.cache
def load() -> str:
    """Fill mmdet's registries and make "mmdet" the scope in which names of configs are looked up.

    Returns who serves the compiled operators: "mmcv" or "torchvision".
    Raises ImportError if there is no mmcv, or one that does not load with this torch.
    """
    served_by = operators.install()
    from mmdet.utils import register_all_modules
    from mmengine.logging import MMLogger

    register_all_modules(init_default_scope=True)
    MMLogger.get_instance("nmbench", log_level="WARNING")  # else each initialised weight is a line on the terminal
    return served_by
