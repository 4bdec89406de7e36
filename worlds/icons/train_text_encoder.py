"""Train the icon pipeline's text encoder to understand captions, before any picture is drawn.

    python -m worlds.icons.train_text_encoder --out checkpoints/icons

It reads captions as the denoiser's training has them (mostly plain words, rarely others, some never) and must tell
what they describe: from the last token the whole scene, from each noun its own colour and count.
"""

from __future__ import annotations

import argparse
import logging
import re
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from promptprobe.icons.captions import OBJECT_WORDS, plural, training_caption
from promptprobe.icons.scenes import BACKGROUND_NAMES, COLOUR_NAMES, OBJECTS, RELATIONS, Scene, random_scene

from .fit import fit

WIDTH = 128
# object, colour, count of both groups (0 = none), relation (0 = none), background (0 = open)
SCENE_SIZES = (17, 9, 4, 17, 9, 4, 5, 7)
NOUN_SIZES = (17, 9, 4)
NOUNS = {
    form: name
    for name, (met, never) in OBJECT_WORDS.items()
    for word in (name, *met, *never)
    for form in (word, plural(word))
}


def build(tokenizer: CLIPTokenizer) -> CLIPTextModel:
    """Three causal layers of width 128."""
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer), hidden_size=WIDTH, intermediate_size=4 * WIDTH, num_hidden_layers=3,
            num_attention_heads=4, max_position_embeddings=tokenizer.model_max_length, projection_dim=WIDTH,
            hidden_act="gelu", bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )  # fmt: skip


def scene_labels(scene: Scene, text: str) -> list[int]:
    """What a caption says, as class numbers in the order of `SCENE_SIZES`."""
    labels = []
    for i in range(2):
        if i < len(scene.groups):
            g = scene.groups[i]
            labels += [OBJECTS.index(g.object) + 1, COLOUR_NAMES.index(g.colour) + 1, g.count]
        else:
            labels += [0, 0, 0]
    labels.append(RELATIONS.index(scene.relation) + 1 if scene.relation else 0)
    said = "background" in text or "backdrop" in text
    labels.append(BACKGROUND_NAMES.index(scene.background) + 1 if said and scene.background else 0)
    return labels


def noun_labels(scene: Scene, text: str) -> list[tuple[int, int]]:
    """(character offset, group number) of every noun of the caption."""
    groups = {g.object: i for i, g in enumerate(scene.groups)}
    found = []
    for match in re.finditer(r"[a-z]+", text):
        name = NOUNS.get(match.group())
        if name in groups:
            found.append((match.start(), groups[name]))
    return found


def make_loss(modules: nn.ModuleDict, tokenizer: CLIPTokenizer, caption=training_caption, size: int = 256):
    """Cross-entropy of the scene from the end token and of (object, colour, count) from each noun."""
    encoder: Any = modules["encoder"]

    def loss(rng: np.random.Generator):
        scenes = [random_scene(rng) for _ in range(size)]
        texts = [caption(s, rng) for s in scenes]
        tokens = tokenizer(texts, padding="longest", truncation=True, return_tensors="pt")
        output = encoder(tokens.input_ids)
        labels = torch.tensor([scene_labels(s, t) for s, t in zip(scenes, texts, strict=True)])
        logits = modules["scene"](output.pooler_output).split(SCENE_SIZES, -1)
        scene_loss = sum(F.cross_entropy(x, labels[:, i]) for i, x in enumerate(logits))
        where = [
            (i, tokens.char_to_token(i, at), 3 * group)
            for i, (s, t) in enumerate(zip(scenes, texts, strict=True))
            for at, group in noun_labels(s, t)
        ]
        rows, columns, first = torch.tensor(where).T
        nouns = modules["noun"](output.last_hidden_state[rows, columns]).split(NOUN_SIZES, -1)
        noun_loss = sum(F.cross_entropy(x, labels[rows, first + i]) for i, x in enumerate(nouns))
        right = torch.stack([x.argmax(-1) == labels[:, i] for i, x in enumerate(logits)]).all(0)
        figures = {"scene": float(scene_loss), "noun": float(noun_loss), "all right": float(right.float().mean())}
        return scene_loss + noun_loss, figures

    return loss


def heads() -> dict[str, nn.Module]:
    """The two linear read-outs, used in training only."""
    return {"scene": nn.Linear(WIDTH, sum(SCENE_SIZES)), "noun": nn.Linear(WIDTH, sum(NOUN_SIZES))}


def main() -> None:
    """Train (or continue) and write `OUT/text_encoder/`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("checkpoints/icons"))
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.manual_seed(args.seed)
    tokenizer = CLIPTokenizer.from_pretrained(args.out / "tokenizer")
    modules = nn.ModuleDict({"encoder": build(tokenizer), **heads()})
    checkpoint = args.out / "text_encoder.ckpt.safetensors"
    fit(modules, make_loss(modules, tokenizer), steps=args.steps, lr=1e-3, checkpoint=checkpoint, seed=args.seed)
    trained: Any = modules["encoder"]
    trained.save_pretrained(args.out / "text_encoder")


if __name__ == "__main__":
    main()
