"""The batch on a Ray cluster: one actor with its own pipeline for each GPU (or CPU), chunks of prompts handed out.

A worker that dies is started again and its chunk done anew; a chunk's results arrive together, so none arrives twice.
"""

from __future__ import annotations

import dataclasses
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ..errors import InputError
from .plan import Plan, make_plan

CHUNK = 8  # prompts


def ray_engine(options: dict[str, Any], workers: int | None = None):
    """An engine for `run_batch`: as `run_jobs`, on Ray. `options` are those of `make_plan`, for each worker to load.

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
            ray.init(include_dashboard=False, log_to_driver=False, logging_level="error")
        resources = ray.cluster_resources()
        gpus = int(resources.get("GPU", 0))
        count = workers or gpus or max(1, int(resources.get("CPU", 1)))
        answers = getattr(plan.rewriter, "folder", None)
        worker = ray.remote(_Worker).options(
            num_gpus=1 if gpus else 0, num_cpus=0 if gpus else 1, max_restarts=-1, max_task_retries=-1
        )
        pool = [worker.remote(options, None if answers is None else str(answers), llm_calls) for _ in range(count)]
        chunks = deque(list(prompts[i : i + CHUNK]) for i in range(0, len(prompts), CHUNK))
        running: dict[Any, Any] = {}
        try:
            for actor in pool:
                if chunks and not budget.spent():
                    running[actor.run.remote(chunks.popleft())] = actor
            while running:
                finished, _ = ray.wait(list(running), num_returns=1)
                actor = running.pop(finished[0])
                results, tokens = ray.get(finished[0])
                budget.tokens += tokens
                if chunks and not budget.spent():
                    running[actor.run.remote(chunks.popleft())] = actor
                yield from results
        finally:
            for actor in pool:
                ray.kill(actor)

    return engine


class _Worker:
    """Loads everything once and optimises one chunk of prompts at a time."""

    def __init__(self, options: dict[str, Any], answers: str | None, llm_calls: int):
        from .rewriters import CachedRewriter

        self.plan = make_plan(**options)
        self.llm_calls = llm_calls
        if answers is not None and self.plan.rewriter is not None:
            self.plan = dataclasses.replace(self.plan, rewriter=CachedRewriter(self.plan.rewriter, Path(answers)))

    def run(self, prompts: list[str]) -> tuple[list[tuple[str, dict[str, Any], bytes | None]], int]:
        """Results of a chunk, and the LLM tokens that it took."""
        from .batch import Budget, run_jobs

        budget = Budget()
        return list(run_jobs(self.plan, prompts, budget, self.llm_calls)), budget.tokens
