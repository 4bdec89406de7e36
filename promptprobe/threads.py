"""Long calls beside an event loop: in a thread of their own, stopped when their task is cancelled."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from typing import TypeVar

from .errors import PromptProbeError

Result = TypeVar("Result")


async def in_thread(call: Callable[[], Result], cancel: threading.Event) -> Result:
    """The result of a call in a thread of its own; cancelling the task sets `cancel` and waits until the call has stopped."""
    work = asyncio.ensure_future(asyncio.to_thread(call))
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        cancel.set()
        with contextlib.suppress(PromptProbeError):
            await work
        raise
