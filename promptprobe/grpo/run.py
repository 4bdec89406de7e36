"""A GRPO run from its options to its folder: resumed where it stopped, watched, its adapter kept whatever happens.

Comes in: a model, prompts, options. Goes out in a folder: the adapter (`pytorch_lora_weights.safetensors`, for
`pipe.load_lora_weights`), `curves.jsonl` and `curves.csv` (a row an iteration), `watch.jsonl` (held-out prompts), sheets
of images, and `state.safetensors`.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from typing_extensions import Unpack

from ..decoders import decoder_for
from ..errors import InputError, ProbeMismatchError
from ..files import make_folder
from ..judges import Judge, choose_judge
from ..options import DEFAULT_MODEL, CallOptions, GrpoRunOptions, LoadingOptions, names_of, signed
from ..pipelines import loaded_of, open_pipeline
from ..rewards import default_reward, load_reward, reward_name, rewrite_margin
from ..settling import refuse_unused, settle
from ..text import clean_prompts
from ..worlds import world_of
from .curves import Curves
from .learning import Learner, Recipe
from .policy import ADAPTER_FILE, Policy
from .state import State, read_state
from .trackers import tracking
from .watch import Watch

# What may differ when a run goes on: how long it is, how it is looked at, where it computes.
_FREE = {
    "iterations",
    "max_minutes",
    "watch_every",
    "save_every",
    "tracker",
    "device",
    "offload",
    "batch_size",
    "revision",
}
AMPLIFIED = (
    "images are made with guidance and matching learns without: guidance then amplifies what was learned, for the worse; "
    "add --guidance 1 to make them without, too"
)


@dataclass
class Trained:
    """What a run has left: its folder, the last row of its curves and all of its held-out figures, and notes on it."""

    folder: Path
    row: dict[str, Any]
    watched: list[dict[str, Any]]
    notes: list[str] = field(default_factory=list)


@signed(GrpoRunOptions)
def train(
    prompts: Sequence[str],
    out: Path | str,
    *,
    held_out: Sequence[str] = (),
    pipeline: Any = None,
    on_progress: Callable[[int, int], None] | None = None,
    on_note: Callable[[str], None] | None = None,
    **options: Unpack[GrpoRunOptions],
) -> Trained:
    """Train a flow-matching pipeline on a reward by Flow-GRPO, with a judge as filter, and keep the adapter in `out`.

    A run that is there goes on. `held_out` prompts (default: the last of `prompts`, which are then not learned from) are
    drawn in full now and then. A `pipeline` handed over is used as it is. Raises `InputError`, `ModelError` or
    `ProbeMismatchError`, and `KeyboardInterrupt` after what was learned has been written.
    """
    o = settle(GrpoRunOptions, options, "grpo")
    refuse_unused(o, "grpo")
    run = _Run(o, clean_prompts(prompts), clean_prompts(held_out) if held_out else [], Path(out), pipeline)
    for note in run.notes if on_note else ():
        on_note(note)  # type: ignore[misc]
    try:
        return run.go(on_progress)
    except torch.OutOfMemoryError as error:
        raise InputError(
            f"the device is out of memory with {o['batch_size']} images at once; use a smaller --batch-size, --rank or --height "
            "and --width (what was learned so far is kept)"
        ) from error


class _Run:
    """A run in a folder."""

    def __init__(self, o: dict[str, Any], prompts: list[str], held_out: list[str], out: Path, pipeline: Any):
        _check_steps(o)
        accelerator = _accelerator()
        if accelerator is not None and o["device"] == "auto":
            o["device"] = str(accelerator.device)
        if pipeline is not None and o["model"] == DEFAULT_MODEL:  # the default is for those who hand none over
            o["model"] = loaded_of(pipeline).model or "the pipeline handed over"
        model = o["model"]
        pipeline, settings = open_pipeline(model, pipeline, **{n: o[n] for n in names_of(LoadingOptions, CallOptions)})
        named = o["reward"] or default_reward(model)
        if named is None:
            raise InputError("there is nothing to learn from; give --reward, such as image-reward or module:function")
        where = str(loaded_of(pipeline).options.get("device", "cpu"))
        reward = load_reward(named, where)
        world = world_of(model)
        decoder, told = decoder_for(pipeline, o["preview_decoder"], world.tiny if world else None)
        noisy = 0 if o["likelihood"] == "matching" else o["noisy_steps"] or max(1, o["filter_step"] - 1)
        policy = Policy(
            pipeline, steps=o["train_steps"], rank=o["rank"], targets=o["target"], level=o["noise"], noisy=noisy,
            settings=settings, seed=o["seed"],
        )  # fmt: skip
        judge: Judge | None = None
        notes: list[str] = []
        if o["filter"] == "probe" and o["probe"] is None and (world is None or world.probe is None):
            raise InputError(
                f"filter is 'probe', and {str(model)!r} has none; give --probe FOLDER of this model's, or --filter preview"
            )
        if o["filter"] in ("probe", "preview"):
            judge, notes = choose_judge(
                o["filter"], pipeline, model=model, probe=o["probe"], objective=o["objective"],
                reward=named if o["filter"] == "preview" else None, settings=settings, device=where, find_decoder=lambda: decoder,
            )  # fmt: skip
            try:
                notes += judge.check(
                    pipeline, steps=o["train_steps"], probe_step=o["filter_step"], early_step=None, settings=settings
                )
            except ProbeMismatchError as error:  # its remedy in the words of this command
                said = str(error).replace("--probe-step", "--filter-step").replace("--steps", "--train-steps")
                raise ProbeMismatchError(said) from error
        if policy.guided and o["likelihood"] == "matching":
            notes.append(AMPLIFIED)
        self.notes = [*loaded_of(pipeline).notes, *notes, *([told] if told else [])]
        if not held_out and o["watch_prompts"]:
            if len(prompts) <= o["watch_prompts"]:
                raise InputError(
                    f"{len(prompts)} prompts are given, and {o['watch_prompts']} of them would be held out; give more, --held-out, or a "
                    "smaller --watch-prompts"
                )
            prompts, held_out = prompts[: -o["watch_prompts"]], prompts[-o["watch_prompts"] :]
        others = [n.strip() for n in (o["watch"] or "").split(",") if n.strip()]
        watched = {reward_name(named): reward} | {reward_name(n): load_reward(n, where) for n in others}
        self.watch = Watch(
            held_out[: o["watch_prompts"]],
            watched,
            o["steps"],
            batch_size=o["batch_size"],
            settings=settings,
            decoder=decoder,
        )
        recipe = Recipe(
            groups=o["groups"], size=o["group_size"], filter=o["filter"], filter_step=o["filter_step"], share=o["share"],
            wider=o["wider"], least_spread=o["least_spread"], rate=o["rate"], clip=o["clip"], kl=o["kl"], passes=o["passes"],
            likelihood=o["likelihood"], draws=o["draws"], batch_size=o["batch_size"], margin=rewrite_margin(reward_name(named)), seed=o["seed"],
        )  # fmt: skip
        self.o, self.out = o, out
        self.learner = Learner(policy, reward, prompts, recipe, judge, decoder, accelerator)
        self.settings = {n: _plain(v) for n, v in o.items() if n not in _FREE} | {"prompts": len(prompts)}
        self.main = self.learner.process == 0

    def go(self, on_progress: Callable[[int, int], None] | None) -> Trained:
        o, learner = self.o, self.learner
        if self.main:
            make_folder(self.out)
        before = read_state(self.out, self.settings)
        if before is not None:
            before.put_back(learner)
        curves = Curves(self.out, learner.iteration, self.main)
        last = State.of(learner, self.settings)
        began, row, saved = time.monotonic(), curves.last, learner.iteration
        try:
            with tracking(o["tracker"], self.settings, learner.process) as track:
                self._look(curves, track)
                while learner.iteration < o["iterations"] and not self._late(began):
                    row = learner.step()
                    last = State.of(learner, self.settings)
                    if self.main:
                        curves.add(row)
                        track(row, learner.iteration)
                        if learner.iteration % o["save_every"] == 0:
                            self._write(last)
                            saved = learner.iteration
                    if learner.iteration % o["watch_every"] == 0:
                        self._look(curves, track)
                        if self.main:
                            curves.sheet(learner.seen, learner.iteration)
                    if on_progress:
                        on_progress(learner.iteration, o["iterations"])
                self._look(curves, track)
        finally:
            # What an interrupted iteration has changed is undone: the last whole one is kept.
            if self.main and (saved != last.told["iteration"] or not (self.out / ADAPTER_FILE).exists()):
                last.put_back(learner)
                self._write(last)
        return Trained(self.out, row, curves.watched, self.notes)

    def _write(self, state: State) -> None:
        state.write(self.out, {self.out / ADAPTER_FILE: self.learner.policy.adapter_file()})

    def _late(self, began: float) -> bool:
        minutes = self.o["max_minutes"]
        late = minutes is not None and time.monotonic() - began > 60 * minutes
        return self.learner.total(float(late)) > 0 if self.learner.processes > 1 else late

    def _look(self, curves: Curves, track: Any) -> None:
        """Draw the held-out prompts, unless that was done after this iteration already."""
        if not self.main or not self.watch.prompts or curves.has_looked(self.learner.iteration):
            return
        row, drawn = self.watch.look(self.learner.policy.pipeline)
        curves.look({"iteration": self.learner.iteration, "calls": self.learner.calls, **row})
        curves.sheet([(p, None, i) for p, i in drawn[:: self.watch.seeds][:12]], self.learner.iteration, "held-out")
        track({f"held-out {n}": v for n, v in row.items()}, self.learner.iteration)


def _check_steps(o: dict[str, Any]) -> None:
    steps, step = o["train_steps"], o["filter_step"]
    if o["filter"] != "none" and step >= steps:
        raise InputError(
            f"filter step is {step}, and the training run has {steps} steps; give one from 1 to {steps - 1}, before its end"
        )
    if o["noisy_steps"] is not None and o["noisy_steps"] >= steps:
        raise InputError(
            f"noisy steps is {o['noisy_steps']}; the last of {steps} steps has no noise: give at most {steps - 1}"
        )


def _accelerator() -> Any:
    """What joins the processes of `accelerate launch`; None for one process alone."""
    if int(os.environ.get("WORLD_SIZE", "1")) < 2:
        return None
    from accelerate import Accelerator

    return Accelerator()


def _plain(value: Any) -> Any:
    if callable(value):
        return reward_name(value)
    return (
        value
        if isinstance(value, (int, float, str, bool, type(None)))
        else [str(v) for v in value]
        if isinstance(value, tuple)
        else str(value)
    )
