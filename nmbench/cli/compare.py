"""`nmbench compare A B`: two result sets, before and after a change or from two machines."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nmbench.errors import UsageError

if TYPE_CHECKING:
    from nmbench.report.frame import Loaded


def compare(
    first: Annotated[Path, typer.Argument(metavar="A", help="A folder of results: the reference.")],
    second: Annotated[Path, typer.Argument(metavar="B", help="Another one: what is judged.")],
    out: Annotated[Path | None, typer.Option("--out", help="Write the page to this file, not to the screen.")] = None,
) -> None:
    """Say what is better, worse, undecided or missing in B, against A.

    Example: nmbench compare results-before/quick results/quick --out changes.md
    """
    from nmbench.report.two_sets import page

    written = page(_load(first), _load(second), (first.name or str(first), second.name or str(second)))
    if out is None:
        typer.echo(written, nl=False)
        return
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(written, encoding="utf-8", newline="\n")
    typer.echo(f"compare: {out}")


def _load(folder: Path) -> Loaded:
    """The records below `folder`. Raises UsageError where there is no such folder, or not one attempt in it."""
    if not folder.is_dir():
        raise UsageError(f"no folder {str(folder)!r}: name two folders of results, as results/quick")
    from nmbench.report.frame import load

    loaded = load(folder)
    if not loaded.records and not loaded.unreadable:
        raise UsageError(f"no record below {str(folder)!r}: name a folder that `nmbench run` wrote, as results/quick")
    return loaded
