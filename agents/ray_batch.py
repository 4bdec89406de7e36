"""The batch on a Ray cluster: one actor with its own pipeline for each GPU (or CPU), chunks of prompts handed out.

A worker that dies is started again and its chunk done anew; a chunk's results arrive together, so none arrives twice.
"""

from __future__ import annotations

import dataclasses
import logging
import time
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import InputError
from ..events import OnStep
from .plan import Plan, cost_of, make_plan
from .rewrites import OnWait, Waiting

if TYPE_CHECKING:
    from .batch import Result

CHUNK = 8  # prompts
LOOK = 1.0  # seconds between looks at what the workers wait for
_SPENT = ("requests", "input_tokens", "output_tokens")


def ray_engine(
    options: dict[str, Any], workers: int | None = None, on_wait: OnWait | None = None, on_step: OnStep | None = None
):
    """An engine for `run_batch`: as `run_jobs`, on Ray. `options` are those of `make_plan`, for each worker to load.

    `on_wait` is told each second in which workers wait for answers of an LLM: the longest wait, and what all have used up;
    `on_step` of each denoising step of any worker, counted over all, about once a second.
    Raises `InputError` when Ray is not installed.
    """
    try:
        import ray
    except ImportError as error:
        raise InputError("--engine ray needs Ray: pip install 'promptprobe[ray]'") from error

    def engine(
        plan: Plan, prompts: Sequence[str], budget: Any, llm_calls: int
    ) -> Iterator[tuple[str, dict[str, Any], bytes | None]]:
        if not prompts:
            return
        if not ray.is_initialized():
            ray.init(include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
        resources = ray.cluster_resources()
        gpus = int(resources.get("GPU", 0))
        count = workers or gpus or max(1, int(resources.get("CPU", 1)))
        answers = getattr(plan.rewriter, "folder", None)
        worker = ray.remote(_Worker).options(
            num_gpus=1 if gpus else 0,
            num_cpus=0 if gpus else 1,
            max_restarts=-1,
            max_task_retries=-1,
            max_concurrency=2,
        )
        pool = [worker.remote(options, None if answers is None else str(answers), llm_calls) for _ in range(count)]
        chunks = deque(list(prompts[i : i + CHUNK]) for i in range(0, len(prompts), CHUNK))
        running: dict[Any, Any] = {}
        looking: dict[Any, Any] = {}  # worker: its answer to `waiting` that is still to come
        spent: Counter[str] = Counter({name: 0 for name in _SPENT})
        steps = _Steps(on_step)
        try:
            for actor in pool:
                if chunks and not budget.spent():
                    running[actor.run.remote(chunks.popleft())] = actor
            while running:
                finished, _ = ray.wait(list(running), num_returns=1, timeout=LOOK if on_wait or on_step else None)
                if not finished:
                    found = _waiting(ray, list(running.values()), looking, steps)
                    if found and on_wait:
                        on_wait(_told(found, plan, spent))
                    continue
                actor = running.pop(finished[0])
                results, tokens, made = ray.get(finished[0])
                steps.of(actor, made)
                budget.tokens += tokens
                for _, record, _ in results:
                    spent.update({name: record.get("llm", {}).get(name) or 0 for name in _SPENT})
                if chunks and not budget.spent():
                    running[actor.run.remote(chunks.popleft())] = actor
                yield from results
        finally:
            for actor in pool:
                ray.kill(actor)

    return engine


class _Steps:
    """Tells `on_step` of the steps of all workers, whose own counts begin anew where one is started again."""

    def __init__(self, on_step: OnStep | None):
        self.on_step, self.total, self.seen = on_step, 0, dict[Any, int]()

    def of(self, actor: Any, made: int) -> None:
        """A worker has made so many steps since it was started."""
        before, self.seen[actor] = self.seen.get(actor, 0), made
        for _ in range(made - before if made >= before else made):
            self.total += 1
            if self.on_step:
                self.on_step(self.total)


def _waiting(ray: Any, actors: Sequence[Any], looking: dict[Any, Any], steps: _Steps) -> list[Waiting]:
    """What workers wait for. One that loads or was just started again doesn't answer, and isn't waited for."""
    for actor in actors:
        if actor not in looking:
            looking[actor] = actor.look.remote()
    ready, _ = ray.wait([looking[a] for a in actors], num_returns=len(actors), timeout=0.2)
    found = []
    for actor in [a for a in actors if looking[a] in ready]:
        try:
            made, waiting = ray.get(looking.pop(actor))
            steps.of(actor, made)
            found.append(waiting)
        except ray.exceptions.RayError:
            continue  # it died; its chunk is done anew
    return [f for f in found if f is not None]


def _told(found: list[Waiting], plan: Plan, before: Counter[str]) -> Waiting:
    """One line for all workers; `before` is what finished chunks took."""
    spent = {name: before[name] + sum(getattr(f, name) for f in found) for name in _SPENT}
    what = found[0].what if len(found) == 1 else f"{len(found)} workers are waiting for {plan.rewriter_name}"
    return Waiting(what, max(f.seconds for f in found), **spent, cost=cost_of(plan.prices, spent))


class _Worker:
    """Loads everything once and optimises one chunk of prompts at a time; meanwhile it can be asked what it waits for."""

    def __init__(self, options: dict[str, Any], answers: str | None, llm_calls: int):
        from .rewriters import CachedRewriter

        self.plan = make_plan(**options)
        self.llm_calls = llm_calls
        self.heard: tuple[float, Waiting] | None = None
        self.steps = 0
        if answers is not None and self.plan.rewriter is not None:
            self.plan = dataclasses.replace(self.plan, rewriter=CachedRewriter(self.plan.rewriter, Path(answers)))

    def run(self, prompts: list[str]) -> tuple[list[Result], int, int]:
        """Results of a chunk, the LLM tokens that it took, and the steps that this worker has made so far."""
        from .batch import Budget, run_jobs

        budget = Budget()
        done = run_jobs(self.plan, prompts, budget, self.llm_calls, on_wait=self._hear, on_step=self._step)
        results = list(done)
        self.heard = None
        return results, budget.tokens, self.steps

    def _step(self, step: int) -> None:
        self.steps += 1

    def _hear(self, waiting: Waiting) -> None:
        self.heard = time.monotonic(), waiting

    def look(self) -> tuple[int, Waiting | None]:
        """Steps so far, and what was last told of waiting, unless it is over."""
        heard = self.heard
        return self.steps, heard[1] if heard and time.monotonic() - heard[0] < 2 * LOOK + 1 else None
