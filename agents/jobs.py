"""Long work as jobs: submitted, looked at, fetched and cancelled by number, beside the calls that wait for an answer.

Comes in: a tool's name and arguments. Goes out: a job's number at once, and its result when somebody asks for it. A job takes
a place in the queue as every call does.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from ..errors import InputError
from .service import Service
from .tools import ToolResult, call_tool, check_call

KEPT = 20  # finished jobs whose results are kept


@dataclass
class Job:
    """A job under way or finished."""

    name: str
    tool: str
    task: asyncio.Task[ToolResult]
    began: float = field(default_factory=time.monotonic)
    share: float = 0.0
    doing: str = "waiting"

    @property
    def state(self) -> str:
        """running, done, failed or cancelled."""
        if not self.task.done():
            return "running"
        return "cancelled" if self.task.cancelled() else "failed" if self.task.exception() else "done"

    def told(self) -> dict[str, Any]:
        """What is known of it, as plain values."""
        error = None if self.state != "failed" else str(self.task.exception())
        return {"job": self.name, "tool": self.tool, "state": self.state, "progress": 1.0 if self.state == "done" else round(self.share, 4),
                "doing": self.doing, "error": error}  # fmt: skip


class Jobs:
    """The jobs of a service; all of them end with the event loop."""

    def __init__(self, service: Service):
        self.service = service
        self._jobs: dict[str, Job] = {}

    def submit(self, tool: str, arguments: Any) -> Job:
        """A job that runs from now on; raises as `call_tool` for its arguments, and `BusyError` when there is no place."""
        check_call(tool, arguments)
        done = [name for name, job in self._jobs.items() if job.task.done()]
        for name in done[: max(0, len(done) - KEPT + 1)]:
            del self._jobs[name]

        def progress(share: float, doing: str) -> None:
            job.share, job.doing = max(job.share, share), doing

        task = self.service.begin(partial(call_tool, self.service, tool, arguments, progress=progress))
        job = Job(secrets.token_hex(4), tool, task)
        self._jobs[job.name] = job
        return job

    def find(self, name: Any) -> Job:
        """A job by its name; raises `InputError` for one that is not known any more."""
        if not isinstance(name, str) or name not in self._jobs:
            raise InputError(f"job is {name!r:.80}; known are {', '.join(self._jobs) or 'none'}")
        return self._jobs[name]

    async def result(self, name: Any) -> ToolResult:
        """What a job gave; raises `InputError` while it runs and when it was cancelled, and what it raised itself."""
        job = self.find(name)
        if job.state == "running":
            raise InputError(f"job {job.name} is running ({job.doing}); ask for its status, or cancel it")
        if job.state == "cancelled":
            raise InputError(f"job {job.name} was cancelled; submit it again")
        return job.task.result()

    async def cancel(self, name: Any) -> Job:
        """Stop a job before its next denoising step; one that is finished stays as it is."""
        job = self.find(name)
        job.task.cancel()
        await asyncio.wait({job.task})
        return job
