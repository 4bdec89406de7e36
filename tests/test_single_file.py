"""Checkpoints of one file: of the original layout, of a denoiser alone, of other kinds."""

from __future__ import annotations

import re
import shutil

import pytest
import torch
from conftest import tiny_sd
from pipelines import FAMILIES
from safetensors.torch import save_file

from promptprobe import ModelError, load_pipeline, start
from promptprobe.pipelines import loaded_of
from promptprobe.single_file import kind_of

PROMPTS, SEEDS = ["a red fox", "a small house"], [3, 4]

# diffusers' names of a UNet of two blocks with one layer each -> those of Stable Diffusion's first checkpoints.
RESNET = {
    "norm1": "in_layers.0", "conv1": "in_layers.2", "norm2": "out_layers.0", "conv2": "out_layers.3",
    "time_emb_proj": "emb_layers.1", "conv_shortcut": "skip_connection",
}  # fmt: skip
UNET = [
    (r"time_embedding\.linear_(\d)\.(.*)", lambda m: f"time_embed.{2 * int(m[1]) - 2}.{m[2]}"),
    (r"conv_in\.(.*)", lambda m: f"input_blocks.0.0.{m[1]}"),
    (r"conv_norm_out\.(.*)", lambda m: f"out.0.{m[1]}"),
    (r"conv_out\.(.*)", lambda m: f"out.2.{m[1]}"),
    (r"down_blocks\.(\d)\.resnets\.0\.(\w+)\.(.*)", lambda m: f"input_blocks.{2 * int(m[1]) + 1}.0.{RESNET[m[2]]}.{m[3]}"),
    (r"down_blocks\.(\d)\.attentions\.0\.(.*)", lambda m: f"input_blocks.{2 * int(m[1]) + 1}.1.{m[2]}"),
    (r"down_blocks\.0\.downsamplers\.0\.conv\.(.*)", lambda m: f"input_blocks.2.0.op.{m[1]}"),
    (r"mid_block\.resnets\.(\d)\.(\w+)\.(.*)", lambda m: f"middle_block.{2 * int(m[1])}.{RESNET[m[2]]}.{m[3]}"),
    (r"mid_block\.attentions\.0\.(.*)", lambda m: f"middle_block.1.{m[1]}"),
    (r"up_blocks\.(\d)\.resnets\.(\d)\.(\w+)\.(.*)",
     lambda m: f"output_blocks.{2 * int(m[1]) + int(m[2])}.0.{RESNET[m[3]]}.{m[4]}"),
    (r"up_blocks\.(\d)\.attentions\.(\d)\.(.*)", lambda m: f"output_blocks.{2 * int(m[1]) + int(m[2])}.1.{m[3]}"),
    (r"up_blocks\.0\.upsamplers\.0\.conv\.(.*)", lambda m: f"output_blocks.1.2.conv.{m[1]}"),
]  # fmt: skip


def original(name: str) -> str:
    (found,) = [new(m) for pattern, new in UNET if (m := re.fullmatch(pattern, name))]
    return f"model.diffusion_model.{found}"


@pytest.fixture(scope="module")
def flux(tmp_path_factory):
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("flux") / "pipeline"
    FAMILIES["flux"][0]().to(torch.bfloat16).save_pretrained(folder)
    return folder


def latents(pipeline, **settings):
    return start(pipeline, PROMPTS, SEEDS, steps=2, stop=1, watch=(), **settings).latents


def test_a_checkpoint_of_the_original_layout_makes_the_same_pictures(tmp_path):
    own = tiny_sd()
    own.save_pretrained(tmp_path / "pipeline")
    weights = {original(name): value.contiguous() for name, value in own.unet.state_dict().items()}
    weights |= {
        "cond_stage_model.transformer.text_model." + name.removeprefix("text_model."): value.contiguous()
        for name, value in own.text_encoder.state_dict().items()
    }
    save_file({name: value.clone() for name, value in weights.items()}, tmp_path / "one.safetensors")
    for part in ("unet", "text_encoder"):  # only their configurations are read
        (left,) = (tmp_path / "pipeline" / part).glob("*.safetensors")
        left.unlink()
    loaded = load_pipeline(tmp_path / "one.safetensors", config=tmp_path / "pipeline")
    assert type(loaded) is type(own) and torch.equal(latents(loaded), latents(own))


def test_a_checkpoint_file_takes_what_it_lacks_from_the_folder_with_its_configurations(flux, tmp_path):
    settings = FAMILIES["flux"][1]
    (weights,) = (flux / "transformer").glob("*.safetensors")
    alone = tmp_path / "flux.safetensors"
    shutil.copy(weights, alone)
    folder, file = load_pipeline(flux), load_pipeline(alone, config=flux)
    assert type(file) is type(folder) and loaded_of(file).options["config"] == str(flux)
    assert {p.dtype for part in (file.transformer, file.vae, file.text_encoder_2) for p in part.parameters()} == {
        torch.float32
    }
    a, b = (latents(p, **settings) for p in (folder, file))
    assert torch.equal(a, b)
    with pytest.raises(ModelError, match="is no checkpoint of a known text-to-image model"):
        load_pipeline(alone)
    with pytest.raises(ModelError, match="--config '/nowhere' is no pipeline folder"):
        load_pipeline(alone, config="/nowhere")


def test_the_kind_of_a_checkpoint_is_read_from_its_weights(tmp_path):
    sd, sdxl = tmp_path / "sd.safetensors", tmp_path / "sdxl.safetensors"
    save_file({"model.diffusion_model.input_blocks.0.0.weight": torch.zeros(4, 4)}, sd)
    name = "conditioner.embedders.1.model.transformer.resblocks.9.mlp.c_proj.bias"
    save_file({name: torch.zeros(4), "model.diffusion_model.x": torch.zeros(1)}, sdxl)
    assert kind_of(sd) == "stable-diffusion-v1-5/stable-diffusion-v1-5"
    assert kind_of(sdxl) == "stabilityai/stable-diffusion-xl-base-1.0"
    with pytest.raises(ModelError, match=r"configurations of 'stabilityai/stable-diffusion-xl-base-1.0'.*as --config"):
        load_pipeline(sdxl)
