"""Collect, train, evaluate; probes that are saved, loaded, mismatched and broken; the agreement figures."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import PROMPTS, close
from scipy import stats

from promptprobe import InputError, ModelError, Probe, ProbeCard, ProbeMismatchError, dataset, training
from promptprobe.card import check_card
from promptprobe.evaluation import agreement, auc, balanced, coverage, evaluate_probe, within_prompts
from promptprobe.observation import Observation
from promptprobe.printing import print_evaluation

SIZE = {"height": 32, "width": 32}
MADE_WITH = {"denoiser": "U", "blocks": ["a"], "steps": 25, "probe_steps": [5], "scheduler": "S", "settings": {}}


def brightness(images, prompts):
    return torch.tensor([float(np.asarray(i).mean()) / 255 for i in images])


def collect(pipeline, out, prompts=PROMPTS, **options):
    settings = {"steps": 4, "probe_steps": [2], "settings": SIZE, "batch_size": 2} | options
    return dataset.collect(pipeline, {"brightness": brightness}, prompts, out, **settings)


def card(**changes):
    made = {
        "denoiser": "UNet2DConditionModel", "blocks": ["a", "b"], "steps": 25, "probe_steps": [5], "timesteps": {"5": 839.0},
        "scheduler": "DDIMScheduler", "guidance_scale": 1.0, "height": None, "width": None, "labels": ["icons"],
        "embedding_size": 6, "latent_channels": 8,
    }  # fmt: skip
    return ProbeCard(**made | changes)


def shown(maps, counts, text=None, latents=None):
    """Rows at step 5 of 25."""
    return Observation(maps, torch.tensor(counts), torch.full((len(maps),), 839.0), 5, 25, text, latents)


@pytest.mark.numbers
@pytest.mark.parametrize("variant", ["latents", "words", "maps", "plain"])
def test_the_probe_takes_any_number_of_tokens_and_any_size_and_ignores_padding(variant):
    torch.manual_seed(0)
    probe = Probe(card(variant=variant, labels=["x", "y", "z"])).eval()
    for tokens, size in ((1, 4), (7, 8), (30, 32)):
        maps, text, latents = (
            torch.rand(2, tokens, 2, size, size), torch.rand(2, tokens, 6), torch.randn(2, 8, size, 2 * size),
        )  # fmt: skip
        assert probe(shown(maps, [tokens, 1], text, latents)).shape == (2, 3)
    maps, text, latents = torch.rand(2, 9, 2, 8, 8), torch.rand(2, 9, 6), torch.randn(2, 8, 8, 8)
    short = probe(shown(maps[1:, :4], [4], text[1:, :4], latents[1:]))
    padded = probe(shown(maps, [9, 4], text, latents))
    assert close(short[0], padded[1])


def test_a_saved_probe_predicts_the_same_and_a_broken_one_names_its_file(tmp_path):
    probe = Probe(card())
    maps, text, latents = torch.rand(3, 5, 2, 8, 8), torch.rand(3, 5, 6), torch.randn(3, 8, 8, 8)
    before = probe.predict(shown(maps, [5, 5, 2], text, latents))
    probe.save(tmp_path)
    assert Probe.load(tmp_path).predict(shown(maps, [5, 5, 2], text, latents)) == before
    with pytest.raises(InputError, match="reads latents of 8 channels, given was none"):
        probe.predict(shown(maps, [5, 5, 2], text))
    with pytest.raises(InputError, match="reads text embeddings of size 6, given was none"):
        probe.predict(shown(maps, [5, 5, 2]))
    weights = tmp_path / "probe.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(ModelError, match=r"probe\.safetensors is corrupt"):
        Probe.load(tmp_path)
    with pytest.raises(ModelError, match="no probe in"):
        Probe.load(tmp_path / "nowhere")


def test_a_probe_for_something_else_is_refused_and_a_difference_is_told(sd):
    blocks = [n for n, _ in sd.unet.named_modules() if n.startswith("down_blocks") and n.endswith("attn2")]
    run = {"steps": 25, "probe_step": 5, "settings": {"guidance_scale": 1.0}}
    assert check_card(card(blocks=blocks), sd, **run) == []
    warned = check_card(card(blocks=blocks, scheduler="Other"), sd, **run | {"settings": {"guidance_scale": 7.0}})
    assert len(warned) == 2 and "guidance_scale 1.0, this run uses 7.0" in warned[1]
    with pytest.raises(ProbeMismatchError, match="trained for FluxTransformer2DModel"):
        check_card(card(denoiser="FluxTransformer2DModel"), sd, **run)
    several = card(blocks=blocks, probe_steps=[2, 5, 8])
    warned = check_card(several, sd, **run | {"steps": 50, "probe_step": 10})
    assert warned == ["the probe was trained with 25 steps, this run takes 50"]
    with pytest.raises(ProbeMismatchError, match="step 2/5/8 of 25, not step 25 of 50"):
        check_card(several, sd, **run | {"steps": 50, "probe_step": 25})
    with pytest.raises(ProbeMismatchError, match="step 5 of 25, not step 10 of 50"):
        check_card(card(blocks=blocks), sd, **run | {"steps": 50, "probe_step": 10})
    with pytest.raises(ProbeMismatchError, match="step 5 of 25, not step 3 of 25"):
        check_card(card(blocks=blocks), sd, **run | {"probe_step": 3})
    with pytest.raises(ProbeMismatchError, match="of which the pipeline lacks"):
        check_card(card(), sd, **run)


def test_collecting_goes_on_where_it_stopped_and_never_redoes(sd, tmp_path, monkeypatch):
    calls = []

    def stopping(images, prompts):
        if len(calls) == 2:
            raise KeyboardInterrupt
        calls.append(list(prompts))
        return brightness(images, prompts)

    with pytest.raises(KeyboardInterrupt):
        dataset.collect(
            sd, {"brightness": stopping}, PROMPTS, tmp_path / "a", steps=4, probe_steps=[2], settings=SIZE, batch_size=1
        )
    assert len(dataset.load([tmp_path / "a"])) == 2
    assert collect(sd, tmp_path / "a", [*PROMPTS, PROMPTS[0]], batch_size=1) == 3
    whole = tmp_path / "b"
    assert collect(sd, whole, batch_size=1) == 3
    a, b = dataset.load([tmp_path / "a"]), dataset.load([whole])
    assert sorted(a.prompts) == sorted(b.prompts) == sorted(PROMPTS)
    order = [a.prompts.index(p) for p in b.prompts]
    assert torch.equal(a.maps[2][order], b.maps[2]) and torch.equal(
        a.rewards["brightness"][order], b.rewards["brightness"]
    )
    with pytest.raises(InputError, match="was collected with steps 4, now it is 5"):
        collect(sd, whole, steps=5)


def test_data_of_an_older_version_is_refused_in_one_line(sd, tmp_path):
    from safetensors import safe_open
    from safetensors.torch import save_file

    collect(sd, tmp_path / "a")
    shard = next((tmp_path / "a").glob("shard-*.safetensors"))
    with safe_open(shard, "pt") as file:
        kept = {n: file.get_tensor(n) for n in file.keys() if n != "embeddings"}  # noqa: SIM118 - no dict
        made = file.metadata()
    save_file(kept, shard, metadata=made)
    with pytest.raises(InputError, match="has no embeddings; it was collected by an older version"):
        dataset.load([tmp_path / "a"])


def test_parts_share_out_all_prompts():
    prompts = [str(i) for i in range(7)]
    parts = [dataset.part_of(prompts, f"{k}/3") for k in (1, 2, 3)]
    assert sorted(p for part in parts for p in part) == prompts and {len(p) for p in parts} == {2, 3}
    for wrong in ("0/2", "3/2", "1", "a/b"):
        with pytest.raises(InputError, match="give K/N"):
            dataset.part_of(prompts, wrong)
    with pytest.raises(InputError, match="8/8 of 7 prompts is empty"):
        dataset.part_of(prompts, "8/8")


def test_training_learns_what_the_maps_say_and_keeps_test_prompts_apart(tmp_path):
    generator = torch.Generator().manual_seed(0)

    def items(n, name):
        reward = torch.rand(n, generator=generator)
        maps = torch.rand(n, 4, 2, 8, 8, generator=generator) * 0.02
        maps[:, 1, :, 2:4, 2:4] += (0.5 * reward)[:, None, None, None]
        settings = MADE_WITH | {"blocks": ["a", "b"]}
        prompts = [f"{name} {i}" for i in range(n)]
        return dataset.Items(
            prompts,
            [0] * n,
            {5: maps.half()},
            {5: torch.full((n,), 839.0)},
            torch.full((n,), 4),
            torch.zeros(n, 4, 6).half(),
            {"r": reward},
            settings,
        )

    train, validation = items(400, "train"), items(100, "validation")
    losses = []
    probe = training.train(train, validation, epochs=4, features=16, on_epoch=lambda e, loss, s: losses.append(loss))
    predicted = training.predict(probe, validation, 5)["r"]
    assert stats.spearmanr(predicted, validation.rewards["r"]).statistic > 0.9 and losses[-1] < losses[0]
    same = training.train(train, validation, epochs=4, features=16)
    assert np.array_equal(training.predict(same, validation, 5)["r"], predicted)
    assert probe.card.tau(0.5) == pytest.approx(float(np.median(predicted)), rel=1e-4)  # the card has 5 decimals
    with pytest.raises(InputError, match="share 400 prompts"):
        training.train(train, train)


def test_the_balanced_gate_makes_the_fewest_mistakes_of_both_kinds():
    rng = np.random.default_rng(0)
    predicted = rng.normal(size=4000) ** 3
    reward = predicted + rng.exponential(size=4000)
    quantiles, residuals = (np.quantile(x, np.linspace(0, 1, 101)).tolist() for x in (predicted, reward - predicted))
    card = ProbeCard(
        denoiser="", blocks=[], steps=25, probe_steps=[5], timesteps={}, scheduler="", guidance_scale=None, height=None,
        width=None, labels=["r"], quantiles={"r": {"5": quantiles}}, residuals={"r": {"5": residuals}},
    )  # fmt: skip
    good = reward > np.median(reward)

    def mistakes(gate):
        return (predicted[good] < gate).mean() + (predicted[~good] >= gate).mean()

    fewest = min(mistakes(g) for g in np.quantile(predicted, np.linspace(0, 1, 201)))
    assert mistakes(card.balanced()) < fewest + 0.02 < mistakes(card.tau(0.8))


def test_figures_agree_with_their_definitions():
    rng = np.random.default_rng(0)
    reward = rng.normal(size=300)
    predicted = reward + rng.normal(size=300)
    figures = agreement(predicted, reward, resamples=200)
    good = reward > np.median(reward)
    pairs = [(a > b) + 0.5 * (a == b) for a in predicted[good] for b in predicted[~good]]
    assert auc(predicted, reward) == pytest.approx(np.mean(pairs))
    assert all(f.low < f.value < f.high for f in figures.values())
    assert agreement(-reward, reward, resamples=10)["SRCC"].value == pytest.approx(-1)
    # Prompts differ a lot, seeds within a prompt are ranked the wrong way round.
    prompts = [f"p{i // 5}" for i in range(50)]
    level, inside = np.repeat(np.arange(10) * 10.0, 5), np.tile(np.arange(5.0), 10)
    assert within_prompts(prompts, level - inside, level + inside, resamples=10).value == pytest.approx(-1)
    assert agreement(level - inside, level + inside, resamples=10)["SRCC"].value > 0.9
    assert within_prompts(["a", "b"], [1, 2], [1, 2]) is None
    even = balanced(np.concatenate([np.zeros(900) + rng.normal(size=900) * 0.01, np.linspace(0, 1, 100)]))
    assert len(even) < 300
    with pytest.raises(InputError, match="not a finite number"):
        agreement([1, 2, math.nan], [1, 2, 3])


@pytest.mark.parametrize("rewards", [[0, 0, 1], [0, 0, 0, 1], [1, 1, 1, 1]])
def test_figures_of_few_or_equal_rewards_are_figures_or_a_dash(rewards, recwarn, capsys):
    predicted = {"a": np.arange(len(rewards), dtype=float)}
    result = evaluate_probe(predicted, {"a": torch.tensor(rewards, dtype=float)}, ["x"] * len(rewards), 20)
    json.dumps(result, allow_nan=False)
    known = len(set(rewards)) > 1
    assert (result["a"]["natural"]["SRCC"]["value"] is not None) == known and (result["a"]["balanced"] is None) == known
    print_evaluation(result, len(rewards), 1, 5)
    assert "–" in capsys.readouterr().out and not recwarn.list


def test_too_little_test_data_says_how_much_there_is_and_what_to_do():
    with pytest.raises(
        InputError, match="holds 2 of the 3 images that figures take at least; `promptprobe collect` more"
    ):
        evaluate_probe({"a": np.zeros(2)}, {"a": torch.zeros(2)}, ["x", "y"])


def test_what_only_the_latents_tell_is_learned_with_pairs_of_seeds_and_a_guide():
    generator = torch.Generator().manual_seed(1)

    def items(n, name):
        reward = torch.rand(n, generator=generator)
        latents = torch.randn(n, 4, 8, 8, generator=generator)
        latents[:, 0, :4] += 3 * reward[:, None, None]
        settings = MADE_WITH | {"probe_steps": [3, 5]}
        maps = torch.rand(n, 3, 1, 8, 8, generator=generator).half()
        image = torch.stack([reward, 1 - reward], 1).half()
        return dataset.Items(
            [f"{name} {i // 2}" for i in range(n)], [i % 2 for i in range(n)], {3: maps, 5: maps},
            {k: torch.full((n,), float(t)) for k, t in ((3, 900), (5, 839))}, torch.full((n,), 3),
            torch.zeros(n, 3, 6).half(), {"r": reward}, settings, {3: latents.half(), 5: latents.half()},
            {"r": image / image.norm(dim=1, keepdim=True)}, {"r": torch.tensor([[1.0, 0]]).repeat(n, 1).half()},
        )  # fmt: skip

    train, validation = items(400, "train"), items(100, "validation")
    probe = training.train(train, validation, epochs=8, features=8)
    assert probe.card.variant == "latents" and probe.card.default_step == 5
    for step in (3, 5):
        predicted = training.predict(probe, validation, step)["r"]
        assert stats.spearmanr(predicted, validation.rewards["r"]).statistic > 0.8
        assert coverage(probe.card, "r", step, predicted, validation.rewards["r"].numpy())["80%"] == pytest.approx(
            0.8, abs=0.02
        )
        assert 0 < probe.card.within["r"][str(step)] < 0.3
    blind = training.train(train, validation, epochs=3, features=8, variant="words")
    assert abs(stats.spearmanr(training.predict(blind, validation, 5)["r"], validation.rewards["r"]).statistic) < 0.35


def test_mates_are_the_other_seeds_of_a_prompt():
    assert training._mates(["a", "b", "a", "c", "a", "b"]).tolist() == [2, 5, 4, 3, 0, 1]


class Comparing:
    """A reward that compares embeddings: as many dimensions as the prompt's length tells."""

    reads_prompt = True

    def __init__(self):
        self.read: list[str] = []

    def formula(self, image, text):
        return (image * text).sum(-1)

    def text_embeddings(self, prompts):
        self.read += prompts
        angle = torch.tensor([len(p) / 40 for p in prompts])
        return torch.stack([angle.cos(), angle.sin()], 1)


def test_prompts_are_collected_without_images_once_each(sd, tmp_path):
    reward = Comparing()

    def texts(rewards, prompts):
        return dataset.collect_texts(sd, rewards, prompts, tmp_path / "t", steps=4, settings=SIZE, batch_size=2)

    assert texts({"x": reward, "brightness": brightness}, PROMPTS[:2]) == 2
    assert texts({"x": reward}, [*PROMPTS, PROMPTS[0]]) == len(PROMPTS) and sorted(reward.read) == sorted(PROMPTS)
    read = dataset.load([tmp_path / "t"])
    collect(sd, tmp_path / "d")
    whole = dataset.load([tmp_path / "d"])
    order = [read.prompts.index(p) for p in whole.prompts]
    assert torch.equal(read.counts[order], whole.counts) and torch.equal(read.embeddings[order], whole.embeddings)
    wanted = Comparing().text_embeddings(read.prompts)
    assert close(read.text_features["x"], wanted, 1e-3) and not read.maps  # kept in half precision, of 11 bits
    with pytest.raises(InputError, match="collected with --texts and holds no images"):
        training.train(read, whole)
    with pytest.raises(InputError, match="so prompts alone teach nothing"):
        training._check_texts(read, whole, {})
    with pytest.raises(InputError, match="none of the rewards brightness has a text embedding"):
        texts({"brightness": brightness}, PROMPTS)


def test_prompts_without_images_teach_what_prompts_ask_for():
    generator = torch.Generator().manual_seed(2)
    words, meanings = torch.randn(100, 32, generator=generator), torch.randn(100, 4, generator=generator)

    def items(n, name, images):
        said = torch.randint(100, (n, 2), generator=generator)
        told, text = words[said], torch.nn.functional.normalize(meanings[said].sum(1), dim=1)
        settings = MADE_WITH
        prompts, counts = [f"{name} {i}" for i in range(n)], torch.full((n,), 2)
        if not images:
            return dataset.Items(prompts, [0] * n, {}, {}, counts, told, {}, settings, text_features={"r": text})
        seen = torch.nn.functional.normalize(torch.randn(n, 4, generator=generator), dim=1)
        latents = seen[:, :, None, None].expand(-1, -1, 4, 4) + 0.1 * torch.randn(n, 4, 4, 4, generator=generator)
        maps = torch.rand(n, 2, 1, 4, 4, generator=generator)
        return dataset.Items(
            prompts, [0] * n, {5: maps}, {5: torch.full((n,), 839.0)}, counts, told, {"r": (seen * text).sum(1)},
            settings, {5: latents}, {"r": seen}, {"r": text},
        )  # fmt: skip

    few, validation, texts = items(100, "train", True), items(200, "validation", True), items(2000, "text", False)

    @torch.no_grad()
    def read(probe):
        told = probe.read(validation.embeddings, validation.counts)["r"]
        return float((told * validation.text_features["r"]).sum(1).mean())

    alone = training.train(few, validation, epochs=25, features=16)
    taught = training.train(few, validation, texts=texts, epochs=25, features=16)
    assert read(taught) > read(alone) + 0.15
    assert taught.card.data["texts"] == 2000
    with pytest.raises(InputError, match="share 200 prompts"):
        training.train(few, validation, texts=validation)
    wider = replace(texts, embeddings=torch.randn(2000, 2, 48), text_features={"r": torch.randn(2000, 4)})
    with pytest.raises(InputError, match="the denoiser is told have 48 numbers, the data's 32"):
        training.train(few, validation, texts=wider)
    with pytest.raises(InputError, match="reward 'r' have 5 numbers, the data's 4"):
        training.train(few, validation, texts=replace(texts, text_features={"r": torch.randn(2000, 5)}))
