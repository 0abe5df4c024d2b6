"""mmdet, ready for use: its operators in place, its registries filled, its loggers quiet.

install    see to it that `mmcv.ops` and mmdet can be imported; says who serves the compiled operators
load       to be called before anything of mmdet or mmcv.ops is imported; cheap when called again

mmcv-lite is mmcv without its compiled module `mmcv._ext`, and `mmcv.ops`, which all of mmdet's models import, does not
load without it. `install` puts a module of that name into `sys.modules`. The operators that torchvision has
(`nmbench_tasks.detection._ext`) work there, on CPU and CUDA; every other one raises NotImplementedError when it is
called. Where full mmcv is installed its own operators are used, untouched.
"""

import functools
import importlib
import importlib.util
import sys
from functools import partial
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

import torch  # before mmcv._ext, which is linked against torch's libraries and does not find them by itself

_NAME = "mmcv._ext"
_FULL = "pip uninstall -y mmcv-lite; pip install openmim; mim install 'mmcv>=2.1,<2.2'"


def install() -> str:
    """Make `mmcv.ops` importable; call it before `mmcv.ops` or mmdet's models are imported, as often as you like.

    Returns:
        "mmcv" where full mmcv serves its operators itself, "torchvision" where the stand-in does.

    Raises:
        ImportError: there is no mmcv at all, or its compiled operators do not load with this torch.
    """
    try:
        mmcv = importlib.import_module("mmcv")
    except ImportError as error:
        raise ImportError(
            f"detection and segmentation need mmcv: {error}\nadd it with: pip install 'nmbench[detection-lite]'"
        ) from error
    if _NAME not in sys.modules:
        if importlib.util.find_spec(_NAME) is None:
            sys.modules[_NAME] = stand_in = _StandIn()
            vars(mmcv)["_ext"] = stand_in
        else:
            _load_compiled()
    return "torchvision" if isinstance(sys.modules[_NAME], _StandIn) else "mmcv"


def _load_compiled() -> None:
    """Import the `mmcv._ext` that is installed: one built for another torch fails here, not in the midst of mmdet."""
    try:
        importlib.import_module(_NAME)
    except ImportError as error:
        raise ImportError(
            f"the compiled operators of this mmcv do not load with torch {torch.__version__}: {error}\n"
            "install the mmcv that was built for this torch, or mmcv-lite in its place"
        ) from error


class _StandIn(ModuleType):
    """`mmcv._ext` without a compiled file: what torchvision serves, and a refusal under every other operator's name."""

    def __init__(self) -> None:
        super().__init__(_NAME, "Stand-in of nmbench: the operators of mmcv that torchvision serves.")
        from nmbench_tasks.detection import _ext

        # no loader: `mmengine.utils.dl_utils.mmcv_full_available` goes on saying that this is not full mmcv
        self.__spec__ = ModuleSpec(_NAME, loader=None)
        self.__dict__.update({name: getattr(_ext, name) for name in _ext.__all__})

    def __getattr__(self, name: str) -> Any:
        # `mmcv.ops` asks for some 130 operators while it is imported and calls none. Names with an underscore in front
        # are asked for by inspect, pickle and the like, and are no operators.
        if name.startswith("_"):
            raise AttributeError(f"module {_NAME!r} has no attribute {name!r}")
        return partial(_refuse, name)


def _refuse(operator: str, *_args: Any, **_kwargs: Any) -> None:
    raise NotImplementedError(
        f"the operator {operator!r} needs full mmcv: torchvision, which stands in for mmcv's compiled operators here, "
        f"does not serve it\nget it with: {_FULL} (where no wheel fits this torch, mim builds it from source)"
    )


@functools.cache
def load() -> str:
    """Fill mmdet's registries and make "mmdet" the scope in which names of configs are looked up.

    Returns who serves the compiled operators: "mmcv" or "torchvision".
    Raises ImportError if there is no mmcv, or one that does not load with this torch.
    """
    served_by = install()
    from mmdet.utils import register_all_modules
    from mmengine.logging import MMLogger

    register_all_modules(init_default_scope=True)
    MMLogger.get_instance("nmbench", log_level="WARNING")  # else each initialised weight is a line on the terminal
    return served_by
