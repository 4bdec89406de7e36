"""What every server and tool calls: the loop and the search behind a queue, so that a device does one call at a time.

Comes in: plain arguments, checked and bounded. Goes out: plain results and PNG bytes. A call can report progress and
can be cancelled between two denoising steps; a full queue answers `BusyError` at once.
"""

from __future__ import annotations

import contextlib
import dataclasses
import getpass
import os
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from typing_extensions import Unpack

from ..backbones import device_of
from ..errors import InputError, PromptProbeError
from ..events import what_goes_on
from ..files import lock_file
from ..options import DEFAULT_MODEL, PlanOptions, check, check_made, default_of, refuse_beside, refuse_unknown, signed
from ..pnginfo import png_bytes
from ..records import carried
from ..runs import found_seeds, generated, score_as_dict
from ..search import check_budget, settle_search
from ..seeds import seeds_from
from ..sizes import own_size
from ..text import MAX_CHARACTERS
from ..threads import in_thread
from ..thresholds import threshold
from ..tokens import clean_prompt
from .optimize import optimize_with_image
from .plan import Plan, plan_of, settle_plan

WAITING: int = default_of("waiting")
PATIENCE = 600.0  # seconds that a call waits for the device
MAX_PROMPTS = 64
MAX_SEEDS = 64
Progress = Callable[[float, str], None]  # share done 0..1, what is going on


class BusyError(PromptProbeError):
    """The queue is full, or another process keeps the device."""


class CancelledError(PromptProbeError):
    """The caller gave up."""


class Service:
    """One loaded pipeline for all callers.

    `waiting` calls may queue behind the running one. On a device other than the CPU, processes also take turns by a
    lock file; a call that waits longer than `patience` seconds answers `BusyError`. Options that are left out in a call
    are the plan's. Raises `InputError` for options beside a `plan`, and `UnknownOptionError`.
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
        self._lock = threading.Lock()
        self._loading = threading.Lock()
        self._queue = threading.BoundedSemaphore(waiting + 1)

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
    def size(self) -> tuple[int, int]:
        """Width and height of the images that come out, in pixels."""
        settings = self.plan.scorer.settings
        height, width = own_size(self.plan.scorer.pipeline)
        return int(settings.get("width") or width), int(settings.get("height") or height)

    @contextlib.contextmanager
    def turn(self, cancel: threading.Event | None = None) -> Iterator[Plan]:
        """The device for one call; raises `BusyError` when the queue is full, `CancelledError` when given up."""
        if not self._queue.acquire(blocking=False):
            raise BusyError(f"busy: {self.waiting + 1} calls are running or waiting; try again later")
        try:
            until = time.monotonic() + self.patience
            while not self._lock.acquire(timeout=0.1):
                _check(cancel)
                if time.monotonic() > until:
                    raise BusyError(f"busy: waited {self.patience:.0f} s for the device; try again later")
            try:
                plan = self.plan
                with device_turn(str(device_of(plan.scorer.pipeline)), max(0.0, until - time.monotonic()), cancel):
                    yield plan
            finally:
                self._lock.release()
        finally:
            self._queue.release()

    def optimize(
        self,
        prompt: str,
        *,
        seed: int | None = None,
        rounds: int | None = None,
        candidates: int | None = None,
        tau: str | float | None = None,
        progress: Progress | None = None,
        cancel: threading.Event | None = None,
    ) -> tuple[dict[str, Any], bytes]:
        """The loop for one prompt: record and PNG."""
        prompt = check_prompt(prompt)
        with self.turn(cancel) as plan:
            own = _changed(plan, seed=seed, rounds=rounds, candidates=candidates, tau=tau)
            events = _Events(own, progress, cancel)
            record, image = optimize_with_image(prompt, plan=own, on_event=events)
            return record.as_dict(), png_bytes(image, carried(record))

    def score(
        self, prompts: list[str], *, seed: int | None = None, progress: Progress | None = None,
        cancel: threading.Event | None = None,
    ) -> list[dict[str, Any]]:  # fmt: skip
        """Predicted rewards and each word's diagnosis."""
        texts = check_prompts(prompts)
        with self.turn(cancel) as plan:
            seeds = plan.seeds if seed is None else seeds_from(check("seed", seed), len(plan.seeds))

            def step(k: int) -> None:
                _check(cancel)
                if progress:
                    progress(k / plan.scorer.probe_step, f"step {k}")

            return [
                score_as_dict(s, plan.scorer.model) for s in plan.scorer.score(texts, seeds, on_step=step, winners=0)
            ]

    def select_seed(
        self, prompt: str, *, seeds: int | None = None, first_seed: int | None = None, policy: str | None = None,
        budget: float | None = None, top: int = 1, progress: Progress | None = None, cancel: threading.Event | None = None,
    ) -> tuple[dict[str, Any], list[bytes]]:  # fmt: skip
        """The best of several seeds: what each was thought worth, and PNGs of the best.

        `seeds`, `policy` and `budget` are settled as in `search_seeds`.
        """
        prompt = check_prompt(prompt)
        if seeds is not None:
            check_count(seeds)
        check("policy", "auto" if policy is None else policy)
        check("top", top)
        if budget is not None:
            check("budget", budget)
        check_budget(budget, policy or "auto")
        with self.turn(cancel) as plan:

            def event(name: str, values: dict[str, Any]) -> None:
                _check(cancel)
                if progress:
                    progress(values.get("step", 0) / plan.scorer.steps, f"{name} at step {values.get('step', '')}")

            first = plan.seed if first_seed is None else first_seed
            given = None if seeds is None else seeds_from(first, seeds)
            how = settle_search(plan.scorer, given, first, policy or "auto", budget, top, (plan.label, plan.measure))
            if len(how.seeds) > MAX_SEEDS:
                raise InputError(
                    f"{len(how.seeds)} seeds are too many for a call, at most {MAX_SEEDS}; give seeds, or less of budget or top"
                )
            found, pictures = found_seeds(
                plan.scorer, prompt, how.seeds, policy=how.policy, top=top, budget=how.budget, reward=plan.measure,
                judge=how.judge, on_event=event,
            )  # fmt: skip
            return found.as_dict(), pictures

    def generate(
        self, prompt: str, *, seed: int | None = None, progress: Progress | None = None,
        cancel: threading.Event | None = None,
    ) -> tuple[dict[str, Any], bytes]:  # fmt: skip
        """One image of a prompt as it is: record and PNG."""
        prompt = check_prompt(prompt)
        with self.turn(cancel) as plan:

            def step(k: int) -> None:
                _check(cancel)
                if progress:
                    progress(k / plan.scorer.steps, f"step {k}")

            seed = plan.seed if seed is None else check("seed", seed)
            return generated(plan.scorer.pipeline, plan.origin, prompt, seed, step)

    async def run(self, method: str, *args: Any, **options: Any) -> Any:
        """A method in a thread of its own; cancelling the task stops the call before its next denoising step."""
        cancel = threading.Event()
        return await in_thread(lambda: getattr(self, method)(*args, cancel=cancel, **options), cancel)


def check_prompt(prompt: Any) -> str:
    """A prompt from outside, cleaned; raises `InputError` when it is empty, too long or no text."""
    if isinstance(prompt, str) and len(prompt) > MAX_CHARACTERS:
        raise InputError(f"prompt has {len(prompt)} characters; at most {MAX_CHARACTERS} are taken")
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


def _user() -> str:
    return str(os.getuid()) if hasattr(os, "getuid") else getpass.getuser()


@contextlib.contextmanager
def device_turn(device: str, patience: float, cancel: threading.Event | None = None) -> Iterator[None]:
    """While inside, no other process of this user computes on `device`; the CPU is shared.

    Raises `BusyError` after `patience` seconds.
    """
    if device.split(":")[0] == "cpu":
        yield
        return
    name = f"promptprobe-{_user()}-{device.replace(':', '-')}.lock"
    with (Path(tempfile.gettempdir()) / name).open("a") as file:
        until = time.monotonic() + patience
        while True:
            try:
                lock_file(file)
                break
            except OSError as error:
                _check(cancel)
                if time.monotonic() >= until:
                    raise BusyError(f"busy: another process is using {device}; stop it or try again later") from error
                time.sleep(0.1)
        yield


def _check(cancel: threading.Event | None) -> None:
    if cancel is not None and cancel.is_set():
        raise CancelledError("cancelled by the caller")


def _changed(plan: Plan, **own: Any) -> Plan:
    """The plan with one call's own values; what is None stays as it is. Raises as `check`."""
    changes = {name: check(name, value) for name, value in own.items() if value is not None}
    if "seed" in changes:
        changes["seeds"] = seeds_from(changes.pop("seed"), len(plan.seeds))
    if "tau" in changes:
        changes |= {"tau": str(changes["tau"]), "threshold": threshold(changes["tau"], plan.scorer)}
    return dataclasses.replace(plan, **changes)


class _Events:
    """Turns the loop's events into progress, and stops at them when the call was cancelled."""

    def __init__(self, plan: Plan, progress: Progress | None, cancel: threading.Event | None):
        self.progress, self.cancel = progress, cancel
        steps, k = plan.scorer.steps, plan.scorer.probe_step
        self.whole = (1 + plan.rounds) * k + steps - k
        self.done = 0
        self.doing = "loading"

    def __call__(self, event: str, values: dict[str, Any]) -> None:
        _check(self.cancel)
        if event == "step":
            self.done += 1
        self.doing = what_goes_on(event, values) or self.doing
        if self.progress:
            self.progress(min(1.0, self.done / self.whole), self.doing)
