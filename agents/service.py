"""What every server and tool calls: the loop and the search behind a queue, so that a device does one call at a time.

Comes in: plain arguments, checked and bounded. Goes out: plain results and PNG bytes. A call can report progress and
can be cancelled between two denoising steps; a full queue answers `BusyError` at once. While a call waits for an LLM, the
device is free for others.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from typing_extensions import Unpack

from ..backbones import device_of
from ..errors import InputError
from ..options import DEFAULT_MODEL, PlanOptions, check, check_made, default_of, refuse_beside, refuse_unknown, signed
from ..pnginfo import png_bytes
from ..records import carried
from ..runs import found_seeds, generated, score_as_dict
from ..search import check_budget, settle_search
from ..seeds import seeds_from
from ..sizes import nearest_size
from ..threads import in_thread
from ..worlds import world_of
from .arguments import MAX_SEEDS, Size, check_count, check_images, check_prompt, check_prompts
from .calls import Away, Call, Events
from .optimize import optimize_with_image
from .own_plan import own_plan
from .plan import Plan, plan_of, settle_plan
from .turns import BusyError, CancelledError, Turns

__all__ = ["BusyError", "CancelledError", "Service"]

WAITING: int = default_of("waiting")
PATIENCE = 600.0  # seconds that a call waits for the device


class Service:
    """One loaded pipeline for all callers.

    `waiting` calls may queue behind the running one. On a device other than the CPU, processes also take turns by a
    lock file; a call that waits longer than `patience` seconds answers `BusyError`. Options that are left out in a call
    are the plan's. Every method takes `progress` (told the share that is done, and what goes on) and `cancel`, an event
    that stops the call before its next denoising step. Raises `InputError` for options beside a `plan`, and `UnknownOptionError`.
    """

    @signed(PlanOptions)
    def __init__(
        self,
        plan: Plan | None = None,
        *,
        waiting: int = WAITING,
        patience: float = PATIENCE,
        **options: Unpack[PlanOptions],
    ):
        refuse_unknown(PlanOptions, options, "Service")
        check_made("plan", plan, Plan, "make_plan")
        if plan is not None:
            refuse_beside("plan", options)
        else:
            settle_plan("Service", options)
        self._plan, self._options = plan, options
        self.waiting, self.patience = check("waiting", waiting), patience
        self._loading = threading.Lock()
        self.turns = Turns(self.waiting, lambda: str(device_of(self.plan.scorer.pipeline)))

    @property
    def plan(self) -> Plan:
        """Loaded at the first call."""
        with self._loading:
            if self._plan is None:
                self._plan = plan_of("Service", self._options, shows=False)
            return self._plan

    @property
    def model_name(self) -> str:
        """The model's name without the folder it lies in."""
        return Path(self.model or "own-pipeline").name

    @property
    def model(self) -> str | None:
        """The model's name as it was given; None for a pipeline handed over from Python."""
        return str(self._options.get("model", DEFAULT_MODEL)) if self._plan is None else self._plan.origin.model

    @property
    def asks_llm(self) -> bool:
        """Whether rewriting leaves this machine or at least asks an LLM, as far as that is known before loading."""
        if self._plan is None:
            return self._options.get("rewriter") != "offline"
        return self._plan.rewriter is not None and self._plan.rewriter.calls_llm

    @property
    def known_size(self) -> Size | None:
        """As `size`, without loading anything: None for a model that is not loaded yet."""
        world = world_of(self.model) if self.model else None
        return self.size if self._plan is not None else (world.size, world.size) if world else None

    @property
    def size(self) -> Size:
        """Width and height of the images that come out, in pixels."""
        return self.nearest_size(None)

    def nearest_size(self, wanted: Size | None) -> Size:
        """The width and height at which images are made when `wanted` is asked for."""
        scorer = self.plan.scorer
        return nearest_size(scorer.pipeline, scorer.model, scorer.settings, wanted)

    @contextlib.contextmanager
    def turn(self, cancel: threading.Event | None = None, call: Call | None = None) -> Iterator[Plan]:
        """The device for one call; raises `BusyError` when the queue is full, `CancelledError` when given up."""
        call = call or Call()
        own = call.place is None
        place = call.place = call.place or self.turns.place()
        place.cancel = cancel or call.cancel
        place.until = time.monotonic() + self.patience

        def waits(ahead: int) -> None:
            if call.progress:
                call.progress(0.0, f"in the queue, {ahead} ahead")

        try:
            with self.turns.turn(place, waits):
                yield self.plan
        finally:
            if own:
                place.leave()

    def optimize(
        self, prompt: str, *, seed: int | None = None, rounds: int | None = None, candidates: int | None = None,
        tau: str | float | None = None, size: Size | None = None, negative: str | None = None, judge: str | None = None,
        seeds_per_prompt: int | None = None, **how: Any,
    ) -> tuple[dict[str, Any], bytes]:  # fmt: skip
        """The loop for one prompt: record and PNG."""
        prompt, call = check_prompt(prompt), Call(**how)
        with self.turn(call=call) as plan:
            own = own_plan(plan, seed=seed, rounds=rounds, candidates=candidates, tau=tau, size=size, negative=negative, judge=judge)  # fmt: skip
            if seeds_per_prompt is not None:
                own = dataclasses.replace(own, seeds=seeds_from(own.seed, check("seeds_per_prompt", seeds_per_prompt)))
            if own.rewriter is not None and own.rewriter.calls_llm:
                own = dataclasses.replace(own, rewriter=Away(own.rewriter, call))
            record, image = optimize_with_image(prompt, plan=own, on_event=Events(own, call))
            return record.as_dict(), png_bytes(image, carried(record))

    def score(
        self, prompts: list[str], *, seed: int | None = None, judge: str | None = None, **how: Any
    ) -> list[dict[str, Any]]:
        """Predicted rewards and each word's diagnosis."""
        texts, call = check_prompts(prompts), Call(**how)
        with self.turn(call=call) as plan:
            own = own_plan(plan, seed=seed, judge=judge)
            scorer = own.scorer
            scored = scorer.score(
                texts, own.seeds, on_step=lambda k: call.tell(k / scorer.probe_step, f"step {k}"), winners=0
            )
            return [score_as_dict(s, scorer.model) for s in scored]

    def select_seed(
        self, prompt: str, *, seeds: int | None = None, first_seed: int | None = None, policy: str | None = None,
        budget: float | None = None, top: int = 1, size: Size | None = None, negative: str | None = None,
        judge: str | None = None, **how: Any,
    ) -> tuple[dict[str, Any], list[bytes]]:  # fmt: skip
        """The best of several seeds: what each was thought worth, and PNGs of the best.

        `seeds`, `policy` and `budget` are settled as in `search_seeds`.
        """
        prompt, call = check_prompt(prompt), Call(**how)
        if seeds is not None:
            check_count(seeds)
        check("policy", "auto" if policy is None else policy)
        check("top", top)
        if budget is not None:
            check("budget", budget)
        check_budget(budget, policy or "auto")
        with self.turn(call=call) as plan:
            own = own_plan(plan, size=size, negative=negative, judge=judge)
            scorer = own.scorer

            def event(name: str, values: dict[str, Any]) -> None:
                call.tell(values.get("step", 0) / scorer.steps, f"{name} {values.get('step', '')}".strip())
                call.hear(name, values)

            first = plan.seed if first_seed is None else first_seed
            given = None if seeds is None else seeds_from(first, seeds)
            how_ = settle_search(scorer, given, first, policy or "auto", budget, top, (own.label, own.measure))
            if len(how_.seeds) > MAX_SEEDS:
                raise InputError(
                    f"{len(how_.seeds)} seeds are too many for a call, at most {MAX_SEEDS}; give seeds, or less of budget or top"
                )
            found, pictures = found_seeds(
                scorer, prompt, how_.seeds, policy=how_.policy, top=top, budget=how_.budget, reward=own.measure,
                judge=how_.judge, on_event=event,
            )  # fmt: skip
            return found.as_dict(), pictures

    def generate(
        self, prompt: str, *, seed: int | None = None, size: Size | None = None, negative: str | None = None, **how: Any
    ) -> tuple[dict[str, Any], bytes]:
        """One image of a prompt as it is: record and PNG."""
        records, images = self.generate_several(prompt, 1, seed=seed, size=size, negative=negative, **how)
        return records[0], images[0]

    def generate_several(
        self, prompt: str, n: int, *, seed: int | None = None, size: Size | None = None, negative: str | None = None,
        **how: Any,
    ) -> tuple[list[dict[str, Any]], list[bytes]]:  # fmt: skip
        """`n` images of a prompt as it is, on seeds from `seed` on: records and PNGs."""
        prompt, call = check_prompt(prompt), Call(**how)
        made = []
        with self.turn(call=call) as plan:
            own = own_plan(plan, seed=seed, size=size, negative=negative)
            scorer = own.scorer
            for i, one in enumerate(seeds_from(own.seed, check_images(n))):
                step = lambda k, i=i: call.tell((i + k / scorer.steps) / n, f"image {i + 1} of {n}, step {k}")  # noqa: E731
                made.append(generated(scorer.pipeline, scorer.origin, prompt, one, step))
        return [record for record, _ in made], [image for _, image in made]

    async def run(self, method: str, *args: Any, **options: Any) -> Any:
        """A method in a thread of its own; cancelling the task stops the call before its next denoising step.

        Raises `BusyError` before there is a thread when the queue is full.
        """
        return await self.begin(lambda **how: getattr(self, method)(*args, **options, **how))

    def begin(self, work: Callable[..., Any]) -> asyncio.Task[Any]:
        """As `run`, of any function that takes `cancel` and `place`: the task that waits for it.

        The place is taken here and now; `BusyError` is raised when there is none.
        """
        cancel, place = threading.Event(), self.turns.place()
        begun = False

        def call() -> Any:
            try:
                return work(cancel=cancel, place=place)
            finally:
                place.leave()

        async def waiting() -> Any:
            nonlocal begun
            begun = True
            return await in_thread(call, cancel)

        task = asyncio.ensure_future(waiting())
        task.add_done_callback(lambda _: None if begun else place.leave())  # cancelled before it ran
        return task
