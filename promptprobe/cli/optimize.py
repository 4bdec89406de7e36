"""`promptprobe optimize`: one prompt, from words to the best image."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from ..options import DEFAULT_MODEL, OutputOptions, PlanOptions
from ..worlds import what_it_draws
from .made import command


@command(
    PlanOptions, OutputOptions, example='promptprobe optimize "two red cars" --rounds 1 --tau q0.6',
    note=f"Without --model, {what_it_draws(DEFAULT_MODEL)}.",
)  # fmt: skip
def optimize(
    prompt: Annotated[str, typer.Argument(help="What the picture should show.")],
    *,
    out: Path,
    as_json: bool,
    **options: Any,
) -> None:
    """Judge a prompt early, rewrite it while it scores below tau, and generate the best one."""
    from ..agents.optimize import optimize as run
    from ..view import LiveView

    with LiveView(quiet=as_json) as view:
        record = run(prompt, out=out, on_event=view.show, **options)
    if as_json:
        typer.echo(json.dumps(record.as_dict(), indent=1, ensure_ascii=False))
    else:
        view.summary(record)
