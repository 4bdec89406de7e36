"""Which judge there is for a model, the guidance gap, and the last choice by predicted images."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import torch
from conftest import close
from pipelines import build
from promptprobe.agents import final_choice
from promptprobe.agents.batch import run_batch
from promptprobe.agents.plan import make_plan
from promptprobe.agents.rewrites import Rewrite, RewriteAnswer

from promptprobe import InputError, ModelError, Probe, ProbeCard, icons, optimize, search_seeds, start
from promptprobe.backbones import denoiser_of
from promptprobe.guidance import is_guided
from promptprobe.judges import GapJudge, PreviewJudge, choose_judge
from promptprobe.rewards import at_hand
from promptprobe.runs import make_scorer
from promptprobe.trajectory import advance

PROMPT = "a red cat and a blue dog"
SIZE = {"height": 32, "width": 32}


@pytest.fixture(scope="module")
def flux():
    return build("flux")


def brightness(images, prompts):
    return torch.tensor([float(np.asarray(i).mean()) / 255 for i in images])


def choose(pipeline, kind="auto", probe=None, reward=None, objective=None, **settings):
    return choose_judge(
        kind, pipeline, model="somebody/model", probe=probe, objective=objective, reward=reward,
        settings=SIZE | settings,
    )  # fmt: skip


def card_of(srcc, **more):
    return ProbeCard(
        denoiser="UNet2DConditionModel", blocks=["down_blocks.0.attentions.0.transformer_blocks.0.attn2"], steps=10,
        probe_steps=[4], timesteps={}, scheduler="", guidance_scale=None, height=None, width=None, labels=["r"],
        variant="maps", figures={"validation r": {"SRCC": srcc}} if srcc else {}, **more,
    )  # fmt: skip


def test_auto_takes_the_best_judge_that_there_is(sd, monkeypatch):
    assert at_hand() is None
    gap, (told,) = choose(sd, guidance_scale=5.0)
    assert gap.name == "gap" and "weak hint" in told and "--reward image-reward" in told
    focus, (told,) = choose(sd, guidance_scale=1.0)
    assert focus.name == "focus" and "neither a reward model nor guidance" in told
    seen, (told,) = choose(sd, reward=brightness)
    assert isinstance(seen, PreviewJudge) and seen.label == "brightness" and "brightness of the predicted image" in told
    assert choose(sd, "focus", reward=brightness)[1] == []
    sure = Probe(card_of({"value": 0.5, "low": 0.4, "high": 0.6}))
    assert choose(sd, probe=sure, reward=brightness)[0].probe is sure
    assert choose(sd, probe=Probe(card_of(None)), reward=brightness)[0].name == "probe"


def test_a_probe_that_is_no_better_than_chance_is_not_used_by_itself(sd):
    for low in (-1.0, float("nan")):
        unsure = Probe(card_of({"value": 0.3, "low": low, "high": 1.0}, data={"validation items": 16}))
        judge, notes = choose(sd, probe=unsure, reward=brightness)
        assert judge.name == "preview" and "not used" in notes[0] and "16 validation images" in notes[0]
        judge, (told,) = choose(sd, "probe", probe=unsure)
        assert judge.name == "probe" and "hardly be trusted" in told


def test_what_belongs_to_another_judge_is_named(sd):
    probe = Probe(card_of(None))
    with pytest.raises(InputError, match="the judge is 'focus', which reads none"):
        choose(sd, "focus", probe=probe)
    with pytest.raises(InputError, match="objective 'x' names heads of a probe"):
        choose(sd, objective="x")
    with pytest.raises(ModelError, match="needs a probe of its own"):
        choose(sd, "probe")
    with pytest.raises(ModelError, match="none is on this machine: give --reward"):
        choose(sd, "preview")
    with pytest.raises(InputError, match="gap needs guidance by two predictions a step"):
        make_scorer("x/y", pipeline=sd, judge="gap", guidance=1.0, height=32, width=32)


@pytest.mark.numbers
def test_the_gap_is_the_sum_over_the_steps_whether_paused_or_not(sd):
    calls: list[torch.Tensor] = []
    hook = denoiser_of(sd).register_forward_hook(
        lambda m, i, out: calls.append((out[0] if isinstance(out, tuple) else out.sample).clone())
    )
    how = {"steps": 8, "guidance_scale": 4.0, "gap": True, **SIZE}
    try:
        whole = start(sd, [PROMPT, "a house"], [1, 2], stop=5, **how)
    finally:
        hook.remove()
    expected = sum((c[:2] - c[2:]).square().flatten(1).mean(1) for c in calls[:5])
    assert len(calls) == 5 and close(whole.gap, expected) and float(whole.gap.min()) > 0
    part = advance(sd, start(sd, [PROMPT, "a house"], [1, 2], stop=2, **how), [1], stop=5, gap=True)
    assert close(part.gap, whole.gap[1:], 1e-4)
    assert start(sd, [PROMPT], [1], stop=3, **{**how, "guidance_scale": 1.0}).gap is None
    assert start(sd, [PROMPT], [1], stop=3, **{**how, "gap": False}).gap is None


def test_two_denoiser_calls_a_step_have_a_gap_too(flux):
    how = {"steps": 4, "stop": 2, "gap": True, **SIZE}
    guided = {"true_cfg_scale": 3.0, "negative_prompt": "blur"}
    assert is_guided(flux, guided) and not is_guided(flux, {"guidance_scale": 5.0, "true_cfg_scale": 3.0})
    paused = start(flux, [PROMPT, PROMPT], [1, 2], **how, **guided)
    assert paused.gap.shape == (2,) and float(paused.gap.min()) > 0
    assert start(flux, [PROMPT], [1], **how).gap is None


def test_wordings_are_looked_at_again_later_and_against_another_prompt(sd):
    seen = []

    def reward(images, prompts):
        seen.append(list(prompts))
        return brightness(images, prompts)

    scorer = make_scorer("x/y", pipeline=sd, judge="gap", steps=10, probe_step=3, guidance=4.0, **SIZE)
    scored = scorer.score([PROMPT, "a house"], [1, 2])
    spent = scorer.denoiser_calls
    again = scorer.look_again(scored, PreviewJudge(sd, reward), 5, [PROMPT, PROMPT])
    assert seen == [[PROMPT] * 4] and scorer.denoiser_calls == spent + 8
    assert [s.calls for s in again] == [10, 10] and all(p.step == 5 for s in again for p, _ in s.trajectories)
    assert [s.prompt for s in again] == [PROMPT, "a house"] and again[0].predicted != scored[0].predicted


def test_a_rewrite_must_win_by_a_margin():
    assert final_choice.winner({0: 0.5, 3: 0.54, 7: 0.2}, 0.05) == 0
    assert final_choice.winner({0: 0.5, 3: 0.56, 7: 0.2}, 0.05) == 3
    assert final_choice.winner({0: 0.5, 3: 0.56, 7: 0.58}, 0.05, unsure=[3, 7]) == 0
    assert final_choice.winner({0: 0.5, 3: 0.56, 7: 0.61}, 0.05, unsure=[7]) == 7
    assert final_choice.winner({0: 0.5, 3: 0.56, 7: 0.59}, 0.05, unsure=[7]) == 3
    assert final_choice.winner({0: float("-inf"), 3: 0.1}, 0.05) == 3


class Proposes:
    name, calls_llm = "mine", False

    def __init__(self, *prompts):
        self.prompts = prompts

    def rewrite(self, request):
        return RewriteAnswer([Rewrite("mine", p) for p in self.prompts])


@pytest.fixture(scope="module")
def copied(tmp_path_factory):
    """The icon world's pipeline as a model that nothing is known of: no probe, no reward, no thesaurus."""
    folder = tmp_path_factory.mktemp("model") / "somebodys"
    shutil.copytree(icons.UNET_PIPELINE, folder)
    return folder


@pytest.fixture(scope="module")
def without_probe(copied):
    return make_plan(
        model=copied, reward="icons", guidance=3.0, rounds=1, rewriter=Proposes("two red cars", "2 red autos")
    )


def test_a_model_without_a_probe_gives_a_better_picture(without_probe, copied, tmp_path):
    plan = without_probe
    assert plan.threshold is None and any("no τ" in note for note in plan.notes)
    record = optimize("a pair of crimson automobiles", plan=plan, out=tmp_path / "one")
    assert record.tau is None and record.settings["judge"] == "preview" and record.stop_reason == "rounds used up"
    previews = {c.id: c.preview for c in record.candidates if c.preview is not None}
    assert (
        set(previews) == {0, 1, 2}
        and record.best_prompt == record.candidates[final_choice.winner(previews, 0.05)].prompt
    )
    # Of a model that nothing is known of, predicted images are compared at two fifths of the run.
    assert final_choice.choice_step(plan.scorer) == 10 and {c.calls for c in record.candidates} == {10}
    assert record.denoiser_calls["used"] == 3 * 10 + 15
    summary = run_batch(plan, ["a pair of crimson automobiles", "a blue tree"], tmp_path / "many")
    assert summary["left"] == summary["failed"] == 0
    found = search_seeds("two red cars", 3, scorer=plan.scorer, out=tmp_path / "seeds")
    assert found.judges == ["preview"] and found.winners[0].reward is not None


def test_a_reward_that_fails_leaves_the_best_so_far(without_probe, monkeypatch):
    def fails(*args, **kwargs):
        raise InputError("no clean latents")

    monkeypatch.setattr(type(without_probe.scorer), "look_again", fails)
    record = optimize("a pair of crimson automobiles", plan=without_probe)
    best = max((c for c in record.candidates if c.score is not None), key=lambda c: c.score)
    assert record.best_prompt == best.prompt and "not chosen by predicted images: no clean latents" in record.notes


def test_the_gap_judges_where_there_is_no_reward(copied):
    found = search_seeds("two red cars", 3, model=copied, guidance=3.0)
    assert found.judges == ["gap"] and any(note.startswith("judge: gap") for note in found.notes)
    assert isinstance(make_scorer(copied, guidance=3.0).judge, GapJudge)
