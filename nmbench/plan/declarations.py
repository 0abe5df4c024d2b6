"""What a plugin declares, as one process tells another (JSON) and as the parent keeps it; no plugin is imported."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Generic, TypeVar

from pydantic import BaseModel, ConfigDict

from nmbench._util.settings import Settings
from nmbench.contract.spec import Metric
from nmbench.plan.refusals import Refusal


class PluginStatus(StrEnum):
    """Whether a plugin can be used."""

    OK = "ok"
    UNAVAILABLE = "unavailable"  # something that it requires is not installed
    IMPORT = "import"  # it cannot be imported
    INVALID = "invalid"  # it breaks the contract
    DUPLICATE = "duplicate"  # its name is taken


class _Declaration(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class TaskDeclaration(_Declaration):
    """The class attributes of a task (nmbench.contract.task.Task).

    diagnoses: `nmbench doctor` may ask it for more. logits: it has them, so that a cell may learn from its dense twin.
    """

    name: str
    metrics: tuple[Metric, ...]
    models: tuple[str, ...]
    default_models: dict[str, str] = {}
    open_models: bool = False
    scales: dict[str, Settings]
    contract: int = 1
    requires: tuple[str, ...] = ()
    install: str = ""
    diagnoses: bool = False
    logits: bool = False


class MethodDeclaration(_Declaration):
    """The class attributes of a method (nmbench.sparsity.Method), and the patterns that it refuses by default."""

    settings: Settings
    phases: int = 1
    sparse: bool = True
    starts_dense: bool = False
    layerwise: bool = True
    refusals: tuple[Refusal, ...] = ()

    @property
    def prunes(self) -> bool:
        """All training is that of the dense twin: it is a pruner's."""
        return self.starts_dense and self.phases == 1


Declaration = TypeVar("Declaration", TaskDeclaration, MethodDeclaration)


class Description(BaseModel, Generic[Declaration]):
    """What a process that imported a plugin answers. `reason` says more wherever the status is not OK."""

    status: PluginStatus = PluginStatus.OK
    reason: str = ""
    declaration: Declaration | None = None


@dataclass(frozen=True)
class Plugin(Generic[Declaration]):
    """A task or a method.

    reference: "module:attribute", or "path:" and a file. source: hash of what it brings (nmbench.plan.sources).
    declaration: None where it cannot be imported or breaks the contract.
    """

    name: str
    reference: str
    distribution: str
    version: str
    source: str = ""
    status: PluginStatus = PluginStatus.OK
    reason: str = ""
    declaration: Declaration | None = None

    @property
    def usable(self) -> bool:
        """Cells can run with it."""
        return self.status is PluginStatus.OK

    @property
    def origin(self) -> str:
        """Its distribution and version."""
        return f"{self.distribution} {self.version}".strip()


TaskPlugin = Plugin[TaskDeclaration]
MethodPlugin = Plugin[MethodDeclaration]
