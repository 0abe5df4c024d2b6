"""The command line: one verb a file. Nothing here imports torch, so that --help answers at once.

Exit status: 0 all well, 1 some cells failed, 2 usage or nothing ran, 130 interrupted.
"""

import sys

import typer

from nmbench import __version__
from nmbench._util.errors import UsageError
from nmbench._util.log import set_up
from nmbench.cli import (
    check,
    compare,
    convert,
    doctor,
    export,
    jobs,
    kernels,
    listing,
    new,
    plan,
    prepare,
    report,
    run,
    status,
)

__all__ = ["app", "main"]

app = typer.Typer(
    name="nmbench",
    help="A multi-task benchmark suite for N:M fine-grained structured sparsity.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.command("list")(listing.list_)
app.command("plan")(plan.plan)
app.command("prepare")(prepare.prepare)
app.command("run")(run.run)
app.command("status")(status.status)
app.command("cancel")(jobs.cancel)
app.command("logs")(jobs.logs)
app.command("report")(report.report)
app.command("compare")(compare.compare)
app.command("convert")(convert.convert)
app.command("export")(export.export)
app.command("check")(check.check)
app.command("new-task")(new.new_task)
app.command("new-method")(new.new_method)
app.command("kernels")(kernels.kernels)
app.command("doctor")(doctor.doctor)


def _version(value: bool) -> None:
    if value:
        typer.echo(f"nmbench {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Print the version."),
    debug: bool = typer.Option(False, "--debug", help="Show the traceback of an error."),
) -> None:
    pass


def main() -> None:
    """Entry point of the `nmbench` command."""
    debug = "--debug" in sys.argv
    if debug:
        sys.argv.remove("--debug")
    try:
        set_up()
        app()
    except (UsageError, ImportError) as error:
        if debug:
            raise
        typer.echo(f"nmbench: {error}", err=True)
        sys.exit(2)
    except OSError as error:
        if debug:
            raise
        place = f"{error.filename}: " if error.filename else ""
        typer.echo(f"nmbench: {place}{error.strerror or error}", err=True)
        sys.exit(2)
