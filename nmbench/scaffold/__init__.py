"""Writes a small installable package with a task or a method that works, for its owner to change.

write    the package's folder
"""

import keyword
import re
import shutil
import tempfile
from importlib.resources import files
from pathlib import Path
from string import Template

from nmbench._util.errors import UsageError

__all__ = ["write"]


def write(kind: str, name: str, parent: Path) -> Path:
    """Write the package of the `kind` ("task" or "method") `name` below `parent`; its folder.

    The folder appears whole. Raises UsageError for a name that is none, or a folder that is there already.
    """
    if not re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", name):
        raise UsageError(f"{name!r} is no name for a {kind}: lower-case letters and digits, with dashes in between")
    module = name.replace("-", "_")
    if keyword.iskeyword(module) or module in ("nmbench", "test", "torch"):
        raise UsageError(f"{name!r} cannot be a Python module; take another name")
    folder = parent / f"nmbench-{name}"
    if folder.exists():
        raise UsageError(f"{folder} is there already; give another name or --dir")
    words = {
        "name": name,
        "module": f"nmbench_{module}",
        "distribution": f"nmbench-{name}",
        "class_name": "".join(part.capitalize() for part in name.split("-")),
    }
    places = {f"{kind}.py": f"{words['module']}.py", "test.py": f"test_{words['module']}.py"}
    parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=f".nmbench-{name}-", dir=parent))
    try:
        for source in files("nmbench.scaffold").joinpath(kind).iterdir():
            plain = source.name.removesuffix(".txt")
            text = Template(source.read_text(encoding="utf-8")).substitute(words)
            (scratch / places.get(plain, plain)).write_text(text, encoding="utf-8")
        scratch.chmod(0o755)  # mkdtemp keeps others out
        scratch.rename(folder)
    except BaseException:
        shutil.rmtree(scratch, ignore_errors=True)
        raise
    return folder
