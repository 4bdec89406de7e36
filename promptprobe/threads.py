"""Long calls beside an event loop: in a thread of their own, stopped when their task is cancelled."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import threading
from collections.abc import Callable
from typing import TypeVar

from .errors import PromptProbeError

Result = TypeVar("Result")


async def in_thread(call: Callable[[], Result], cancel: threading.Event) -> Result:
    """The result of a call in a thread of its own; cancelling the task sets `cancel` and waits until the call has stopped.

    No pool stands between: how many threads there are is the caller's to bound, and none waits for another.
    """
    loop = asyncio.get_running_loop()
    done: asyncio.Future[Result] = loop.create_future()
    done.add_done_callback(lambda d: d.cancelled() or d.exception())  # heard of, even when nobody waits any more

    def settle(result: Result | None, error: BaseException | None) -> None:
        if done.done():
            return
        if error is None:
            done.set_result(result)  # type: ignore[arg-type]
        else:
            done.set_exception(error)

    def work() -> None:
        result, error = None, None
        try:
            result = call()
        except BaseException as raised:  # told to the task, which raises it
            error = raised
        with contextlib.suppress(RuntimeError):  # the loop is gone, and with it whoever waited
            loop.call_soon_threadsafe(settle, result, error)

    threading.Thread(target=contextvars.copy_context().run, args=(work,), name="promptprobe-call").start()
    try:
        return await asyncio.shield(done)
    except asyncio.CancelledError:
        cancel.set()
        with contextlib.suppress(PromptProbeError, asyncio.CancelledError):
            await asyncio.shield(done)
        raise
