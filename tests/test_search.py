"""Search over seeds: what each policy costs, that winners are what plain generation gives, and what can go wrong."""

from __future__ import annotations

import json
import math
import weakref

import numpy as np
import pytest
import torch
from conftest import close
from PIL import Image

from promptprobe import InputError, Probe, ProbeCard, ProbeMismatchError, icons
from promptprobe.backbones import probed_blocks
from promptprobe.cli import main
from promptprobe.diagnosis import diagnose
from promptprobe.judges import ProbeJudge
from promptprobe.observation import observe
from promptprobe.policies import _diverse
from promptprobe.runs import make_scorer
from promptprobe.scoring import Scorer
from promptprobe.search import select_seed
from promptprobe.thresholds import read_tau
from promptprobe.trajectory import finish, preview, start

PROMPT = "a red cat and a blue dog"
SIZE = {"height": 32, "width": 32}
GRID = [round(float(x), 4) for x in np.linspace(-1, 1, 101)]


def brightness(images, prompts):
    return torch.tensor([float(np.asarray(i).mean()) / 255 for i in images])


@pytest.fixture
def scorer(sd):
    torch.manual_seed(0)
    steps = [2, 4, 6]
    card = ProbeCard(
        denoiser="UNet2DConditionModel", blocks=probed_blocks(sd), steps=25, probe_steps=steps, timesteps={},
        scheduler=type(sd.scheduler).__name__, guidance_scale=None, height=32, width=32, labels=["brightness"],
        variant="maps", within={"brightness": {str(k): 0.01 for k in steps}},
        residuals={"brightness": {str(k): GRID for k in steps}},
        quantiles={"brightness": {str(k): GRID for k in steps}},
    )  # fmt: skip
    return Scorer(sd, ProbeJudge(Probe(card).eval()), 25, 4, dict(SIZE))


def generated(sd, seed):
    return finish(sd, start(sd, [PROMPT], [seed], steps=25, stop=25, watch=(), **SIZE))[0]


@pytest.mark.numbers
def test_policies_cost_what_they_say_and_give_the_seed_s_own_image(scorer, sd):
    seeds = list(range(10))
    full = select_seed(scorer, PROMPT, seeds, policy="full", reward=brightness)
    fixed = select_seed(scorer, PROMPT, seeds, policy="fixed", reward=brightness)
    racing = select_seed(scorer, PROMPT, seeds, policy="racing", reward=brightness)
    part = scorer.share  # of the last probed step, which is cut off for all and made anew for the winner
    assert part == pytest.approx(2 / 7)  # attention modules of the down blocks, of all
    assert full.denoiser_calls == 250 and fixed.denoiser_calls == round(10 * (3 + part) + 22, 2)
    last = max(max(s.predicted) for s in racing.seeds)
    ran = sum(last in s.predicted for s in racing.seeds)  # to the last stage, whose step is cut off if several do
    cut = ran * (part - 1) + 1 if ran * (1 - part) > 1 else 0
    assert racing.denoiser_calls == round(sum(s.stopped_at for s in racing.seeds) + cut, 2) <= 55
    rewards = {s.seed: s.reward for s in full.seeds}
    assert full.best == [max(rewards, key=rewards.get)]
    decoded = select_seed(scorer, PROMPT, seeds, policy="decoded", reward=brightness)
    assert decoded.denoiser_calls == 10 * 4 + 21
    raced = select_seed(scorer, PROMPT, seeds, policy="decoded-racing", reward=brightness)
    assert raced.denoiser_calls == sum(s.stopped_at for s in raced.seeds) <= 55
    judged = [s for s in raced.seeds if last in s.predicted]
    assert raced.best[0] == max(judged, key=lambda s: s.predicted[last]).seed
    for found in (fixed, racing, decoded, raced):
        # Two grey levels of 255: what another batch size may round to, here as below in each pixel.
        assert found.seeds[found.best[0]].reward == pytest.approx(rewards[found.best[0]], abs=2 / 255)
        difference = np.asarray(found.images[0], int) - np.asarray(generated(sd, found.best[0]), int)
        assert abs(difference).max() <= 2
    assert {s.why for s in racing.seeds} > {"finished"} and all(s.predicted for s in racing.seeds)


def test_hopeless_seeds_are_dropped_before_the_quota(scorer):
    certain = select_seed(scorer, PROMPT, range(10), policy="racing")
    for k in ("2", "4", "6"):
        scorer.judge.probe.card.within["brightness"][k] = 1e-9
    sure = select_seed(scorer, PROMPT, range(10), policy="racing")
    assert sure.denoiser_calls < certain.denoiser_calls
    assert any("a chance of 0.00" in s.why for s in sure.seeds)


@pytest.mark.numbers
def test_what_is_only_scored_is_cut_off_and_scores_the_same(scorer):
    prompts = ["a red cat", "a blue dog"]
    whole = scorer.score(prompts, [1, 2])
    assert [s.calls for s in whole] == [2 * 4, 2 * 4] and scorer.denoiser_calls == 16
    for winners, calls in ((0, 3 + scorer.share), (1, 3 + scorer.share), (4, 4)):
        before = scorer.denoiser_calls
        seen = scorer.score(prompts, [1, 2], winners=winners)
        assert scorer.denoiser_calls - before == pytest.approx(4 * calls) == sum(s.calls for s in seen)
        assert close([s.predicted for s in seen], [s.predicted for s in whole])
    early = Scorer(scorer.pipeline, scorer.judge, 25, 4, dict(SIZE), early_step=2)
    looked = early.score(prompts, [1, 2], winners=1)
    assert {s.calls for s in looked if not s.dropped} == {2 * (3 + scorer.share)}
    assert early.denoiser_calls == pytest.approx(sum(s.calls for s in looked))


def test_top_and_diverse_keep_several(scorer):
    found = select_seed(scorer, PROMPT, [5, 6, 7, 8], policy="fixed", top=3, diverse=0.5)
    assert len(set(found.best)) == len(found.images) == 3
    assert found.denoiser_calls == 4 * 4 + 3 * 21  # so many go on that nothing is cut off
    features = torch.tensor([[1.0, 0], [1, 0.01], [0, 1]])
    assert _diverse([1.0, 0.95, 0.5], 2, 0.0, features) == [0, 1]
    assert _diverse([1.0, 0.95, 0.5], 2, 0.9, features) == [0, 2]


@pytest.mark.parametrize(
    "seeds,options,message",
    [
        ([], {}, "no seeds"), ([1, 2, 1], {}, "seed 1 is given twice"), ([1], {"top": 2}, "top is 2"),
        ([1], {"top": 0}, "top is 0"), ([-1], {}, "seed is -1"), ([1], {"policy": "luck"}, "policy is 'luck'"),
        ([1], {"diverse": 2}, "diverse is 2"), ([1], {"policy": "full"}, "give a reward"),
        ([1], {"policy": "decoded"}, "policy decoded measures images"),
    ],
)  # fmt: skip
def test_bad_searches_are_refused(scorer, seeds, options, message):
    with pytest.raises(InputError, match=message):
        select_seed(scorer, PROMPT, seeds, **options)


def test_one_seed_is_simply_finished(scorer):
    found = select_seed(scorer, PROMPT, [3])
    assert found.best == [3] and found.denoiser_calls == 25


def test_racing_needs_a_probe_of_several_steps(scorer):
    scorer.judge.probe.card.probe_steps = [4]
    with pytest.raises(ProbeMismatchError, match="racing needs a probe of several steps"):
        select_seed(scorer, PROMPT, [1, 2, 3])


def test_values_that_are_no_numbers_are_out_and_told(scorer, monkeypatch):
    probe = scorer.judge.probe
    original = probe.predict
    monkeypatch.setattr(probe, "predict", lambda *a, **k: [math.nan, *original(*a, **k)[1:]])
    found = select_seed(scorer, PROMPT, [1, 2, 3], policy="fixed")
    assert 1 not in found.best and found.seeds[0].why == "not a number" and "seed 1 gave values" in found.notes[-1]
    monkeypatch.setattr(probe, "predict", lambda seen, *a, **k: [math.nan] * len(seen))
    with pytest.raises(InputError, match="all 3 seeds gave values that are no numbers"):
        select_seed(scorer, PROMPT, [1, 2, 3], policy="fixed")


def test_ctrl_c_keeps_the_best_so_far(scorer):
    def stop(event, values):
        if event == "dropped" and values["step"] == 2:
            raise KeyboardInterrupt

    found = select_seed(scorer, PROMPT, range(6), on_event=stop)
    assert len(found.images) == 1 and "interrupted" in found.notes[-1]

    def stops(images, prompts):
        raise KeyboardInterrupt

    scorer.batch_size = 2
    with pytest.raises(KeyboardInterrupt):  # nothing was finished yet
        select_seed(scorer, PROMPT, range(6), policy="full", reward=stops)
    batches = []

    def third_stops(images, prompts):
        batches.append(len(images))
        if len(batches) == 3:
            raise KeyboardInterrupt
        return brightness(images, prompts)

    kept = select_seed(scorer, PROMPT, range(6), policy="full", reward=third_stops)
    assert kept.best[0] in range(4) and "best of the 4 finished ones" in kept.notes[-1]


@pytest.mark.numbers
def test_out_of_memory_halves_the_batch_and_loses_nothing(scorer, monkeypatch):
    whole = scorer.score([PROMPT], range(6))[0].predicted
    sizes = []
    original = scorer.begin

    held, freed = [], []

    def limited(batch, *more):
        sizes.append(len(batch))
        if len(batch) > 2:
            large = torch.zeros(8)
            held.append(weakref.ref(large))
            raise torch.OutOfMemoryError("CUDA out of memory")
        return original(batch, *more)

    monkeypatch.setattr(scorer, "begin", limited)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: freed.append(held[-1]() is None))
    assert close(scorer.score([PROMPT], range(6))[0].predicted, whole, 1e-4)  # another batch size, for 4 steps
    assert freed == [True, True]  # nothing of the failed batch was left when the device's memory was given back
    assert sizes == [6, 3, 1, 1, 1, 1, 1, 1] and "going on with 1" in scorer.warnings[-1]

    def never(batch, *more):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(scorer, "begin", never)
    with pytest.raises(InputError, match="out of memory with one image"):
        scorer.score([PROMPT], [1])


def test_of_each_candidate_the_mean_map_is_kept_and_not_each_block_s(scorer, sd):
    scored = scorer.score([PROMPT, "a cat"], [1])
    seen = start(sd, [PROMPT, "a cat"], [1, 1], steps=25, stop=4, **SIZE)
    for i, s in enumerate(scored):
        (paused, row), tokens = s.trajectories[0], len(s.tokens.columns)
        own = seen.token_maps[4][i, :tokens]
        assert own.shape[1] > 1 and close(s.maps, own.mean(1, keepdim=True))
        whole = diagnose(own, s.tokens)
        assert close([w.focus for w in s.words], [w.focus for w in whole], 1e-3)  # both are rounded to four digits
        assert paused.token_maps[4].shape[2] == 1 and paused.token_embeddings is None
        assert preview(sd, paused, [row])[0].size == (SIZE["width"], SIZE["height"])
        with pytest.raises(InputError, match="was not watched; watched were mean"):
            observe(paused, 4).only(probed_blocks(sd))


@pytest.mark.numbers
def test_wordings_that_can_hardly_win_are_given_up_early(scorer, sd):
    prompts = ["a red cat", "a blue dog", "a cat and a dog"]
    early = Scorer(sd, scorer.judge, 25, 4, dict(SIZE), early_step=2)
    scorer.judge.probe.card.within["brightness"]["2"] = 1e-9  # sure of itself: only the best stays
    raced = early.score(prompts, [1, 2])
    alive = [s for s in raced if s.dropped is None]
    assert len(alive) == 1 and early.denoiser_calls == 6 * 2 + 2 * 2
    assert [s.calls for s in raced] == [2 * 2 if s.dropped else 2 * 4 for s in raced]
    plain = {s.prompt: s.predicted for s in scorer.score(prompts, [1, 2])}
    assert close(alive[0].predicted, plain[alive[0].prompt], 1e-4)
    assert all("a chance of 0.00" in s.dropped and not s.trajectories for s in raced if s.dropped)
    apart = early.score(prompts, [1], groups=[0, 1, 2])
    assert all(s.dropped is None for s in apart)
    with pytest.raises(ProbeMismatchError, match="has these steps before step 4: 2"):
        Scorer(sd, scorer.judge, 25, 4, dict(SIZE), early_step=3)


def test_tau_as_a_probability_is_the_interval_s_bound(scorer):
    card = scorer.judge.probe.card
    assert read_tau("0.5@0.8", scorer.judge, 4, 25) == pytest.approx(0.5 + 0.6, abs=1e-3)  # residuals even in -1..1
    low, high = card.interval(0.0, 0.8, step=4)
    assert (low, high) == pytest.approx((-0.8, 0.8), abs=1e-3)
    with pytest.raises(InputError, match="reward@probability"):
        read_tau("0.5@2", scorer.judge, 4, 25)
    with pytest.raises(InputError, match="no residuals of 'brightness' at step 3"):
        card.interval(0.0, step=3)


@pytest.mark.numbers
def test_seeds_command_writes_images_that_can_be_replayed(tmp_path, capsys):
    main_exit(
        ["seeds", "two red cars", "--seeds", "4", "--policy", "fixed", "--top", "2", "--out", str(tmp_path), "--json"]
    )
    found = json.loads(capsys.readouterr().out)
    assert len(found["best"]) == 2 and found["denoiser_calls"] == 4 * 5 + 2 * 20
    images = sorted(tmp_path.glob("*.png"))
    assert len(images) == 2
    main_exit(["replay", str(images[0]), "--out", str(tmp_path / "again.png")])
    assert "again.png: " in capsys.readouterr().out
    with Image.open(images[0]) as a, Image.open(tmp_path / "again.png") as b:
        assert abs(np.asarray(a, int) - np.asarray(b, int)).max() <= 2
    for wrong, message in (
        (["--seeds", "0"], "seeds is 0"),
        (["--seeds", "3,3"], "given twice"),
        (["--seeds", "x"], "seeds is 'x'"),
    ):
        with pytest.raises(SystemExit) as stop:
            main(["seeds", "a cat", *wrong, "--out", str(tmp_path)])
        assert stop.value.code == 2 and message in capsys.readouterr().err


def main_exit(arguments):
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code in (0, None)


def test_the_icon_probe_races():
    assert len(Probe.load(icons.PROBE).card.probe_steps) > 1
    found = select_seed(make_scorer(), "two red cars above a blue fish", range(10))
    assert found.denoiser_calls <= 55


@pytest.mark.numbers
def test_objectives_weigh_the_heads(scorer, sd):
    from promptprobe.card import read_objective

    torch.manual_seed(1)
    card = ProbeCard(**{**vars(scorer.judge.probe.card), "labels": ["brightness", "size"]})
    probe = Probe(card).eval()
    first, both, second = (
        Scorer(sd, ProbeJudge(probe, read_objective(text, card)), 25, 4, dict(SIZE)).score([PROMPT], [1])[0].score
        for text in ("brightness", "brightness=2,size=-1", "size")
    )
    rounding = 1e-4 * (abs(2 * first) + abs(second))  # of the terms: their difference may be small
    assert both == pytest.approx(2 * first - second, abs=rounding) and first != second
    for wrong, message in (("speed", "is no head of this probe; it has brightness, size"), ("size=much", "no number")):
        with pytest.raises(InputError, match=message):
            read_objective(wrong, card)
    with pytest.raises(InputError, match="for a weighted objective give a number"):
        read_tau("q0.6", ProbeJudge(probe, {"brightness": 1.0, "size": 1.0}), 4, 25)
    assert read_tau("0.7", ProbeJudge(probe, {"brightness": 1.0, "size": 1.0}), 4, 25) == 0.7
