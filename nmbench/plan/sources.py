"""Which source files a cell executes, read off their import statements without importing any; and hashes of them.

What is reworded in the report leaves them alone, so that results stay fresh and half of a training can be gone on
with. Only modules of nmbench and of the plugin's package are followed; versions of the rest stand in the record.
"""

import ast
import functools
import hashlib
import importlib.util
import sys
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from nmbench._util.files import remember, remembered
from nmbench._util.paths import cache_dir

_PARSING = threading.Lock()  # CPython 3.11 counts the depth of all threads' trees together, and may find them unequal
_OURS = ("nmbench", "nmbench_tasks")
_WORKER = "nmbench.worker.cell"
#: packages whose modules are imported by the names of their entry points
_PLUGINS = ("nmbench.sparsity.methods", "nmbench.sparsity.pruning.pruners")
#: what lies beside a module and is read or compiled by it
_DATA = (".c", ".cpp", ".cu", ".json", ".toml", ".yaml")
_BLOCKS = (ast.stmt, ast.excepthandler, ast.match_case)
#: level, module and names of a `from` import; of any other -1, "" and the modules
_Statement = tuple[int, str, tuple[str, ...]]
_KEPT = TypeAdapter(dict[str, tuple[_Statement, ...]])
_MOST = 5000  # files whose statements are kept


def core_hash() -> str:
    """Hash of nmbench's part: the worker and what it imports, and the methods that come with the core."""
    return _digest(_core())


def plugin_hash(reference: str) -> str:
    """Hash of what a plugin brings: its file or package and what that imports, less nmbench's part; "" for nothing.

    reference: "module:attribute", or "path:" and a file.
    """
    if reference.startswith("path:"):
        file = Path(reference[5:])
        own = set(file.parent.rglob("*.py")) if file.name == "__init__.py" else {file}
        family = ""
    else:
        module = reference.partition(":")[0]
        family = module.partition(".")[0]
        found = _file(module)
        own = set() if found is None else _package(found) if found.name == "__init__.py" else {found}
    return _digest(_reached(own, (*_OURS, family)) - _core()) if own - _core() else ""


def import_hash(*modules: str) -> str:
    """Hash of modules of nmbench and all that they import of it."""
    return _digest(_reached(filter(None, map(_file, modules)), _OURS))


@functools.cache
def _core() -> frozenset[Path]:
    plugins = [path for module in _PLUGINS if (init := _file(module)) is not None for path in _package(init)]
    return _reached(filter(None, {_file(_WORKER), *plugins}), _OURS)


def _package(init: Path) -> set[Path]:
    """All modules of a package. Some may be imported by a name that is made when it runs."""
    return set(init.parent.rglob("*.py"))


def _reached(starts: Iterable[Path], families: tuple[str, ...]) -> frozenset[Path]:
    waiting, reached, beside = list(starts), set[Path](), set[Path]()
    while waiting:
        file = waiting.pop()
        if file in reached:
            continue
        reached.add(file)
        if (file.parent / "__init__.py").exists():
            beside |= {path for path in file.parent.iterdir() if path.suffix in _DATA}
        for module in _imports(file):
            if module.partition(".")[0] in families and (target := _file(module)) is not None:
                waiting.append(target)
                beside |= _parents(module)
    with _PARSING:
        _statements().keep()
    return frozenset(reached | beside)


def _parents(module: str) -> set[Path]:
    """`__init__` of the packages around a module: they are executed, what they import on demand is not."""
    parts = module.split(".")
    around = (_file(".".join(parts[:count])) for count in range(1, len(parts)))
    return {file for file in around if file is not None}


@functools.cache
def _file(module: str) -> Path | None:
    """The source of a module that can be found without importing one."""
    top, *rest = module.split(".")
    try:
        spec = importlib.util.find_spec(top)
    except (ImportError, ValueError):
        return None
    for folder in (spec.submodule_search_locations or []) if spec else []:
        path = Path(folder).joinpath(*rest)
        for file in (path / "__init__.py", path.with_suffix(".py")):
            if file.is_file():
                return file
    return Path(spec.origin) if spec and spec.origin and not rest and spec.origin.endswith(".py") else None


@functools.cache
def _imports(file: Path) -> frozenset[str]:
    """Names of the modules that a file imports, inside its functions too."""
    try:
        data = file.read_bytes()
    except OSError:
        return frozenset()
    lazy = file.name == "__init__.py"
    with _PARSING:
        found = _statements().of(data, lazy)
    return frozenset(name for statement in found for name in _named(statement, file))


class _Statements:
    """Import statements by a file's content, kept between commands: to parse all of nmbench takes a second."""

    def __init__(self) -> None:
        self._path = cache_dir() / f"imports-{sys.implementation.cache_tag}.json"
        self._grown = False
        try:
            self._held = _KEPT.validate_json(remembered(self._path) or b"{}")
        except ValidationError:
            self._held = {}

    def of(self, data: bytes, lazy: bool) -> tuple[_Statement, ...]:
        """Those of a file with content `data`; none if it is no Python. lazy: see `_executed`."""
        key = f"{hashlib.sha256(data).hexdigest()[:32]}{'-lazy' * lazy}"
        if (found := self._held.get(key)) is None:
            self._held = {} if len(self._held) >= _MOST else self._held
            found = self._held[key] = tuple(_parsed(data, lazy))
            self._grown = True
        return found

    def keep(self) -> None:
        """Write what is new; where it cannot be, the next command parses again."""
        if self._grown:
            remember(self._path, _KEPT.dump_json(self._held, ensure_ascii=True))
            self._grown = False


_statements = functools.cache(_Statements)


def _parsed(data: bytes, lazy: bool) -> Iterator[_Statement]:
    try:
        tree = ast.parse(data)
    except (SyntaxError, ValueError):
        return
    for node in _executed(tree, lazy):
        names = tuple(alias.name for alias in node.names)
        yield (-1, "", names) if isinstance(node, ast.Import) else (node.level, node.module or "", names)


def _executed(tree: ast.AST, lazy: bool) -> Iterator[ast.Import | ast.ImportFrom]:
    """Its import statements; those for type checkers only in a package that imports its names on demand (PEP 562)."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield node
        elif not isinstance(node, _BLOCKS):  # no expression holds a statement
            continue
        elif lazy or not (isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")):
            yield from _executed(node, lazy)


def _named(statement: _Statement, file: Path) -> Iterator[str]:
    """The modules that an import statement in `file` names."""
    level, module, names = statement
    if level < 0:
        yield from names
        return
    if level:
        package = _package_of(file.parent)[: -(level - 1) or None]
        module = ".".join([*package, *([module] if module else [])])
    inner = [f"{module}.{name}" for name in names]
    modules = [name for name in inner if _file(name) is not None]
    yield from modules
    if len(modules) < len(inner):  # it takes other names than modules from the package itself
        yield module


def _package_of(folder: Path) -> list[str]:
    """Dotted name of the package in a folder, as parts."""
    parts: list[str] = []
    while (folder / "__init__.py").exists():
        parts.insert(0, folder.name)
        folder = folder.parent
    return parts


def _digest(files: Iterable[Path]) -> str:
    whole = hashlib.sha256()
    for name, data in sorted((file.name, file.read_bytes()) for file in files if file.is_file()):
        whole.update(name.encode() + b"\0" + hashlib.sha256(data).digest())
    return whole.hexdigest()[:16]
