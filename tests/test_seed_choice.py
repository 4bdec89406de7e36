"""Where nobody can reword a prompt, optimising it searches its seeds, and says so."""

from __future__ import annotations

import asyncio
import json

import numpy as np
import pytest
import torch
from promptprobe.agents import Service
from promptprobe.agents.batch import run_batch
from promptprobe.agents.estimate import estimate
from promptprobe.agents.plan import make_plan
from promptprobe.agents.server import make_app

from promptprobe import optimize
from promptprobe.runs import make_scorer

PROMPT = "a red cat and a blue dog"


def brightness(images, prompts):
    return torch.tensor([float(np.asarray(i).mean()) / 255 for i in images])


@pytest.fixture(scope="module")
def scorer(sd):
    return make_scorer(pipeline=sd, judge="preview", reward=brightness, steps=10, probe_step=2, height=32, width=32)


def test_the_words_stay_and_the_best_of_several_seeds_is_finished(scorer, tmp_path):
    before = scorer.denoiser_calls
    record = optimize(PROMPT, scorer=scorer, rewriter="offline", out=tmp_path)
    (own,) = record.candidates
    assert record.best_prompt == PROMPT and "seeds are searched" in record.stop_reason
    assert any("the words stay as they are" in note for note in record.notes)
    assert len(own.seeds) > 3 and record.seed == own.seeds[int(np.argmax(own.predicted))] and own.words
    made = scorer.denoiser_calls - before
    assert own.calls == made and record.denoiser_calls["used"] == made + 10 - 6  # the last look is at step 6
    assert record.reward is not None and json.loads(next(tmp_path.glob("*.json")).read_text())["seed"] == record.seed

    plan = make_plan(scorer=scorer, rewriter="offline")
    run_batch(plan, [PROMPT], tmp_path / "batch")
    line = json.loads((tmp_path / "batch" / "results.jsonl").read_text())
    assert (line["seed"], line["reward"]) == (record.seed, pytest.approx(record.reward, abs=1e-4))
    least, most = estimate(plan, 1)["denoiser calls"]
    assert least <= record.denoiser_calls["used"] <= most
    assert Service(plan).optimize(PROMPT)[0]["seed"] == record.seed


def test_several_images_of_a_request_are_of_different_seeds(scorer):
    httpx = pytest.importorskip("httpx")
    app = make_app(Service(make_plan(scorer=scorer, rewriter="offline", seeds_per_prompt=3)))

    async def ask():
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://127.0.0.1") as client:
            return await client.post("/v1/images/generations", json={"prompt": PROMPT, "n": 2}, timeout=None)

    first, second = (d["promptprobe"]["seed"] for d in asyncio.run(ask()).json()["data"])
    assert first in (0, 1, 2) and second in (3, 4, 5)


def test_seeds_that_were_asked_for_are_those_that_are_searched_and_no_rounds_search_none(scorer):
    record = optimize(PROMPT, scorer=scorer, rewriter="offline", seed=5, seeds_per_prompt=3)
    assert record.candidates[0].seeds == [5, 6, 7]
    record = optimize(PROMPT, scorer=scorer, rewriter="offline", rounds=0)
    assert record.candidates[0].seeds == [0] and record.stop_reason == "rounds used up"


def test_who_can_reword_or_is_satisfied_searches_no_seeds(scorer):
    class Own:
        name, calls_llm = "mine", False

        def rewrite(self, request):
            raise AssertionError("not asked")

    assert not make_plan(scorer=scorer, rewriter=Own()).search_seeds
    record = optimize(PROMPT, scorer=scorer, rewriter="offline", tau=-99.0)
    assert record.candidates[0].seeds == [0] and record.stop_reason == "good enough as it was"
