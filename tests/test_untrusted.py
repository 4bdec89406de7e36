"""Pictures from anywhere and damaged files of ours: data that is checked, bounded, and never believed."""

from __future__ import annotations

import json
import os
import random
import shutil
import sys
from pathlib import Path

import numpy as np
import pipelines
import pytest
from PIL import Image
from promptprobe.agents.batch_folder import RESULTS, BatchFolder
from promptprobe.agents.page.results import read_results

import promptprobe
from promptprobe import Probe, cli, dataset, replaying, worlds
from promptprobe.calling import check_settings
from promptprobe.errors import ModelError
from promptprobe.loading import check_device
from promptprobe.notebook import read_picture
from promptprobe.pnginfo import png_bytes, read_record
from promptprobe.rewards.images import open_image
from promptprobe.text import printable

sys.path.insert(0, str(Path(__file__).parent.parent / "benchmarks"))
import damaged

RECORD = {
    "prompt": "a red car", "best_prompt": "a red car", "seed": 1, "settings": {"model": "icons", "steps": 1}, "call": {}, "loading": {}, "version": "0.2.0",
}  # fmt: skip


@pytest.fixture
def picture(tmp_path):
    """Writes a PNG with a record that differs from a sound one."""

    def write(**changes) -> Path:
        path = tmp_path / "picture.png"
        path.write_bytes(png_bytes(Image.new("RGB", (8, 8)), {**RECORD, **changes}))
        return path

    return write


def test_damaged_pictures_end_in_a_line(tmp_path):
    with damaged.nothing_loaded():
        for number in range(60):
            damaged.a_picture(random.Random(f"pictures {number}"), tmp_path)


@pytest.mark.parametrize("read", [open_image, read_picture])
def test_damaged_pictures_are_pictures_or_refused(tmp_path, read):
    refused = 0
    for number in (*range(60), 2371):  # the last one makes Pillow raise a SyntaxError
        (tmp_path / "a.png").write_bytes(damaged.picture_bytes(random.Random(f"pictures {number}")))
        try:
            read(tmp_path / "a.png")
        except promptprobe.InputError:
            refused += 1
    assert refused > 10


@pytest.mark.parametrize(
    "changes",
    [{"seed": "1"}, {"seed": -1}, {"prompt": 3}, {"prompt": "x" * 20_000}, {"call": []}, {"candidates": [3]}, {"reward": "high"},
     {"settings": {"a": json.loads("[" * 15 + "]" * 15)}}],
)  # fmt: skip
def test_a_record_with_a_field_of_another_kind_is_damaged(picture, changes):
    with pytest.raises(promptprobe.InputError, match="damaged promptprobe record"):
        read_record(picture(**changes))


@pytest.mark.parametrize(
    ("changes", "given", "loads"),
    [
        ({"settings": {"model": "someone/model", "steps": 1}}, {}, "--trust-record to load it"),
        ({"settings": {"model": "/tmp/folder", "steps": 1}}, {}, "--trust-record to load it"),
        ({"loading": {"lora": ["someone/adapter"]}}, {}, "also wants lora"),
        ({"loading": {"lora": ["someone/adapter"]}}, {"model": "icons"}, "also wants lora"),
        ({"call": {"height": 10**6, "width": 256}}, {}, "height is 1000000"),
        ({"call": {"generator": {"a": 1}}}, {}, "is a dict"),
        ({"settings": {"model": "icons", "steps": 10**9}}, {}, "steps is"),
        ({"settings": {"model": "icons", "steps": 1.5}}, {}, "steps is 1.5; it must be a whole number"),
        ({}, {}, damaged.Loaded),
        ({"settings": {"model": "someone/model", "steps": 1}}, {"model": "mine"}, damaged.Loaded),
        ({"settings": {"model": "someone/model", "steps": 1}}, {"trust_record": True}, damaged.Loaded),
        ({"loading": {"lora": ["someone/adapter"]}}, {"trust_record": True}, damaged.Loaded),
    ],
)
def test_a_replay_loads_what_somebody_here_named_and_nothing_else(picture, changes, given, loads):
    with damaged.nothing_loaded():
        if isinstance(loads, str):
            with pytest.raises(promptprobe.InputError, match=loads):
                replaying.replay(picture(**changes), **given)
        else:
            with pytest.raises(loads) as caught:
                replaying.replay(picture(**changes), **given)
            assert str(caught.value) == given.get("model", changes.get("settings", RECORD["settings"])["model"])


@pytest.mark.parametrize(
    "call", [{"true_cfg_scale": "4"}, {"true_cfg_scale": None}, {"joint_attention_kwargs": ["a"]}, {"ip_adapter_image": "x.png"}],
)  # fmt: skip
def test_a_call_of_another_kind_in_a_record_is_a_line(picture, call):
    with pytest.raises(promptprobe.InputError, match=f"{min(call)} is|can't be made again"):
        replaying.replay(picture(call={"height": 256, "width": 256, "negative_prompt": "", **call}))


def test_settings_of_a_kind_that_the_pipeline_takes_pass():
    pipeline = pipelines.flux()
    for settings in (
        {"true_cfg_scale": 4, "sigmas": None, "joint_attention_kwargs": {}, "max_sequence_length": 8},
        {"true_cfg_scale": np.float32(4), "sigmas": np.ones(2), "max_sequence_length": np.int64(8)},
    ):
        check_settings(pipeline, settings)
    for wrong, said in (
        ({"true_cfg_scale": True}, "true_cfg_scale is True; FluxPipeline takes a number"), ({"height": 8.5}, "a whole number"),
        ({"sigmas": "x"}, "sigmas is 'x'; FluxPipeline takes a list"), ({"negative_prompt": "\ud800"}, "half of a surrogate pair"),
    ):  # fmt: skip
        with pytest.raises(promptprobe.InputError, match=said):
            check_settings(pipeline, wrong)


def test_what_is_no_file_or_device_is_a_line(tmp_path, capsys):
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "loop.png").symlink_to("loop.png")
    for command in ("show", "replay"):
        for name, said in (("pipe.png", "is no file"), ("loop.png", "can't read image")):
            with pytest.raises(SystemExit) as stopped:
                cli.main([command, str(tmp_path / name)])
            assert stopped.value.code == 2 and said in capsys.readouterr().err
    with pytest.raises(promptprobe.InputError, match="no device of PyTorch's"):
        check_device("meta")


def test_a_foreign_text_moves_no_cursor():
    assert printable("a\x1b[2J\u202eb\u2028\ud800") == "a\\x1b[2J\\u202eb\\u2028\\ud800"
    assert printable("猫 é 👩‍🚀\u3000x", 100) == "猫 é 👩‍🚀\u3000x" and printable("abcdef", 4) == "abc…"


def test_a_line_with_another_line_end_in_a_text_is_kept(tmp_path):
    settings = {"model": "icons"}
    BatchFolder(tmp_path, settings).close()
    (tmp_path / "images" / "a.png").write_bytes(png_bytes(Image.new("RGB", (8, 8))))
    line = {
        "key": "k",
        "prompt": "a car",
        "row": {"columns": {"note": "one\u2028two\x85three"}},
        "image": "images/a.png",
    }
    (tmp_path / RESULTS).write_text(json.dumps(line, ensure_ascii=False) + "\n", "utf-8")
    folder = BatchFolder(tmp_path, settings)
    assert list(folder.lines) == ["k"]
    folder.close()
    assert [row["prompt"] for row in read_results(tmp_path)] == ["a car"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_full_disk_is_a_line_and_the_folder_is_free_again(tmp_path):
    folder = BatchFolder(tmp_path, {})
    folder._file.close()
    folder._file = open("/dev/full", "w")  # noqa: SIM115 - the folder closes it
    with pytest.raises(promptprobe.InputError, match="No space left on device"):
        folder.add({"key": "k", "image": "images/a.png"}, None)
    folder.close()
    BatchFolder(tmp_path, {}).close()


@pytest.mark.parametrize(
    "image", ["images/cut.png", "images/empty.png", "images/none.png", "../outside.png", "images", 3]
)
def test_a_result_whose_image_does_not_open_is_made_again(tmp_path, image):
    out, whole = tmp_path / "out", png_bytes(Image.effect_noise((64, 64), 50))
    BatchFolder(out, {}).close()
    for name, data in (
        ("images/good.png", whole),
        ("images/cut.png", whole[:-900]),
        ("images/empty.png", b""),
        ("../outside.png", whole),
    ):
        (out / name).write_bytes(data)
    lines = [{"key": "good", "image": "images/good.png"}, {"key": "bad", "image": image}]
    (out / RESULTS).write_text("".join(json.dumps(line) + "\n" for line in lines))
    folder = BatchFolder(out, {})
    assert list(folder.lines) == ["good"]
    folder.close()


@pytest.mark.parametrize(
    ("field", "value"),
    [("blocks", 3), ("features", 10**9), ("quantiles", {"icons": 3}), ("steps", None), ("labels", [[]])],
)
def test_a_damaged_card_is_named(tmp_path, field, value):
    shutil.copytree(worlds.world_of("icons").probe, tmp_path / "probe")
    path = tmp_path / "probe" / "card.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {field: value}))
    with pytest.raises(ModelError, match=f"card.json.*{field}"):
        Probe.load(tmp_path / "probe")


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"denoiser": 1}', "\x00", "[" * 100_000])
def test_a_damaged_description_of_a_data_set_is_named(tmp_path, text):
    (tmp_path / dataset.SETTINGS_FILE).write_text(text)
    with pytest.raises(ModelError, match=r"dataset\.json is damaged"):
        dataset.load([tmp_path])
