"""What calls from outside may ask for: prompts, numbers of seeds and images, a size; bounded and checked.

Comes in: whatever a client sent. Goes out: plain values, or an `InputError` that names the value and the range.
"""

from __future__ import annotations

import re
from typing import Any

from ..errors import InputError
from ..text import check_text
from ..tokens import clean_prompt

MAX_PROMPTS = 64
MAX_SEEDS = 64
MAX_IMAGES = 10
LEAST_SIDE, MAX_PIXELS = 16, 3840 * 2160
Size = tuple[int, int]  # width and height in pixels


def check_prompt(prompt: Any) -> str:
    """A prompt from outside, cleaned; raises `InputError` when it is empty, too long or no text."""
    check_text(prompt, "prompt")
    return clean_prompt(prompt)


def check_prompts(prompts: Any) -> list[str]:
    """A list of prompts from outside; raises as `check_prompt`, and for none or too many."""
    if not isinstance(prompts, (list, tuple)):
        raise InputError(f"prompts is {prompts!r:.80}; give a list of texts")
    if not 1 <= len(prompts) <= MAX_PROMPTS:
        raise InputError(f"the number of prompts is {len(prompts)}; it must be between 1 and {MAX_PROMPTS}")
    return [check_prompt(p) for p in prompts]


def check_count(seeds: Any) -> int:
    """How many seeds to try, from outside; raises `InputError` when it is no whole number or out of range."""
    if not isinstance(seeds, int) or isinstance(seeds, bool):
        raise InputError(f"seeds is {seeds!r:.80}; it must be a whole number between 1 and {MAX_SEEDS}")
    if not 1 <= seeds <= MAX_SEEDS:
        raise InputError(f"seeds is {seeds}; it must be between 1 and {MAX_SEEDS}")
    return seeds


def check_images(n: Any) -> int:
    """How many images to make, from outside; raises `InputError` when it is no whole number or out of range."""
    if not isinstance(n, int) or isinstance(n, bool) or not 1 <= n <= MAX_IMAGES:
        raise InputError(f"n is {n!r:.80}; it must be a whole number between 1 and {MAX_IMAGES}")
    return n


def check_size(size: Any) -> Size | None:
    """Width and height of a text such as 1024x768, None for auto; raises `InputError` for what is no size."""
    if size is None or size == "auto":
        return None
    found = re.fullmatch(r"([1-9][0-9]{0,4})x([1-9][0-9]{0,4})", size) if isinstance(size, str) else None
    if found is None:
        raise InputError(f"size is {size!r:.80}; give auto, or width and height in pixels such as 1024x768")
    width, height = int(found[1]), int(found[2])
    if min(width, height) < LEAST_SIDE or width * height > MAX_PIXELS:
        raise InputError(
            f"size is {size}; each side must have at least {LEAST_SIDE} pixels, both at most {MAX_PIXELS} together"
        )
    return width, height
