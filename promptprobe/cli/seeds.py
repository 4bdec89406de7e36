"""`promptprobe seeds`: the best seeds of a prompt for a part of the compute."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from ..options import OutputOptions, SeedSearchOptions
from .made import command


@command(SeedSearchOptions, OutputOptions, example='promptprobe seeds "two red cars" --seeds 10 --policy racing')
def seeds(
    prompt: Annotated[str, typer.Argument(help="What the picture should show.")],
    count: Annotated[
        str | None,
        typer.Option(
            "--seeds",
            help="How many seeds from --seed on (default: 10, or by --budget), or a list such as 3,7,9.",
            rich_help_panel="Search",
        ),
    ] = None,
    *,
    out: Path,
    as_json: bool,
    **options: Any,
) -> None:
    """Find the best seeds of a prompt without generating all of them."""
    from ..printing import print_seeds
    from ..runs import search_seeds

    found = search_seeds(prompt, count, out=out, **options)
    if as_json:
        typer.echo(json.dumps(found.as_dict(), indent=1, ensure_ascii=False))
    else:
        print_seeds(found)
