"""`promptprobe seeds`: the best seeds of a prompt for a part of the compute."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from ..options import OpenOptions, OutputOptions, ReportOptions, SeedSearchOptions
from ..seeds import seed_list
from ..settling import settle
from ..text import clean_prompt
from .made import command, show_file, write


@command(
    SeedSearchOptions,
    OutputOptions,
    OpenOptions,
    ReportOptions,
    example='promptprobe seeds "two red cars" --seeds 10 --policy racing',
)
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
    open_it: bool,
    report: Path | None,
    **options: Any,
) -> None:
    """Find the best seeds of a prompt without generating all of them."""
    clean_prompt(prompt)  # what is refused is refused before anything is loaded
    settle(SeedSearchOptions, options, "seeds")
    if count is not None:
        seed_list(count, options["seed"])
    from ..view import loading

    with loading(str(options["model"])) as say:
        from ..printing import print_seeds
        from ..runs import search_seeds

        found = search_seeds(prompt, count, out=out, on_event=lambda event, values: say("at work"), **options)
    if report:
        from ..reports import seeds_report

        write(lambda: seeds_report(found, settings=options), report)
    if as_json:
        typer.echo(json.dumps(found.as_dict(), indent=1, ensure_ascii=False))
    else:
        print_seeds(found)
    if open_it and found.winners[0].image_file:
        show_file(found.winners[0].image_file)
