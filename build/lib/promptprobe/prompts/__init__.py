"""What the LLM is told, as plain text files beside this one."""

from __future__ import annotations

from importlib.resources import files


def read(name: str) -> str:
    """The text of `NAME.txt`."""
    return (files(__name__) / f"{name}.txt").read_text("utf-8")
