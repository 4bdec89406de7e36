"""One call of a server on its way: who is told of it, how it is given up, and when it leaves the device to others."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ..events import what_goes_on
from .plan import Plan
from .turns import Place, check_cancelled

Progress = Callable[[float, str], None]  # share done 0..1, what is going on
OnTrajectory = Callable[[str, Any, int], None]  # the event, a paused batch, and the row that is the best so far


@dataclass
class Call:
    """One call on its way: its place in the queue, and who is told of what it does.

    `place` is taken where none is given; `on_trajectory` hears of the best trajectory at every stage.
    """

    progress: Progress | None = None
    cancel: threading.Event | None = None
    place: Place | None = None
    on_trajectory: OnTrajectory | None = None

    def tell(self, share: float, doing: str) -> None:
        """Report progress; raises `CancelledError` when the call was given up."""
        assert self.place is not None
        self.place.check()
        if self.progress:
            self.progress(min(1.0, share), doing)

    def hear(self, event: str, values: dict[str, Any]) -> None:
        """Tell of the trajectory in an event's values, if there is one."""
        if self.on_trajectory and values.get("trajectory"):
            self.on_trajectory(event, *values["trajectory"])


class Away:
    """A rewriter that leaves the device to others while its LLM is asked; everything else is the rewriter's own."""

    def __init__(self, rewriter: Any, call: Call):
        self._rewriter, self._call = rewriter, call

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._rewriter, name)
        if name not in ("rewrite", "ask") or not callable(value):
            return value

        def asked(*args: Any, **given: Any) -> Any:
            place = self._call.place
            assert place is not None
            with place.turns.away(place):
                return value(*args, **given)

        return asked


class Events:
    """Turns the loop's events into progress, and stops at them when the call was cancelled."""

    def __init__(self, plan: Plan, call: Call):
        self.call = call
        steps, k = plan.scorer.steps, plan.scorer.probe_step
        self.whole = (1 + plan.rounds) * k + steps - k
        self.done = 0
        self.doing = "loading"

    def __call__(self, event: str, values: dict[str, Any]) -> None:
        if event == "step":
            self.done += 1
        self.doing = what_goes_on(event, values) or self.doing
        share = self.done / self.whole
        if event == "waiting":  # the device is another's meanwhile
            check_cancelled(self.call.cancel)
            if self.call.progress:
                self.call.progress(min(1.0, share), self.doing)
            return
        self.call.tell(share, self.doing)
        self.call.hear(event, values)
