"""Train the icon world's reward model: a CLIP that tells a true caption from one with a single mistake.

    python -m worlds.icons.train_reward --out checkpoints/icons

The text tower first learns to read captions alone, as the pipeline's text encoder does, but of all styles. Then both are
trained together: every scene comes with its caption and the caption of the same scene with one thing changed (object, colour, count,
relation, background, a group dropped). Besides the contrastive loss, both towers must tell for each object its colour,
count and side, the image tower also where it lies; these read-outs are thrown away after training.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPProcessor, CLIPTokenizer

from promptprobe.icons.captions import STYLES, any_caption, caption
from promptprobe.icons.scenes import (
    BACKGROUND_NAMES,
    CELL,
    CELLS,
    COLOUR_NAMES,
    MAX_COUNT,
    OBJECTS,
    RELATIONS,
    SIZE,
    Group,
    Icon,
    Scene,
    cell_labels,
    draw,
    place,
    random_scene,
)  # fmt: skip

from . import train_text_encoder
from .fit import fit
from .train_autoencoder import LABEL_SIZES

WIDTH = 128
KINDS = ("object", "colour", "count", "relation", "background")
_OPPOSITE = {"left of": "right of", "right of": "left of", "above": "below", "below": "above"}
OPPOSITE_WEIGHT = 4.0
_CONTENT_SIZES = (len(COLOUR_NAMES) + 1, MAX_COUNT + 1, len(RELATIONS) + 1)  # per object: colour, count, side


def build(tokenizer: CLIPTokenizer) -> CLIPModel:
    """Two small towers: 8-px patches, four layers; three layers of text."""
    tower = {"hidden_size": WIDTH, "intermediate_size": 4 * WIDTH, "num_attention_heads": 4, "hidden_act": "gelu"}
    special = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
    text = {
        **tower, **special, "num_hidden_layers": 3, "vocab_size": len(tokenizer), "pad_token_id": tokenizer.pad_token_id,
        "max_position_embeddings": tokenizer.model_max_length,
    }  # fmt: skip
    vision = {**tower, "num_hidden_layers": 4, "image_size": SIZE, "patch_size": CELL}
    config = CLIPConfig(text_config=text, vision_config=vision, projection_dim=WIDTH, logit_scale_init_value=2.3)
    model = CLIPModel(config)
    # Positions start as large as pixels: with CLIP's own small start, where an icon lies is learned very late.
    row, column = torch.meshgrid(torch.arange(CELLS), torch.arange(CELLS), indexing="ij")
    waves = torch.exp(torch.linspace(-2.5, 0.5, WIDTH // 4))
    angles = [axis.flatten()[:, None] * waves for axis in (row, column)]
    with torch.no_grad():
        positions = torch.cat([f(a) for a in angles for f in (torch.sin, torch.cos)], 1)  # [64, 128]
        model.vision_model.embeddings.position_embedding.weight[1:] = 0.3 * positions
    return model


def changed(scene: Scene, kind: str, rng: np.random.Generator) -> Scene | None:
    """The scene with one thing of `kind` (of `KINDS`) changed; None when it has no such thing."""
    which = int(rng.integers(len(scene.groups)))
    group = scene.groups[which]
    if kind == "relation":
        return dataclasses.replace(scene, relation=_OPPOSITE[scene.relation]) if scene.relation else None
    if kind == "background":
        return dataclasses.replace(scene, background=_other(BACKGROUND_NAMES, scene.background, rng))
    if kind == "object":
        names = [o for o in OBJECTS if o not in {g.object for g in scene.groups}]
        group = Group(names[rng.integers(len(names))], group.colour, group.count)
    elif kind == "colour":
        group = Group(group.object, _other(COLOUR_NAMES, group.colour, rng), group.count)
    else:
        group = Group(group.object, group.colour, int(_other((1, 2, 3), group.count, rng)))
    groups = tuple(group if i == which else g for i, g in enumerate(scene.groups))
    return dataclasses.replace(scene, groups=groups)


def _other(values: tuple, value, rng: np.random.Generator):
    return [v for v in values if v != value][rng.integers(len(values) - 1)]


def hard_negative(scene: Scene, rng: np.random.Generator) -> Scene:
    """The scene with one mistake of a random kind but its relation, or with swapped colours or a dropped group."""
    if len(scene.groups) == 2 and rng.random() < 0.25:
        a, b = scene.groups
        if rng.random() < 0.5 and a.colour != b.colour:
            swapped = (dataclasses.replace(a, colour=b.colour), dataclasses.replace(b, colour=a.colour))
            return dataclasses.replace(scene, groups=swapped)
        return Scene((scene.groups[rng.integers(2)],), scene.background)
    kind = str(rng.choice(("object", "colour", "count", "background"), p=(0.2, 0.2, 0.5, 0.1)))
    return changed(scene, kind, rng)  # type: ignore[return-value]


def content_labels(scene: Scene) -> np.ndarray:
    """Colour (0 = absent), count and side (0 = none said) of each object, int64 `[16, 3]`."""
    labels = np.zeros((len(OBJECTS), 3), np.int64)
    sides = [scene.relation, _OPPOSITE[scene.relation]] if scene.relation else []
    for i, g in enumerate(scene.groups):
        side = RELATIONS.index(sides[i]) + 1 if sides else 0
        labels[OBJECTS.index(g.object)] = COLOUR_NAMES.index(g.colour) + 1, g.count, side
    return labels


def object_places(icons: list[Icon]) -> np.ndarray:
    """Mean row and column of each object's icons, float32 `[16, 2]`, in -1..1; zero where absent."""
    places = np.zeros((len(OBJECTS), 2), np.float32)
    for n, name in enumerate(OBJECTS):
        own = [(i.row, i.column) for i in icons if i.object == name]
        if own:
            places[n] = np.mean(own, axis=0) / ((CELLS - 2) / 2) - 1
    return places


def normalise(images: torch.Tensor) -> torch.Tensor:
    """0..1 to the processor's -1..1."""
    return images * 2 - 1


def make_loss(modules: nn.ModuleDict, tokenizer: CLIPTokenizer, size: int = 64):
    """Contrastive loss with hard negatives, plus the read-outs of content and cells."""
    model: Any = modules["clip"]
    per_object = sum(_CONTENT_SIZES)

    def content_loss(head: nn.Module, pooled: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        logits = head(pooled).view(-1, len(OBJECTS), per_object).split(_CONTENT_SIZES, -1)
        # Summed over objects: fourteen of them are absent and easy.
        parts = [
            F.cross_entropy(x.flatten(0, 1), labels[..., i].flatten(), reduction="sum", ignore_index=-1)
            for i, x in enumerate(logits)
        ]
        return torch.stack(parts).sum() / len(labels)

    def loss(rng: np.random.Generator):
        scenes = [random_scene(rng) for _ in range(size)]
        texts, wrong, opposites = [], [], []
        for s in scenes:
            style, behind = STYLES[rng.integers(4)], rng.random() < 0.8
            texts.append(caption(s, style, rng, background=behind))
            wrong.append(caption(hard_negative(s, rng), style, rng, background=behind))
            if s.relation:
                inverse = dataclasses.replace(s, relation=_OPPOSITE[s.relation])
                opposites.append(caption(inverse, style, rng, background=behind))
        icons = [place(s, rng) for s in scenes]
        drawn = [(s.background or "", i) for s, i in zip(scenes, icons, strict=True)]  # a random scene has a background
        images = np.stack([draw(*d) for d in drawn])
        cells = torch.from_numpy(np.stack([cell_labels(*d) for d in drawn]))
        content = torch.from_numpy(np.stack([content_labels(s) for s in scenes]))
        pixels = normalise(torch.from_numpy(images).permute(0, 3, 1, 2))
        pixels = pixels + 0.1 * float(rng.random()) * torch.randn_like(pixels)
        tokens = tokenizer(texts + wrong + opposites, padding="longest", truncation=True, return_tensors="pt")
        seen = model.vision_model(pixels)
        read = model.text_model(tokens.input_ids)
        image = F.normalize(model.visual_projection(seen.pooler_output), dim=-1)
        text = F.normalize(model.text_projection(read.pooler_output), dim=-1)
        scale = model.logit_scale.exp().clamp(max=50)
        logits = scale * image @ text[: 2 * size].T  # [size, 2 size]
        target = torch.arange(size)
        # A mistaken caption in place of each image's own is as wrong for the text side as another image.
        related = torch.tensor([s.relation is not None for s in scenes])
        own, mistaken = logits.diagonal(), logits[:, size:].diagonal()
        contrast = F.cross_entropy(logits, target) + F.cross_entropy(logits[:, :size].T, target)
        contrast = contrast + F.softplus(mistaken - own).mean()
        # Every scene with a relation is told apart from its opposite: seldom enough to be missed otherwise.
        opposite = scale * (image[related] * text[2 * size :]).sum(-1)
        turned = F.softplus(opposite - own[related]).mean()
        parts = modules["cells"](seen.last_hidden_state[:, 1:]).split(LABEL_SIZES, -1)
        where = cells.flatten(1, 2)
        icon = where[..., 0] > 0
        places = torch.from_numpy(np.stack([object_places(i) for i in icons]))
        there = content[..., 0] > 0
        located = F.mse_loss(modules["places"](seen.pooler_output).view(-1, len(OBJECTS), 2)[there], places[there])
        dense = sum(F.cross_entropy(parts[i].flatten(0, 1), where[..., i].flatten()) for i in (0, 1, 3))
        seen_content = content.clone()
        for i, s in enumerate(scenes):
            if not s.relation:  # icons lie on some side of each other all the same
                seen_content[i, :, 2] = -1
        contents = content_loss(modules["image content"], seen.pooler_output, seen_content)
        contents = contents + content_loss(modules["text content"], read.pooler_output[:size], content)
        figures = {
            "contrast": float(contrast.detach()),
            "cells": float((parts[0].argmax(-1) == where[..., 0])[icon].float().mean()),
            "content": float(contents.detach()),
            "places": float(located.detach()),
            "beats mistake": float((own > mistaken).float().mean()),
            "beats opposite": float((own[related] > opposite).float().mean()),
            "top 1": float((logits.argmax(1) == target).float().mean()),
        }
        return contrast + OPPOSITE_WEIGHT * turned + 0.3 * dense + 0.15 * contents + located, figures

    return loss


@torch.no_grad()
def measure(model: CLIPModel, tokenizer: CLIPTokenizer, seed: int = 7, size: int = 400) -> dict[str, dict[str, float]]:
    """How often the true caption beats one with a mistake, per kind, and both cosines' means."""
    rng = np.random.default_rng(seed)
    figures = {}
    for kind in KINDS:
        scenes: list[tuple[Scene, Scene]] = []
        while len(scenes) < size:
            scene = random_scene(rng)
            other = changed(scene, kind, rng)
            if other is not None:
                scenes.append((scene, other))
        images = np.stack([draw(s.background, place(s, rng)) for s, _ in scenes])  # type: ignore[arg-type]
        styles = [STYLES[rng.integers(4)] for _ in scenes]
        texts = [caption(s, style, rng) for (s, _), style in zip(scenes, styles, strict=True)]
        texts += [caption(o, style, rng) for (_, o), style in zip(scenes, styles, strict=True)]
        tokens = tokenizer(texts, padding="max_length", truncation=True, return_tensors="pt")
        pixels = normalise(torch.from_numpy(images).permute(0, 3, 1, 2))
        image = F.normalize(model.get_image_features(pixel_values=pixels).pooler_output, dim=-1)
        text = F.normalize(model.get_text_features(input_ids=tokens.input_ids).pooler_output, dim=-1)
        true, false = (image * text[:size]).sum(-1), (image * text[size:]).sum(-1)
        figures[kind] = {
            "beats": float((true > false).float().mean()),
            "true": float(true.mean()),
            "false": float(false.mean()),
        }
    return figures


def main() -> None:
    """Train (or continue) and write `OUT/reward/`, with the scale that makes 1 of a true caption, 0 of a mistake."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("checkpoints/icons"))
    parser.add_argument("--steps", type=int, default=3600)
    parser.add_argument("--text-steps", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--warm-start", type=Path, help="reward folder to start from, instead of reading captions first"
    )
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.manual_seed(args.seed)
    tokenizer = CLIPTokenizer.from_pretrained(args.out / "tokenizer")
    per_object = len(OBJECTS) * sum(_CONTENT_SIZES)
    modules: Any = nn.ModuleDict(
        {
            "clip": build(tokenizer), "cells": nn.Linear(WIDTH, sum(LABEL_SIZES)),
            "image content": nn.Linear(WIDTH, per_object), "text content": nn.Linear(WIDTH, per_object),
            "places": nn.Linear(WIDTH, 2 * len(OBJECTS)),
        }
    )  # fmt: skip
    if args.warm_start:
        modules["clip"] = CLIPModel.from_pretrained(args.warm_start)
    else:
        reading = nn.ModuleDict({"encoder": modules["clip"].text_model, **train_text_encoder.heads()})
        read_loss = train_text_encoder.make_loss(reading, tokenizer, caption=any_caption)
        text_checkpoint = args.out / "reward_text.ckpt.safetensors"
        fit(reading, read_loss, steps=args.text_steps, lr=1e-3, checkpoint=text_checkpoint, seed=args.seed)
    checkpoint = args.out / "reward.ckpt.safetensors"
    fit(
        modules,
        make_loss(modules, tokenizer),
        steps=args.steps,
        lr=1e-3,
        checkpoint=checkpoint,
        seed=args.seed,
        muon=True,
    )
    model = modules["clip"].eval()
    figures = measure(model, tokenizer)
    for kind, row in figures.items():
        logging.info(
            "%s: true caption wins %.3f, cosine %.3f against %.3f", kind, row["beats"], row["true"], row["false"]
        )
    processor = CLIPProcessor(
        CLIPImageProcessor(
            size={"shortest_edge": SIZE},
            crop_size={"height": SIZE, "width": SIZE},
            image_mean=[0.5] * 3,
            image_std=[0.5] * 3,
        ),
        tokenizer,
    )
    model.save_pretrained(args.out / "reward")
    processor.save_pretrained(args.out / "reward")
    true = float(np.mean([r["true"] for r in figures.values()]))
    false = float(np.mean([figures[k]["false"] for k in KINDS[:4]]))
    scale = {"zero": round(false, 4), "one": round(true, 4)}
    (args.out / "reward" / "reward.json").write_text(json.dumps({"cosine": scale, "wins": figures}, indent=2) + "\n")


if __name__ == "__main__":
    main()
