"""Train the icon world's aesthetic head: how cleanly a picture is drawn, from the icon CLIP's image embedding.

    python -m worlds.icons.train_aesthetic

Ratings come from the making of the pictures: a rendered scene gets 10; one whose latents were blended with noise or with
another scene's before decoding gets less the more of it there is, as unfinished and confused generations look.
"""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderTiny
from PIL import Image
from safetensors.torch import save_file
from scipy import stats
from torch import nn

from promptprobe import icons
from promptprobe.icons.scenes import draw, place, random_scene
from promptprobe.rewards.clip import IconsReward

log = logging.getLogger("promptprobe.icons")
BEST = 10.0


@torch.no_grad()
def rated_embeddings(
    reward: IconsReward, autoencoder: AutoencoderTiny, count: int, rng: np.random.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """Embeddings `[count, size]` of spoiled pictures and their ratings `[count]`."""
    embeddings, ratings = [], []
    for start in range(0, count, 100):
        scenes = [random_scene(rng) for _ in range(min(100, count - start))]
        pixels = torch.from_numpy(np.stack([draw(s.background or "", place(s, rng)) for s in scenes]))
        latents = autoencoder.encode(pixels.permute(0, 3, 1, 2) * 2 - 1).latents
        n = len(latents)
        share = torch.from_numpy(np.where(rng.random(n) < 0.2, 0, rng.random(n))).float()[:, None, None, None]
        noise = torch.from_numpy(rng.standard_normal(latents.shape)).float() * latents.std()
        other = torch.where(torch.from_numpy(rng.random(n) < 0.5)[:, None, None, None], noise, latents.roll(1, 0))
        spoiled = autoencoder.decode((1 - 0.7 * share) * latents + 0.7 * share * other).sample.clamp(-1, 1)
        bytes_ = ((spoiled + 1) * 127.5).round().byte().permute(0, 2, 3, 1).numpy()
        embeddings.append(reward.image_embeddings([Image.fromarray(b) for b in bytes_]))
        ratings.append(BEST * (1 - share[:, 0, 0, 0]))
    return torch.cat(embeddings), torch.cat(ratings)


def main() -> None:
    """Train on fresh pictures and write `aesthetic.safetensors` beside the reward model."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--reward", type=Path, default=icons.REWARD, help="folder of the icon CLIP; the head goes there"
    )
    parser.add_argument("--autoencoder", type=Path, default=icons.SMALL_VAE)
    parser.add_argument("--pictures", type=int, default=12_000)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.manual_seed(args.seed)
    reward = IconsReward(args.reward)
    autoencoder = AutoencoderTiny.from_pretrained(args.autoencoder).eval()
    x, y = rated_embeddings(reward, autoencoder, args.pictures, np.random.default_rng([args.seed, 0]))
    test_x, test_y = rated_embeddings(reward, autoencoder, 1000, np.random.default_rng([args.seed, 1]))
    head = nn.Linear(x.shape[1], 1)
    # Linear, as the first LAION head: least squares with a small ridge has one exact answer.
    centred, mean = x - x.mean(0), y.mean()
    gram = centred.T @ centred + 1e-2 * torch.eye(x.shape[1])
    weight = torch.linalg.solve(gram, centred.T @ (y - mean))
    with torch.no_grad():
        head.weight.copy_(weight[None])
        head.bias.copy_(mean - x.mean(0) @ weight)
        predicted = head(test_x)[:, 0]
    log.info(
        "on 1,000 other pictures: SRCC %.3f, mean error %.2f of 10",
        stats.spearmanr(predicted, test_y).statistic, float((predicted - test_y).abs().mean()),
    )  # fmt: skip
    state = {"0.weight": head.weight.detach().contiguous(), "0.bias": head.bias.detach().contiguous()}
    save_file(state, args.reward / "aesthetic.safetensors")


if __name__ == "__main__":
    main()
