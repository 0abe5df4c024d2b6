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
        from nmbench.records.frame import frame

        return frame
    raise AttributeError(f"module 'nmbench' has no attribute {name!r}")
