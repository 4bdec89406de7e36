"""`promptprobe show`, `replay` and `reward`: finished images."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from ..errors import InputError
from ..files import check_picture
from ..options import LoadingOptions, OutputOptions, names_of
from .made import command

_ONLY_DEVICE = tuple(name for name in names_of(LoadingOptions) if name != "device")


@command(OutputOptions, leave_out=("out",), example="promptprobe show image.png")
def show(image: Annotated[Path, typer.Argument(help="A PNG that promptprobe made.")], *, as_json: bool) -> None:
    """Print what an image carries: prompts, scores, seed, model, why it stopped."""
    from ..notebook import read_picture
    from ..pnginfo import read_record
    from ..printing import print_record
    from ..sheets import Tile
    from ..terminal import show_pictures
    from ..text import printable

    record = read_record(image)
    if as_json:
        plain = json.dumps(record, indent=1, ensure_ascii=False)
        lines = plain.split("\n")
        typer.echo(plain if all(line == printable(line, len(line)) for line in lines) else json.dumps(record, indent=1))
    else:
        print_record(record)
        show_pictures(Console(), [Tile(read_picture(image))])


@command(check_out=check_picture, example="promptprobe replay image.png --out again.png")
def replay(
    image: Annotated[Path, typer.Argument(help="A PNG that promptprobe made.")],
    out: Annotated[Path, typer.Option(help="The PNG file to write.", rich_help_panel="Output")] = Path("replay.png"),
    model: Annotated[
        str | None, typer.Option(help="Load this model, whatever the record names.", rich_help_panel="Model")
    ] = None,
    trust_record: Annotated[
        bool,
        typer.Option(
            "--trust-record", help="Load the model and adapters that the record names.", rich_help_panel="Model"
        ),
    ] = False,
) -> None:
    """Make the same image again from the record that it carries.

    A record can name any model and adapter: only built-in worlds are loaded without --model or --trust-record.
    """
    from ..pnginfo import read_record

    if os.path.realpath(out) == os.path.realpath(image):
        raise InputError(f"out is {str(out)!r}, the image itself; choose another file")
    read_record(image)
    from ..view import drawing

    with drawing(model or "the model") as on_event:
        from ..replaying import replay as run

        _, difference = run(image, out, model=model, trust_record=trust_record, on_event=on_event)
    same = "identical" if difference == 0 else f"largest difference {difference} of 255"
    typer.echo(f"{out}: {same}")


@command(
    LoadingOptions, OutputOptions, leave_out=(*_ONLY_DEVICE, "out"),
    example='promptprobe reward image.png --prompt "two red cars" --with icons,colourfulness',
)  # fmt: skip
def reward(
    images: Annotated[list[Path], typer.Argument(help="Image files.")],
    prompt: Annotated[list[str], typer.Option(help="What they should show: one for all, or one for each.")],
    rewards: Annotated[
        str, typer.Option("--with", help="Reward names, comma-separated, each with =FOLDER for local weights.")
    ] = "icons",
    *,
    device: str,
    as_json: bool,
) -> None:
    """Measure finished images with reward models."""
    from ..loading import settle_device
    from ..printing import print_rewards
    from ..rewards import load_reward, measure, reward_name
    from ..rewards.images import open_image

    if len(prompt) not in (1, len(images)):
        raise InputError(f"{len(images)} images and {len(prompt)} prompts; give one --prompt, or one for each image")
    prompts = prompt * len(images) if len(prompt) == 1 else prompt
    pictures = [open_image(path) for path in images]
    table, device = {}, settle_device(device)[0]
    for name in rewards.split(","):
        table[reward_name(name)] = measure(load_reward(name, device), pictures, prompts).tolist()
    if as_json:
        rows = [
            {"image": str(path), "prompt": text, "rewards": {name: round(v[i], 6) for name, v in table.items()}}
            for i, (path, text) in enumerate(zip(images, prompts, strict=True))
        ]
        typer.echo(json.dumps(rows, indent=1, ensure_ascii=False))
    else:
        print_rewards([str(p) for p in images], table)
