"""Folders of batches for the page: their results as rows, and their images. Only folders that were named at the start."""

from __future__ import annotations

import shlex
from itertools import islice
from pathlib import Path
from typing import Any

from ...errors import InputError
from ...sources import RESULTS
from ..batch_folder import result_lines
from .pictures import replay_of

MOST_ROWS = 5000
MOST_BYTES = 2**26
_TEXTS = ("prompt", "best_prompt", "reward_label", "stop_reason", "error")
_NUMBERS = ("predicted_reward", "reward", "seed", "rounds")


def read_results(folder: Path, own: str | None = None) -> list[dict[str, Any]]:
    """A row for each whole line: what is known of the prompt, and whether its image is there; `own` is the page's model."""
    try:
        with (folder / RESULTS).open("rb") as file:
            text = file.read(MOST_BYTES).decode("utf-8", "replace")
    except OSError as error:
        raise InputError(f"{folder.name}: results.jsonl is gone or can't be read") from error
    rows: list[dict[str, Any]] = []
    for line in islice(result_lines(text), MOST_ROWS):
        kept = {n: v if isinstance(v := line.get(n), str) else None for n in _TEXTS} | {
            n: _number(line.get(n)) for n in _NUMBERS
        }
        settings, loading, calls = (
            v if isinstance(v := line.get(n), dict) else {} for n in ("settings", "loading", "denoiser_calls")
        )
        image, model = line.get("image"), settings.get("model")
        path = image_of(folder, image)
        again = replay_of(path, model if isinstance(model, str) else None, loading, own) if path else ""
        rows.append(
            kept
            | {"number": len(rows), "calls": _number(calls.get("used")), "unchanged": _truth(line.get("unchanged"))}
            | {"image": image if path else "", "there": path is not None and path.is_file()}
            | {"replay": again, "show": shlex.join(["promptprobe", "show", str(path)]) if path else ""}
        )
    return rows


def _number(value: Any) -> float | None:
    known = isinstance(value, (int, float)) and not isinstance(value, bool)
    return value if known and abs(value) < float("inf") else None  # nan is not below, either


def _truth(value: Any) -> bool | None:
    return value if isinstance(value, bool) else None


def image_of(folder: Path, name: Any) -> Path | None:
    """The path of a result's image, if it is a PNG file inside the folder."""
    if not isinstance(name, str) or not name.endswith(".png") or "\0" in name:
        return None
    path = (folder / name).resolve()
    return path if path.is_relative_to(folder.resolve()) else None
