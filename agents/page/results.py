"""Folders of batches for the page: their results as rows, and their images. Only folders that were named at the start."""

from __future__ import annotations

import contextlib
import shlex
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from ...errors import InputError
from ..batch_folder import RESULTS, result_lines
from .pictures import replay_of

MOST_ROWS = 5000
MOST_BYTES = 2**26
_KEPT = ("prompt", "best_prompt", "unchanged", "predicted_reward", "reward", "reward_label", "seed", "rounds", "stop_reason",
         "error")  # fmt: skip


def check_folders(folders: Sequence[Path]) -> list[Path]:
    """Raise `InputError` for a folder without results of a batch."""
    for folder in folders:
        if not (folder / RESULTS).is_file():
            raise InputError(f"{str(folder)!r} has no results.jsonl; name the --out folder of a batch")
    return list(folders)


def read_results(folder: Path, own: str | None = None) -> list[dict[str, Any]]:
    """A row for each whole line: what is known of the prompt, and whether its image is there; `own` is the page's model."""
    try:
        with (folder / RESULTS).open("rb") as file:
            text = file.read(MOST_BYTES).decode("utf-8", "replace")
    except OSError as error:
        raise InputError(f"{folder.name}: results.jsonl is gone or can't be read") from error
    rows: list[dict[str, Any]] = []
    for line in islice(result_lines(text), MOST_ROWS):
        with contextlib.suppress(TypeError, AttributeError):
            row = {k: line.get(k) for k in _KEPT} | {
                "number": len(rows),
                "calls": (line.get("denoiser_calls") or {}).get("used"),
            }
            path = image_of(folder, line.get("image"))
            made_by = (line.get("settings") or {}).get("model"), line.get("loading") or {}
            again = replay_of(path, *made_by, own) if path else ""
            rows.append(
                row
                | {"image": str(line.get("image") or ""), "there": path is not None and path.is_file()}
                | {"replay": again, "show": shlex.join(["promptprobe", "show", str(path)]) if path else ""}
            )
    return rows


def image_of(folder: Path, name: Any) -> Path | None:
    """The path of a result's image, if it is a PNG file inside the folder."""
    if not isinstance(name, str) or not name.endswith(".png") or "\0" in name:
        return None
    path = (folder / name).resolve()
    return path if path.is_relative_to(folder.resolve()) else None
