"""What a name on the command line must be on the disk, looked at before PyTorch is loaded: a model, a data set, results."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from .errors import InputError, ModelError
from .loading import check_weight_files
from .single_file import is_checkpoint
from .worlds import WORLDS, world_of

SETTINGS_FILE = "dataset.json"  # of a data set: how its images were made
RESULTS = "results.jsonl"  # of a batch: a line a prompt


def check_data_sets(folders: Iterable[Path]) -> None:
    """Raise `InputError` for the first folder that is no data set."""
    for folder in folders:
        if not (folder / SETTINGS_FILE).is_file():
            raise InputError(
                f"{str(folder)!r} is no data set: it has no {SETTINGS_FILE}; `promptprobe collect` makes one"
            )


def check_results(folders: Iterable[Path]) -> list[Path]:
    """Raise `InputError` for a folder without results of a batch."""
    for folder in (found := list(folders)):
        if not (folder / RESULTS).is_file():
            raise InputError(f"{str(folder)!r} has no {RESULTS}; name the --out folder of a batch")
    return found


def source_of(model: str | Path) -> str:
    """Folder, checkpoint file or hub name of a model; raises `ModelError` for what can be none of these."""
    world = world_of(model)
    source = str(world.pipeline if world else model)
    local = Path(source)
    if is_checkpoint(source):
        check_weight_files(local)
    elif local.exists():
        _check_folder(local)
    elif source.startswith((".", "/", "~")) or source.count("/") != 1:
        own = " or ".join(repr(w.name) for w in WORLDS)
        raise ModelError(f"--model {source!r} is no folder; give a diffusers pipeline folder, a .safetensors checkpoint, a hub name like "
                         f"'stabilityai/stable-diffusion-xl-base-1.0', or {own}")  # fmt: skip
    return source


def _check_folder(folder: Path) -> None:
    index = folder / "model_index.json"
    if not index.is_file():
        raise ModelError(f"{str(folder)!r} is no diffusers pipeline: it has no model_index.json")
    try:
        json.loads(index.read_text("utf-8"))
    except ValueError as error:
        raise ModelError(f"{index} is not valid JSON: {error}") from error
    check_weight_files(folder)
