"""nmbench: a multi-task benchmark suite for N:M fine-grained structured sparsity.

`nmbench.sparsity` is the shared N:M core and can be used on its own in any training script.
`nmbench.contract.task` is the contract of a task plugin. `nmbench.frame` loads records into pandas.
Nothing heavy is imported here, so that the command line starts fast.
"""

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from nmbench.records.frame import frame as frame

__all__ = ["__version__", "frame"]


def __getattr__(name: str) -> Any:
    if name == "frame":
        try:
            from nmbench.records.frame import frame
        except ModuleNotFoundError as error:
            if error.name != "pandas":
                raise
            raise ImportError("the report needs pandas: pip install 'nmbench[report]'") from None
        return frame
    raise AttributeError(f"module 'nmbench' has no attribute {name!r}")
