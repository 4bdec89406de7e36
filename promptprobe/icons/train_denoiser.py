"""Train the icon pipeline's denoiser and assemble the pipeline folder that diffusers loads.

    python -m promptprobe.icons.train_denoiser --out checkpoints/icons

Needs the autoencoder, tokenizer and text encoder in the same folder. The latents of 80,000 scenes are computed once;
captions are written anew at every step.
"""

from __future__ import annotations

import argparse
import logging
import os
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderTiny, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn
from transformers import CLIPTextModel, CLIPTokenizer

from .captions import training_caption
from .fit import fit
from .scenes import CELLS, draw, place, random_scene
from .train_autoencoder import LATENT_CHANNELS
from .train_text_encoder import WIDTH as TEXT_WIDTH

log = logging.getLogger("promptprobe.icons")
TRAIN_TIMESTEPS = 1000
SHIFT = 1.5  # cosine schedule with its log-SNR raised by 2 ln SHIFT: the layout is settled earlier
BANK_SCENES = 80_000
DROP_CAPTION = 0.1  # for classifier-free guidance


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


@torch.no_grad()
def latent_bank(autoencoder: AutoencoderTiny, path: Path, scenes: list, seed: int) -> torch.Tensor:
    """Latents `[scenes, 16, 8, 8]` in half precision, computed once and kept in `path`."""
    if path.exists():
        with safe_open(path, "pt") as file:
            return file.get_tensor("latents")
    chunks = []
    rng = np.random.default_rng([seed, 1])
    for i in range(0, len(scenes), 100):
        images = np.stack([draw(s.background, place(s, rng)) for s in scenes[i : i + 100]])
        images = torch.from_numpy(images).permute(0, 3, 1, 2).contiguous(memory_format=torch.channels_last)
        chunks.append(autoencoder.encode(images * 2 - 1).latents.half())
        if i % 10_000 == 0:
            log.info("latents of %d/%d scenes", i, len(scenes))
    latents = torch.cat(chunks).contiguous()
    part = path.with_suffix(".part")
    save_file({"latents": latents}, part)
    os.replace(part, path)
    return latents


def make_loss(
    unet: UNet2DConditionModel, encoder: CLIPTextModel, tokenizer: CLIPTokenizer, scenes, bank, size: int = 64
):
    """Mean squared error of v over all timesteps, the early ones of a run drawn more often."""
    kept = noise_scheduler().alphas_cumprod
    encoder.eval().requires_grad_(False)

    def loss(rng: np.random.Generator):
        chosen = rng.integers(len(scenes), size=size)
        texts = [training_caption(scenes[i], rng) if rng.random() >= DROP_CAPTION else "" for i in chosen]
        tokens = tokenizer(texts, padding="max_length", truncation=True, return_tensors="pt")
        with torch.no_grad():
            text = encoder(tokens.input_ids).last_hidden_state
        clean = bank[torch.from_numpy(chosen)].float()
        # Stratified timesteps, denser where the layout is settled: density 0.6 at no noise, 1.4 at pure noise.
        even = (rng.permutation(size) + rng.random(size)) / size
        timesteps = torch.from_numpy((np.sqrt(0.36 + 1.6 * even) - 0.6) / 0.8 * TRAIN_TIMESTEPS).long()
        a = kept[timesteps].view(-1, 1, 1, 1)
        noise = torch.randn_like(clean)
        noised = a.sqrt() * clean + (1 - a).sqrt() * noise
        target = a.sqrt() * noise - (1 - a).sqrt() * clean
        error = (unet(noised, timesteps, text).sample - target).square().mean((1, 2, 3))
        early = timesteps >= 0.7 * TRAIN_TIMESTEPS
        figures = {
            "v": float(error.mean().detach()),
            "v early": float(error[early].mean().detach()),
            "v late": float(error[~early].mean().detach()),
        }
        return error.mean(), figures

    return loss


def main() -> None:
    """Train (or continue) and write `OUT/pipeline/`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("checkpoints/icons"))
    parser.add_argument("--steps", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--start", type=Path, help="pipeline folder whose denoiser to start from")
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.manual_seed(args.seed)
    tokenizer = CLIPTokenizer.from_pretrained(args.out / "tokenizer")
    encoder = CLIPTextModel.from_pretrained(args.out / "text_encoder")
    autoencoder = AutoencoderTiny.from_pretrained(args.out / "autoencoder")
    rng = np.random.default_rng([args.seed, 0])
    scenes = [random_scene(rng) for _ in range(BANK_SCENES)]
    bank = latent_bank(autoencoder, args.out / "latents.safetensors", scenes, args.seed)
    log.info("latent standard deviation %.3f", float(bank[:2000].float().std()))
    start = UNet2DConditionModel.from_pretrained(args.start, subfolder="unet") if args.start else build()
    modules = nn.ModuleDict({"unet": start})
    log.info("%.2f M parameters", sum(p.numel() for p in modules.parameters()) / 1e6)
    unet = modules["unet"]
    fit(
        modules, make_loss(unet, encoder, tokenizer, scenes, bank), steps=args.steps, lr=1e-3,
        checkpoint=args.out / "denoiser.ckpt.safetensors", seed=args.seed, muon=True,
    )  # fmt: skip
    assemble(args.out, unet, autoencoder, encoder, tokenizer)


def assemble(out: Path, unet, autoencoder, encoder, tokenizer) -> None:
    """Save all parts as a Stable Diffusion pipeline folder."""
    pipeline = StableDiffusionPipeline(
        vae=autoencoder, text_encoder=encoder, tokenizer=tokenizer, unet=unet, scheduler=noise_scheduler(),
        safety_checker=None, feature_extractor=None, requires_safety_checker=False,
    )  # fmt: skip
    pipeline.save_pretrained(out / "pipeline")


if __name__ == "__main__":
    main()
