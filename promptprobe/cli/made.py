"""Commands made from the table of options: `@command(Group, ...)` gives a function its options, in groups, and registers it."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from ..files import check_report, check_writable
from ..options import OPTIONS, Known, names_of, read_pipe_args, read_text
from ..settling import refuse_unused
from ..sources import source_of

app = typer.Typer(
    name="promptprobe", no_args_is_help=True, rich_markup_mode="rich", pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Predict how good a diffusion model's image will be after a fifth of the steps, and rewrite prompts that will "
    "fail. Without any option everything runs on a small built-in world: no GPU, key or download is needed.",
)  # fmt: skip
_KINDS = {int: "INTEGER", float: "NUMBER", str: "TEXT", Path: "PATH"}


def command(
    *kinds: type,
    leave_out: tuple[str, ...] = (),
    example: str = "",
    note: str = "",
    check_out: Callable[[Path], Any] = check_writable,
) -> Callable[[Callable[..., None]], Any]:
    """Register a function as a command with the options of `kinds` beside its own parameters.

    It is called with all of them by keyword, checked. Its positional parameters are its own and take the place of options
    of the same name; what stands behind a `*` is an option of the table. The first line of its docstring is its summary; `note` and `example` stand at the end of
    its help. `check_out` refuses an `out` (default: a folder) before anything heavy is loaded.
    """

    def register(function: Callable[..., None]) -> Callable[..., None]:
        own = [
            p
            for p in inspect.signature(function, eval_str=True).parameters.values()
            if p.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD
        ]
        names = [n for n in names_of(*kinds) if n not in {p.name for p in own} and n not in leave_out]

        @functools.wraps(function)
        def wrapped(**given: Any) -> None:
            chosen = {n: _value(OPTIONS[n], given.pop(n)) for n in names}
            refuse_unused(chosen, function.__name__)
            _refuse_early({**given, **chosen}, check_out)
            before = _state(chosen.get("report"))
            try:
                function(**given, **chosen)
            except KeyboardInterrupt:
                if chosen.get("report") and _state(chosen["report"]) == before:
                    typer.echo(f"no report was written to {chosen['report']}: nothing was judged yet", err=True)
                raise

        made: Any = wrapped
        made.__signature__ = inspect.Signature([*own, *(_parameter(OPTIONS[n]) for n in names)])
        made.__annotations__ = {p.name: p.annotation for p in made.__signature__.parameters.values()}
        made.__doc__ = None
        said = inspect.cleandoc(function.__doc__ or "").replace("[", "\\[")
        more = "".join(f"\n\n{text}" for text in (note, f"Example: {example}" if example else "") if text)
        app.command(
            name=function.__name__.strip("_"), help=said + more.replace("[", "\\["), short_help=said.split("\n")[0]
        )(made)
        return function

    return register


def _state(file: Path | str | None) -> tuple[int, int] | None:
    """What changes when a file is written; None for none."""
    found = Path(file).stat() if file and Path(file).exists() else None
    return found and (found.st_mtime_ns, found.st_ino)


def _parameter(known: Known) -> inspect.Parameter:
    """An option as a keyword parameter that typer understands; its text is read by the table."""
    option = known.option
    shown: dict[str, Any] = {"help": _help(known), "rich_help_panel": known.group}
    default: Any = option.default
    kind: Any
    if known.several:
        kind, default = list[str] | None, None
        shown |= {"metavar": "TEXT", "show_default": False}
    elif known.kind is bool:
        kind = bool
    else:
        kind = known.kind | None if default is None else known.kind
        shown |= {"parser": functools.partial(read_text, known.name), "metavar": _metavar(known)}
        if option.choices:
            shown["autocompletion"] = lambda: list(option.choices)
    return inspect.Parameter(
        known.name, inspect.Parameter.KEYWORD_ONLY, default=default,
        annotation=Annotated[kind, typer.Option(known.flag, **shown)],
    )  # fmt: skip


def _metavar(known: Known) -> str:
    return "|".join(known.option.choices) or _KINDS[known.kind]


def _help(known: Known) -> str:
    option = known.option
    bounds = f" {known.range()[0].upper()}{known.range()[1:]}." if known.range() and not option.choices else ""
    example = f" Example: {known.flag} {option.example}" if option.example else ""
    return (option.help + bounds + example).replace("[", "\\[")


def _value(known: Known, given: Any) -> Any:
    if known.name == "pipe_args":
        return read_pipe_args(given or [])
    return tuple(given or ()) if known.several else given


def _refuse_early(given: dict[str, Any], check_out: Callable[[Path], Any]) -> None:
    """Raise as `source_of`, `check_report` and `check_out` for names that the disk refuses, before anything heavy is loaded."""
    if given.get("model") is not None:
        source_of(given["model"])
    if given.get("report") is not None:
        check_report(Path(given["report"]))
    if given.get("out") is not None:
        check_out(given["out"])


def only(options: dict[str, Any], *kinds: type) -> dict[str, Any]:
    """Those of `options` that belong to `kinds`."""
    return {n: options[n] for n in names_of(*kinds) if n in options}


def write(make: Callable[[], Any], path: Path) -> None:
    """Write a report to a file and say so, apart from the results."""
    from ..report import write_report

    typer.echo(f"report: {write_report(make(), path)}", err=True)


def show_file(path: str) -> None:
    """Open a file with what this machine has for it."""
    if typer.launch(path):
        typer.echo(f"note: nothing on this machine could open {path}", err=True)
