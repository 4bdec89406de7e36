"""Each built-in world is a row, complete; no other model is read with a world's synonyms; old pictures still replay."""

import ast
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from promptprobe.agents.offline import NO_THESAURUS, OfflineRewriter
from promptprobe.agents.rewrites import RewriteRequest, Try

from promptprobe import InputError, ModelError, finish, icons, load_pipeline, load_probe, replay, start
from promptprobe.diagnosis import diagnose
from promptprobe.icons.captions import STYLES, caption
from promptprobe.icons.scenes import BACKGROUND_NAMES, COLOUR_NAMES, MAX_COUNT, OBJECTS, RELATIONS, random_scene
from promptprobe.phrases import read_prompt, singular
from promptprobe.pipelines import open_pipeline, pipeline_settings
from promptprobe.rewards import REWARDS, default_reward
from promptprobe.sizes import check_world_size
from promptprobe.tokens import PromptTokens, Word
from promptprobe.worlds import (
    DEFAULT,
    WORLDS,
    guidance_of,
    name_since,
    named_before,
    thesaurus_of,
    unknown_words,
    world_of,
)

ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize("world", WORLDS, ids=lambda w: w.name)
def test_every_row_is_complete(world):
    assert (world.pipeline / "model_index.json").is_file()
    assert world.probe is None or (world.probe / "card.json").is_file()
    assert world.reward == world.rewards[0] and set(world.rewards) <= set(REWARDS)
    assert world.settings and guidance_of(world.settings) in world.settings and world.size % 64 == 0
    for name in (world.name, *world.aliases, *(() if world.known_as else (str(world.pipeline),))):
        assert world_of(name) is world


def test_names_are_one_worlds_alone():
    names = [n for w in WORLDS for n in (w.name, *w.aliases)]
    assert len(names) == len(set(names)) and DEFAULT in names


def test_a_copy_of_the_folder_and_any_other_model_are_no_world(tmp_path):
    copy = shutil.copytree(icons.UNET_PIPELINE, tmp_path / "pipeline")
    for other in (copy, "black-forest-labs/FLUX.1-dev", "", "."):
        assert world_of(other) is None and default_reward(other) is None and pipeline_settings(other) == {}
        assert thesaurus_of(other) is None
    with pytest.raises(ModelError, match="needs a probe of its own"):
        load_probe(None, copy)


def test_the_row_gives_what_nobody_else_asks_for():
    own = {"height": 256, "width": 256}
    flux = {"true_cfg_scale": 4.0, "negative_prompt": "", "max_sequence_length": 32, **own}
    assert pipeline_settings("icons") == pipeline_settings(icons.PIPELINE) == flux
    assert pipeline_settings("icons", 5, negative="fish") == flux | {"true_cfg_scale": 5.0, "negative_prompt": "fish"}
    assert pipeline_settings("icons-unet", 5, pipe_args={"eta": 1}) == {"guidance_scale": 5.0, "eta": 1, **own}
    assert pipeline_settings("black-forest-labs/FLUX.1-dev", 5) == {"guidance_scale": 5.0}
    assert default_reward("icons") == "icons"


def test_a_folder_brings_what_its_call_is_given(tmp_path):
    (tmp_path / "promptprobe.json").write_text(json.dumps({"call": {"true_cfg_scale": 4, "height": 96}}))
    assert pipeline_settings(tmp_path, 5, height=64) == {"true_cfg_scale": 5.0, "height": 64}
    for text in ("", "[]", '{"call": 1}', '{"call": {"height": [1]}}', '{"call": {"height": ' + "1" * 20_000 + "}}"):
        (tmp_path / "promptprobe.json").write_text(text)
        with pytest.raises(InputError, match=r"promptprobe\.json can't be read"):
            pipeline_settings(tmp_path)


def test_nothing_but_the_table_asks_whether_it_is_the_icon_world():
    own = {"worlds.py", "icons", "rewards"}  # the reward models' folder is the reward's own
    for package in ("promptprobe", "agents"):
        for file in (ROOT / package).rglob("*.py"):
            if own & {*file.relative_to(ROOT / package).parts}:
                continue
            for node in ast.walk(ast.parse(file.read_text("utf-8"))):
                asked = isinstance(node, ast.Compare) and any(
                    (isinstance(n, ast.Constant) and n.value == "icons")
                    or (isinstance(n, ast.Attribute) and ast.unparse(n).startswith("icons."))
                    for n in ast.walk(node)
                )
                assert not asked, f"{file}:{node.lineno} {ast.unparse(node)}"


def test_the_table_loads_nothing_heavy():
    code = "import sys, promptprobe.worlds; sys.exit(bool({'torch', 'numpy', 'diffusers'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


def test_the_vocabulary_is_what_scenes_are_made_of_and_covers_every_caption():
    world = world_of("icons")
    words = world.vocabulary
    assert [*words.objects] == [*OBJECTS] and [*words.colours] == [*COLOUR_NAMES]
    assert [*words.backgrounds] == [*BACKGROUND_NAMES] and [*words.relations] == [*RELATIONS]
    assert [*words.counts] == [*range(1, MAX_COUNT + 1)]
    rng = np.random.default_rng(6)
    for i in range(800):
        text = caption(random_scene(rng, held_out=i % 2 == 0), STYLES[i % 4], rng)
        assert unknown_words(text, world) == [], text


@pytest.mark.parametrize(
    ("prompt", "unknown"),
    [
        ("an astronaut riding a horse", ["astronaut", "horse"]),
        ("Two red cars and a Pikachu", ["Pikachu"]),
        ("a sedan left of three crimson carps, 4k, masterpiece", []),
        ("a black cat on a white background", ["black"]),  # black is a background, nothing else
        ("a cat on a red background", ["red"]),
        ("five cars and 2 keys", ["five"]),
        ("a lemon car and a lemon", ["lemon"]),  # a colour and a fruit
        ("", []),
    ],
)
def test_words_that_can_not_be_drawn_are_named(prompt, unknown):
    assert unknown_words(prompt, world_of("icons")) == unknown


def test_other_models_prompts_keep_their_words():
    prompt = "a carp and a sedan"
    assert [p.head for p in read_prompt(prompt).phrases] == ["carp", "sedan"]
    assert [p.head for p in read_prompt(prompt, thesaurus_of("icons")).phrases] == ["fish", "car"]
    lemon, bowl = read_prompt("a lemon in a crimson bowl").phrases
    assert (lemon.head, bowl.colours) == ("lemon", {"crimson"})


def test_diagnosis_finds_the_objects_of_captions_without_a_thesaurus():
    rng, words = np.random.default_rng(8), thesaurus_of("icons")
    for i in range(400):
        text = caption(random_scene(rng), STYLES[i % 4], rng)
        heads = {p.head for p in read_prompt(text).phrases}
        assert {words.noun(h) for h in heads} == {p.head for p in read_prompt(text, words).phrases}, text
        assert all(singular(h) == h for h in heads), text


def test_diagnosis_marks_a_diffuse_object_of_any_prompt():
    maps = torch.full((2, 1, 4, 4), 1 / 16)  # tokens "carp" and "sedan": the first everywhere, the second in one place
    maps[1] = 0
    maps[1, 0, 2, 2] = 1
    words = (Word("carp", 2, 6, (0,)), Word("sedan", 13, 18, (1,)))
    tokens = PromptTokens("a carp and a sedan", (2, 5), words, cut=0, limit=75)
    assert [w.diffuse for w in diagnose(maps, tokens)] == [True, False]


def test_the_offline_rewriter_says_that_it_has_no_thesaurus():
    request = RewriteRequest("a crimson automobile", 0.1, 0.5, [], [Try("a crimson automobile", 0.1)], 4, 38)
    answer = OfflineRewriter(thesaurus_of("black-forest-labs/FLUX.1-dev")).rewrite(request)
    assert answer.rewrites == [] and answer.notes == [NO_THESAURUS]
    assert OfflineRewriter(thesaurus_of("icons")).rewrite(request).rewrites[0].prompt == "a red car"


def test_stored_halves_are_computed_with_as_floats(tmp_path):
    pipeline = load_pipeline()
    parts = (pipeline.transformer, pipeline.vae, pipeline.text_encoder, pipeline.text_encoder_2, load_probe(None))
    assert {p.dtype for m in parts for p in m.parameters()} == {torch.float32}
    assert load_pipeline(dtype="bfloat16").transformer.dtype == torch.bfloat16


def test_a_name_means_what_it_meant_in_the_version_that_wrote_it():
    assert [name_since("icons", v) for v in ("0.1.0", "", "0.2.0", "0.10")] == [
        "icons-64",
        "icons-64",
        "icons",
        "icons",
    ]
    assert name_since("black-forest-labs/FLUX.1-dev", "0.1.0") == "black-forest-labs/FLUX.1-dev"
    assert named_before({"model": "icons", "guidance_scale": 3.0}) == "icons-64"
    assert named_before({"model": "icons", "true_cfg_scale": 4.0}) is None is named_before({"model": "a/b"})


def test_a_picture_made_before_is_made_again(tmp_path):
    image, difference = replay(ROOT / "tests" / "data" / "icons_before.png", tmp_path / "now.png")
    assert image.size == (64, 64) and difference <= 8  # of 255; another processor rounds in another way


def test_what_trains_a_world_is_not_installed():
    installed = [*(ROOT / "promptprobe").rglob("*.py"), *(ROOT / "agents").rglob("*.py")]
    assert [f for f in installed if "argparse" in f.read_text("utf-8") or f.name.startswith("train_")] == []
    for script in (ROOT / "worlds" / "icons").glob("[!_]*.py"):
        text = script.read_text("utf-8")
        if "__main__" in text:  # what is run says how
            assert "import fit" in text or f"python -m worlds.icons.{script.stem}" in text


@pytest.mark.parametrize("family", ["sd", "sdxl"])
def test_one_side_alone_is_what_the_image_has_and_the_record_says(family, request):
    pipeline = request.getfixturevalue(family)
    _, settings = open_pipeline("x/y", pipeline=pipeline, height=48)
    assert settings == {"height": 48, "width": 32}  # 32: 16 latent cells of two pixels
    paused = start(pipeline, ["a cat"], [1], steps=1, stop=1, watch=(), **settings)
    assert finish(pipeline, paused)[0].size == (32, 48)
    with pytest.raises(InputError, match=r"width is 45; .* draws multiples of 2 pixels: give 44 or 46"):
        open_pipeline("x/y", pipeline=pipeline, width=45)


def test_text_is_as_long_as_the_encoder_has_places(tmp_path):
    folder = tmp_path / "pipeline"  # CLIP in T5's place: 40 places, where the pipeline's own default is 512
    shutil.copytree(WORLDS[0].pipeline, folder, ignore=shutil.ignore_patterns("promptprobe.json"))
    pipeline, settings = open_pipeline(folder)
    assert settings["max_sequence_length"] == pipeline.text_encoder_2.config.max_position_embeddings == 40
    assert (
        open_pipeline(folder, pipeline=pipeline, pipe_args={"max_sequence_length": 32})[1]["max_sequence_length"] == 32
    )
    with pytest.raises(InputError, match="max_sequence_length is 41; CLIPTextModel reads at most 40 tokens"):
        open_pipeline(folder, pipeline=pipeline, pipe_args={"max_sequence_length": 41})
    for wrong in ("abc", [1], 12.5, 0, -3, True):
        with pytest.raises(InputError, match=r"max_sequence_length is .*; (give|FluxPipeline takes) a whole number"):
            open_pipeline(folder, pipeline=pipeline, pipe_args={"max_sequence_length": wrong})


def test_a_world_takes_its_own_size():
    size = WORLDS[0].size
    check_world_size(WORLDS[0].name, {"height": size, "width": size})
    with pytest.raises(InputError, match=f"height is {2 * size}; the built-in world"):
        check_world_size(WORLDS[0].pipeline, {"height": 2 * size})
    check_world_size("x/y", {"height": 2 * size})
