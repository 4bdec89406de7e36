"""Seeds of a prompt: a number counted from the first, or a list. Goes out: whole numbers that a generator takes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .errors import InputError
from .options import MOST_SEEDS, check


def seeds_from(seed: int, count: int) -> list[int]:
    """`count` seeds beginning at `seed`.

    Raises `InputError` for less than one, more than `MOST_SEEDS`, or a seed that a generator can't take.
    """
    if not 1 <= count <= MOST_SEEDS:
        raise InputError(f"the number of seeds is {count}; it must be between 1 and {MOST_SEEDS}")
    if check("seed", seed) > 2**63 - count:
        raise InputError(f"seed is {seed}; it must be between 0 and 2^63 - {count}")
    return list(range(seed, seed + count))


def seed_list(seeds: int | str | Sequence[int], first: int) -> list[int]:
    """Seeds given as a number (counted from `first`), as text such as `10` or `3,7,9`, or as a list.

    Raises `InputError` for text that is neither, and as `seeds_from`.
    """
    if isinstance(seeds, str):
        try:
            numbers = [int(x) for x in seeds.split(",")]
        except ValueError as error:
            raise InputError(f"seeds is {seeds!r}; give a number, or a list such as 3,7,9") from error
        seeds = numbers if "," in seeds else numbers[0]
    if isinstance(seeds, int) and not isinstance(seeds, bool):
        if seeds < 1:
            raise InputError(f"seeds is {seeds}; it must be at least 1")
        return seeds_from(first, seeds)
    return checked_seeds(seeds)


def checked_seeds(seeds: Any) -> list[int]:
    """Seeds as a list; raises `InputError` for anything else than whole numbers that a generator takes."""
    if isinstance(seeds, (str, bytes)) or not hasattr(seeds, "__iter__"):
        raise InputError(f"seeds is {seeds!r:.80}; give a number, or a list such as 3,7,9")
    return [check("seed", s.__index__() if hasattr(s, "__index__") and not isinstance(s, bool) else s) for s in seeds]
