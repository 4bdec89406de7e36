"""`promptprobe backbones`: which model families can be read."""

from __future__ import annotations

from typing import Annotated

import typer

from .made import command


@command(example="promptprobe backbones")
def backbones(
    markdown: Annotated[bool, typer.Option("--markdown", help="Print the table of docs/BACKBONES.md.")] = False,
) -> None:
    """List the supported model families: denoiser, probed blocks, where the text lies, tested solvers."""
    from ..backbones import BACKBONES, markdown_table
    from ..printing import print_backbones

    if markdown:
        typer.echo(markdown_table())
    else:
        print_backbones(list(BACKBONES.values()))
