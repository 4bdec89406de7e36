"""Which judge there is for a model: the one asked for, or the best that needs nothing more than what is at hand.

Comes in: `--judge`, the pipeline, a probe and a reward, if any. Goes out: a judge, and a line on which it is, how far it
can be trusted and what would make it better.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ..card import read_objective
from ..errors import InputError, ModelError
from ..guidance import is_guided
from ..probe import Probe
from ..rewards import RewardFunction, at_hand, default_reward, load_reward, reward_name
from ..worlds import world_of
from .base import Judge
from .focus import FocusJudge
from .gap import GapJudge
from .preview import PreviewJudge
from .probe import ProbeJudge, load_probe


def choose_judge(
    kind: str,
    pipeline: Any,
    *,
    model: str | Path,
    probe: str | Path | Probe | None,
    objective: str | None,
    reward: str | RewardFunction | None,
    settings: Mapping[str, Any],
    device: str = "cpu",
    find_decoder: Callable[[], Any] | None = None,
) -> tuple[Judge, list[str]]:
    """The judge `kind` (`auto`, `probe`, `preview`, `gap` or `focus`) for a pipeline, and notes on it.

    `auto` takes the probe given or known for the model, unless its own figures can't tell it from chance; else `preview`
    where a reward is given or its weights are on this machine; else `gap` with guidance; else `focus`. `find_decoder`
    gives that of previews where there are any. Raises
    `InputError` for what belongs to another judge, and what loading raises.
    """
    notes: list[str] = []
    told = kind != "auto"
    if kind in ("auto", "probe") and (kind == "probe" or probe is not None or _has_probe(model)):
        loaded = probe if isinstance(probe, Probe) else load_probe(probe, model)
        weights = read_objective(objective, loaded.card) if objective else {}
        judge: Judge = ProbeJudge(loaded, weights)
        doubt = loaded.card.doubt(judge.label)
        if told or not doubt:
            return judge, [f"the probe can hardly be trusted: {doubt}"] if doubt else []
        notes.append(f"the probe is not used: {doubt}; --judge probe uses it all the same")
    elif probe is not None:
        raise InputError(f"a probe is given, and the judge is {kind!r}, which reads none; leave one of them out")
    if objective and not notes:
        raise InputError(
            f"objective {objective!r} names heads of a probe, and there is none; leave it out, or give --probe"
        )
    wanted = (reward or default_reward(model) or at_hand()) if kind in ("auto", "preview") else None
    if kind == "auto":
        kind = "preview" if wanted else "gap" if is_guided(pipeline, settings) else "focus"
    if kind == "preview":
        if wanted is None:
            raise ModelError(
                "the judge preview measures with a reward model, and none is on this machine: give --reward, such as "
                "image-reward (downloaded once) or module:function of your own"
            )
        judge = PreviewJudge(
            pipeline, load_reward(wanted, device), reward_name(wanted), find_decoder and find_decoder()
        )
    else:
        judge = GapJudge() if kind == "gap" else FocusJudge(pipeline)
    if not told:
        notes.append(f"judge: {_about(judge, world_of(model) is not None)}")
    return judge, notes


def _has_probe(model: str | Path) -> bool:
    world = world_of(model)
    return world is not None and world.probe is not None


def _about(judge: Judge, built_in: bool) -> str:
    """What a person should know of a judge that was chosen for them. The figures: within a prompt, ImageReward on 512-pixel
    previews of FLUX.1-dev at 4 and 8 of 20 steps (TTSnap, arXiv:2511.22242)."""
    if judge.name == "preview":
        sure = "" if built_in else (
            "; a fifth into the run it tells little yet (rank correlation within a prompt about 0.24, at two fifths 0.68 on "
            "FLUX.1-dev): a later --probe-step is surer, a probe of this model (promptprobe collect, train) is cheaper"
        )  # fmt: skip
        return f"preview, {judge.label} of the predicted image{sure}"
    better = "--reward image-reward would judge the predicted image instead"
    if judge.name == "gap":
        return f"gap, how far guidance pulls, since no reward model is on this machine; a weak hint between seeds; {better}"
    return f"focus, how compactly the words are looked for, since there is neither a reward model nor guidance; a weak hint; {better}"
