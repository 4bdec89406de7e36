"""The three things one does with a prompt: `optimize`, `score`, `generate`. The command line calls these."""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import re
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

from . import __version__, icons
from .errors import InputError, PromptProbeError
from .files import check_writable, free_path, write_together
from .models import LOADING, load_probe, open_pipeline
from .pnginfo import png_bytes, read_record
from .probe import Probe, read_objective
from .records import CandidateRecord, RunRecord, whole
from .scoring import Scored, Scorer
from .search import SeedSelection, select_seed
from .tokens import clean_prompt, tokenize_prompt
from .trajectory import check_steps, finish, start

Result = TypeVar("Result")
MOST_SEEDS = 100_000  # of one prompt: a list of more is a slip of the keyboard


def make_scorer(
    model: str | Path = icons.NAME,
    probe: str | Path | Probe | None = None,
    *,
    steps: int = 25,
    probe_step: int = 5,
    batch_size: int = 32,
    early_step: int | None = None,
    objective: str | None = None,
    pipeline: Any = None,
    **options: Any,
) -> Scorer:
    """Load a pipeline and its probe and check them against each other.

    With `early_step` wordings that can hardly win are given up there; `objective` as for `read_objective`.

    `options` as for `open_pipeline`: device, dtype, offload, lora, revision, variant, guidance, height, width,
    negative, pipe_args. Raises `ModelError`, `ProbeMismatchError` or `InputError`.
    """
    check_steps(steps, probe_step)
    if batch_size < 1:
        raise InputError(f"batch size is {batch_size}; it must be at least 1")
    loaded = probe if isinstance(probe, Probe) else load_probe(probe, model)
    pipeline, settings = open_pipeline(model, pipeline, **options)
    weights = read_objective(objective, loaded.card) if objective else {}
    return Scorer(pipeline, loaded, steps, probe_step, settings, batch_size, early_step, weights)


def seeds_from(seed: int, count: int) -> list[int]:
    """`count` seeds beginning at `seed`.

    Raises `InputError` for less than one, more than `MOST_SEEDS`, or a seed that a generator can't take.
    """
    if not 1 <= count <= MOST_SEEDS:
        raise InputError(f"the number of seeds is {count}; it must be between 1 and {MOST_SEEDS}")
    if not 0 <= seed < 2**63 - count:
        raise InputError(f"seed is {seed}; it must be between 0 and 2^63 - {count + 1}")
    return list(range(seed, seed + count))


_CHANCE = r"(0(?:\.\d+)?|1(?:\.0+)?|\.\d+)"


def read_tau(
    tau: str | float, probe: Probe, step: int | None = None, objective: Mapping[str, float] | None = None
) -> float:
    """τ as a number: given as one, as `q0.8`, the quantile of predicted rewards on the probe's validation set, or as
    `0.9@0.8`: the predicted reward from which on the reward exceeds 0.9 with probability 0.8.

    Of a weighted sum of heads nothing is known on the validation set: τ then must be a number. Raises `InputError` when
    it is none of these.
    """
    label = next(iter(objective)) if objective else None
    known = not objective or (len(objective) == 1 and objective[str(label)] == 1)
    if not known and not re.fullmatch(r"\s*-?[\d.]+(e-?\d+)?\s*", str(tau), re.I):
        raise InputError(f"tau is {tau!r}; for a weighted objective give a number")
    match = re.fullmatch("q" + _CHANCE, str(tau).strip())
    if match:
        return probe.card.tau(float(match[1]), label, step)
    match = re.fullmatch(r"(-?\d+(?:\.\d+)?|-?\.\d+)@" + _CHANCE, str(tau).strip())
    if match:
        return probe.card.tau_for(float(match[1]), float(match[2]), label, step)
    try:
        value = float(tau)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise InputError(
            f"tau is {tau!r}; give a number, a quantile from q0 to q1 such as q0.8, "
            "or reward@probability such as 0.9@0.8"
        )
    return value


def threshold(tau: str | float, scorer: Scorer) -> float:
    """τ for a scorer, as `read_tau` reads it at the step and for the objective that it scores with."""
    return read_tau(tau, scorer.probe, scorer.known_step(scorer.probe_step), scorer.objective)


def score(prompts: Sequence[str], *, seed: int = 0, seeds_per_prompt: int = 1, **options: Any) -> list[Scored]:
    """Predict rewards and diagnose words of prompts without making images; `options` as for `make_scorer`."""
    texts = [clean_prompt(p) for p in prompts]
    return make_scorer(**options).score(texts, seeds_from(seed, seeds_per_prompt), winners=0)


def score_as_dict(scored: Scored) -> dict[str, Any]:
    """A score as plain values for JSON."""
    return {
        "prompt": scored.prompt, "score": round(scored.score, 5), "seeds": scored.seeds,
        "predicted": [round(p, 5) for p in scored.predicted], "cut_tokens": scored.cut_tokens,
        "words": [asdict(w) for w in scored.words],
    }  # fmt: skip


def search_seeds(
    prompt: str,
    seeds: int | str | Sequence[int] = 10,
    *,
    seed: int = 0,
    policy: str = "racing",
    top: int = 1,
    diverse: float = 0.0,
    reward: Any = None,
    out: Path | str | None = None,
    scorer: Scorer | None = None,
    model: str | Path = icons.NAME,
    **options: Any,
) -> SeedSelection:
    """Find the `top` best of `seeds` (a number, counted from `seed`, or a list) for `prompt` and finish their images.

    With `out`, the images and a JSON record are written there. `options` as for `make_scorer`; policies as for
    `select_seed`, whose errors this raises.
    """
    prompt = clean_prompt(prompt)
    chosen = _seed_list(seeds, seed)
    if out is not None:
        check_writable(Path(out))
    scorer = scorer or make_scorer(model, **options)
    _, measure = _reward(reward, model)
    found = select_seed(scorer, prompt, chosen, policy=policy, top=top, diverse=diverse, reward=measure)
    if out is not None:
        base = _free_name(Path(out), prompt, chosen[0])
        settings = {
            "model": str(model), "steps": scorer.steps, "probe_step": scorer.probe_step,
            "scheduler": type(scorer.pipeline.scheduler).__name__, **scorer.settings,
        }  # fmt: skip
        why = f"best of {len(chosen)} seeds, {policy}"
        record = image_record(prompt, chosen[0], why, settings, scorer.settings, loading_given(options))
        files: dict[Path, bytes] = {}
        by_seed = {r.seed: r for r in found.seeds}
        for number, image in zip(found.best, found.images, strict=True):
            path = Path(f"{base}-seed{number}.png")
            own = by_seed[number]
            own.image = str(path)
            files[path] = png_bytes(image, record | {"seed": number, "reward": own.reward})
        text = json.dumps(found.as_dict(), indent=1, ensure_ascii=False) + "\n"
        write_together({**files, Path(f"{base}.json"): text.encode()})
    return found


def _seed_list(seeds: int | str | Sequence[int], first: int) -> list[int]:
    if isinstance(seeds, str):
        try:
            numbers = [int(x) for x in seeds.split(",")]
        except ValueError as error:
            raise InputError(f"seeds is {seeds!r}; give a number, or a list such as 3,7,9") from error
        seeds = numbers if "," in seeds else numbers[0]
    if isinstance(seeds, int):
        if seeds < 1:
            raise InputError(f"seeds is {seeds}; it must be at least 1")
        return seeds_from(first, seeds)
    return list(seeds)


def generate(
    prompt: str, *, model: str | Path = icons.NAME, seed: int = 0, steps: int = 25, out: Path | str = "image.png",
    **options: Any,
) -> int:  # fmt: skip
    """Write one image of a prompt as it is; return how many tokens did not fit. `options` as for `open_pipeline`."""
    out = Path(out)
    prompt = clean_prompt(prompt)
    check_steps(steps, steps)
    seeds_from(seed, 1)
    if out.suffix.lower() != ".png":
        raise InputError(f"--out is {str(out)!r}; it must end in .png")
    check_writable(out.parent)
    pipeline, settings = open_pipeline(model, **options)
    paused = start(pipeline, [prompt], [seed], steps=steps, stop=steps, watch=(), **settings)
    shown = {"model": str(model), "steps": steps, "scheduler": type(pipeline.scheduler).__name__, **settings}
    record = image_record(prompt, seed, "generated as it is", shown, settings, loading_given(options))
    made: Any = finish(pipeline, paused)
    write_together({out: png_bytes(made[0], record)})
    return tokenize_prompt(pipeline, prompt, settings).cut


@dataclass
class Plan:
    """Everything that is settled before the first step of an optimisation, and the same for all prompts of a batch."""

    scorer: Scorer
    rewriter: Any
    model: str
    loading: dict[str, Any]
    seed: int
    seeds: list[int]
    rounds: int
    candidates: int
    tau: str
    threshold: float
    label: str | None
    measure: Any
    prices: tuple[float, float] | None
    max_llm_calls: int | None
    max_seconds: float | None
    notes: list[str]

    @property
    def settings(self) -> dict[str, Any]:
        """What a record says of the run; two runs with equal settings do the same."""
        scorer = self.scorer
        return {
            "model": self.model, "steps": scorer.steps, "probe_step": scorer.probe_step, "seed": self.seed,
            "seeds_per_prompt": len(self.seeds), "rounds": self.rounds, "candidates": self.candidates, "tau": self.tau,
            "scheduler": type(scorer.pipeline.scheduler).__name__, "early_step": scorer.early_step, "objective": scorer.objective,
            **scorer.settings,
        }  # fmt: skip


def make_plan(
    *,
    model: str | Path = icons.NAME,
    probe: str | Path | Probe | None = None,
    seed: int = 0,
    seeds_per_prompt: int = 1,
    rounds: int = 3,
    candidates: int = 4,
    tau: str | float = "q0.8",
    steps: int = 25,
    probe_step: int = 5,
    rewriter: Any = "auto",
    llm_model: str | None = None,
    llm_base_url: str | None = None,
    llm_price: str | None = None,
    max_llm_calls: int | None = None,
    max_seconds: float | None = None,
    batch_size: int = 32,
    reward: Any = None,
    scorer: Scorer | None = None,
    **options: Any,
) -> Plan:
    """Check every setting, then load pipeline, probe, rewriter and reward. Raises `PromptProbeError` classes."""
    from .agents.rewriter import make_rewriter

    if candidates < 1:
        raise InputError(f"candidates is {candidates}; it must be at least 1")
    if rounds < 0:
        raise InputError(f"rounds is {rounds}; it must be 0 or more")
    for name, limit in (("max LLM calls", max_llm_calls), ("max seconds", max_seconds)):
        if limit is not None and limit < 0:
            raise InputError(f"{name} is {limit}; it must be 0 or more")
    prices = _prices(llm_price)
    seeds = seeds_from(seed, seeds_per_prompt)
    check_steps(steps, probe_step)
    notes: list[str] = []
    if isinstance(rewriter, str):
        rewriter, note = make_rewriter(rewriter, llm_model=llm_model, llm_base_url=llm_base_url, seed=seed)
        notes += [note] if note else []
    if scorer is None:
        scorer = make_scorer(model, probe, steps=steps, probe_step=probe_step, batch_size=batch_size, **options)
    label, measure = _reward(reward, model)
    return Plan(
        scorer=scorer, rewriter=rewriter, model=str(model),
        loading=loading_given(options), seed=seed,
        seeds=seeds, rounds=rounds, candidates=candidates, tau=str(tau), threshold=threshold(tau, scorer), label=label,
        measure=measure, prices=prices, max_llm_calls=max_llm_calls, max_seconds=max_seconds, notes=notes,
    )  # fmt: skip


def optimize(
    prompt: str,
    *,
    out: Path | str | None = None,
    on_event: Callable[[str, dict[str, Any]], None] | None = None,
    plan: Plan | None = None,
    **options: Any,
) -> RunRecord:
    """Probe `prompt`, rewrite it while it scores below τ, generate the best candidate, and return the record.

    `options` are those of `make_plan`: model, probe, seed, seeds_per_prompt, rounds, candidates, tau, steps, probe_step,
    rewriter (auto, llm, offline or an object with `rewrite(request)`), reward (what measures the final image against
    the original prompt; default: the icon world's own for its model), the LLM's, budgets, and what `open_pipeline`
    takes. `plan` reuses what `make_plan` loaded. With `out`, image, JSON record and heat maps are written there
    together; an interrupted run leaves the record of what was probed. Raises `PromptProbeError` classes for input that
    can't be used; trouble with the LLM never raises, it is noted in the record.
    """
    return optimize_with_image(prompt, out=out, on_event=on_event, plan=plan, **options)[0]


async def optimize_async(prompt: str, **options: Any) -> RunRecord:
    """As `optimize`, without blocking the event loop; cancelling the task stops the run before its next step."""
    stopped = threading.Event()
    told = options.pop("on_event", None)

    def on_event(event: str, values: dict[str, Any]) -> None:
        if stopped.is_set():
            raise PromptProbeError("cancelled")
        if told:
            told(event, values)

    return await in_thread(lambda: optimize(prompt, on_event=on_event, **options), stopped)


async def in_thread(call: Callable[[], Result], cancel: threading.Event) -> Result:
    """The result of a call in a thread of its own; cancelling the task sets `cancel` and waits until the call has stopped."""
    work = asyncio.ensure_future(asyncio.to_thread(call))
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        cancel.set()
        with contextlib.suppress(PromptProbeError):
            await work
        raise


def optimize_with_image(
    prompt: str,
    *,
    out: Path | str | None = None,
    on_event: Callable[[str, dict[str, Any]], None] | None = None,
    plan: Plan | None = None,
    **options: Any,
) -> tuple[RunRecord, Any]:
    """As `optimize`; returns the record and the finished PIL image."""
    from .agents import loop
    from .heatmaps import heat_map_image

    began = time.perf_counter()
    prompt = clean_prompt(prompt)
    if out is not None:
        check_writable(Path(out))
    plan = plan or make_plan(**options)
    loaded = time.perf_counter()
    scorer = plan.scorer
    if on_event:
        on_event("start", {"prompt": prompt, "tau": plan.threshold, "rewriter": getattr(plan.rewriter, "name", "none"),
                           "rounds": plan.rounds, "steps": scorer.steps, "probe_step": scorer.probe_step})  # fmt: skip
    calls_before, spent_before = scorer.denoiser_calls, scorer.denoising_seconds
    context = loop.Context(scorer, plan.rewriter, plan.max_llm_calls, plan.max_seconds, on_event=on_event)

    def record(state: Any, finished: bool) -> RunRecord:
        seconds = (scorer.denoising_seconds - spent_before) / max(scorer.denoiser_calls - calls_before, 1)
        times = {"load": loaded - began, "loop": time.perf_counter() - loaded, "probe": scorer.probe_seconds}
        return record_of(plan, context, state, finished=finished, times=times, seconds_per_call=seconds)

    try:
        state = loop.run(
            prompt, plan.seeds, tau=plan.threshold, rounds=plan.rounds, count=plan.candidates, context=context
        )
    except KeyboardInterrupt:
        if out is not None and context.reached is not None:
            _write(record(context.reached | {"stop_reason": "interrupted"}, finished=False), Path(out))
        raise
    made = record(state, finished=True)
    if out is not None:
        best = context.scored[state["best"]]
        heat = heat_map_image(best.maps, best.tokens, best.words, context.image)
        _write(made, Path(out), {".png": context.image, "-attention.png": heat})
    return made, context.image


def record_of(
    plan: Plan, context: Any, state: Any, *, finished: bool, times: dict[str, float], seconds_per_call: float
) -> RunRecord:
    """The record of one prompt's run; `context.image` is measured when it is `finished`."""
    from .rewards import measure

    steps = plan.scorer.steps
    best = context.scored[state["best"]]
    prompt = state["prompt"]
    measured = float(measure(plan.measure, [context.image], [prompt])[0]) if plan.measure and finished else None
    records = [CandidateRecord(**c) for c in state["candidates"]]
    probed = sum(len(c.seeds) for c in records)
    paused, _ = best.trajectories[best.best]
    used = whole(sum(c.calls for c in records) + (steps - paused.step if finished else 0))
    saved = seconds_per_call * (probed * steps - used)
    cut = records[0].cut_tokens
    told = [
        f"the last {cut} tokens of the prompt did not fit the text encoder's {best.token_limit} and were cut"
    ] if cut else []  # fmt: skip
    return RunRecord(
        prompt=prompt, best_prompt=best.prompt, unchanged=state["best"] == 0, stop_reason=state["stop_reason"],
        tau=round(plan.threshold, 5), rounds=state["round"], predicted_reward=round(best.predicted[best.best], 5),
        reward=None if measured is None else round(measured, 5), reward_label=plan.label, seed=best.seeds[best.best],
        image=None, heat_maps=None, candidates=records, rewriter=getattr(plan.rewriter, "name", "none"),
        llm={"requests": state["llm_requests"], "input_tokens": state["input_tokens"],
             "output_tokens": state["output_tokens"], "cost": _cost(plan.prices, state)},
        denoiser_calls={"used": used, "full": probed * steps},
        seconds={**{k: round(v, 4) for k, v in times.items()}, "saved (estimated)": round(max(0.0, saved), 3)},
        settings=plan.settings, call=dict(plan.scorer.settings), loading=plan.loading,
        notes=[*plan.notes, *told, *plan.scorer.warnings, *state["notes"]], version=__version__,
    )  # fmt: skip


def replay(image: Path | str, out: Path | str | None = None) -> tuple[Any, int]:
    """Make the image of a PNG file again from the record it carries; return it and the largest pixel difference.

    Raises `InputError` when the file carries no record that can be replayed.
    """
    import numpy as np

    from .rewards.images import open_image

    record = read_record(image)
    try:
        prompt, seed = clean_prompt(record["best_prompt"]), int(record["seed"])
        steps, model = int(record["settings"]["steps"]), str(record["settings"]["model"])
        call, loading = dict(record["call"]), dict(record["loading"])
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"the record of {str(image)!r} lacks what a replay needs: {error}") from error
    unknown = sorted(set(loading) - LOADING)
    if unknown:
        raise InputError(f"the record of {str(image)!r} has an unknown loading option {unknown[0]!r}")
    check_steps(steps, steps)
    seeds_from(seed, 1)
    if out is not None:
        check_writable(Path(out).parent)
    from .models import check_settings, load_pipeline

    pipeline = load_pipeline(model, **loading)
    check_settings(pipeline, call)
    made: Any = finish(pipeline, start(pipeline, [prompt], [seed], steps=steps, stop=steps, watch=(), **call))
    before, now = np.asarray(open_image(image), int), np.asarray(made[0].convert("RGB"), int)
    difference = 255 if before.shape != now.shape else int(abs(before - now).max())
    if out is not None:
        write_together({Path(out): png_bytes(made[0], record)})
    return made[0], difference


def _write(record: RunRecord, out: Path, images: Mapping[str, Any] | None = None) -> None:
    """The record and, unless the run was interrupted, its image and heat maps: all or none."""
    base = _free_name(out, record.prompt, record.settings["seed"])
    names = [Path(f"{base}{ending}") for ending in images or {}]
    if names:
        record.image, record.heat_maps = map(str, names)
    files = {name: png_bytes(i, carried(record)) for name, i in zip(names, (images or {}).values(), strict=True)}
    text = json.dumps(record.as_dict(), indent=1, ensure_ascii=False) + "\n"
    write_together({**files, Path(f"{base}.json"): text.encode()})


def _free_name(out: Path, prompt: str, seed: int) -> Path:
    """A path in `out` without ending, made of the prompt's first letters and the seed, under which no record lies."""
    stem = re.sub(r"[^a-z0-9]+", "-", prompt.lower()).strip("-")[:40].strip("-") or "prompt"
    return free_path(out, f"{stem}-{seed}", ".json").with_suffix("")


def loading_given(options: Mapping[str, Any]) -> dict[str, Any]:
    """Those of `options` that a pipeline is loaded with and that were given: what a replay has to repeat."""
    return {k: v for k, v in options.items() if k in LOADING and v not in (None, [], "none")}


def image_record(
    prompt: str, seed: int, why: str, settings: Mapping[str, Any], call: Mapping[str, Any], loading: Mapping[str, Any]
) -> dict[str, Any]:
    """What an image of a prompt as it is carries, enough for `show` and `replay`."""
    return {
        "prompt": prompt, "best_prompt": prompt, "seed": seed, "unchanged": True, "stop_reason": why,
        "settings": dict(settings), "call": dict(call), "loading": dict(loading), "version": __version__,
    }  # fmt: skip


def carried(record: RunRecord) -> dict[str, Any]:
    """What an image carries of its record: all but times and paths, so that the same run gives the same file."""
    return {k: v for k, v in record.as_dict().items() if k not in ("seconds", "image", "heat_maps")}


def _reward(reward: Any, model: str | Path):
    from .rewards import default_reward, load_reward, reward_name

    reward = default_reward(model) if reward is None else reward
    return (reward_name(reward), load_reward(reward)) if reward is not None else (None, None)


def _prices(text: str | None) -> tuple[float, float] | None:
    if text is None:
        return None
    try:
        given, got = (float(x) for x in text.split(","))
    except ValueError as error:
        raise InputError(f"LLM price is {text!r}; give two numbers, for a million input and output tokens") from error
    return given, got


def _cost(prices: tuple[float, float] | None, state) -> float | None:
    if prices is None:
        return None
    return round((prices[0] * state["input_tokens"] + prices[1] * state["output_tokens"]) / 1e6, 6)
