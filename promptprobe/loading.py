"""What comes before any weights are loaded, pipelines' and reward models' alike: whole files, and quiet libraries."""

from __future__ import annotations

from pathlib import Path

from .errors import ModelError, reason_of


def quiet_transformers() -> None:
    """No progress bars and notices of transformers among our own output."""
    from transformers.utils import logging as transformers_logging

    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()


def check_weight_files(folder: Path) -> None:
    """Raise `ModelError` that names the first safetensors file under `folder` that is truncated or corrupt."""
    from safetensors import safe_open

    for file in sorted(folder.rglob("*.safetensors")):
        try:
            with safe_open(file, "pt") as opened:
                opened.keys()
        except Exception as error:  # safetensors' own class
            raise ModelError(f"{file} is corrupt or truncated ({reason_of(error)}); get it again") from error
