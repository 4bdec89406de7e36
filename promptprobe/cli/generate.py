"""`promptprobe generate`: one image of a prompt as it is."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from ..files import check_picture
from ..options import GenerateOptions
from ..text import clean_prompt
from .made import command


@command(
    GenerateOptions, check_out=check_picture, example='promptprobe generate "two red cars" --seed 7 --out cars.png'
)
def generate(
    prompt: Annotated[str, typer.Argument(help="What the picture should show.")],
    out: Annotated[Path, typer.Option(help="The PNG file to write.", rich_help_panel="Output")] = Path("image.png"),
    **options: Any,
) -> None:
    """Generate one image of a prompt as it is."""
    clean_prompt(prompt)  # what is refused is refused before anything is loaded
    from ..view import drawing

    with drawing(str(options["model"])) as on_event:
        from ..runs import generate as run

        run(prompt, out=out, on_event=on_event, **options)
    typer.echo(str(out))
