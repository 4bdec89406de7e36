"""The loop as a graph for LangGraph's server and Studio: `langgraph.json` names `graph` here.

The options of the loop come from the environment variable `PROMPTPROBE_OPTIONS`, JSON such as `{"model": "FOLDER", "rounds": 2}`;
without it the built-in world is used.
"""

from __future__ import annotations

import asyncio
import json
import os
from functools import cache
from typing import Any

from ..errors import InputError
from .loop import subgraph

VARIABLE = "PROMPTPROBE_OPTIONS"


async def graph() -> Any:
    """The compiled subgraph; the model is loaded once, beside the server's event loop.

    Raises `InputError` for options that are no JSON object or unknown.
    """
    return await asyncio.to_thread(_graph)


@cache
def _graph() -> Any:
    text = os.environ.get(VARIABLE) or "{}"
    try:
        options = json.loads(text)
        if not isinstance(options, dict):
            raise ValueError("it is no object")
    except (ValueError, RecursionError) as error:
        raise InputError(f'{VARIABLE} is no JSON object ({error}); give for example {{"rounds": 2}}') from error
    return subgraph(**options)
