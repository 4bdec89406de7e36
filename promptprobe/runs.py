"""The three things one does with a prompt: `optimize`, `score`, `generate`. The command line calls these."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from . import icons
from .card import read_objective
from .errors import InputError
from .files import check_writable, free_name, write_together
from .judges import ProbeJudge, load_probe
from .pipelines import LOADING, open_pipeline
from .pnginfo import png_bytes, read_record
from .probe import Probe
from .records import image_record, loading_given
from .scoring import Scored, Scorer
from .search import SeedSelection, select_seed
from .seeds import seed_list, seeds_from
from .tokens import clean_prompt, tokenize_prompt
from .trajectory import check_steps, finish, start


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
    return Scorer(pipeline, ProbeJudge(loaded, weights), steps, probe_step, settings, batch_size, early_step)


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
    chosen = seed_list(seeds, seed)
    if out is not None:
        check_writable(Path(out))
    scorer = scorer or make_scorer(model, **options)
    _, measure = reward_of(reward, model)
    found = select_seed(scorer, prompt, chosen, policy=policy, top=top, diverse=diverse, reward=measure)
    if out is not None:
        base = free_name(Path(out), prompt, chosen[0])
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
    from .pipelines import check_settings, load_pipeline

    pipeline = load_pipeline(model, **loading)
    check_settings(pipeline, call)
    made: Any = finish(pipeline, start(pipeline, [prompt], [seed], steps=steps, stop=steps, watch=(), **call))
    before, now = np.asarray(open_image(image), int), np.asarray(made[0].convert("RGB"), int)
    difference = 255 if before.shape != now.shape else int(abs(before - now).max())
    if out is not None:
        write_together({Path(out): png_bytes(made[0], record)})
    return made[0], difference


def reward_of(reward: Any, model: str | Path):
    from .rewards import default_reward, load_reward, reward_name

    reward = default_reward(model) if reward is None else reward
    return (reward_name(reward), load_reward(reward)) if reward is not None else (None, None)
