"""`promptprobe grpo`: train a LoRA adapter on a reward by Flow-GRPO, with a judge as filter."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Annotated, Any

import typer

from ..options import GrpoRunOptions, OutputOptions
from .made import command


@command(
    GrpoRunOptions, OutputOptions, leave_out=("judge", "probe_step", "out"),
    example="promptprobe grpo --prompts prompts.txt --out runs/grpo --filter preview --filter-step 3",
    note="Resumable: the same command goes on. Under `accelerate launch -m promptprobe grpo ...` processes share the groups.",
)  # fmt: skip
def grpo(
    model: Annotated[
        str,
        typer.Argument(help="A built-in world, or a flow-matching pipeline: folder, .safetensors file or hub name."),
    ] = "icons",
    prompts: Annotated[
        Path,
        typer.Option(help="Prompts to learn from: .txt, .csv, .jsonl or COCO captions .json.", rich_help_panel="Data"),
    ] = Path("prompts.txt"),
    held_out: Annotated[
        Path | None,
        typer.Option(help="Prompts to be watched; default: the last of --prompts, left out.", rich_help_panel="Data"),
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder of the run.", rich_help_panel="Output")] = Path("runs/grpo"),
    *,
    as_json: bool,
    **options: Any,
) -> None:
    """Train a LoRA adapter on a reward by Flow-GRPO; a judge gives up what teaches little, half-way."""
    from ..prompt_files import read_prompts

    found = [read_prompts(path) if path else None for path in (prompts, held_out)]
    for file in found:
        for note in file.notes if file else ():
            typer.echo(f"note: {note}", err=True)
    from ..view import counter, loading

    with loading(model):
        from ..grpo import train
        from ..printing import print_trained

    with counter("iterations") as on_progress:
        trained = train(
            found[0].prompts if found[0] else [], out, held_out=found[1].prompts if found[1] else (), model=model,
            on_progress=on_progress, on_note=lambda text: typer.echo(f"note: {text}", err=True), **options,
        )  # fmt: skip
    if os.environ.get("RANK", "0") != "0":  # of several processes the first speaks
        return
    if as_json:
        typer.echo(
            json.dumps({"folder": str(trained.folder), "last": trained.row, "held_out": trained.watched}, indent=1)
        )
    else:
        print_trained(trained.folder, trained.row, trained.watched)
