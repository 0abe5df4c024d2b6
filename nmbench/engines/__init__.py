"""Where cells run that this machine does not run itself. An engine starts a command on some node, and says what became
of it; it knows nothing of cells. The command is nmbench's own, whose scheduler does there what it does here.

engine.py    the protocol: Needs, Ticket, Fate, Engine
options.py   options of an engine: the user's file, the matrix file, the command line
slurm.py     sbatch, squeue, scancel
ray.py       a Ray cluster that is running
"""

import importlib
from collections.abc import Mapping

from nmbench._util.errors import UsageError, nearest
from nmbench.engines.engine import Busy, Engine, Fate, Needs, Phase, Ticket, Unreachable

__all__ = ["ENGINES", "Busy", "Engine", "Fate", "Needs", "Phase", "Ticket", "Unreachable", "engine"]

#: name -> module and class, imported when they are asked for
ENGINES = {"slurm": ("nmbench.engines.slurm", "Slurm"), "ray": ("nmbench.engines.ray", "Ray")}


def engine(name: str, options: Mapping[str, str]) -> Engine:
    """The engine `name`, ready to submit to. Raises UsageError where it is not there, or knows no such option."""
    if name not in ENGINES:
        raise UsageError(f"--on {name!r}: no such engine{nearest(name, ('local', *ENGINES))}")
    module, kind = ENGINES[name]
    found: Engine = getattr(importlib.import_module(module), kind)(options)
    return found
