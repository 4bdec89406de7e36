"""Train the icon world's FLUX: a small `FluxTransformer2DModel`, and the `FluxPipeline` folder that diffusers loads.

    torchrun --nproc_per_node 2 -m worlds.icons.train_flux --out checkpoints/icons-flux

Comes in: the shipped autoencoder, tokenizer and text encoder of `--parts` and a pooled text encoder, trained first in a
minute. Flow matching on latents packed 2x2, so that an image token is one slot of the board. Besides the noise, half
of the heads of the middle blocks learn to look from each icon's slot at its noun and from empty slots at the begin
mark (TokenCompose, arXiv:2312.03626), and linear heads on the image tokens, thrown away afterwards, tell which icon in
which colour will stand in each slot.
"""

from __future__ import annotations

import argparse
import logging
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderTiny, FluxPipeline, FluxTransformer2DModel
from diffusers.models.embeddings import apply_rotary_emb
from safetensors import safe_open
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from promptprobe import icons
from promptprobe.icons.captions import caption, training_caption
from promptprobe.icons.scenes import COLOUR_NAMES, OBJECTS, SLOTS, random_scene

from .fit import fit, join_processes
from .flux_bank import latent_bank
from .train_autoencoder import LATENT_CHANNELS
from .train_denoiser import noun_columns
from .train_text_encoder import NOUN_SIZES, SCENE_SIZES
from .train_text_encoder import WIDTH as TEXT_WIDTH
from .train_text_encoder import make_loss as text_loss

log = logging.getLogger("promptprobe.icons")
LENGTHS = (16, 24, 32)  # text tokens of a batch: 16 hold most captions and are cheap to train on, 32 hold all
SHARES = (0.80, 0.16, 0.04)
NO_SHORT_AFTER = 0.9  # of the steps
POOLED_WIDTH = 32
SCALE = 1.1875  # of the latents, whose deviation is then one
BANK_SCENES = 36_000  # per process
DROP_CAPTION = 0.1  # for classifier-free guidance
LOOK_WEIGHT, SLOT_WEIGHT = 0.05, 0.3
SETTLING, SETTLING_SHARE = 0.6, 0.7  # from this time on the places are open; share of the scenes drawn there
LOOKING = ("transformer_blocks.1", *(f"single_transformer_blocks.{i}" for i in range(4)))
TELLING = ("single_transformer_blocks.1", "single_transformer_blocks.4")
SLOT_SIZES = (len(OBJECTS) + 1, len(COLOUR_NAMES) + 1)


def build() -> FluxTransformer2DModel:
    """Two double and six single blocks of width 128, without a guidance embedding."""
    return FluxTransformer2DModel(
        in_channels=4 * LATENT_CHANNELS, num_layers=2, num_single_layers=6, attention_head_dim=32,
        num_attention_heads=4, joint_attention_dim=TEXT_WIDTH, pooled_projection_dim=POOLED_WIDTH,
        guidance_embeds=False, axes_dims_rope=(8, 12, 12),
    )  # fmt: skip


def build_pooled(tokenizer: CLIPTokenizer) -> CLIPTextModel:
    """One causal layer, narrow: all that the blocks' modulation needs to know of a caption."""
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer), hidden_size=POOLED_WIDTH, intermediate_size=4 * POOLED_WIDTH,
            num_hidden_layers=1, num_attention_heads=2, max_position_embeddings=tokenizer.model_max_length,
            projection_dim=POOLED_WIDTH, hidden_act="gelu", bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
        )
    )  # fmt: skip


class Looking:
    """FLUX's joint attention; keeps, where `kept` is a list, how much the image's first half of heads look at the
    text, `[batch, heads, image, text]`, and turns image tokens only, since a text token's angle is nought."""

    def __init__(self, text: list[int], kept: list[torch.Tensor] | None):
        self.text, self.kept = text, kept

    def __call__(self, attn, hidden_states, encoder_hidden_states=None, attention_mask=None, image_rotary_emb=None):
        def heads(layer, x, norm=None):
            x = layer(x).unflatten(-1, (attn.heads, attn.head_dim))
            return norm(x) if norm is not None else x

        length = self.text[0]
        q = heads(attn.to_q, hidden_states, attn.norm_q)
        k = heads(attn.to_k, hidden_states, attn.norm_k)
        v = heads(attn.to_v, hidden_states)
        if encoder_hidden_states is not None:
            text = encoder_hidden_states
            tq, tk = heads(attn.add_q_proj, text, attn.norm_added_q), heads(attn.add_k_proj, text, attn.norm_added_k)
            v = torch.cat([heads(attn.add_v_proj, text), v], 1)
        else:
            (tq, q), (tk, k) = (x.split([length, x.shape[1] - length], 1) for x in (q, k))
        angles = tuple(x[length:] for x in image_rotary_emb)
        q, k = (apply_rotary_emb(x, angles, sequence_dim=1) for x in (q, k))
        q, k, v = (x.transpose(1, 2) for x in (torch.cat([tq, q], 1), torch.cat([tk, k], 1), v))
        if self.kept is not None:
            half = attn.heads // 2
            scores = q[:, :half, length:] @ k[:, :half].transpose(-2, -1) * attn.head_dim**-0.5
            self.kept.append(scores.softmax(-1)[..., :length])
        out = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        if encoder_hidden_states is None:
            return out
        return attn.to_out[0](out[:, length:]), attn.to_add_out(out[:, :length])


def look_loss(kept: list[torch.Tensor], columns: torch.Tensor, groups: torch.Tensor) -> torch.Tensor:
    """Cross-entropy between where each slot looks and the token that it should look at, over all blocks."""
    wanted = columns.gather(1, groups.long())  # [batch, slots]
    told = wanted >= 0
    looks = torch.stack([chances.mean(1) for chances in kept])  # [blocks, batch, slots, text]
    at = looks.gather(3, wanted.clamp(min=0).expand(len(kept), -1, -1)[..., None])[..., 0]
    return -(at[:, told] + 1e-6).log().mean()


def slot_loss(logits: list[torch.Tensor], slots: torch.Tensor) -> torch.Tensor:
    """Cross-entropy of each slot's object and colour (0 = none), over all telling blocks."""
    losses = [
        F.cross_entropy(part.flatten(0, 1), slots[..., i].flatten().long())
        for told in logits
        for i, part in enumerate(told.split(SLOT_SIZES, -1))
    ]
    return torch.stack(losses).mean()


def write_caption(scene, rng: np.random.Generator, length: int, tokenizer) -> str:
    """A caption as the training has them, none in one of ten; a plain one where it would not fit."""
    if rng.random() < DROP_CAPTION:
        return ""
    text = training_caption(scene, rng)
    if length < LENGTHS[-1] and len(text) > 2 * length and len(tokenizer(text).input_ids) > length:
        return caption(scene, "plain", rng)
    return text


def make_loss(modules: nn.ModuleDict, encoder, pooled, tokenizer, scenes, bank, *, size: int, steps: int, step: int):
    """Mean squared error of the flow's velocity, most times drawn where the places are settled; the looks; the slots."""
    model: Any = modules["transformer"]
    encoder.eval().requires_grad_(False)
    pooled.eval().requires_grad_(False)
    named = dict(model.named_modules())
    looks: list[torch.Tensor] = []
    text_length = [LENGTHS[-1]]
    for name, module in named.items():
        if name.endswith(".attn"):
            module.set_processor(Looking(text_length, looks if name.removesuffix(".attn") in LOOKING else None))
    seen: list[torch.Tensor] = []
    for name in TELLING:
        named[name].register_forward_hook(lambda _m, _i, output: seen.append(output[1]))
    places = FluxPipeline._prepare_latent_image_ids(1, SLOTS, SLOTS, "cpu", torch.float32)

    def loss(rng: np.random.Generator):
        # The same length in every process, so that none waits for another.
        nonlocal step
        step += 1
        last = step > NO_SHORT_AFTER * steps
        shares = np.array((0.0, *SHARES[1:]) if last else SHARES)
        text_length[0] = length = int(np.random.default_rng([7, step]).choice(LENGTHS, p=shares / shares.sum()))
        chosen = rng.integers(len(scenes), size=size)
        drawn = [scenes[i] for i in chosen]
        texts = [write_caption(s, rng, length, tokenizer) for s in drawn]
        tokens = tokenizer(texts, padding="max_length", max_length=length, truncation=True, return_tensors="pt")
        with torch.no_grad():
            text = encoder(tokens.input_ids).last_hidden_state
            summary = pooled(tokens.input_ids).pooler_output
        rows = torch.from_numpy(chosen)
        clean = bank["latents"][rows].float()
        # Stratified times: most lie where the places of the icons are settled.
        even = (rng.permutation(size) + rng.random(size)) / size
        times = torch.from_numpy(np.interp(even, (0, 1 - SETTLING_SHARE, 1), (0, SETTLING, 1))).float()
        noise = torch.randn_like(clean)
        t = times[:, None, None]
        looks.clear()
        seen.clear()
        predicted = model(
            hidden_states=(1 - t) * clean + t * noise, timestep=times, pooled_projections=summary,
            encoder_hidden_states=text, txt_ids=torch.zeros(length, 3), img_ids=places, return_dict=False,
        )[0]  # fmt: skip
        error = (predicted - (noise - clean)).square().mean((1, 2))
        look = look_loss(looks, noun_columns(tokens, drawn, texts), bank["groups"][rows])
        told = slot_loss([modules[f"tell{i}"](x) for i, x in enumerate(seen)], bank["slots"][rows])
        early = times >= 0.7
        figures = {
            "v": float(error.mean().detach()),
            "v early": float(error[early].mean().detach()),
            "v late": float(error[~early].mean().detach()),
            "look": float(look.detach()),
            "slots": float(told.detach()),
        }
        return error.mean() + LOOK_WEIGHT * look + SLOT_WEIGHT * told, figures

    return loss


def pooled_encoder(folder: Path, tokenizer: CLIPTokenizer, steps: int) -> CLIPTextModel:
    """The pooled text encoder of `folder`, trained there on captions alone if there is none yet."""
    if not (folder / "config.json").exists():
        modules = nn.ModuleDict({
            "encoder": build_pooled(tokenizer), "scene": nn.Linear(POOLED_WIDTH, sum(SCENE_SIZES)),
            "noun": nn.Linear(POOLED_WIDTH, sum(NOUN_SIZES)),
        })  # fmt: skip
        fit(
            modules, text_loss(modules, tokenizer), steps=steps, lr=4e-3,
            checkpoint=folder.with_suffix(".ckpt.safetensors"), warmup=50, average=0.98,
        )  # fmt: skip
        trained: Any = modules["encoder"]
        trained.save_pretrained(folder)
    return CLIPTextModel.from_pretrained(folder)


def main() -> None:
    """Train (or continue) and write `OUT/pipeline/`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("checkpoints/icons-flux"))
    parser.add_argument("--parts", type=Path, default=icons.UNET_PIPELINE)
    parser.add_argument("--steps", type=int, default=5600)
    parser.add_argument("--size", type=int, default=48, help="scenes a step and process")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--bank", type=int, default=BANK_SCENES, help="scenes a process")
    parser.add_argument("--pooled-steps", type=int, default=400)
    parser.add_argument(
        "--weights", type=Path, help="a finished pipeline folder: its transformer's weights are trained on"
    )
    parser.add_argument("--pooled-only", action="store_true", help="train the pooled text encoder and stop")
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.manual_seed(args.seed)
    args.out.mkdir(parents=True, exist_ok=True)
    tokenizer = CLIPTokenizer.from_pretrained(args.parts / "tokenizer")
    encoder = CLIPTextModel.from_pretrained(args.parts / "text_encoder")
    autoencoder = AutoencoderTiny.from_pretrained(args.parts / "vae")
    if args.weights and not (args.out / "pooled").exists():
        CLIPTextModel.from_pretrained(args.weights / "text_encoder").float().save_pretrained(args.out / "pooled")
    pooled = pooled_encoder(args.out / "pooled", tokenizer, args.pooled_steps)
    if args.pooled_only:
        return
    rank = join_processes()
    torch.manual_seed(args.seed)
    rng = np.random.default_rng([args.seed, 0, rank])
    scenes = [random_scene(rng) for _ in range(args.bank)]
    bank = latent_bank(
        autoencoder, args.out / f"latents-{args.seed}-{rank}.safetensors", scenes, args.seed + rank, SCALE
    )
    transformer = build()
    if args.weights:
        started: Any = FluxTransformer2DModel.from_pretrained(args.weights / "transformer")
        transformer.load_state_dict(started.float().state_dict())
    modules = nn.ModuleDict({"transformer": transformer})
    modules.update({f"tell{i}": nn.Linear(128, sum(SLOT_SIZES)) for i in range(len(TELLING))})
    log.info("%.2f M parameters", sum(p.numel() for p in modules["transformer"].parameters()) / 1e6)
    checkpoint = args.out / "denoiser.ckpt.safetensors"
    done = 0
    if checkpoint.exists():
        with safe_open(checkpoint, "pt") as file:
            done = int(file.metadata()["step"])
    loss = make_loss(modules, encoder, pooled, tokenizer, scenes, bank, size=args.size, steps=args.steps, step=done)
    fit(modules, loss, steps=args.steps, lr=args.lr, checkpoint=checkpoint, seed=args.seed, average=0.998)


if __name__ == "__main__":
    main()
