"""The command line: one file a command, thin, over the library. `promptprobe --help` doesn't import torch."""

from __future__ import annotations

import errno
import gc
import os
import sys
from typing import Annotated, Any

import typer

from ..errors import PromptProbeError
from ..version import __version__
from . import batch as batch

# isort: off
# Help lists the commands in this order.
from . import optimize, score, seeds, generate  # noqa: F401
from . import session, ui, servers  # noqa: F401
from . import files, data, grpo, models, doctor  # noqa: F401

# isort: on
from .made import app

__all__ = ["app", "main"]

INTERRUPTED = 130
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EIO)
COLLECT_AFTER = 10_000  # new objects; Python's 700 has what torch and diffusers import gone through over and over
# Typer carries its own copy of click and doesn't export this base of its usage errors.
_USAGE_ERROR: Any = next(c for c in typer.BadParameter.__mro__ if c.__name__ == "ClickException")
_debugging = [False]


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(__version__)
        raise typer.Exit


def _debug(wanted: bool) -> None:
    _debugging[0] = wanted


@app.callback()
def _options(
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.", callback=_debug, is_eager=True)] = False,
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and stop.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    pass


def main(arguments: list[str] | None = None) -> None:
    """Run the command line; an error that a user can act on becomes one line and exit code 2."""
    gc.set_threshold(COLLECT_AFTER)
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    _debugging[0] = False
    try:
        code: Any = app(args=arguments, standalone_mode=False)
    except PromptProbeError as error:
        if _debugging[0]:
            raise
        _stop(str(error))
    except _USAGE_ERROR as error:
        context = getattr(error, "ctx", None)
        if context and (others := _with_option(getattr(error, "option_name", None))):
            _stop(f"{error.option_name} is an option of {', '.join(others)}, not of {context.info_name}; leave it out")
        _stop(f"{error.format_message()} ({context.command_path if context else 'promptprobe'} --help says more)")
    except OSError as error:
        if _debugging[0] or error.errno not in NO_ROOM:
            raise
        if error.filename is None:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # Python writes what is left at the end
        _stop(f"{error.filename or 'the output'} can't be written: {error.strerror}; make room, or send it elsewhere")
    if code == INTERRUPTED:  # typer makes a number of KeyboardInterrupt
        print("promptprobe: stopped; what was finished is kept", file=sys.stderr)
    sys.exit(code if isinstance(code, int) else 0)


def _with_option(flag: str | None) -> list[str]:
    """The commands that have an option, in the order of the help."""
    commands: Any = typer.main.get_command(app)
    return [name for name, command in commands.commands.items() if any(flag in p.opts for p in command.params)]


def _stop(reason: str) -> None:
    print(f"promptprobe: {' '.join(reason.split())}", file=sys.stderr)
    sys.exit(2)
