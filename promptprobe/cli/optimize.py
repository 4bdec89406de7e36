"""`promptprobe optimize`: one prompt, from words to the best image."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from ..options import DEFAULT_MODEL, OpenOptions, OutputOptions, PlanOptions, ReportOptions
from ..settling import settle
from ..text import clean_prompt
from ..worlds import what_it_draws
from .made import command, show_file, write


@command(
    PlanOptions, OutputOptions, OpenOptions, ReportOptions, example='promptprobe optimize "two red cars" --rounds 1 --tau q0.6',
    note=f"Without --model, {what_it_draws(DEFAULT_MODEL)}.",
)  # fmt: skip
def optimize(
    prompt: Annotated[str, typer.Argument(help="What the picture should show.")],
    *,
    out: Path,
    as_json: bool,
    open_it: bool,
    report: Path | None,
    **options: Any,
) -> None:
    """Judge a prompt early, rewrite it while it scores below tau, and generate the best one."""
    clean_prompt(prompt)  # what is refused is refused before anything is loaded
    settle(PlanOptions, options, "optimize")
    from ..view import LiveView

    with LiveView(quiet=as_json) as view:
        from ..agents.optimize import optimize as run
        from ..reports import runs_report

        try:
            record = run(prompt, out=out, on_event=view.show, **options)
        except KeyboardInterrupt:
            if report and (unfinished := view.unfinished):
                write(lambda: runs_report([unfinished], unfinished="Interrupted: no picture was finished."), report)
            raise
    if report:
        write(lambda: runs_report([record]), report)
    if as_json:
        typer.echo(json.dumps(record.as_dict(), indent=1, ensure_ascii=False))
    else:
        view.summary(record)
    if open_it and record.image_file:
        show_file(record.image_file)
