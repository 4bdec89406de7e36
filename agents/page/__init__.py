"""The page: prompts, wordings and seeds as pictures in a browser, over the sessions that the terminal has, too.

Comes in: a `Service` and where sessions lie. Goes out: `Page`, whose `routes` a Starlette application serves.
"""

from __future__ import annotations

from .page import Page

__all__ = ["Page"]
