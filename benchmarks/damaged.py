"""Damaged files of ours and pictures from anywhere: each must work, or end in one line that says what is wrong.

    python benchmarks/damaged.py [--pictures 1000] [--folders 200] [--seed 0]

Pictures: PNG files with bits turned, cut off, with chunks of another file, or with records of odd kinds, deep ones, with
control characters, with other models. `show` prints them, and `replay` is asked for them. Folders: a probe's card and weights,
shards of a data set, the settings and lines of a batch, a session's store. What raises anything but a
`PromptProbeError`, prints a control character, loads a model that nobody named, or takes more than two seconds of CPU is
printed with the seed that makes it again, and the exit status is 1.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import random
import shutil
import sys
import tempfile
import unicodedata
from pathlib import Path
from typing import Any

from fuzz import SCRAPS, check_line, tried
from PIL import Image, PngImagePlugin
from promptprobe.agents.batch_folder import BatchFolder
from promptprobe.agents.plan import Plan, make_plan
from promptprobe.agents.session import Session, kept_model

from promptprobe import Probe, dataset, load_reward, replay, replaying, worlds
from promptprobe.errors import PromptProbeError
from promptprobe.pnginfo import png_bytes, read_record
from promptprobe.printing import print_record

ODD: list[Any] = [
    None, True, -1, 2**70, 1e308, float("nan"), "", "x" * 20_000, [], {}, [[]], {"a": {"b": {}}}, "\x1b[2J\x07", "\u202ered", "[bold]x", "../../etc/passwd",
    "https://example.org/model", *SCRAPS,
]  # fmt: skip
MOVERS = ("Cc", "Cf", "Cs", "Zl", "Zp")  # kinds of characters that move a terminal's cursor or turn its direction
BATCH = {"model": "icons", "tau": "balanced"}


class Loaded(Exception):
    """Raised in place of loading a model."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, number in (("pictures", 1000), ("folders", 200), ("seed", 0)):
        parser.add_argument(f"--{name}", type=int, default=number)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, nothing_loaded():
        folder = Path(name)
        plan = make_plan(model="icons-unet")
        own = made_here(folder / "own", plan)
        found = [
            tried("pictures", args.pictures, args.seed, lambda chance: a_picture(chance, folder)),
            tried("folders", args.folders, args.seed, lambda chance: a_folder(chance, own, folder / "damaged", plan)),
        ]
    sys.exit(any(found))


@contextlib.contextmanager
def nothing_loaded():
    """`replay` gets as far as loading, and no further."""

    def load(model: Any, **_: Any) -> None:
        raise Loaded(str(model))

    before, replaying.load_pipeline = replaying.load_pipeline, load  # type: ignore[assignment]
    try:
        yield
    finally:
        replaying.load_pipeline = before


def a_picture(chance: random.Random, folder: Path) -> None:
    path = folder / "picture.png"
    path.write_bytes(picture_bytes(chance))
    screen = io.StringIO()
    with contextlib.suppress(PromptProbeError), contextlib.redirect_stdout(screen):
        print_record(read_record(path))
    moved = [c for c in screen.getvalue() if unicodedata.category(c) in MOVERS and c not in "\n\u200c\u200d\u00ad"]
    assert not moved, ascii(screen.getvalue()[:500])
    try:
        replay(path)
    except PromptProbeError as error:
        check_line(str(error))
    except Loaded as error:
        assert worlds.world_of(str(error)), f"loaded {error}"


def picture_bytes(chance: random.Random) -> bytes:
    """A small PNG with a record, one of them or both damaged."""
    record: dict[str, Any] = {
        "prompt": "a red car", "best_prompt": "one red car", "seed": 1, "stop_reason": "good enough", "predicted_reward": 0.5, "reward": 0.4, "tau": 0.3,
        "settings": {"model": "icons", "steps": 1, "seed": 1}, "call": {}, "loading": {"device": "cpu"}, "version": "0.2.0", "rewriter": "offline",
        "candidates": [{"prompt": "one red car", "score": 0.5, "rejected": None, "unsure": ["red"]}],
    }  # fmt: skip
    for _ in range(chance.choice([0, 1, 2, 6])):
        place = chance.choice(
            [record, record, record["settings"], record["call"], record["loading"], record["candidates"]]
        )
        if isinstance(place, list):
            place.append(chance.choice(ODD))
        elif isinstance(place, dict):
            keys = [*place, "height", "num_images_per_prompt", "lora", "generator", chance.choice(SCRAPS)]
            place[chance.choice(keys)] = chance.choice(ODD)
        if not all(
            isinstance(record.get(n), k)
            for n, k in (("settings", dict), ("call", dict), ("loading", dict), ("candidates", list))
        ):
            break
    image = Image.new(chance.choice(["RGB", "L", "P", "RGBA"]), (8, 8))
    with contextlib.suppress(ValueError):  # half a surrogate pair can't be written
        data = carrying(image, json.dumps(record, ensure_ascii=chance.random() < 0.5))
        if chance.random() < 0.1:
            data = deep(chance, image)
        return data if chance.random() < 0.4 else broken(chance, data)
    return broken(chance, png_bytes(image))


def deep(chance: random.Random, image: Image.Image) -> bytes:
    """A PNG whose record is nested deep, or not JSON."""
    return carrying(
        image,
        chance.choice(
            [
                "[" * 100_000,
                '{"a":' * 5000 + "1" + "}" * 5000,
                '{"prompt": NaN}',
                "null",
                "",
                "[1]",
                '{"seed": ' + "9" * 5000 + "}",
            ]
        ),
    )


def carrying(image: Image.Image, text: str) -> bytes:
    """A PNG with a text in our record's place."""
    info, buffer = PngImagePlugin.PngInfo(), io.BytesIO()
    info.add_itxt("promptprobe", text, zip=True)
    image.save(buffer, "PNG", pnginfo=info)
    return buffer.getvalue()


def broken(chance: random.Random, data: bytes) -> bytes:
    """Bytes turned, cut off, doubled or put elsewhere."""
    for _ in range(chance.choice([1, 1, 3])):
        at = chance.randrange(len(data) + 1)
        kind = chance.random()
        if kind < 0.4:
            data = bytes(b ^ (chance.random() < 0.01) * chance.randrange(256) for b in data)
        elif kind < 0.6:
            data = data[:at]
        elif kind < 0.8:
            data = data[:at] + data[chance.randrange(len(data) + 1) :]
        else:
            data = data[:at] + bytes(chance.randrange(256) for _ in range(chance.choice([1, 8, 200]))) + data[at:]
        data = data or b"\x89PNG"
    return data


def made_here(folder: Path, plan: Plan) -> Path:
    """One sound file of every kind: a probe, a data set, a batch, a store of sessions."""
    world: Any = worlds.world_of("icons-unet")
    shutil.copytree(world.probe, folder / "probe")
    rewards = {"icons": load_reward("icons")}
    dataset.collect(
        plan.scorer.pipeline, rewards, ["two red cars", "a dog"], folder / "data", steps=2, probe_steps=[1], settings={}
    )
    batch = BatchFolder(folder / "batch", BATCH)
    batch.close()
    lines = [{"key": str(i), "prompt": "a\u2028b", "image": "images/a.png", "reward": 1} for i in range(3)]
    (folder / "batch" / "images" / "a.png").write_bytes(png_bytes(Image.new("RGB", (8, 8))))
    (folder / "batch" / "results.jsonl").write_text("".join(json.dumps(x, ensure_ascii=False) + "\n" for x in lines))
    session = Session(plan, folder / "store" / "sessions.sqlite", "a", folder / "out")
    session.say("two red cars")
    session.close()
    return folder


def a_folder(chance: random.Random, own: Path, path: Path, plan: Plan) -> None:
    kind = chance.choice(["probe", "data", "batch", "store"])
    shutil.rmtree(path, ignore_errors=True)
    shutil.copytree(own / kind, path)
    victim = chance.choice([f for f in sorted(path.rglob("*")) if f.is_file() and f.stat().st_size])
    data = victim.read_bytes()
    small = data if len(data) < 20_000 else data[:2000]  # where a safetensors file says what is in it
    victim.write_bytes(broken(chance, small) + data[len(small) :])
    with contextlib.suppress(PromptProbeError):
        try:
            if kind == "probe":
                Probe.load(path)
            elif kind == "data":
                dataset.load([path])
            elif kind == "batch":
                BatchFolder(path, BATCH).close()
            else:
                kept_model(path / "sessions.sqlite", "a")
                Session(plan, path / "sessions.sqlite", "a", path / "out").close()
        except PromptProbeError as error:
            check_line(str(error))
            raise


if __name__ == "__main__":
    main()
