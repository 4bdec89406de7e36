"""Curves for others to look at: trackio or wandb, through accelerate, when they are installed and asked for."""

from __future__ import annotations

import contextlib
import importlib.util
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from ..errors import InputError


@contextlib.contextmanager
def tracking(
    tracker: str, settings: Mapping[str, Any], process: int
) -> Iterator[Callable[[Mapping[str, Any], int], None]]:
    """While inside, what takes a row of figures and the iteration's number; nothing happens with `none`.

    Raises `InputError` when the tracker's package is not installed.
    """
    if tracker == "none" or process:
        yield lambda row, iteration: None
        return
    if importlib.util.find_spec(tracker) is None:
        raise InputError(f"--tracker {tracker} needs the package {tracker}: pip install {tracker}")
    from accelerate.tracking import LOGGER_TYPE_TO_CLASS

    made = LOGGER_TYPE_TO_CLASS[tracker]("promptprobe-grpo")
    if hasattr(made, "start"):
        made.start()
    made.store_init_configuration({k: v for k, v in settings.items() if isinstance(v, (int, float, str, bool))})
    try:
        yield lambda row, iteration: made.log(dict(row), step=iteration)
    finally:
        made.finish()
