"""From records to a report.

    frame        records -> a pandas frame, one row an attempt      load, frame, newest
    statistics   the paired comparison with the dense twin          paired, Comparison
    compare      frame -> rows paired with their dense twins        compare, Row
    table, model                                                    what a report consists of, in no format
    tables, lists, provenance, figures, ...                         the parts of a report
    build        everything together                                build
    renderers    markdown, HTML, CSV, LaTeX of one model
    render       results folder -> report folder                    write_report

Importing anything from here without the report's dependencies raises MissingDependency, an ImportError whose one
line says what to install. Nothing here imports torch.
"""

from __future__ import annotations

from importlib.util import find_spec

__all__ = ["MissingDependency"]

_NEEDED = ("pandas", "scipy", "matplotlib", "tabulate", "jinja2", "markdown_it")


class MissingDependency(ImportError):
    """A distribution that the report needs is not installed; the text says how to add it."""


# Looked up, not imported: reading records into a frame should not have to wait for matplotlib.
if _missing := [name for name in _NEEDED if find_spec(name) is None]:
    raise MissingDependency(f"the report needs {', '.join(_missing)}: pip install 'nmbench[report]'")
