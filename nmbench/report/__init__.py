"""From records to a report.

Importing anything from here without the report's dependencies raises MissingDependency, an ImportError whose one
line says what to install. Nothing here imports torch.
"""

from importlib.util import find_spec

__all__ = ["MissingDependency"]

_NEEDED = ("pandas", "scipy", "matplotlib", "tabulate", "jinja2", "markdown_it")


class MissingDependency(ImportError):
    """A distribution that the report needs is not installed; the text says how to add it."""


# Looked up, not imported: reading records into a frame should not have to wait for matplotlib.
if _missing := [name for name in _NEEDED if find_spec(name) is None]:
    raise MissingDependency(f"the report needs {', '.join(_missing)}: pip install 'nmbench[report]'")
