"""Optimise a file of prompts: probing batched across prompts, LLM calls beside it, one line a prompt, nothing lost.

Comes in: a plan and prompts. Goes out, in one folder: `results.jsonl` (a line when a prompt is finished), `images/`,
and at the end `results.csv` and `grid.png`. A prompt is known by a hash of itself, the settings and the probe, so a
stopped run goes on where it was, and only what is missing or failed is done again.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import PromptProbeError, reason_of
from ..pnginfo import png_bytes
from ..records import carried
from ..scoring import Scored
from ..trajectory import finish
from . import rounds
from .batch_folder import ANSWERS, IMAGES, BatchFolder, summary_of
from .optimize import record_of
from .plan import Plan
from .rewriters import CachedRewriter
from .rewrites import RewriteAnswer

LLM_CALLS = 8  # at once
# Input and output of one rewriting request, assumed: 700 to 1,300 and 250 for prompts of 44 to 139 letters, at four letters a
# token, with four rewrites.
TOKENS_A_REQUEST = (1300, 250)


@dataclass
class Job:
    """One prompt on its way through the loop."""

    key: str
    state: rounds.State
    context: rounds.Context
    began: float

    @property
    def prompt(self) -> str:
        return self.state["prompt"]


@dataclass
class Budget:
    """What a batch may spend: LLM tokens (input and output) and minutes; None is without limit."""

    max_llm_tokens: int | None = None
    max_minutes: float | None = None
    began: float = field(default_factory=time.monotonic)
    tokens: int = 0

    def spent(self) -> str:
        """Which limit is reached, or an empty string."""
        if self.max_llm_tokens is not None and self.tokens >= self.max_llm_tokens:
            return f"LLM budget of {self.max_llm_tokens} tokens used up"
        if self.max_minutes is not None and time.monotonic() - self.began >= 60 * self.max_minutes:
            return f"time budget of {self.max_minutes} minutes used up"
        return ""


def item_key(prompt: str, settings: dict[str, Any]) -> str:
    """What a prompt's result is known by: a hash of the prompt and everything that changes the result."""
    text = json.dumps([prompt, settings], sort_keys=True, ensure_ascii=False, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:24]


def batch_settings(plan: Plan) -> dict[str, Any]:
    """What must be equal for results to lie in one folder."""
    rewriter = getattr(plan.rewriter, "name", "none")
    judge = plan.scorer.judge
    return plan.settings | {"rewriter": rewriter, "reward": plan.label, judge.name: judge.digest}


def run_jobs(
    plan: Plan, prompts: Sequence[str], budget: Budget | None = None, llm_calls: int = LLM_CALLS
) -> Iterator[tuple[str, dict[str, Any], bytes | None]]:
    """Optimise prompts together; gives (prompt, result line, PNG bytes) of each when it is finished.

    The denoiser works on whatever is ready, from any prompt, while up to `llm_calls` rewriting requests are under way.
    A prompt that fails gives a line with `error` and no image.
    """
    budget = budget or Budget()
    settings = batch_settings(plan)
    todo = deque(prompts)
    ready: deque[Job] = deque()  # wait to be probed
    asking: dict[Future, Job] = {}
    done: list[Job] = []  # wait to be finished
    room = max(1, plan.scorer.batch_size // len(plan.seeds))
    pool = ThreadPoolExecutor(llm_calls, thread_name_prefix="rewrite")
    try:
        while todo or ready or asking or done:
            while todo and len(ready) < room and len(asking) < 4 * llm_calls and not budget.spent():
                ready.append(_job(plan, todo.popleft(), settings))
            if todo and budget.spent():
                todo.clear()
            batch = _take(ready, room)
            if batch:
                yield from _probe(plan, batch, budget, pool, asking, done)
            while len(done) >= room or (done and not ready and not todo):
                part, done[:] = done[:room], done[room:]
                yield from _finish(plan, part)
            if asking and not ready and not (todo and len(asking) < 4 * llm_calls and not budget.spent()):
                wait(asking, return_when=FIRST_COMPLETED)
            for future in [f for f in asking if f.done()]:
                job = asking.pop(future)
                try:
                    answer = future.result()
                except Exception as error:  # a rewriter of the user's own may raise anything
                    answer = RewriteAnswer([], notes=[f"the rewriter failed: {reason_of(error)}"])
                budget.tokens += answer.input_tokens + answer.output_tokens
                _update(job, rounds.take_answer(job.state, job.context, answer))
                ready.append(job)
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _job(plan: Plan, prompt: str, settings: dict[str, Any]) -> Job:
    context = rounds.Context(plan.scorer, plan.rewriter, plan.max_llm_calls, plan.max_seconds)
    state = rounds.first_state(prompt, plan.seeds, tau=plan.threshold, rounds=plan.rounds, count=plan.candidates)
    return Job(item_key(prompt, settings), state, context, time.perf_counter())


def _take(ready: deque[Job], room: int) -> list[Job]:
    """Jobs whose waiting prompts fill one batch, at least one job."""
    batch: list[Job] = []
    count = 0
    while ready and (not batch or count + len(rounds.to_probe(ready[0].state)) <= room):
        job = ready.popleft()
        count += len(rounds.to_probe(job.state))
        batch.append(job)
    return batch


def _update(job: Job, values: dict[str, Any]) -> None:
    """Apply a node's result, as the graph does: candidates and notes grow, the rest is replaced."""
    state: Any = job.state
    for key, value in values.items():
        state[key] = [*state[key], *value] if key in ("candidates", "notes") else value


def _probe(plan: Plan, batch: list[Job], budget: Budget, pool, asking: dict[Future, Job], done: list[Job]):
    """Score the waiting prompts of all jobs together; each job then is done, or asks for rewrites."""
    failed: dict[int, str] = {}
    scored: list[Scored] = []
    prompts = [p for job in batch for p in rounds.to_probe(job.state)]
    groups = [i for i, job in enumerate(batch) for _ in rounds.to_probe(job.state)]
    try:
        if prompts:
            scored = plan.scorer.score(prompts, plan.seeds, groups=groups, winners=len(batch))
    except PromptProbeError:
        # One of them can't be probed: find out which, one by one.
        for job in batch:
            try:
                own = rounds.to_probe(job.state)
                scored += plan.scorer.score(own, plan.seeds, winners=1) if own else []
            except PromptProbeError as error:
                failed[id(job)] = str(error)
    place = 0
    for job in batch:
        if id(job) in failed:
            yield job.prompt, _failed(job, failed[id(job)]), None
            continue
        count = len(rounds.to_probe(job.state))
        _update(job, rounds.take_scores(job.state, job.context, scored[place : place + count]))
        place += count
        if not job.state["stop_reason"] and budget.spent():
            job.state["stop_reason"] = budget.spent()
        if job.state["stop_reason"]:
            done.append(job)
        else:
            asking[pool.submit(plan.rewriter.rewrite, rounds.request_of(job.state, job.context))] = job


def _finish(plan: Plan, jobs: list[Job]):
    """Denoise the winners to the end, those that are paused together in one batch, and make their lines."""
    groups: dict[int, list[tuple[Job, Any, int]]] = {}
    for job in jobs:
        winner = job.context.scored[job.state["best"]]
        paused, row = winner.trajectories[winner.best]
        groups.setdefault(id(paused), []).append((job, paused, row))
    for group in groups.values():
        try:
            images: Any = finish(plan.scorer.pipeline, group[0][1], [row for _, _, row in group])
        except PromptProbeError as error:
            for job, _, _ in group:
                yield job.prompt, _failed(job, str(error)), None
            continue
        for (job, _, _), image in zip(group, images, strict=True):
            job.context.image = image
            times = {"loop": time.perf_counter() - job.began}
            try:
                record = record_of(plan, job.context, job.state, finished=True, times=times, seconds_per_call=0.0)
            except PromptProbeError as error:
                yield job.prompt, _failed(job, str(error)), None
                continue
            record.image = f"{IMAGES}/{job.key}.png"
            line = {"key": job.key} | record.as_dict()
            yield job.prompt, line, png_bytes(image, carried(record))


def _failed(job: Job, reason: str) -> dict[str, Any]:
    return {"key": job.key, "prompt": job.prompt, "error": " ".join(reason.split())}


def run_batch(
    plan: Plan,
    prompts: Sequence[str],
    out: Path,
    *,
    budget: Budget | None = None,
    llm_calls: int = LLM_CALLS,
    engine: Callable[..., Iterator[tuple[str, dict[str, Any], bytes | None]]] = run_jobs,
    on_progress: Callable[[int, int, dict[str, Any] | None], None] | None = None,
) -> dict[str, Any]:
    """Optimise `prompts` into the folder `out`, going on where an earlier run stopped; return a summary.

    Raises `InputError` for a folder that can't be used. Ctrl-C keeps everything that was finished.
    """
    settings = batch_settings(plan)
    folder = BatchFolder(out, settings)
    budget = budget or Budget()
    try:
        keys = [item_key(p, settings) for p in prompts]
        todo = [p for p, k in zip(prompts, keys, strict=True) if k not in folder.lines]
        before = len(prompts) - len(todo)
        if plan.rewriter is not None and plan.rewriter.calls_llm:
            plan = dataclasses.replace(plan, rewriter=CachedRewriter(plan.rewriter, out / ANSWERS))
        done = before
        failed = 0
        if on_progress:
            on_progress(done, len(prompts), None)
        try:
            for _, line, image in engine(plan, todo, budget, llm_calls):
                folder.add(line, image)
                done += 1
                failed += "error" in line
                if on_progress:
                    on_progress(done, len(prompts), line)
        finally:
            folder.summarise(keys)
        return summary_of([folder.lines[k] for k in keys if k in folder.lines]) | {
            "prompts": len(prompts), "before": before, "failed": failed, "left": len(prompts) - done,
            "stopped": budget.spent() if done < len(prompts) else "",
        }  # fmt: skip
    finally:
        folder.close()


def estimate(plan: Plan, count: int) -> dict[str, Any]:
    """What a batch of `count` prompts may take, from least to most: calls, and time by timing two prompts' probing.

    Tokens and cost count `TOKENS_A_REQUEST`, which longer prompts exceed.
    """
    seeds, steps, k = len(plan.seeds), plan.scorer.steps, plan.scorer.probe_step
    rounds = plan.rounds if plan.rewriter is not None else 0
    most = (1 + rounds * plan.candidates) * seeds * k + (steps - k)
    least = seeds * k + (steps - k)
    pair = ["a picture of one thing", "a picture of two things"]
    plan.scorer.score(pair, plan.seeds)  # warm up
    calls, spent = plan.scorer.denoiser_calls, plan.scorer.denoising_seconds
    plan.scorer.score(pair, plan.seeds)
    per_call = (plan.scorer.denoising_seconds - spent) / (plan.scorer.denoiser_calls - calls)
    asked = count * rounds if plan.rewriter is not None and plan.rewriter.calls_llm else 0
    tokens = tuple(n * asked for n in TOKENS_A_REQUEST)
    return {
        "prompts": count, "denoiser calls": [count * least, count * most],
        "seconds": [round(count * least * per_call, 1), round(count * most * per_call, 1)],
        "LLM requests": [0, asked], "LLM tokens": [0, sum(tokens)],
        "cost": None if plan.prices is None else [0.0, round((plan.prices[0] * tokens[0] + plan.prices[1] * tokens[1]) / 1e6, 4)],
    }  # fmt: skip
