"""Tiny decoders: found by the latents, decoding what the denoiser has, refused where they don't fit; previews that fail."""

from __future__ import annotations

import json
import math
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import close, tiny_sd, tiny_sdxl
from pipelines import FAMILIES, build

from promptprobe import InputError, ModelError, start
from promptprobe.decoders import DECODERS, decoder_for, known_decoder, markdown_table
from promptprobe.judges import PreviewJudge
from promptprobe.observation import observe
from promptprobe.runner import Runner
from promptprobe.runs import make_scorer
from promptprobe.trajectory import finish, preview, preview_values

PROMPTS = ["a red fox in the snow", "a small house", "the sea"]
SIZE = {"height": 32, "width": 24}
WATCHED = {"sd": SIZE, "sdxl": SIZE} | {f: FAMILIES[f][1] for f in ("sd3", "flux")}


@cache
def made(family):
    return {"sd": tiny_sd, "sdxl": tiny_sdxl}.get(family, lambda: build(family))()


@cache
def paused(family):
    return start(made(family), PROMPTS, [1, 2, 3], steps=4, stop=4, watch=(3, 4), **WATCHED[family])


def tiny(channels, levels=2):
    from diffusers import AutoencoderTiny

    torch.manual_seed(5)
    return AutoencoderTiny(
        encoder_block_out_channels=(8,) * levels, decoder_block_out_channels=(8,) * levels, latent_channels=channels,
        num_encoder_blocks=(1,) * levels, num_decoder_blocks=(1,) * levels,
    )  # fmt: skip


def saved(folder, channels, **more):
    tiny(channels, **more).save_pretrained(folder)
    return folder


def latents_of(pipeline, row):
    """The pipeline's autoencoder with the configuration of a row's."""
    pipeline.vae.register_to_config(scaling_factor=row.scaling, shift_factor=row.shift)
    return pipeline


@pytest.mark.parametrize("family", list(WATCHED))
@pytest.mark.numbers
def test_a_tiny_decoder_decodes_what_the_denoiser_has(family, tmp_path):
    pipeline, held = made(family), paused(family)
    decoder, note = decoder_for(pipeline, saved(tmp_path / "tiny", pipeline.vae.config.latent_channels))
    own = pipeline.vae
    got = preview_values(pipeline, held, [2, 0], decoder=decoder)
    assert note is None and pipeline.vae is own
    by_hand = held.clean_latents[4][[2, 0]]
    if family == "flux":
        packed = by_hand.flatten(2).transpose(1, 2)
        height, width = WATCHED[family]["height"], WATCHED[family]["width"]
        by_hand = pipeline._unpack_latents(packed, height, width, pipeline.vae_scale_factor)
    expected = (decoder.decode(by_hand).sample / 2 + 0.5).clamp(0, 1)
    assert close(got, expected) and got.shape[-2:] == (WATCHED[family]["height"], WATCHED[family]["width"])
    pipeline.vae = decoder  # as the pipeline itself uses it: the last step's prediction is the image
    try:
        whole = finish(pipeline, held, [2, 0])
    finally:
        pipeline.vae = own
    for image, mine in zip(whole, preview(pipeline, held, [2, 0], decoder=decoder), strict=True):
        assert np.abs(np.asarray(image).astype(int) - np.asarray(mine)).max() <= 1
    full = preview_values(pipeline, held, [2, 0])
    assert not close(full, got, 0.05) and full.shape == got.shape


def test_a_decoder_of_the_pipeline_s_own_class_stands_in_for_its_own(tmp_path):
    pipeline = made("flux2-klein")
    held = start(pipeline, PROMPTS[:2], [1, 2], steps=3, stop=2, **FAMILIES["flux2-klein"][1])
    own = pipeline.vae
    own.save_pretrained(tmp_path / "same")
    decoder, _ = decoder_for(pipeline, tmp_path / "same")
    assert type(decoder) is type(own) and decoder is not own
    assert torch.equal(preview_values(pipeline, held, decoder=decoder), preview_values(pipeline, held))
    with torch.no_grad():
        decoder.decoder.conv_out.bias += 0.5
    changed = preview_values(pipeline, held, decoder=decoder)
    assert pipeline.vae is own and not torch.equal(changed, preview_values(pipeline, held))


def test_a_row_is_found_by_the_latents_and_by_nothing_else():
    pipeline = tiny_sd()
    for row in DECODERS[:4]:
        assert known_decoder(latents_of(pipeline, row)) is (row if row.channels == 4 else None)
    pipeline.vae.register_to_config(scaling_factor=0.5, shift_factor=None)  # as Playground 2.5
    assert known_decoder(pipeline) is None
    latents_of(pipeline, DECODERS[1])
    assert known_decoder(pipeline) is DECODERS[1]
    pipeline.vae.register_to_config(latents_mean=[0.0] * 4)
    assert known_decoder(pipeline) is None
    z_image = latents_of(made("z-image"), DECODERS[3])
    assert known_decoder(z_image).name == "taef1"  # FLUX.1's latents in another family
    assert all(len(row.revision) == 40 for row in DECODERS)
    docs = (Path(__file__).parent.parent / "docs" / "BACKBONES.md").read_text("utf-8")
    assert f"<!-- made by `promptprobe.decoders.markdown_table` -->\n{markdown_table()}\n<!-- end -->" in docs


def hub_with(tmp_path, monkeypatch, row, revision=None, ref=None, channels=4):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    repository = tmp_path / "hub" / f"models--{row.source.replace('/', '--')}"
    if revision:
        saved(repository / "snapshots" / revision, channels, levels=2)
    (repository / "refs").mkdir(parents=True, exist_ok=True)
    if ref:
        (repository / "refs" / "main").write_text(ref)
    return repository


@pytest.mark.parametrize("how", ["its revision", "main", "nothing"])
def test_auto_takes_the_tiny_one_where_it_is_on_disk_and_says_what_it_takes(how, tmp_path, monkeypatch):
    row = DECODERS[1]
    pipeline = latents_of(tiny_sd(), row)
    kept = {"its revision": row.revision, "main": "a" * 40, "nothing": None}[how]
    hub_with(tmp_path, monkeypatch, row, kept, kept if how == "main" else None)
    decoder, note = decoder_for(pipeline)
    if how == "nothing":
        assert decoder is None and "--preview-decoder tiny downloads it" in note and row.source in note
        with pytest.raises(ModelError, match=r"needs madebyollin/taesdxl, and the hub did not deliver it .*use full"):
            decoder_for(pipeline, "tiny")
    else:
        assert type(decoder).__name__ == "AutoencoderTiny" and "found on disk" in note
        assert decoder_for(pipeline, "tiny")[0] is not None
    assert decoder_for(pipeline, "full") == (None, None)
    pipeline.vae = tiny(4)  # a model whose own is tiny
    assert decoder_for(pipeline) == (None, None) == decoder_for(pipeline, "tiny")


def test_it_is_looked_for_when_it_is_needed_or_asked_for(monkeypatch):
    looked = []
    monkeypatch.setattr("promptprobe.runs.decoder_for", lambda p, which, _: looked.append(which) or (None, "told"))
    scorer = make_scorer(pipeline=made("sd"), judge="focus")
    assert not looked and scorer.decoder is scorer.decoder is None and looked == ["auto"]
    scorer = make_scorer(pipeline=made("sd"), judge="preview", reward=brightness)
    assert looked == ["auto"] * 2 and "told" in scorer.warnings
    make_scorer(pipeline=made("sd"), judge="focus", preview_decoder="full")
    assert looked[2:] == ["full"]


def test_a_model_without_a_known_one_previews_in_full_and_says_so():
    sd = tiny_sd()
    sd.vae.register_to_config(scaling_factor=0.7)
    decoder, note = decoder_for(sd)
    assert decoder is None and "no tiny one is known" in note
    with pytest.raises(InputError, match=r"no tiny decoder is known for the latents of StableDiffusionPipeline \(Auto"):
        decoder_for(sd, "tiny")


def test_what_does_not_fit_is_refused_in_one_line(tmp_path, monkeypatch):
    pipeline = latents_of(tiny_sd(), DECODERS[1])
    own = saved(tmp_path / "own", 4)
    refused = [
        ("fast", InputError, r"--preview-decoder is 'fast'; give auto, tiny, full, or the folder"),
        (saved(tmp_path / "more", 16), InputError, "decodes latents of 16 channels; those of StableDiffusionPipeline have 4"),
        (saved(tmp_path / "larger", 4, levels=3), InputError, "enlarges latents 4 times; StableDiffusionPipeline needs 2"),
        (tmp_path, ModelError, r"is no decoder: its config.json can't be read"),
    ]  # fmt: skip
    made("flux2-klein").vae.save_pretrained(tmp_path / "other")
    refused.append((tmp_path / "other", InputError, "is of class AutoencoderKLFlux2; StableDiffusionPipeline takes"))
    other = hub_with(tmp_path, monkeypatch, DECODERS[0], "b" * 40) / "snapshots" / ("b" * 40)
    refused.append(
        (other, InputError, r"is madebyollin/taesd, which decodes other latents .*; madebyollin/taesdxl fits")
    )
    copied = saved(tmp_path / "copied", 4)
    config = json.loads((copied / "config.json").read_text())
    (copied / "config.json").write_text(json.dumps(config | {"_name_or_path": "madebyollin/taef1"}))
    refused.append((copied, InputError, "is madebyollin/taef1, which decodes other latents"))
    cut = saved(tmp_path / "cut", 4)
    weights = cut / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:3000])
    refused.append((cut, ModelError, "is corrupt or truncated"))
    for given, kind, message in refused:
        with pytest.raises(kind, match=message) as caught:
            decoder_for(pipeline, given)
        assert "\n" not in str(caught.value)
    assert decoder_for(pipeline, own)[0] is not None
    from safetensors.torch import load_file, save_file

    weights = own / "diffusion_pytorch_model.safetensors"
    save_file({k: v for k, v in load_file(weights).items() if k != "decoder.layers.0.bias"}, weights)
    with pytest.raises(ModelError, match=r"lacks weights of a decoder, the first is 'decoder.layers.0.bias'"):
        decoder_for(pipeline, own)


def brightness(images, prompts):
    return torch.tensor([float(np.asarray(i).mean()) / 255 for i in images])


def judged_by(reward, decoder=None):
    pipeline = made("sd")
    judge = PreviewJudge(pipeline, reward, decoder=decoder)
    runner = Runner(pipeline, judge, 4, 3, dict(SIZE))
    return judge, runner, [j.predicted for j in runner.judged(paused("sd"), 3)]


def test_a_reward_that_fails_on_one_image_costs_that_image_alone():
    _, _, expected = judged_by(brightness)

    def picky(images, prompts):
        if "a small house" in prompts:
            raise RuntimeError("no houses\nmore")
        return brightness(images, prompts)

    def silent(images, prompts):
        return torch.tensor(
            [
                math.nan if p == "a small house" else float(v)
                for p, v in zip(prompts, brightness(images, prompts), strict=True)
            ]
        )

    for reward, why in ((picky, "RuntimeError: no houses"), (silent, "is nan, no number")):
        judge, runner, got = judged_by(reward)
        assert got[0] == expected[0] and got[2] == expected[2] and math.isnan(got[1])
        assert len(runner.warnings) == 1 and why in runner.warnings[0] and "\n" not in runner.warnings[0]
        runner.judged(paused("sd"), 3)
        assert len(runner.warnings) == 1
        one = observe(paused("sd"), 3, [1])
        assert math.isnan(judge.judge(one)[0].predicted)  # it has measured others

    def broken(images, prompts):
        raise ZeroDivisionError("always")

    with pytest.raises(
        InputError, match=r"none of 3 previews could be measured: the reward 'broken' failed on .*always"
    ):
        judged_by(broken)


def test_previews_that_are_no_numbers_are_out_and_are_not_shown(tmp_path):
    held = start(made("sd"), PROMPTS, [1, 2, 3], steps=4, stop=3, **SIZE)
    held.clean_latents[3][1, 0, 0, 0] = math.nan
    decoder, _ = decoder_for(made("sd"), saved(tmp_path / "tiny", 4))
    for which in (None, decoder):
        judge = PreviewJudge(made("sd"), brightness, decoder=which)
        got = [j.predicted for j in judge.judge(observe(held, 3))]
        assert math.isnan(got[1]) and math.isfinite(got[0]) and math.isfinite(got[2])
        assert "previews are not finite: try --dtype float32" in judge.warning(observe(held, 3))
        assert [j.predicted for j in judge.judge(observe(held, 3, [0]))] == pytest.approx(got[:1], abs=1e-6)
        with pytest.raises(InputError, match="1 of 2 previews are not finite"):
            preview(made("sd"), held, [0, 1], decoder=which)
        with pytest.raises(InputError, match="none of 1 previews could be measured: previews are not finite"):
            PreviewJudge(made("sd"), brightness, decoder=which).judge(observe(held, 3, [1]))
