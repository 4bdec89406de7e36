"""Judges: what they are shown, what each says, that judge and policy are chosen apart, and one race for everything."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import close

from promptprobe import InputError, Probe, ProbeCard, ProbeMismatchError, start
from promptprobe.backbones import probed_blocks
from promptprobe.diagnosis import diagnose
from promptprobe.judges import FocusJudge, Judge, Judgement, Needs, PreviewJudge, ProbeJudge
from promptprobe.observation import Observation, observe
from promptprobe.race import Race, chance_to_beat
from promptprobe.scoring import Scorer
from promptprobe.search import select_pair, select_seed, settle_search, usual_policy
from promptprobe.thresholds import threshold
from promptprobe.trajectory import preview

PROMPT = "a red cat and a blue dog"
SIZE = {"height": 32, "width": 32}


def brightness(images, prompts):
    return torch.tensor([float(np.asarray(i).mean()) / 255 for i in images])


class SeedJudge(Judge):
    """One in a file of the user's own: prefers what `worth` says of a prompt, and notes at what it looked."""

    name = "mine"
    label = "worth"

    def __init__(self, worth, uncertainty=None, needs=Needs()):  # noqa: B008 - frozen
        self.worth, self.uncertainty, self.needs = worth, uncertainty, needs
        self.seen: list[Observation] = []

    def judge(self, seen):
        self.seen.append(seen)
        return [Judgement(float(self.worth(seen.paused.prompts[r], seen.paused.seeds[r])), self.uncertainty)
                for r in seen.rows]  # fmt: skip


def scorer_of(sd, judge, **more):
    return Scorer(sd, judge, 10, 4, dict(SIZE), **more)


@pytest.fixture
def paused(sd):
    return start(sd, [PROMPT, "a small house", PROMPT], [1, 2, 3], steps=10, stop=4, watch=(2, 4), **SIZE)


def test_an_observation_is_what_a_batch_shows_at_a_step(paused, sd):
    seen = observe(paused, 4)
    assert len(seen) == 3 and seen.step == 4 and seen.steps == 10 and seen.blocks == tuple(probed_blocks(sd))
    assert torch.equal(seen.maps, paused.token_maps[4]) and torch.equal(seen.clean, paused.clean_latents[4])
    assert seen.counts.tolist() == [len(t.columns) for t in paused.tokens]
    assert seen.against == tuple(paused.prompts) and seen.timesteps.tolist() == [paused.timesteps[4]] * 3
    some = observe(paused, 4, [2, 1], against=["x", "y"])
    assert some.rows == (2, 1) and some.against == ("x", "y") and some.tokens[0].prompt == PROMPT
    assert torch.equal(some.maps, seen.maps[[2, 1]]) and torch.equal(some.embeddings, seen.embeddings[[2, 1]])
    assert torch.equal(some.select([1]).clean, seen.clean[[1]]) and some.select([1]).rows == (1,)
    last = seen.only(seen.blocks[::-1][:1])
    assert torch.equal(last.maps[:, :, 0], seen.maps[:, :, -1])
    with pytest.raises(AttributeError):
        seen.step = 5
    with pytest.raises(InputError, match="step 3 was not watched; watched were 2, 4"):
        observe(paused, 3)
    with pytest.raises(InputError, match="block 'x' was not watched"):
        seen.only(["x"])


@pytest.mark.parametrize(
    "change,message",
    [
        ({"maps": torch.zeros(3, 4, 2, 8)}, "token maps have shape"),
        ({"counts": torch.tensor([1, 2])}, "counts have shape"), ({"counts": torch.tensor([5, 1, 1])}, "1 to 4 tokens"),
        ({"counts": torch.tensor([0, 1, 1])}, "1 to 4 tokens"), ({"timesteps": torch.zeros(2)}, "timesteps have shape"),
        ({"embeddings": torch.zeros(3, 5, 6)}, "text embeddings have shape"), ({"blocks": ("a",)}, "1 blocks are named"),
        ({"clean": torch.zeros(2, 4, 8, 8)}, "clean latents have shape"), ({"against": ("x",)}, "1 prompts to measure"),
    ],
)  # fmt: skip
def test_shapes_that_do_not_fit_are_refused(change, message):
    whole = Observation(torch.zeros(3, 4, 2, 8, 8), torch.tensor([4, 1, 2]), torch.zeros(3), 5, 25)
    with pytest.raises(InputError, match=message):
        replace(whole, **change)


@pytest.mark.numbers
def test_focus_is_that_of_the_words_and_higher_where_attention_is_compact(paused, sd):
    judge = FocusJudge(sd)
    said = judge.judge(observe(paused, 4))
    for i, judgement in enumerate(said):
        maps = paused.token_maps[4][i, : len(paused.tokens[i].columns)]
        words = [w.focus for w in diagnose(maps, paused.tokens[i])]
        assert judgement.predicted == pytest.approx(sum(words) / len(words), abs=1e-4) and judgement.uncertainty is None
    seen = observe(paused, 4)
    compact = torch.zeros_like(seen.maps)
    compact[..., 3, 3] = 1
    assert [j.predicted for j in judge.judge(replace(seen, maps=compact))] == pytest.approx([1.0] * 3)
    assert [j.predicted for j in judge.judge(replace(seen, maps=torch.ones_like(compact)))] == pytest.approx(
        [0.0] * 3, abs=1e-5
    )
    assert not judge.needs.clean and scorer_of(sd, judge).share < 1  # so the judged step can be cut off


def test_the_preview_is_measured_against_what_the_user_asked_for(paused, sd):
    asked = []

    def reward(images, prompts):
        asked.extend(prompts)
        return brightness(images, prompts)

    judge = PreviewJudge(sd, reward, "brightness")
    for step in (4, 2):
        said = judge.judge(observe(paused, step, [2, 0], against=[PROMPT, "something else"]))
        expected = brightness(preview(sd, paused, [2, 0], step), None)
        assert [j.predicted for j in said] == pytest.approx(expected.tolist(), abs=0.01)
    assert asked == [PROMPT, "something else"] * 2
    asked.clear()
    scored = scorer_of(sd, judge).score(["a cat", "a dog"], [1, 2], against=["a pet", "a beast"], winners=0)
    assert asked == ["a pet", "a pet", "a beast", "a beast"] and [len(s.predicted) for s in scored] == [2, 2]
    with pytest.raises(InputError, match="a preview is made of paused trajectories"):
        judge.judge(Observation(torch.zeros(1, 4, 2, 8, 8), torch.tensor([4]), torch.zeros(1), 5, 25))


@pytest.mark.numbers
def test_judge_and_policy_are_chosen_apart(sd):
    mine = SeedJudge(lambda prompt, seed: -abs(seed - 3))
    scorer = scorer_of(sd, FocusJudge(sd))
    for policy in ("racing", "fixed"):
        found = select_seed(scorer, PROMPT, range(6), policy=policy, judge=mine)
        assert found.best == [3]
    looked = {seen.step for seen in mine.seen}
    assert len(looked) > 2 and 4 in looked  # a race looks several times, `fixed` at the probe step
    other = SeedJudge(lambda prompt, seed: seed, needs=Needs(clean=True))
    found = select_seed(scorer, PROMPT, range(6), policy="fixed", judge=mine, last_judge=other)
    assert found.judges == ["mine"] and found.best == [5] and all(seen.clean is not None for seen in other.seen)
    raced = select_seed(scorer, PROMPT, range(6), policy="racing", judge=mine, last_judge=other)
    kept = [s.seed for s in raced.seeds if max(s.predicted) == max(raced.winners[0].predicted)]
    assert raced.best == [max(kept)] and set(kept) <= {2, 3, 4} and len(kept) > 1
    for policy, plain in (("decoded", "fixed"), ("decoded-racing", "racing")):
        first = mine if plain == "racing" else None  # `decoded` has one look, the preview's
        named = select_seed(scorer, PROMPT, range(6), policy=policy, judge=first, reward=brightness)
        judged = PreviewJudge(sd, brightness)
        apart = select_seed(scorer, PROMPT, range(6), policy=plain, judge=mine, last_judge=judged, reward=brightness)
        assert named.judges == (["preview"] if plain == "fixed" else ["mine", "preview"])
        assert named.best == apart.best and named.denoiser_calls == apart.denoiser_calls
        assert [s.predicted for s in named.seeds] == [pytest.approx(s.predicted) for s in apart.seeds]
    assert usual_policy(scorer) == "staged"


def test_a_probe_that_hardly_ranks_seeds_gives_way_to_predicted_images_unless_it_was_asked_for(sd):
    blunt = SeedJudge(lambda prompt, seed: seed)
    blunt.ranks_seeds = lambda step, steps: 0.1
    scorer = scorer_of(sd, blunt)
    told = ("bright", brightness)
    assert settle_search(scorer, [1, 2], 0, reward=told).judge is blunt
    scorer.judge_asked = False
    found = settle_search(scorer, [1, 2], 0, reward=told)
    assert (found.policy, found.judge.name, found.judge.label) == ("staged", "preview", "bright")
    # No judge of its own: the scorer's, or the policy's, judges.
    assert settle_search(scorer, [1, 2], 0).judge is None
    assert settle_search(scorer, [1, 2], 0, "fixed", reward=told).judge is None
    blunt.ranks_seeds = lambda step, steps: 0.6
    assert settle_search(scorer, [1, 2], 0, reward=told).judge is None


def test_what_has_no_uncertainty_is_dropped_by_the_quota_only(sd):
    unsure = SeedJudge(lambda prompt, seed: 100.0 * seed)
    sure = SeedJudge(lambda prompt, seed: 100.0 * seed, uncertainty=1.0)
    scorer = scorer_of(sd, unsure)
    slow = select_seed(scorer, PROMPT, range(6))
    fast = select_seed(scorer, PROMPT, range(6), judge=sure)
    assert slow.best == fast.best == [5] and fast.denoiser_calls < slow.denoiser_calls
    assert not any("chance" in s.why for s in slow.seeds)
    assert any("a chance of 0.00 to be the best at step" in s.why for s in fast.seeds)
    assert chance_to_beat(Judgement(1.0), Judgement(2.0, 0.1)) is None
    assert chance_to_beat(Judgement(1.0, 0.6), Judgement(2.0, 0.8)) == pytest.approx(0.1587, abs=1e-4)  # 1 deviation


def test_one_race_serves_seeds_wordings_and_pairs(sd):
    prompts = ["a cat", "a dog", "a house", "a fish"]
    judge = SeedJudge(lambda prompt, seed: prompts.index(prompt) + seed / 100, uncertainty=0.01)
    scorer = scorer_of(sd, judge, early_step=2)
    scored = scorer.score(prompts, [1, 2], groups=[0, 0, 1, 1])
    assert [s.dropped is None for s in scored] == [False, True, False, True]  # the best of each group goes on
    assert [s.calls for s in scored] == [4, 8, 4, 8] and scorer.denoiser_calls == 24
    race = Race(scorer, [(p, s) for p in prompts for s in (1, 2)], competitors=[0, 0, 1, 1, 2, 2, 3, 3])
    race.to(2)
    assert [(d.competitor, len(d.rows)) for d in race.drop(most=2)] == [(2, 2), (1, 2), (0, 2)]
    assert [r.place for r in race.alive] == [6, 7] and race.calls == [2] * 8
    pairs = select_pair(scorer, [(p, s) for p in prompts for s in (1, 2)], policy="fixed", against="an animal")
    assert pairs.winners[0].prompt == "a fish" and pairs.best == [2] and pairs.prompt == "an animal"
    assert judge.seen[-1].against == ("an animal",) * 8


def test_an_uncalibrated_judge_has_no_tau_but_a_number(sd):
    scorer = scorer_of(sd, FocusJudge(sd))
    assert threshold("0.25", scorer) == threshold(0.25, scorer) == 0.25
    for tau in ("balanced", "q0.8", "0.9@0.8"):
        with pytest.raises(InputError, match=f"tau is '{tau}', but the judge 'focus' is not calibrated"):
            threshold(tau, scorer)
    with pytest.raises(InputError, match="early step is 4; it must lie between 1 and 3"):
        scorer_of(sd, FocusJudge(sd), early_step=4)


@pytest.mark.numbers
def test_no_attention_is_computed_for_who_reads_none(sd, monkeypatch):
    judged = Scorer(sd, PreviewJudge(sd, brightness), 4, 2, dict(SIZE))
    gap = scorer_of(sd, SeedJudge(lambda p, s: s, needs=Needs(gap=True, maps=False)))
    seen, expected = start(sd, [PROMPT], [1], steps=4, stop=2, **SIZE), judged.score([PROMPT], [1])[0]
    assert expected.words and expected.maps.isfinite().all()  # words are diagnosed whoever judges
    monkeypatch.setattr("promptprobe.attention.attention_to", None)
    found = select_seed(judged, PROMPT, [1, 2], policy="fixed")
    assert found.seeds[0].predicted[2] == pytest.approx(expected.score, abs=1e-4)
    assert select_seed(gap, PROMPT, [1, 2], policy="fixed").best == [2]
    assert judged.look_again([expected], judged.judge, 3, [PROMPT])[0].words == expected.words
    bare = start(sd, [PROMPT], [1], steps=4, stop=2, blocks=(), cut=True, **SIZE)
    assert torch.equal(bare.clean_latents[2], seen.clean_latents[2]) and torch.equal(bare.latents, seen.latents)
    assert bare.token_embeddings is None and bare.reduced().token_maps[2].shape[2] == 0
    with pytest.raises(InputError, match=r"was not watched; watched were none"):
        FocusJudge(sd).judge(observe(bare, 2))


@pytest.mark.numbers
def test_a_probe_reads_its_own_blocks_of_what_was_watched(sd):
    torch.manual_seed(0)
    blocks = probed_blocks(sd, "all")
    own = [blocks[-1], blocks[0]]
    grid = [float(x) for x in np.linspace(-1, 1, 101)]
    card = ProbeCard(
        denoiser="UNet2DConditionModel", blocks=own, steps=10, probe_steps=[2, 4], timesteps={},
        scheduler=type(sd.scheduler).__name__, guidance_scale=None, height=32, width=32, labels=["r"], variant="maps",
        residuals={"r": {"4": grid}}, within={"r": {"4": 0.25}},
    )  # fmt: skip
    judge = ProbeJudge(Probe(card).eval())
    alone, among = (
        judge.judge(observe(start(sd, [PROMPT] * 3, [1, 2, 3], steps=10, stop=4, blocks=shown, **SIZE), 4))
        for shown in (own, blocks)
    )
    assert close([j.predicted for j in among], [j.predicted for j in alone]) and alone[0].uncertainty == 0.25
    assert judge.looks(10) == [2, 4] and judge.looks(20) == [4, 8] and judge.label == "r"
    card.within, card.residuals = {}, {}
    assert (
        judge.judge(observe(start(sd, [PROMPT], [1], steps=10, stop=4, blocks=own, **SIZE), 4))[0].uncertainty is None
    )
    with pytest.raises(ProbeMismatchError, match="not step 3 of 10"):
        Scorer(sd, judge, 10, 3, dict(SIZE))
