"""`nmbench compare A B`: two result sets, before and after a change or from two machines."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nmbench._util.errors import UsageError

if TYPE_CHECKING:
    from nmbench.records.frame import Loaded


def compare(
    first: Annotated[Path, typer.Argument(metavar="A", help="A folder of results: the reference.")],
    second: Annotated[Path, typer.Argument(metavar="B", help="Another one: what is judged.")],
    out: Annotated[Path | None, typer.Option("--out", help="Write the page to this file, not to the screen.")] = None,
) -> None:
    """Say what is better, worse, undecided or missing in B, against A.

    The exit status is 1 if something that A has is worse, failed or missing in B, else 0.

    Example: nmbench compare results-before/quick results/quick --out changes.md
    """
    from nmbench.analysis.two_sets import between, lost, nothing_common
    from nmbench.document.markdown import markdown
    from nmbench.report.sections.two_sets import page

    mine, theirs = _load(first), _load(second)
    if first.resolve() == second.resolve():
        raise UsageError(f"{str(first)!r} and {str(second)!r} are the same folder: there is nothing to compare")
    if out is not None and out.is_dir():
        raise UsageError(f"--out {str(out)!r} is a folder: name a file, as changes.md")
    found = between(mine, theirs)
    if len(mine.frame) and len(theirs.frame) and nothing_common(found):
        raise UsageError(
            f"{str(first)!r} and {str(second)!r} have no cell in common: the same task, model, settings, pattern and "
            "method; `nmbench status` says what each holds"
        )
    names = (first.name or str(first), second.name or str(second))
    written = markdown(page(mine, theirs, names if names[0] != names[1] else (str(first), str(second)), found))
    if out is None:
        typer.echo(written, nl=False)
    else:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(written, encoding="utf-8", newline="\n")
        typer.echo(f"compare: {out}")
    if lost(found):
        raise typer.Exit(1)


def _load(folder: Path) -> Loaded:
    """The records below `folder`. Raises UsageError where there is no such folder, or not one attempt in it."""
    if not folder.is_dir():
        raise UsageError(f"no folder {str(folder)!r}: name two folders of results, as results/quick")
    from nmbench.records.frame import load

    loaded = load(folder, series=False)
    if not loaded.records and not loaded.unreadable:
        raise UsageError(f"no record below {str(folder)!r}: name a folder that `nmbench run` wrote, as results/quick")
    return loaded
