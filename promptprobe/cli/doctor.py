"""`promptprobe doctor`: what is at hand on this machine, and what is missing."""

from __future__ import annotations

import json
from dataclasses import asdict

import typer

from ..options import OutputOptions
from .made import command


@command(OutputOptions, leave_out=("out",), example="promptprobe doctor")
def doctor(*, as_json: bool) -> None:
    """Look at versions, device, memory, models, rewards and keys; say what is missing and how to get it.

    Exit code 1 when something that every run needs is wrong.
    """
    from ..agents.doctor import WRONG, examine
    from ..printing import print_findings

    found = list(examine())
    if as_json:
        typer.echo(json.dumps([asdict(f) for f in found], indent=1))
    else:
        print_findings(found)
    if any(f.state == WRONG for f in found):
        raise typer.Exit(1)
