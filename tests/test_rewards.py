"""Reward models against the reference package, published formulas and torchmetrics; their files, images and errors."""

from __future__ import annotations

import importlib
import json

import numpy as np
import pytest
import reference_image_reward as reference
import torch
from conftest import close
from PIL import Image
from typer.testing import CliRunner

from promptprobe import InputError, ModelError, icons
from promptprobe.cli import app, main
from promptprobe.rewards import REWARDS, blip, clip, load_reward, measure, weights
from promptprobe.rewards.images import as_rgb, clip_pixels

SMALL_VISION = {
    "hidden_size": reference.SMALL["width"], "intermediate_size": 4 * reference.SMALL["width"],
    "num_hidden_layers": reference.SMALL["depth"], "num_attention_heads": reference.SMALL["heads"],
}  # fmt: skip
SMALL_TEXT = {"num_hidden_layers": reference.SMALL["depth"]}


def published_names(model: blip.Blip) -> dict[str, torch.Tensor]:
    """Shapes of a published checkpoint for these sizes, by the reverse of the renaming."""
    back = {
        "vision.embeddings.class_embedding": "blip.visual_encoder.cls_token",
        "vision.embeddings.position_embedding": "blip.visual_encoder.pos_embed",
        "vision.embeddings.patch_embedding.": "blip.visual_encoder.patch_embed.proj.",
        "vision.post_layernorm.": "blip.visual_encoder.norm.",
        "vision.encoder.layers.": "blip.visual_encoder.blocks.", ".layer_norm": ".norm",
        ".self_attn.projection.": ".attn.proj.", ".self_attn.qkv.": ".attn.qkv.", "mlp.": "mlp.layers.",
        "text.": "blip.text_encoder.",
    }  # fmt: skip
    result = {}
    for key, value in model.state_dict().items():
        new = key
        for ours, theirs in back.items():
            if key.startswith("vision.") == (ours not in ("mlp.", "text.")) and (
                ours in key if ours[0] in ".v" else key.startswith(ours)
            ):
                new = new.replace(ours, theirs, 1)
        result[new] = value
    return result


@pytest.fixture(scope="module")
def small_state():
    return reference.spread(published_names(blip.Blip(SMALL_VISION, SMALL_TEXT)))


@pytest.fixture(scope="module")
def small_reward(small_state, tmp_path_factory):
    """ImageReward at the recorded reference's size, without reading a file of 1.8 GB."""
    folder = tmp_path_factory.mktemp("bert")
    reference.tokenizer(folder)
    reward = object.__new__(blip.ImageReward)
    reward.model = blip.load_blip(small_state, folder / "ImageReward.pt", SMALL_VISION, SMALL_TEXT).eval()
    reward.tokenizer, reward.device = blip._tokenizer(folder), "cpu"
    return reward


@pytest.mark.numbers
def test_image_reward_equals_recorded_reference(small_reward):
    recorded = json.loads(reference.FIXTURE.read_text())
    ours = small_reward(reference.images(), reference.PROMPTS)
    assert len(set(recorded["scores"])) == 4
    assert close(ours, recorded["scores"])


@pytest.mark.numbers
def test_image_reward_batched_equals_one_by_one(small_reward):
    together = small_reward(reference.images(), reference.PROMPTS)
    alone = [float(small_reward([i], [p])) for i, p in zip(reference.images(), reference.PROMPTS, strict=True)]
    assert close(together, alone)


@pytest.mark.skipif(not reference.installed(), reason="pip install --no-deps image-reward==1.5")
@pytest.mark.slow
def test_image_reward_equals_reference_at_full_size(tmp_path):
    model = reference.reference(tmp_path)
    with torch.no_grad():
        theirs = [model.score(p, i) for p, i in zip(reference.PROMPTS, reference.images(), strict=True)]
        theirs_pixels = torch.stack([model.preprocess(i) for i in reference.images()])
    torch.save(model.state_dict(), tmp_path / "ImageReward.pt")
    del model
    ours = blip.ImageReward(tmp_path)
    assert torch.equal(clip_pixels(reference.images(), 224), theirs_pixels)
    scores = ours(reference.images(), reference.PROMPTS)
    print(f"scores {theirs}, largest difference {float((scores - torch.tensor(theirs)).abs().max()):.2e}")
    assert close(scores, theirs)


def test_image_reward_names_the_first_wrong_key(small_state, tmp_path):
    path = tmp_path / "ImageReward.pt"
    with pytest.raises(ModelError, match=r"unexpected key 'decoder\.weight'"):
        blip.load_blip({**small_state, "decoder.weight": torch.zeros(1)}, path, SMALL_VISION, SMALL_TEXT)
    lacking = {k: v for k, v in small_state.items() if k != "mlp.layers.0.weight"}
    with pytest.raises(ModelError, match=r"missing key 'mlp\.0\.weight'"):
        blip.load_blip(lacking, path, SMALL_VISION, SMALL_TEXT)


def test_truncated_checkpoint_is_named(tmp_path):
    path = tmp_path / "ImageReward.pt"
    torch.save({"a": torch.zeros(1000)}, path)
    path.write_bytes(path.read_bytes()[:1500])
    with pytest.raises(ModelError, match=r"ImageReward\.pt .*truncated or no checkpoint"):
        load_reward(f"image-reward={tmp_path}")


def test_pickled_code_is_not_run(tmp_path):
    class Evil:
        def __reduce__(self):
            return (open, (str(tmp_path / "ran"), "w"))

    torch.save({"a": Evil()}, tmp_path / "ImageReward.pt")
    with pytest.raises(ModelError):
        load_reward(f"image-reward={tmp_path}")
    assert not (tmp_path / "ran").exists()


def test_absent_weights_say_where_and_how(tmp_path):
    with pytest.raises(ModelError, match=r"ImageReward\.pt, which is not in .*hf download zai-org/ImageReward"):
        load_reward(f"image-reward={tmp_path}")
    with pytest.raises(ModelError, match=r"linearMSE\.pth.*download it from https"):
        load_reward("aesthetic")


def test_offline_hub_is_one_clear_error(monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(ModelError, match=r"hub did not deliver it .*hf download") as error:
        load_reward("pickscore")
    assert "\n" not in str(error.value)


def test_known_digests_are_checked(tmp_path):
    (tmp_path / weights.AESTHETIC_FILE).write_bytes(b"truncated")
    with pytest.raises(ModelError, match=r"truncated or another file: its SHA-256"):
        load_reward(f"aesthetic={tmp_path}")


@pytest.mark.numbers
def test_clip_score_equals_torchmetrics():
    pytest.importorskip("torchmetrics")
    module = importlib.import_module("torchmetrics.functional.multimodal.clip_score")
    reward = clip.ClipScore(icons.REWARD)
    pictures = [i.resize((64, 64)) for i in reference.images()]
    texts = ["a red car", "two blue fish", "an apple", "three keys on a white background"]
    ours = reward(pictures, texts)

    class Processor:  # torchmetrics hands images as uint8 tensors to a processor
        def __call__(self, text=None, images=None, **_):
            given = [Image.fromarray(x.permute(1, 2, 0).numpy()) for x in images] if images is not None else None
            made = {"pixel_values": reward.pixels(given)} if given else {}
            return made | (dict(reward.tokenizer(text, padding="max_length", return_tensors="pt")) if text else {})

    class Model:  # transformers 5 wraps what torchmetrics expects to be a tensor
        config = reward.model.config

        def get_image_features(self, pixel_values):
            return reward.model.get_image_features(pixel_values=pixel_values).pooler_output

        def get_text_features(self, input_ids, attention_mask=None):
            return reward.model.get_text_features(input_ids=input_ids).pooler_output

        def to(self, device):
            return self

    tensors = [torch.from_numpy(np.array(i)).permute(2, 0, 1) for i in pictures]
    with torch.no_grad():
        theirs, _ = module._clip_score_update(tensors, texts, Model(), Processor())
    assert close(ours, theirs.clamp(min=0))


@pytest.mark.numbers
def test_pickscore_is_scale_times_cosine():
    reward = clip.PickScore(icons.REWARD)
    image, text = reward.image_embeddings(reference.images()), reward.text_embeddings(["a red car"] * 4)
    for row in (image, text):
        assert close(row.norm(dim=-1), torch.ones(4))
    scale = float(reward.model.logit_scale.detach().exp())
    expected = torch.tensor([scale * float(a @ b) for a, b in zip(image, text, strict=True)])
    assert close(reward(reference.images(), ["a red car"] * 4), expected)


@pytest.mark.numbers
def test_aesthetic_head_is_its_published_formula(tmp_path):
    sizes = {0: (1024, 768), 2: (128, 1024), 4: (64, 128), 6: (16, 64), 7: (1, 16)}
    generator = torch.Generator().manual_seed(0)
    state = {}
    for number, (rows, columns) in sizes.items():
        state[f"layers.{number}.weight"] = torch.randn(rows, columns, generator=generator) / columns**0.5
        state[f"layers.{number}.bias"] = torch.randn(rows, generator=generator)
    head = clip.read_head(state, tmp_path / "head.pth", "aesthetic", strip="layers.")
    x = torch.randn(3, 768, generator=generator)
    expected = x
    for number in sizes:
        expected = expected @ state[f"layers.{number}.weight"].T + state[f"layers.{number}.bias"]
    assert close(head(x), expected)
    with pytest.raises(ModelError, match="unexpected key 'other'"):
        clip.read_head({"other": torch.zeros(1)}, tmp_path / "head.pth", "aesthetic")


def test_open_clip_weights_give_the_same_model(tmp_path):
    """transformers' CLIP written under open_clip's names and read back is the same model."""
    small = {
        "text_config": {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2},
        "vision_config": {
            "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2,
            "image_size": 28,
        },
        "projection_dim": 16,
    }  # fmt: skip
    model = clip.huge_clip(**small).eval()
    state = {k: torch.randn_like(v) * 0.1 for k, v in model.state_dict().items() if v.is_floating_point()}
    model.load_state_dict(state)
    theirs = {"logit_scale": state["logit_scale"], "text_projection": state["text_projection.weight"].T,
              "visual.proj": state["visual_projection.weight"].T}  # fmt: skip
    for key, value in state.items():
        if "self_attn" in key and "out_proj" not in key:
            stem, kind = key.replace("self_attn", "attn").split(".q_proj.") if ".q_proj." in key else ("", "")
            if stem:
                parts = [state[key.replace("q_proj", f"{c}_proj")] for c in "qkv"]
                theirs[f"{_open_clip(stem)}.in_proj_{kind}"] = torch.cat(parts)
        elif key not in ("logit_scale", "text_projection.weight", "visual_projection.weight"):
            theirs[_open_clip(key)] = value
    read = clip.from_open_clip(theirs, tmp_path / "x.pt", "hpsv2")
    assert set(read) == set(state)
    assert all(torch.equal(read[k], state[k]) for k in state)
    with pytest.raises(ModelError, match=r"unexpected key 'classifier\.weight'"):
        clip.from_open_clip({"classifier.weight": torch.zeros(1)}, tmp_path / "x.pt", "hpsv2")


def _open_clip(key: str) -> str:
    pairs = {
        "text_model.embeddings.position_embedding.weight": "positional_embedding",
        "vision_model.embeddings.position_embedding.weight": "visual.positional_embedding",
        "text_model.embeddings.token_embedding": "token_embedding", "text_model.final_layer_norm": "ln_final",
        "text_model.encoder.layers": "transformer.resblocks",
        "vision_model.embeddings.class_embedding": "visual.class_embedding",
        "vision_model.embeddings.patch_embedding": "visual.conv1", "vision_model.pre_layrnorm": "visual.ln_pre",
        "vision_model.post_layernorm": "visual.ln_post",
        "vision_model.encoder.layers": "visual.transformer.resblocks", "layer_norm1": "ln_1", "layer_norm2": "ln_2",
        "mlp.fc1": "mlp.c_fc", "mlp.fc2": "mlp.c_proj", "self_attn.out_proj": "attn.out_proj",
    }  # fmt: skip
    for ours, theirs in pairs.items():
        key = key.replace(ours, theirs)
    return key


def test_images_of_every_mode_become_rgb():
    base = Image.new("RGBA", (4, 4), (255, 0, 0, 0))
    assert as_rgb(base).getpixel((0, 0)) == (255, 255, 255)  # alpha on white
    assert as_rgb(Image.new("L", (4, 4), 100)).getpixel((0, 0)) == (100, 100, 100)
    assert as_rgb(Image.new("P", (4, 4), 0)).mode == "RGB"
    deep = Image.fromarray(np.full((4, 4), 65535, np.uint16))
    assert as_rgb(deep).getpixel((0, 0)) == (255, 255, 255)
    with pytest.raises(InputError, match="0x4 pixels"):
        as_rgb(Image.new("RGB", (0, 4)))
    with pytest.raises(InputError, match="PIL images"):
        as_rgb("picture.png")


@pytest.mark.parametrize("name", ["icons", "colourfulness"])
def test_lengths_that_differ_are_refused(name):
    with pytest.raises(InputError, match="2 images and 1 prompts"):
        load_reward(name)([Image.new("RGB", (64, 64))] * 2, ["a car"])


def test_own_rewards_are_checked():
    pictures = [Image.new("RGB", (8, 8))] * 2
    assert measure(lambda i, p: [1, 2.5], pictures, ["a", "b"]).tolist() == [1, 2.5]
    with pytest.raises(InputError, match=r"shape \(1,\) for 2 images"):
        measure(lambda i, p: [1.0], pictures, ["a", "b"])
    with pytest.raises(InputError, match=r"of 'b' is nan"):
        measure(lambda i, p: [1.0, float("nan")], pictures, ["a", "b"])
    with pytest.raises(InputError, match="unknown reward 'nothing'"):
        load_reward("nothing")
    with pytest.raises(InputError, match="can't be imported"):
        load_reward("no.such:thing")


def test_colourfulness_of_grey_is_zero_and_of_colours_is_not():
    reward = load_reward("colourfulness")
    halves = Image.new("RGB", (8, 8), (255, 0, 0))
    halves.paste((0, 0, 255), (0, 0, 4, 8))
    grey, colourful = reward([Image.new("RGB", (8, 8), (90, 90, 90)), halves], ["", "x"]).tolist()
    # By hand: rg = 255 or 0, yb = 127.5 or -255 -> sigma = hypot(127.5, 191.25), mu = hypot(127.5, -63.75).
    assert grey == 0
    assert colourful == pytest.approx(np.hypot(127.5, 191.25) + 0.3 * np.hypot(127.5, 63.75))


def test_reward_command(tmp_path):
    picture = tmp_path / "picture.png"
    Image.new("RGBA", (64, 64), (250, 0, 0, 128)).save(picture)
    run = CliRunner().invoke(
        app, ["reward", str(picture), "--prompt", "a red car", "--with", "icons,colourfulness", "--json"]
    )
    assert run.exit_code == 0, run.output
    row = json.loads(run.output)[0]
    assert row["image"] == str(picture) and set(row["rewards"]) == {"icons", "colourfulness"}


def test_reward_command_names_what_is_no_image(tmp_path, capsys):
    (tmp_path / "x.png").write_bytes(b"")
    for name, reason in (("x.png", "no image"), ("y.png", "No such file")):
        with pytest.raises(SystemExit) as stop:
            main(["reward", str(tmp_path / name), "--prompt", "a", "--with", "icons"])
        assert stop.value.code == 2
        assert reason in capsys.readouterr().err


def test_table_of_rewards_is_complete():
    assert {"image-reward", "clip", "pickscore", "aesthetic", "hpsv2", "icons"} <= set(REWARDS)
