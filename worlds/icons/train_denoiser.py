"""Train the icon pipeline's denoiser and assemble the pipeline folder that diffusers loads.

    torchrun --nproc_per_node 2 -m worlds.icons.train_denoiser --out checkpoints/icons

Needs the autoencoder, tokenizer and text encoder in the same folder. The latents of 60,000 scenes a process are computed
once; captions are written anew at every step. Besides the noise, half of the heads of the inner cross-attention blocks
learn to look from each icon at its noun and from empty places at the begin mark: token-level supervision as in
TokenCompose (arXiv:2312.03626), which binds colours and counts to their objects much sooner.
"""

from __future__ import annotations

import argparse
import json
import logging
import math
import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderTiny, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn
from transformers import CLIPTextModel, CLIPTokenizer

from promptprobe.icons.captions import training_caption
from promptprobe.icons.scenes import CELLS, ICON_CELLS, draw, place, random_scene

from .fit import fit, join_processes
from .train_autoencoder import LATENT_CHANNELS
from .train_text_encoder import WIDTH as TEXT_WIDTH
from .train_text_encoder import noun_labels

log = logging.getLogger("promptprobe.icons")
TRAIN_TIMESTEPS = 1000
SHIFT = 1.5  # cosine schedule with its log-SNR raised by 2 ln SHIFT: the layout is settled earlier
BANK_SCENES = 60_000  # per process
DROP_CAPTION = 0.1  # for classifier-free guidance
LOOK_WEIGHT = 0.05


def noise_scheduler() -> DDIMScheduler:
    """DDIM on a shifted cosine schedule with zero terminal SNR, predicting v (Salimans and Ho, 2022)."""
    s = np.arange(1, TRAIN_TIMESTEPS + 1) / TRAIN_TIMESTEPS
    kept = 1 / (1 + np.tan(np.pi * np.minimum(s, 0.9999) / 2) ** 2 / SHIFT**2)
    betas = 1 - kept / np.concatenate([[1.0], kept[:-1]])
    return DDIMScheduler(
        num_train_timesteps=TRAIN_TIMESTEPS, trained_betas=[round(float(b), 8) for b in betas], clip_sample=False,
        prediction_type="v_prediction", timestep_spacing="trailing", steps_offset=1, set_alpha_to_one=True,
    )  # fmt: skip


def build() -> UNet2DConditionModel:
    """A UNet of two levels (8x8 and 4x4) with text cross-attention everywhere; four encoder blocks to probe."""
    return UNet2DConditionModel(
        sample_size=CELLS, in_channels=LATENT_CHANNELS, out_channels=LATENT_CHANNELS, block_out_channels=(96, 128),
        layers_per_block=1, down_block_types=("CrossAttnDownBlock2D",) * 2, up_block_types=("CrossAttnUpBlock2D",) * 2,
        cross_attention_dim=TEXT_WIDTH, attention_head_dim=(3, 4), norm_num_groups=16, use_linear_projection=True,
        transformer_layers_per_block=(2, 2), reverse_transformer_layers_per_block=(1, 1),
    )  # fmt: skip


class Looking:
    """Attention that also keeps the probabilities of the first half of its heads, `[batch, heads, image, text]`."""

    def __init__(self, kept: list[torch.Tensor]):
        self.kept = kept

    def __call__(self, attn, hidden_states, encoder_hidden_states=None, attention_mask=None, **_):
        q, k, v = (
            layer(x).unflatten(-1, (attn.heads, -1)).transpose(1, 2)
            for layer, x in (
                (attn.to_q, hidden_states), (attn.to_k, encoder_hidden_states), (attn.to_v, encoder_hidden_states),
            )
        )  # fmt: skip
        scores = q @ k.transpose(-2, -1) * q.shape[-1] ** -0.5
        chances = scores.float().softmax(-1)
        self.kept.append(chances[:, : (attn.heads + 1) // 2])
        out = (chances.to(v.dtype) @ v).transpose(1, 2).flatten(2)
        return attn.to_out[1](attn.to_out[0](out))


def supervised_blocks(unet: UNet2DConditionModel) -> list[str]:
    """Cross-attention behind the first two encoder layers: before them, little is known about the picture."""
    names = [n for n, _ in unet.named_modules() if n.endswith(".attn2")]
    return [n for n in names if not n.startswith("down_blocks.0.")]


@torch.no_grad()
def latent_bank(autoencoder: AutoencoderTiny, path: Path, scenes: list, seed: int) -> dict[str, torch.Tensor]:
    """`latents` `[scenes, 16, 8, 8]` in half precision and `groups` `[scenes, 8, 8]` (0 = empty, else whose icon lies
    there, counted from 1), computed once and kept in `path`."""
    if path.exists():
        with safe_open(path, "pt") as file:
            return {name: file.get_tensor(name) for name in ("latents", "groups")}
    chunks = []
    groups = torch.zeros(len(scenes), CELLS, CELLS, dtype=torch.int8)
    rng = np.random.default_rng([seed, 1])
    for i in range(0, len(scenes), 100):
        images = []
        for n, scene in enumerate(scenes[i : i + 100], i):
            icons = place(scene, rng)
            images.append(draw(scene.background, icons))
            names = [g.object for g in scene.groups]
            for icon in icons:
                spot = groups[n, icon.row : icon.row + ICON_CELLS, icon.column : icon.column + ICON_CELLS]
                spot.fill_(names.index(icon.object) + 1)
        pixels = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).contiguous(memory_format=torch.channels_last)
        chunks.append(autoencoder.encode(pixels * 2 - 1).latents.half())
        if i % 10_000 == 0:
            log.info("latents of %d/%d scenes", i, len(scenes))
    bank = {"latents": torch.cat(chunks).contiguous(), "groups": groups}
    part = path.with_suffix(".part")
    save_file(bank, part)
    os.replace(part, path)
    return bank


def noun_columns(tokens, scenes: list, texts: list[str]) -> torch.Tensor:
    """Text column of the begin mark and of each group's noun, int64 `[batch, 3]`; -1 where a caption has none."""
    columns = torch.full((len(texts), 3), -1)
    for i, (scene, text) in enumerate(zip(scenes, texts, strict=True)):
        for at, group in noun_labels(scene, text):
            columns[i, 0] = 0
            columns[i, group + 1] = tokens.char_to_token(i, at)
    return columns


def look_loss(kept: list[torch.Tensor], columns: torch.Tensor, groups: torch.Tensor) -> torch.Tensor:
    """Cross-entropy between where each image position looks and the token that it should look at, over all blocks."""
    losses = []
    for chances in kept:
        side = math.isqrt(chances.shape[2])
        cells = groups[:, :: CELLS // side, :: CELLS // side].flatten(1).long()  # [batch, image]
        wanted = columns.gather(1, cells)
        told = wanted >= 0
        mean = chances.mean(1).gather(2, wanted.clamp(min=0)[..., None])[..., 0]
        losses.append(-(mean[told] + 1e-6).log().mean())
    return torch.stack(losses).mean()


def make_loss(
    unet: UNet2DConditionModel, encoder: CLIPTextModel, tokenizer: CLIPTokenizer, scenes, bank, size: int = 64
):
    """Mean squared error of v over all timesteps, the early ones of a run drawn more often; and the look."""
    kept = noise_scheduler().alphas_cumprod
    encoder.eval().requires_grad_(False)
    looks: list[torch.Tensor] = []
    modules = dict(unet.named_modules())
    for name in supervised_blocks(unet):
        modules[name].processor = Looking(looks)

    def loss(rng: np.random.Generator):
        chosen = rng.integers(len(scenes), size=size)
        drawn = [scenes[i] for i in chosen]
        texts = [training_caption(s, rng) if rng.random() >= DROP_CAPTION else "" for s in drawn]
        tokens = tokenizer(texts, padding="max_length", truncation=True, return_tensors="pt")
        with torch.no_grad():
            text = encoder(tokens.input_ids).last_hidden_state
        rows = torch.from_numpy(chosen)
        clean = bank["latents"][rows].float().contiguous(memory_format=torch.channels_last)
        # Stratified timesteps, denser where the layout is settled: density 0.6 at no noise, 1.4 at pure noise.
        even = (rng.permutation(size) + rng.random(size)) / size
        timesteps = torch.from_numpy((np.sqrt(0.36 + 1.6 * even) - 0.6) / 0.8 * TRAIN_TIMESTEPS).long()
        a = kept[timesteps].view(-1, 1, 1, 1)
        noise = torch.randn_like(clean)
        noised = a.sqrt() * clean + (1 - a).sqrt() * noise
        target = a.sqrt() * noise - (1 - a).sqrt() * clean
        looks.clear()
        with torch.autocast("cpu", torch.bfloat16):
            predicted = unet(noised, timesteps, text).sample
        error = (predicted.float() - target).square().mean((1, 2, 3))
        look = look_loss(looks, noun_columns(tokens, drawn, texts), bank["groups"][rows])
        early = timesteps >= 0.7 * TRAIN_TIMESTEPS
        figures = {
            "v": float(error.mean().detach()),
            "v early": float(error[early].mean().detach()),
            "v late": float(error[~early].mean().detach()),
            "look": float(look.detach()),
        }
        return error.mean() + LOOK_WEIGHT * look, figures

    return loss


def main() -> None:
    """Train (or continue) and write `OUT/pipeline/`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("checkpoints/icons"))
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--warm-start", type=Path, help="pipeline folder whose denoiser to start from")
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    rank = join_processes()
    torch.manual_seed(args.seed)
    tokenizer = CLIPTokenizer.from_pretrained(args.out / "tokenizer")
    encoder = CLIPTextModel.from_pretrained(args.out / "text_encoder")
    autoencoder = AutoencoderTiny.from_pretrained(args.out / "autoencoder")
    rng = np.random.default_rng([args.seed, 0, rank])
    scenes = [random_scene(rng) for _ in range(BANK_SCENES)]
    bank = latent_bank(autoencoder, args.out / f"latents-{args.seed}-{rank}.safetensors", scenes, args.seed + rank)
    log.info("latent standard deviation %.3f", float(bank["latents"][:2000].float().std()))
    start = UNet2DConditionModel.from_pretrained(args.warm_start, subfolder="unet") if args.warm_start else build()
    modules = nn.ModuleDict({"unet": start.to(memory_format=torch.channels_last)})
    log.info("%.2f M parameters", sum(p.numel() for p in modules.parameters()) / 1e6)
    unet: Any = modules["unet"]
    fit(
        modules, make_loss(unet, encoder, tokenizer, scenes, bank), steps=args.steps, lr=args.lr,
        checkpoint=args.out / "denoiser.ckpt.safetensors", seed=args.seed, muon=True,
    )  # fmt: skip
    if rank == 0:
        assemble(args.out, unet, autoencoder, encoder, tokenizer)


def assemble(out: Path, unet, autoencoder, encoder, tokenizer) -> None:
    """Save all parts as a Stable Diffusion pipeline folder."""
    pipeline = StableDiffusionPipeline(
        vae=autoencoder, text_encoder=encoder, tokenizer=tokenizer, unet=unet, scheduler=noise_scheduler(),
        safety_checker=None, feature_extractor=None, requires_safety_checker=False,
    )  # fmt: skip
    pipeline.save_pretrained(out / "pipeline")
    for part in ("unet", "vae"):  # the shipped folder names no folder of the machine it was made on
        path = out / "pipeline" / part / "config.json"
        config = json.loads(path.read_text("utf-8"))
        config.pop("_name_or_path", None)
        path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", "utf-8")


if __name__ == "__main__":
    main()
