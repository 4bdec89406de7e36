"""Optimise one prompt: probe, rewrite, generate, and leave image, record and heat maps behind."""

from __future__ import annotations

import json
import threading
import time
import weakref
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from typing_extensions import Unpack

from ..errors import InputError, PromptProbeError
from ..events import OnEvent
from ..files import check_writable, free_name, write_together
from ..grades import grade_of, interval_of
from ..heatmaps import heat_map_image
from ..options import PlanOptions, check_made, refuse_beside, refuse_unknown, signed
from ..pipelines import load_pipeline
from ..pnginfo import png_bytes
from ..records import CandidateRecord, RunRecord, carried, whole
from ..rewards import measure
from ..runs import picture_of
from ..scoring import Scorer
from ..threads import in_thread
from ..tokens import clean_prompt
from ..version import __version__
from ..worlds import note_on
from . import rounds
from .loop import run as run_loop
from .plan import Plan, cost_of, plan_of


@signed(PlanOptions)
def optimize(
    prompt: str,
    *,
    out: Path | str | None = None,
    on_event: OnEvent | None = None,
    plan: Plan | None = None,
    scorer: Scorer | None = None,
    **options: Unpack[PlanOptions],
) -> RunRecord:
    """Probe `prompt`, rewrite it while it scores below τ, generate the best candidate, and return the record.

    `plan` reuses what `make_plan` loaded; no option can be given beside it. `scorer` reuses what `make_scorer` loaded.
    With `out`, image, JSON record and heat maps are written there together; an interrupted run leaves the record of
    what was probed. `on_event` is told what happens, with its values. `rewriter` may be an object with `rewrite(request)`; `reward` measures the final image against the original prompt. Raises
    `PromptProbeError` classes for input that can't be used; trouble with the LLM never raises, it is noted in the
    record.
    """
    return _run("optimize", prompt, out, on_event, plan, scorer, options)[0]


@signed(PlanOptions)
async def optimize_async(
    prompt: str,
    *,
    out: Path | str | None = None,
    on_event: OnEvent | None = None,
    plan: Plan | None = None,
    scorer: Scorer | None = None,
    **options: Unpack[PlanOptions],
) -> RunRecord:
    """As `optimize`, also of `plan`, `scorer`, `out` and `on_event`, without blocking the event loop.

    Cancelling the task stops the run before its next step.
    """
    stopped = threading.Event()

    def tell(event: str, values: dict[str, Any]) -> None:
        if stopped.is_set():
            raise PromptProbeError("cancelled")
        if on_event:
            on_event(event, values)

    return await in_thread(lambda: _run("optimize_async", prompt, out, tell, plan, scorer, options)[0], stopped)


@signed(PlanOptions)
def optimize_with_image(
    prompt: str,
    *,
    out: Path | str | None = None,
    on_event: OnEvent | None = None,
    plan: Plan | None = None,
    scorer: Scorer | None = None,
    **options: Unpack[PlanOptions],
) -> tuple[RunRecord, Any]:
    """As `optimize`; returns the record and the finished PIL image."""
    return _run("optimize_with_image", prompt, out, on_event, plan, scorer, options)


def _run(
    where: str,
    prompt: str,
    out: Path | str | None,
    on_event: OnEvent | None,
    plan: Plan | None,
    scorer: Scorer | None,
    options: Mapping[str, Any],
) -> tuple[RunRecord, Any]:
    """One run, for the function `where` that was called."""
    began = time.perf_counter()
    prompt = clean_prompt(prompt)
    if out is not None:
        out = check_writable(out)
    check_made("plan", plan, Plan, "make_plan")
    if plan is not None:
        refuse_unknown(PlanOptions, options, where)
        refuse_beside("plan", [*options, *(["scorer"] if scorer else [])])
    plan = plan or plan_of(where, options, scorer, shows=False)
    loaded = time.perf_counter()
    scorer = plan.scorer
    if on_event:
        on_event("start", {"prompt": prompt, "tau": plan.threshold, "rewriter": plan.rewriter_name,
                           "rounds": plan.rounds, "steps": scorer.steps, "probe_step": scorer.probe_step})  # fmt: skip
    calls_before, spent_before, probed_before = (
        scorer.denoiser_calls, scorer.denoising_seconds, scorer.probe_seconds,
    )  # fmt: skip
    state, context = rounds.begin(prompt, plan, on_event)

    def record(state: Any, finished: bool) -> RunRecord:
        seconds = (scorer.denoising_seconds - spent_before) / max(scorer.denoiser_calls - calls_before, 1)
        times = {
            "load": loaded - began,
            "loop": time.perf_counter() - loaded,
            "probe": scorer.probe_seconds - probed_before,
        }
        return record_of(plan, context, state, finished=finished, times=times, seconds_per_call=seconds)

    try:
        state = run_loop(state, context)
    except KeyboardInterrupt:
        if context.reached is not None:
            unfinished = record(context.reached | {"stop_reason": "interrupted"}, finished=False)
            if out is not None:
                _write(unfinished, out)
            if on_event:
                on_event("interrupted", {"record": unfinished})
        raise
    made = record(state, finished=True)
    made.keep_picture(context.image)
    made.make_before(partial(_before, weakref.ref(scorer)))
    if out is not None and context.image is not None:
        best = context.scored[state["best"]]
        heat = heat_map_image(best.maps, best.tokens, best.words, context.image)
        _write(made, out, {".png": context.image, "-attention.png": heat})
    return made, context.image


def _before(kept: weakref.ref[Scorer], record: RunRecord) -> Any:
    """The picture of the prompt as it was; a pipeline that is gone by now is loaded again."""
    scorer, model = kept(), record.settings["model"]
    if scorer is None and model is None:
        raise InputError("the pipeline from Python is gone; keep the scorer or plan that it was handed to")
    pipeline = scorer.pipeline if scorer else load_pipeline(model, **record.loading)
    return picture_of(pipeline, record.settings["steps"], record.call, record.prompt, record.seed)


def record_of(
    plan: Plan, context: Any, state: Any, *, finished: bool, times: dict[str, float], seconds_per_call: float
) -> RunRecord:
    """The record of one prompt's run; `context.image` is measured when it is `finished`."""
    steps = plan.scorer.steps
    best = context.scored[state["best"]]
    prompt = state["prompt"]
    judged = (plan.scorer.judge, best.predicted[best.best], plan.scorer.probe_step, steps)
    measured = float(measure(plan.measure, [context.image], [prompt])[0]) if plan.measure and finished else None
    chosen = {c["id"]: c for c in state["choice"]}
    records = [CandidateRecord(**(c | chosen.get(c["id"], {}))) for c in state["candidates"]]
    probed = sum(len(c.seeds) for c in records)
    paused, _ = best.trajectories[best.best]
    used = whole(sum(c.calls for c in records) + (steps - paused.step if finished else 0))
    saved = seconds_per_call * (probed * steps - used)
    cut = records[0].cut_tokens
    told = [
        f"the last {cut} tokens of the prompt did not fit the text encoder's {best.token_limit} and were cut"
    ] if cut else []  # fmt: skip
    told += [note for note in [note_on(prompt, plan.scorer.model)] if note]
    return RunRecord(
        prompt=prompt, best_prompt=best.prompt, unchanged=state["best"] == 0, stop_reason=state["stop_reason"],
        tau=None if plan.threshold is None else round(plan.threshold, 5), rounds=state["round"], predicted_reward=round(best.predicted[best.best], 5),
        reward=None if measured is None else round(measured, 5), reward_label=plan.label, seed=best.seeds[best.best],
        image_file=None, heat_maps=None, candidates=records, rewriter=plan.rewriter_name,
        llm={"requests": state["llm_requests"], "input_tokens": state["input_tokens"],
             "output_tokens": state["output_tokens"], "cost": cost_of(plan.prices, state),
             "unanswered": state.get("unanswered", 0)},
        denoiser_calls={"used": used, "full": probed * steps},
        seconds={**{k: round(v, 4) for k, v in times.items()}, "saved (estimated)": round(max(0.0, saved), 3)},
        settings=plan.settings, call=dict(plan.origin.call), loading=dict(plan.origin.loading),
        notes=[*plan.notes, *told, *plan.scorer.warnings, *state["notes"]], version=__version__,
        grade=grade_of(*judged), interval=interval_of(*judged),
    )  # fmt: skip


def _write(record: RunRecord, out: Path, images: Mapping[str, Any] | None = None) -> None:
    """The record and, unless the run was interrupted, its image and heat maps: all or none."""
    base = free_name(out, record.prompt, record.settings["seed"])
    names = [Path(f"{base}{ending}") for ending in images or {}]
    if names:
        record.image_file, record.heat_maps = map(str, names)
    files = {name: png_bytes(i, carried(record)) for name, i in zip(names, (images or {}).values(), strict=True)}
    text = json.dumps(record.as_dict(), indent=1, ensure_ascii=False) + "\n"
    write_together({**files, Path(f"{base}.json"): text.encode()})
