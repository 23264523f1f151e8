"""The entry point of every command; it reports every error."""

from __future__ import annotations

import gc
import os
import sys
from importlib.util import find_spec

import click

if find_spec("shstk.schemas") is None:  # python -m shstk, in a checkout that is not installed
    sys.exit(
        "error: this is the source tree of shstk, not an installation\n"
        "  hint: pip install . and run the shstk that it installs"
    )

from shstk.cli import ReaderGone, cli
from shstk.cli.escaping import escaping
from shstk.cli.process import end, process_is_ours
from shstk.cli.terminal import wants_color
from shstk.schemas.errors import Exit, ShstkError

# Objects made until the collector of cycles runs. At Python's 700 it runs hundreds of times while a
# command is loaded, and finds nothing.
_COLLECT = 200_000
# The modules of the errors of the libraries that decode a run's tables.
_READERS = ("polars", "pyarrow", "pyo3_runtime")


def main() -> None:
    process_is_ours()
    gc.set_threshold(_COLLECT)
    end(run(sys.argv[1:]))


def run(args: list[str]) -> int:
    """One command; returns its exit code. No traceback reaches the user without --debug."""
    for name in ("stdout", "stderr"):  # None if the caller closed them
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115
    with escaping(sys, "stdout", "stderr", color=wants_color()):
        return _run(args)


def _run(args: list[str]) -> int:
    try:
        code = cli.main(args, prog_name="shstk", standalone_mode=False, color=True)
        sys.stdout.flush()
        return code if isinstance(code, int) else Exit.OK
    except click.exceptions.Exit as end:
        return end.exit_code
    except click.ClickException as error:
        error.show()
        return Exit.USAGE
    except (click.Abort, KeyboardInterrupt):
        click.echo("interrupted", err=True)
        return Exit.INTERRUPTED
    except (BrokenPipeError, ReaderGone):
        # Python would report the error again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return Exit.OK
    except ShstkError as error:
        if os.environ.get("SHSTK_DEBUG"):
            raise
        complain(error.what, error.hint)
        return error.exit
    except OSError as error:
        if os.environ.get("SHSTK_DEBUG"):
            raise
        where = f"{error.filename}: " if error.filename else ""
        complain(f"{where}{error.strerror or error}")
        return Exit.INPUT
    except SystemExit:
        raise
    except BaseException as error:  # a panic of Polars is no Exception
        if os.environ.get("SHSTK_DEBUG"):
            raise
        if damaged := _damaged_run(error):
            complain(damaged.what, damaged.hint)
            return damaged.exit
        complain(
            f"internal error: {type(error).__name__}: {error}",
            "this is a bug in shstk; `shstk --debug …` shows the traceback",
        )
        return Exit.INTERNAL


def _damaged_run(error: BaseException) -> ShstkError | None:
    """What is wrong with a run that this command reads, if that is why a library failed."""
    library = type(error).__module__.partition(".")[0]
    if library not in _READERS or "shstk.replay.run" not in sys.modules:
        return None
    from shstk.replay.run import undecodable

    return undecodable()


def complain(what: str, hint: str = "") -> None:
    # Outside of the command's context click would remove what looks like a color.
    click.echo(f"{click.style('error', fg='red', bold=True)}: {what}", err=True, color=True)
    if hint:
        click.echo(f"  hint: {hint}", err=True, color=True)


if __name__ == "__main__":
    main()
