"""The policy `staged`: what is decided from looks, what is planned for a budget, and what a search then does."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from diffusers import FluxPipeline

from promptprobe import InputError
from promptprobe.judges import Judgement, PreviewJudge
from promptprobe.scoring import Scorer
from promptprobe.search import select_seed, usual_policy
from promptprobe.stage_rows import ROWS
from promptprobe.staged import plan_for
from promptprobe.stages import margins, plan_stages, row_for, spread_of

PROMPT = "a red cat and a blue dog"
SIZE = {"height": 32, "width": 32}
FLUX = ROWS[0]


def brightness(images, prompts):
    return torch.tensor([float(np.asarray(i).mean()) / 255 for i in images])


@pytest.fixture
def scorer(sd):
    return Scorer(sd, PreviewJudge(sd, brightness, "brightness"), 20, 4, dict(SIZE))


def ten_times(pipeline):
    return Scorer(
        pipeline, PreviewJudge(pipeline, lambda i, p: 10 * brightness(i, p), "image-reward"), 20, 4, dict(SIZE)
    )


@pytest.fixture
def known(sdxl):
    """A judge of a model and a reward of which there are figures."""
    return ten_times(sdxl)


def test_a_plan_says_what_to_expect():
    plan = plan_stages(3, None, 20, FLUX)
    assert plan.looks == (6, 8, 10, 12, 14, 16)
    assert plan.note.endswith("as good as the best of about 4.7; measured on FLUX.1-dev with ImageReward")
    assert plan_stages(3, 5, 20, FLUX).price < plan.price  # who has fewer to choose from, looks longer
    assert plan_stages(3.5, 10, 20, FLUX) == plan_stages(3.5, None, 20, FLUX)
    assert plan_stages(5, None, 20, FLUX).price < plan.price  # who has more, looks longer
    assert plan_stages(3, 4, 20, FLUX).seeds == 4
    other = plan_stages(3, None, 20, None)
    assert other.row is None and other.left[-1] == 1 and "no figures are known" in other.note
    fine_tuned = type("MyPipeline", (FluxPipeline,), {})
    assert row_for(FluxPipeline, "image-reward") is row_for(fine_tuned, "image-reward") is FLUX
    assert row_for(FluxPipeline, "x") is None
    for wrong in (0.5, math.nan):
        with pytest.raises(InputError, match="it must be at least 1, the price of one image"):
            plan_stages(wrong, None, 20, FLUX)


def test_runs_of_few_steps_have_one_late_look_or_none():
    for steps in (1, 2, 3):
        assert plan_stages(3, None, steps, FLUX).looks == () and plan_stages(3, None, steps, FLUX).seeds == 3
    plan = plan_stages(3, None, 4, FLUX)
    assert plan.looks == (3,) and plan.left == (1,) and "another wording does more" in plan.note


def test_margins_are_worth_less_at_a_higher_price():
    low, high = margins(FLUX.looks, 0.1), margins(FLUX.looks, 1.0)
    assert (low > high).all() and low[-1] < 0 < low[0]
    even, wide = spread_of(FLUX, np.zeros(4)), spread_of(FLUX, np.array([-2.0, 0, 1, 2]))
    assert 0 < even < FLUX.spread < wide


def test_staged_spends_less_than_all_and_says_before_what_it_does(scorer):
    said = []
    found = select_seed(
        scorer, PROMPT, range(6), policy="staged", budget=3, reward=brightness, on_event=lambda *e: said.append(e)
    )
    assert said[0][0] == "planned" and said[0][1]["note"] == found.notes[0]
    assert len(found.images) == 1 and found.denoiser_calls <= 3 * 20
    assert usual_policy(scorer) == "staged"


def test_seeds_go_on_by_what_they_are_worth(known):
    found = select_seed(known, PROMPT, range(8), policy="staged", budget=4)
    winner = found.winners[0]
    assert sorted(winner.predicted) == [6, 8, 10, 12, 14, 16] and winner.why == "finished"
    assert {len(s.predicted) for s in found.seeds} - {6}  # not all go so far
    assert found.denoiser_calls == sum(max(s.predicted, default=0) for s in found.seeds) + 4
    two = select_seed(known, PROMPT, range(3), policy="staged", budget=2, top=2)
    assert len(two.images) == len(set(two.best)) == 2


def test_figures_of_one_model_are_not_taken_for_another_s(sd, known):
    """Stable Diffusion 1.5 and SDXL have a denoiser of one class."""
    notes = [plan_for(s, s.judge, 3, None).note for s in (known, ten_times(sd))]
    assert notes[0].endswith("measured on SDXL with ImageReward")
    assert notes[1].endswith("no figures are known for this model and judge")


def test_seeds_whose_look_is_no_number_are_out(known, monkeypatch):
    judge = known.judge.judge
    nothing = Judgement(math.nan)
    monkeypatch.setattr(known.judge, "judge", lambda seen: [nothing if len(seen) > 1 and i == 1 else j
                                                            for i, j in enumerate(judge(seen))])  # fmt: skip
    found = select_seed(known, PROMPT, range(6), policy="staged")
    assert found.seeds[1].why == "not a number" and any("seed 1 gave values" in n for n in found.notes)
    monkeypatch.setattr(known.judge, "judge", lambda seen: [nothing] * len(seen))
    with pytest.raises(InputError, match="no numbers"):
        select_seed(known, PROMPT, range(6), policy="staged")


def test_a_budget_stands_beside_staged_only(scorer):
    with pytest.raises(InputError, match="budget is 3 beside policy fixed"):
        select_seed(scorer, PROMPT, [1, 2], policy="fixed", budget=3)
    with pytest.raises(InputError, match=r"diverse is 0.3, which does nothing beside policy staged; leave it out"):
        select_seed(scorer, PROMPT, [1, 2], policy="staged", diverse=0.3)
    with pytest.raises(InputError, match=r"last judge is \w+, which does nothing beside policy staged"):
        select_seed(scorer, PROMPT, [1, 2], policy="staged", last_judge=scorer.judge)


def test_ctrl_c_finishes_the_best_so_far(known):
    def stop(event, values):
        if event == "probed" and values["step"] == 8:
            raise KeyboardInterrupt

    found = select_seed(known, PROMPT, range(6), policy="staged", on_event=stop)
    assert len(found.images) == 1 and "interrupted" in found.notes[-1]
