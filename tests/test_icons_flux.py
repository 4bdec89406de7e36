"""The icon world's FLUX: its training parts against diffusers' own, its 256-px pictures, its shipped folder."""

import numpy as np
import pytest
import torch
from diffusers import AutoencoderTiny, DiffusionPipeline, FluxPipeline

from promptprobe import icons
from promptprobe.icons.captions import caption
from promptprobe.icons.checker import check
from promptprobe.icons.large import draw_large, shrink
from promptprobe.icons.scenes import draw, place, random_scene
from promptprobe.worlds import call_of
from worlds.icons.flux_bank import latent_bank, pack
from worlds.icons.train_decoder import build as build_decoder
from worlds.icons.train_flux import POOLED_WIDTH, SCALE, Looking, build, look_loss


def test_the_attention_of_the_training_is_that_of_diffusers():
    torch.manual_seed(0)
    model = build().eval()
    inputs = dict(
        hidden_states=torch.randn(2, 16, 64), timestep=torch.rand(2), pooled_projections=torch.randn(2, POOLED_WIDTH),
        encoder_hidden_states=torch.randn(2, 7, 128), txt_ids=torch.zeros(7, 3),
        img_ids=FluxPipeline._prepare_latent_image_ids(1, 4, 4, "cpu", torch.float32), return_dict=False,
    )  # fmt: skip
    kept: list[torch.Tensor] = []
    with torch.no_grad():
        expected = model(**inputs)[0]
        for name, module in model.named_modules():
            if name.endswith(".attn"):
                module.set_processor(Looking([7], kept))
        torch.testing.assert_close(model(**inputs)[0], expected, rtol=0, atol=1e-5)
    assert len(kept) == 8 and kept[0].shape == (2, 2, 16, 7)
    assert all(0 < float(k.sum(-1).max()) < 1 for k in kept)  # the image looks at the image, too


def test_looking_where_it_should_costs_nothing_and_elsewhere_much():
    columns = torch.tensor([[0, 3, -1]])  # begin mark, first noun, no second one
    groups = torch.tensor([[0, 1, 1, 2]])  # a slot of the missing noun has no say
    right = torch.full((1, 2, 4, 5), 1e-6)
    for slot, column in enumerate((0, 3, 3)):
        right[:, :, slot, column] = 1
    assert float(look_loss([right], columns, groups)) < 1e-3
    assert float(look_loss([right.roll(1, -1)], columns, groups)) > 5


def test_the_bank_says_what_stands_in_each_slot(tmp_path):
    autoencoder = AutoencoderTiny.from_pretrained(icons.SMALL_VAE)
    rng = np.random.default_rng(3)
    scenes = [random_scene(rng) for _ in range(12)]
    bank = latent_bank(autoencoder, tmp_path / "bank.safetensors", scenes, 5, SCALE)
    again = latent_bank(autoencoder, tmp_path / "bank.safetensors", scenes, 6, SCALE)  # read, not made anew
    latents = bank["latents"].float()
    unpacked = FluxPipeline._unpack_latents(latents, 64, 64, 8)
    torch.testing.assert_close(pack(unpacked), latents)
    with torch.no_grad():
        images = autoencoder.decode(unpacked / SCALE).sample.add(1).div(2).clamp(0, 1).permute(0, 2, 3, 1).numpy()
    for i, scene in enumerate(scenes):
        assert check(scene, images[i]).passed
        for g, group in enumerate(scene.groups, 1):
            assert int((bank["groups"][i] == g).sum()) == group.count
        assert bool(((bank["slots"][i, :, 0] > 0) == (bank["groups"][i] > 0)).all())
        assert torch.equal(again["groups"][i], bank["groups"][i])


def test_a_large_picture_averaged_down_is_the_small_one():
    rng = np.random.default_rng(4)
    for _ in range(20):
        scene = random_scene(rng)
        placed = place(scene, rng)
        small = shrink(draw_large(scene.background, placed))
        assert check(scene, small).passed
        assert np.square(small - draw(scene.background, placed)).mean() < 2e-4


def test_the_large_encoder_starts_with_a_box_average():
    large = build_decoder(AutoencoderTiny.from_pretrained(icons.SMALL_VAE))
    picture = torch.rand(1, 3, 256, 256)
    with torch.no_grad():
        averaged = large.encoder.layers[:3](picture)[:, :3]
    torch.testing.assert_close(averaged, torch.nn.functional.avg_pool2d(picture, 4))


@pytest.fixture(scope="module")
def flux():
    pipeline = DiffusionPipeline.from_pretrained(icons.PIPELINE)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def test_the_shipped_folder_loads_in_plain_diffusers_and_draws_its_captions(flux):
    assert isinstance(flux, FluxPipeline) and flux.transformer.dtype == flux.text_encoder_2.dtype == torch.float32
    rng = np.random.default_rng(9)
    scenes = [random_scene(rng, groups=1) for _ in range(10)]
    texts = [caption(s, "plain", rng) for s in scenes]
    images = flux(
        texts, num_inference_steps=25, output_type="np",
        generator=[torch.Generator().manual_seed(i) for i in range(len(texts))],
        **call_of(icons.PIPELINE) | {"negative_prompt": [""] * len(texts)},
    ).images  # fmt: skip
    assert sum(check(s, image).passed for s, image in zip(scenes, images, strict=True)) >= 7


def test_the_shipped_folder_is_small_and_names_no_folder_of_elsewhere():
    files = [path for path in icons.PIPELINE.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 8.5e6
    assert not [path for path in files if path.suffix == ".json" and "_name_or_path" in path.read_text("utf-8")]
