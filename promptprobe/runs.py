"""What one does with a prompt and no language model: score it, search its seeds, generate it, make an image again."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

from PIL import Image
from typing_extensions import Unpack

from .decoders import decoder_for
from .errors import InputError
from .events import OnEvent, OnStep
from .files import check_picture, check_writable, free_name, write_together
from .judges import PreviewJudge, choose_judge
from .options import (
    DEFAULT_MODEL,
    CallOptions,
    GenerateOptions,
    LoadingOptions,
    ScoreOptions,
    ScorerOptions,
    ScorerSettings,
    SeedSearchOptions,
    check_made,
    default_of,
    names_of,
    refuse_beside,
    signed,
)
from .pipelines import loaded_of, open_pipeline
from .pnginfo import png_bytes
from .probe import Probe
from .records import Origin
from .rewards import RewardFunction, default_reward, load_reward, reward_name
from .scoring import Scored, Scorer
from .search import check_budget, select_seed, settle_search
from .seeds import seed_list, seeds_from
from .selection import SeedSelection
from .settling import refuse_unused, settle
from .tokens import clean_prompt, clean_prompts, tokenize_prompt
from .trajectory import check_steps, finish, start
from .worlds import note_on, world_of

OWN_PIPELINE = "the pipeline handed over"  # the name of a model of which nothing is known
TOO_BLUNT = (
    "seeds were judged by the reward of their predicted images: the probe hardly tells the seeds of one prompt apart on its "
    "validation set; --judge probe uses it all the same"
)


@signed(ScorerSettings)
def make_scorer(
    model: str | Path = DEFAULT_MODEL,
    probe: str | Path | Probe | None = None,
    *,
    pipeline: Any = None,
    **options: Unpack[ScorerSettings],
) -> Scorer:
    """Load a pipeline and its judge and check them against each other.

    Which judge that is says `choose_judge`; what it says of its choice is in the scorer's `warnings`. A `pipeline` handed
    over is used as it is: what it would be loaded with is refused beside it. With `early_step` wordings that can hardly
    win are given up there; `objective` as for `read_objective`. Raises `ModelError`, `ProbeMismatchError` or `InputError`.
    """
    if pipeline is not None:
        refuse_beside("pipeline", set(options) & {*names_of(LoadingOptions)})
    return load_scorer(settle(ScorerOptions, {"model": model, "probe": probe, **options}, "make_scorer"), pipeline)


def load_scorer(o: Mapping[str, Any], pipeline: Any = None) -> Scorer:
    """As `make_scorer`, of settled options."""
    o = {n: o.get(n, default_of(n)) for n in names_of(ScorerOptions)}
    check_steps(o["steps"], o["probe_step"])
    name = None if pipeline is not None else str(o["model"])
    if pipeline is not None and o["model"] == DEFAULT_MODEL:  # the default is for those who hand none over
        o["model"] = loaded_of(pipeline).model or OWN_PIPELINE
    pipeline, call = open_pipeline(o["model"], pipeline, **_opening(o))
    loaded = loaded_of(pipeline)
    world = world_of(name) if name else None
    found = cache(lambda: decoder_for(pipeline, o["preview_decoder"], world.tiny if world else None))
    if o["preview_decoder"] != "auto":
        found()  # what was asked for is looked at before anything is denoised, `auto` once it is needed
    judge, notes = choose_judge(
        o["judge"], pipeline, model=o["model"], probe=o["probe"], objective=o["objective"], reward=o["reward"],
        settings=call, device=str(loaded.options.get("device", "cpu")), find_decoder=lambda: found()[0],
    )  # fmt: skip
    scorer = Scorer(pipeline, judge, o["steps"], o["probe_step"], call, o["batch_size"], o["early_step"])
    told = found()[1] if isinstance(judge, PreviewJudge) else None
    scorer.warnings[:0] = [*loaded.notes, *notes, *([told] if told else [])]
    scorer.find_decoder = lambda: found()[0]
    scorer.judge_asked = o["judge"] != "auto"
    scorer.model, scorer.loading = name, {} if name is None else dict(loaded.options)
    return scorer


def _opening(settled: dict[str, Any]) -> dict[str, Any]:
    return {n: settled[n] for n in names_of(LoadingOptions, CallOptions)}


@signed(ScoreOptions)
def score(prompts: Sequence[str], **options: Unpack[ScoreOptions]) -> list[Scored]:
    """Predict rewards and diagnose words of prompts without making images. Raises as `make_scorer`."""
    return judged(prompts, options)[1]


def judged(prompts: Sequence[str], options: Mapping[str, Any]) -> tuple[Scorer, list[Scored]]:
    """As `score`; what judged, too."""
    o = settle(ScoreOptions, options, "score")
    texts = clean_prompts(prompts)
    seeds = seeds_from(o["seed"], o["seeds_per_prompt"])
    scorer = load_scorer(o)
    refuse_unused(o, "score", judge=scorer.judge.name)
    return scorer, scorer.score(texts, seeds, winners=0)


def score_as_dict(scored: Scored, model: str | None = None) -> dict[str, Any]:
    """A score as plain values for JSON; `notes` name the words that `model` can't draw."""
    return {
        "prompt": scored.prompt, "score": round(scored.score, 5), "seeds": scored.seeds,
        "predicted": [round(p, 5) for p in scored.predicted], "cut_tokens": scored.cut_tokens,
        "words": [asdict(w) for w in scored.words], "notes": notes_on([scored.prompt], model),
    }  # fmt: skip


def notes_on(prompts: Sequence[str], model: str | None) -> list[str]:
    """What a person should know of prompts for a model: words that it can't draw; each note once."""
    return list(dict.fromkeys(note for note in (note_on(p, model) for p in prompts) if note))


@signed(SeedSearchOptions)
def search_seeds(
    prompt: str,
    seeds: int | str | Sequence[int] | None = None,
    *,
    out: Path | str | None = None,
    scorer: Scorer | None = None,
    on_event: OnEvent | None = None,
    **options: Unpack[SeedSearchOptions],
) -> SeedSelection:
    """Find the `top` best of `seeds` (a number, counted from `seed`, or a list; default: 10, or for `staged` as many as its
    budget is for) for `prompt` and finish their images.

    With `out`, the images and a JSON record are written there. `on_event` is told what happens, with its values.
    `scorer` reuses what `make_scorer` loaded. Raises as `make_scorer` and `select_seed`.
    """
    prompt = clean_prompt(prompt)
    o = settle(SeedSearchOptions, options, "search_seeds")
    check_made("scorer", scorer, Scorer, "make_scorer")
    if scorer is not None:
        refuse_beside("scorer", set(options) & {*names_of(ScorerOptions)} - {"seed", "reward"})
    check_budget(o["budget"], o["policy"])
    told = "staged" if o["budget"] is not None and o["policy"] == "auto" else o["policy"]
    refuse_unused(o, "search_seeds", policy=told)
    given = None if seeds is None else seed_list(seeds, o["seed"])
    if o["seed"] and given is not None and given != seeds_from(o["seed"], len(given)):
        raise InputError(
            f"seed is {o['seed']}, which does nothing beside a list of seeds; leave it out, or give a number"
        )
    if out is not None:
        out = check_writable(out)
    scorer = scorer or load_scorer(o)
    label, measure = reward_of(o["reward"], scorer)
    how = settle_search(scorer, given, o["seed"], o["policy"], o["budget"], o["top"], (label, measure))
    refuse_unused(o, "search_seeds", policy=how.policy, judge=(how.judge or scorer.judge).name)
    chosen = how.seeds
    found, pictures = found_seeds(
        scorer, prompt, chosen, policy=how.policy, top=o["top"], diverse=o["diverse"], budget=how.budget, reward=measure,
        judge=how.judge, on_event=on_event,
    )  # fmt: skip
    if out is not None:
        base = free_name(out, prompt, chosen[0])
        files: dict[Path, bytes] = {}
        for record, picture in zip(found.winners, pictures, strict=True):
            record.image_file = f"{base}-seed{record.seed}.png"
            files[Path(record.image_file)] = picture
        text = json.dumps(found.as_dict(), indent=1, ensure_ascii=False) + "\n"
        write_together({**files, Path(f"{base}.json"): text.encode()})
    return found


def found_seeds(
    scorer: Scorer, prompt: str, seeds: Sequence[int], *, policy: str, **how: Any
) -> tuple[SeedSelection, list[bytes]]:
    """A search over seeds, and the PNG of each winner with its record; `how` as for `select_seed`."""
    found = select_seed(scorer, prompt, seeds, policy=policy, **how)
    if scorer.judge.name == "probe" and found.judges == ["preview"] and policy == "staged":
        found.notes.append(TOO_BLUNT)
    found.notes += notes_on([prompt], scorer.model)
    why = f"best of {len(seeds)} seeds, {policy}"
    tried = found.as_dict()["seeds"]
    pictures = []
    for own, image in zip(found.winners, found.images, strict=True):
        record = scorer.origin.image_record(prompt, own.seed, why, probe_step=scorer.probe_step, policy=policy)
        pictures.append(png_bytes(image, record | {"reward": own.reward, "seeds": tried}))
    return found, pictures


@signed(GenerateOptions)
def generate(
    prompt: str, *, out: Path | str | None = None, on_event: OnEvent | None = None, **options: Unpack[GenerateOptions]
) -> Image.Image:
    """One image of a prompt as it is, a PIL picture; with `out`, a PNG file, it is written there with its record.

    `on_event` is told `note` with a `text` for everything that was chosen in loading, for tokens that did not fit, and for
    words that the model can't draw, and each `step` of the `steps`. Raises `InputError` for a file that is no PNG or can't be written, and `ModelError`.
    """
    prompt = clean_prompt(prompt)
    o = settle(GenerateOptions, options, "generate")
    out = None if out is None else check_picture(out)
    pipeline, call = open_pipeline(o["model"], **_opening(o))
    cut = tokenize_prompt(pipeline, prompt, call).cut
    told = [f"{cut} tokens at the end of the prompt did not fit and were cut"] if cut else []
    tell_notes(on_event, [*loaded_of(pipeline).notes, *told, *notes_on([prompt], str(o["model"]))])
    origin = Origin.of(pipeline, str(o["model"]), o["steps"], call, loaded_of(pipeline).options)
    seeds_from(o["seed"], 1)
    image = picture_of(pipeline, origin.steps, origin.call, prompt, o["seed"], telling_steps(on_event, origin.steps))
    if out is not None:
        write_together({out: png_bytes(image, origin.image_record(prompt, o["seed"], "generated as it is"))})
    return image


def tell_notes(on_event: OnEvent | None, notes: Sequence[str]) -> None:
    """Tell `on_event`, if there is one, each line as a `note`."""
    for note in notes if on_event else ():
        on_event("note", {"text": note})  # type: ignore[misc]


def telling_steps(on_event: OnEvent | None, steps: int) -> OnStep | None:
    """Tells `on_event`, if there is one, each `step` of the `steps`."""
    return None if on_event is None else lambda k: on_event("step", {"step": k, "steps": steps})


def generated(
    pipeline: Any, origin: Origin, prompt: str, seed: int, on_step: OnStep | None = None
) -> tuple[dict[str, Any], bytes]:
    """One image of a prompt as it is: its record, and the PNG that carries it."""
    seeds_from(seed, 1)
    image = picture_of(pipeline, origin.steps, origin.call, prompt, seed, on_step)
    record = origin.image_record(prompt, seed, "generated as it is")
    return record, png_bytes(image, record)


def picture_of(
    pipeline: Any, steps: int, call: Mapping[str, Any], prompt: str, seed: int, on_step: OnStep | None = None
) -> Image.Image:
    """The finished image of a prompt on a seed, as a PIL picture."""
    paused = start(pipeline, [prompt], [seed], steps=steps, stop=steps, watch=(), on_step=on_step, **call)
    images: Any = finish(pipeline, paused)
    return images[0]


def reward_of(reward: str | RewardFunction | None, scorer: Scorer) -> tuple[str | None, RewardFunction | None]:
    """Name and function of a reward, on the run's device; without one that of a judge that measures, or of the scorer's
    world, else None.

    Raises as `load_reward`.
    """
    judge = scorer.judge
    if isinstance(judge, PreviewJudge) and (reward is None or reward is judge.reward or reward == judge.label):
        return judge.label, judge.reward
    reward = default_reward(scorer.model or "") if reward is None else reward
    if reward is None:
        return None, None
    return reward_name(reward), load_reward(reward, scorer.loading.get("device", "cpu"))
