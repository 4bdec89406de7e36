"""Optimise a file of prompts: probing batched across prompts, LLM calls beside it, one line a prompt, nothing lost.

Comes in: a plan and prompts. Goes out: a `BatchFolder` with a line and an image for each prompt that is finished. A prompt is
known by a hash of itself, the settings and the probe, so a stopped run goes on where it was, and only what is missing or
failed is done again.
"""

from __future__ import annotations

import dataclasses
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import PromptProbeError
from ..events import OnStep
from ..options import default_of
from ..pnginfo import png_bytes
from ..prompt_files import PromptRow
from ..records import carried
from ..scoring import Scored
from ..trajectory import Paused, finish
from . import rounds
from .batch_folder import ANSWERS, IMAGES, BatchFolder, batch_settings, item_key, summary_of
from .batch_rows import links_of
from .final_choice import choose
from .optimize import record_of
from .plan import Plan, cost_of
from .rewriters import CachedRewriter
from .rewrites import OnWait, RewriteAnswer, Waiting

LLM_CALLS: int = default_of("llm_calls")  # at once
ASKING_AHEAD = 4  # prompts that wait for an answer, for each call at once, before new ones are begun


class Result(NamedTuple):
    """What became of a prompt: its line for the folder, and the image as PNG, None when it failed."""

    prompt: str
    line: dict[str, Any]
    image: bytes | None


@dataclass
class Job:
    """One prompt on its way through the loop."""

    key: str
    state: rounds.State
    context: rounds.Context
    began: float
    asked: float = 0.0  # when its last request was put

    @property
    def prompt(self) -> str:
        return self.state["prompt"]

    @property
    def winner(self) -> tuple[Paused, int]:
        """The best candidate's best trajectory: a paused batch and a row of it."""
        best = self.context.scored[self.state["best"]]
        return best.trajectories[best.best]

    def take_scores(self, scored: Sequence[Scored]) -> None:
        """Go on with the scores of what waits."""
        changes = rounds.take_scores(self.state, self.context, scored)
        self.context.remember(self.state, scored, changes)
        self.state = rounds.updated(self.state, changes)


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


def run_jobs(
    plan: Plan, prompts: Sequence[str], budget: Budget | None = None, llm_calls: int = LLM_CALLS,
    on_wait: OnWait | None = None, on_step: OnStep | None = None,
) -> Iterator[Result]:  # fmt: skip
    """Optimise prompts together; gives each one's result when it is finished.

    The denoiser works on whatever is ready, from any prompt, while up to `llm_calls` rewriting requests are under way.
    A prompt that fails gives a line with `error` and no image. `on_wait` is told each second in which there is nothing to
    do but to wait for answers, `on_step` of each step of the denoiser.
    """
    budget = budget or Budget()
    settings = batch_settings(plan)
    todo = deque(prompts)
    ready: deque[Job] = deque()  # wait to be probed
    asking: dict[Future, Job] = {}  # wait for rewrites
    done: list[Job] = []  # wait to be finished
    waits = _Waits(plan, on_wait)
    room = max(1, plan.scorer.batch_size // len(plan.seeds))
    pool = ThreadPoolExecutor(llm_calls, thread_name_prefix="rewrite")

    def more() -> bool:
        return bool(todo) and len(asking) < ASKING_AHEAD * llm_calls and not budget.spent()

    try:
        while todo or ready or asking or done:
            while len(ready) < room and more():
                prompt = todo.popleft()
                ready.append(Job(item_key(prompt, settings), *rounds.begin(prompt, plan), time.perf_counter()))
            if budget.spent():
                todo.clear()
            batch = _take(ready, room)
            for job, scored in zip(batch, _scores(plan, batch, on_step), strict=True):
                if isinstance(scored, PromptProbeError):
                    yield _failed(job, scored)
                    continue
                job.take_scores(scored)
                if not job.state["stop_reason"] and budget.spent():
                    job.state = rounds.updated(job.state, {"stop_reason": budget.spent()})
                if job.state["stop_reason"]:
                    done.append(job)
                else:
                    request = rounds.next_request(job.state, job.context)
                    job.asked = time.monotonic()
                    asking[pool.submit(rounds.put, job.state, job.context, request)] = job
            while len(done) >= room or (done and not ready and not todo):
                part, done[:] = done[:room], done[room:]
                yield from _finish(plan, part, on_step)
            if asking and not ready and not more():
                waits.wait(asking)
            for future in [f for f in asking if f.done()]:
                job, answer = asking.pop(future), future.result()
                budget.tokens += answer.input_tokens + answer.output_tokens
                waits.take(answer)
                job.state = rounds.updated(job.state, rounds.take_answer(job.state, job.context, answer))
                ready.append(job)
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


class _Waits:
    """Waits for answers, and tells `on_wait` about once a second."""

    def __init__(self, plan: Plan, on_wait: OnWait | None):
        self.plan, self.on_wait = plan, on_wait
        self.told = time.monotonic()
        self.spent: Counter[str] = Counter(requests=0, input_tokens=0, output_tokens=0)

    def take(self, answer: RewriteAnswer) -> None:
        """Count what an answer took."""
        self.spent.update({name: getattr(answer, name) for name in self.spent})

    def wait(self, asking: dict[Future, Job]) -> None:
        """Until one of the answers is there."""
        while not wait(asking, timeout=0.25 if self.on_wait else None, return_when=FIRST_COMPLETED).done:
            self.tell(asking)
        self.tell(asking)

    def tell(self, asking: dict[Future, Job]) -> None:
        now = time.monotonic()
        if self.on_wait and now - self.told >= 1:
            self.told = now
            seconds = now - min(job.asked for job in asking.values())
            what = f"waiting for {len(asking)} answers of {self.plan.rewriter_name}"
            self.on_wait(Waiting(what, seconds, **self.spent, cost=cost_of(self.plan.prices, self.spent)))


def _take(ready: deque[Job], room: int) -> list[Job]:
    """Jobs whose waiting prompts fill one batch, at least one job where any is ready."""
    batch: list[Job] = []
    taken = 0
    while ready and (not batch or taken + len(rounds.to_probe(ready[0].state)) <= room):
        batch.append(ready.popleft())
        taken += len(rounds.to_probe(batch[-1].state))
    return batch


def _scores(plan: Plan, batch: Sequence[Job], on_step: OnStep | None = None) -> list[list[Scored] | PromptProbeError]:
    """The scores of each job's waiting prompts, all made together; for a job that can't be probed, why."""
    waiting = [rounds.to_probe(job.state) for job in batch]
    prompts = [p for own in waiting for p in own]
    groups = [i for i, own in enumerate(waiting) for _ in own]
    rivals = [2 * i + unsure for i, job in enumerate(batch) for unsure in rounds.rivals(job.state)]
    try:
        against = [batch[i].prompt for i in groups]
        scored = (
            plan.scorer.score(prompts, plan.seeds, on_step, groups=rivals, winners=len(batch), against=against)
            if prompts
            else []
        )
    except PromptProbeError as error:
        # One of them can't be probed: find out which, one by one.
        return [error] if len(batch) == 1 else [_scores(plan, [job], on_step)[0] for job in batch]
    return [[s for s, group in zip(scored, groups, strict=True) if group == i] for i in range(len(batch))]


def _finish(plan: Plan, jobs: Sequence[Job], on_step: OnStep | None = None) -> Iterator[Result]:
    """Denoise the winners to the end, those that are paused together in one batch, and make their results."""
    for job, changes in zip(jobs, choose([j.state for j in jobs], [j.context for j in jobs]), strict=True):
        job.state = rounds.updated(job.state, changes)
    groups: dict[int, list[Job]] = {}
    for job in jobs:
        groups.setdefault(id(job.winner[0]), []).append(job)
    for group in groups.values():
        try:
            images: Any = finish(
                plan.scorer.pipeline, group[0].winner[0], [job.winner[1] for job in group], on_step=on_step
            )
        except PromptProbeError as error:
            yield from (_failed(job, error) for job in group)
            continue
        for job, image in zip(group, images, strict=True):
            job.context.image = image
            times = {"loop": time.perf_counter() - job.began}
            try:
                record = record_of(plan, job.context, job.state, finished=True, times=times, seconds_per_call=0.0)
            except PromptProbeError as error:
                yield _failed(job, error)
                continue
            record.image_file = f"{IMAGES}/{job.key}.png"
            yield Result(job.prompt, {"key": job.key} | record.as_dict(), png_bytes(image, carried(record)))


def _failed(job: Job, reason: PromptProbeError) -> Result:
    line = {"key": job.key, "prompt": job.prompt, "error": " ".join(str(reason).split())}
    return Result(job.prompt, line, None)


def run_batch(
    plan: Plan,
    prompts: Sequence[str],
    out: Path,
    *,
    budget: Budget | None = None,
    llm_calls: int = LLM_CALLS,
    engine: Callable[..., Iterator[Result]] = run_jobs,
    on_progress: Callable[[int, int, dict[str, Any] | None], None] | None = None,
    rows: Sequence[PromptRow] = (),
) -> dict[str, Any]:
    """Optimise `prompts` into the folder `out`, going on where an earlier run stopped; return a summary.

    Each is made once, however often it stands there. `rows` are those of the prompts' file: ids, columns and repeats are
    written into the results. What the LLM left without an answer in an earlier run is done again.

    Raises `InputError` for a folder that can't be used. Ctrl-C keeps everything that was finished.
    """
    settings = batch_settings(plan)
    folder = BatchFolder(out, settings)
    budget = budget or Budget()
    prompts, links = list(dict.fromkeys(prompts)), links_of(rows)
    try:
        folder.link(links)
        keys = [item_key(p, settings) for p in prompts]
        asks = plan.rewriter is not None and plan.rewriter.calls_llm
        todo = [
            p for p, k in zip(prompts, keys, strict=True) if k not in folder.lines or (asks and folder.lacks_answer(k))
        ]
        before = len(prompts) - len(todo)
        if asks and plan.rewriter is not None:
            plan = dataclasses.replace(plan, rewriter=CachedRewriter(plan.rewriter, out / ANSWERS))
        done = before
        failed = 0
        if on_progress:
            on_progress(done, len(prompts), None)
        try:
            at = time.monotonic()
            for prompt, line, image in engine(plan, todo, budget, llm_calls):
                if image:  # prompts are made side by side: these add up to what the batch took
                    line["seconds"] = line["seconds"] | {"batch": round(time.monotonic() - at, 4)}
                    at = time.monotonic()
                folder.add(line | links.get(prompt, {}), image)
                done += 1
                failed += "error" in line
                if on_progress:
                    on_progress(done, len(prompts), line)
        finally:
            folder.summarise(keys, rows)
        return summary_of([folder.lines[k] for k in keys if k in folder.lines]) | {
            "prompts": len(prompts), "before": before, "failed": failed, "left": len(prompts) - done,
            "stopped": budget.spent() if done < len(prompts) else "",
        }  # fmt: skip
    finally:
        folder.close()
