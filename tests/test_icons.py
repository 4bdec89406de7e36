"""The icon world draws what it says, its checker reads it back, and its captions mean the scene."""

from itertools import pairwise

import numpy as np
import pytest

from promptprobe.icons.captions import STYLES, caption, training_caption
from promptprobe.icons.checker import check, read_image
from promptprobe.icons.scenes import HELD_OUT_COLOURS, Group, Scene, draw, place, random_scene
from promptprobe.phrases import read_prompt
from promptprobe.worlds import thesaurus_of


@pytest.mark.parametrize("held_out", [False, True])
def test_the_checker_reads_every_drawn_scene_exactly(held_out):
    rng = np.random.default_rng(0)
    for _ in range(100):
        scene = random_scene(rng, held_out=held_out)
        icons = place(scene, rng)
        image = (draw(scene.background, icons) * 255).astype(np.uint8)
        reading = read_image(image)
        assert (set(reading.icons), reading.background, reading.strange) == (set(icons), scene.background, 0)
        assert check(scene, image).passed


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        (Scene((Group("cat", "red", 2), Group("key", "blue", 1)), "white", "left of"), "objects"),
        (Scene((Group("car", "green", 2), Group("key", "blue", 1)), "white", "left of"), "colours"),
        (Scene((Group("car", "red", 3), Group("key", "blue", 1)), "white", "left of"), "counts"),
        (Scene((Group("car", "red", 2), Group("key", "blue", 1)), "white", "right of"), "relation"),
        (Scene((Group("car", "red", 2), Group("key", "blue", 1)), "black", "left of"), "background"),
        (Scene((Group("car", "red", 2),), "white"), "nothing_else"),
    ],
)
def test_the_checker_names_what_is_wrong(wrong, field):
    scene = Scene((Group("car", "red", 2), Group("key", "blue", 1)), "white", "left of")
    verdict = check(wrong, draw("white", place(scene, np.random.default_rng(1))))
    assert not getattr(verdict, field) and not verdict.passed


def test_the_icons_of_a_group_stand_in_a_row_or_a_column():
    rng = np.random.default_rng(4)
    for _ in range(200):
        scene = random_scene(rng)
        for group in scene.groups:
            own = sorted((i.row, i.column) for i in place(scene, rng) if i.object == group.object)
            steps = {(b[0] - a[0], b[1] - a[1]) for a, b in pairwise(own)}
            assert len(own) == group.count and steps in (set(), {(0, 2)}, {(2, 0)})


def test_training_never_shows_a_held_out_pair():
    rng = np.random.default_rng(2)
    scenes = [random_scene(rng) for _ in range(500)]
    assert not any((g.object, g.colour) in HELD_OUT_COLOURS for s in scenes for g in s.groups)
    assert all(random_scene(rng, held_out=True).held_out for _ in range(50))
    text = " ".join(training_caption(s, rng) for s in scenes)
    assert not any(word in text for word in ("crimson", "cobalt", "conifer", "luna", "sedan"))


@pytest.mark.parametrize("style", STYLES)
def test_every_caption_can_be_taken_apart_again(style):
    rng = np.random.default_rng(3)
    for _ in range(150):
        scene = random_scene(rng)
        text = caption(scene, style, rng)
        reading = read_prompt(text, thesaurus_of("icons"))
        assert [(p.head, p.count, p.colours) for p in reading.phrases] == [
            (g.object, g.count, {g.colour}) for g in scene.groups
        ], text
        assert reading.background == scene.background
        assert bool(reading.relations) == bool(scene.relation)


def test_the_shipped_folders_load_in_plain_diffusers_and_transformers():
    from diffusers import DiffusionPipeline, StableDiffusionPipeline
    from transformers import CLIPModel

    from promptprobe import icons

    assert isinstance(DiffusionPipeline.from_pretrained(icons.UNET_PIPELINE), StableDiffusionPipeline)
    assert CLIPModel.from_pretrained(icons.REWARD).config.projection_dim == 128
    size = sum(f.stat().st_size for f in icons.WEIGHTS.rglob("*"))
    assert size < 60e6


def test_the_reward_prefers_the_true_caption():
    from PIL import Image

    from promptprobe import load_reward

    rng = np.random.default_rng(4)
    scenes = [Scene((Group("car", "purple", 2),), "white"), Scene((Group("star", "pink", 1),), "navy")]
    images = [Image.fromarray((draw(s.background, place(s, rng)) * 255).astype(np.uint8)) for s in scenes]
    reward = load_reward("icons")
    true = reward(images, ["two purple cars on a white background", "a pink star on a navy background"])
    false = reward(images, ["two red cars on a white background", "a pink heart on a navy background"])
    assert (true > false + 0.3).all()
