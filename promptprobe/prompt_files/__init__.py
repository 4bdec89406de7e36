"""Prompt files as people have them, one reader a file: text, tables, JSON; and templates.

Comes in: a file. Goes out: its prompts with ids, columns and settings, and notes of what was taken, changed or left out.
"""

from .reading import read_prompts
from .rows import COLUMNS, MAX_BYTES, MAX_LINE, MAX_PROMPTS, Notes, PromptFile, PromptRow
from .templates import MAX_EXPANDED, expand, expand_rows

__all__ = [
    "COLUMNS",
    "MAX_BYTES",
    "MAX_EXPANDED",
    "MAX_LINE",
    "MAX_PROMPTS",
    "Notes",
    "PromptFile",
    "PromptRow",
    "expand",
    "expand_rows",
    "read_prompts",
]
