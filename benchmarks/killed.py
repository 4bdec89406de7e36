"""Work under fire: each command is killed with SIGKILL at moments spread over its run, started again, and compared with a run
that nobody disturbed.

    python benchmarks/killed.py [--kills 10] [--only batch] [--model icons-64]

batch, collect: killed and started again until done; then every line, image and tensor must be that of the undisturbed run, and
nothing may be there twice. optimize, train: killed each time, then run once more: the same image, record and weights, and
nothing half-written in between. session: killed while it works on a line; the store must open, with all that was finished
before. The exit status is 1 when anything differs.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from promptprobe import dataset
from promptprobe.pnginfo import read_record

PROMPTS = [
    "two red cars",
    "a blue fish",
    "three green cats on a pink background",
    "a dog",
    "one yellow star",
    "a pair of crimson birds",
]
LINES = ["a trio of cobalt felines", "/rewrite", "/finish 1"]
VARYING = ("seconds", "key")  # of a line or record


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--only", choices=sorted(COMMANDS))
    parser.add_argument("--model", default="icons-64")
    args = parser.parse_args()
    wrong = 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "prompts.txt").write_text("\n".join(PROMPTS) + "\n")
        for command in [args.only] if args.only else COMMANDS:
            found = COMMANDS[command](folder / command, folder / "prompts.txt", args.model, args.kills)
            print(f"{command}: killed {args.kills} times, {'; '.join(found) or 'nothing lost, all equal'}", flush=True)
            wrong += bool(found)
    sys.exit(wrong > 0)


def run(arguments: list[str], kill_after: float | None = None, stdin: str = "") -> float:
    """Run a command of promptprobe, killed after so many seconds; how long it ran. Raises when it fails by itself."""
    began = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-m", "promptprobe", *arguments], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    try:
        _, said = process.communicate(stdin, timeout=kill_after)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        return time.monotonic() - began
    if process.returncode:
        raise RuntimeError(f"{' '.join(arguments)}: exit {process.returncode}: {said[-500:]}")
    return time.monotonic() - began


def under_fire(arguments: Callable[[str], list[str]], kills: int) -> None:
    """A run that nobody disturbs into `whole`; one into `killed`, killed so many times and then run to its end."""
    length = run(arguments("whole"))
    for moment in moments(length, kills):
        run(arguments("killed"), moment)
    run(arguments("killed"))


def moments(length: float, kills: int) -> list[float]:
    """Moments from a tenth of a run to its very end."""
    return [length * (0.1 + 0.9 * i / max(kills - 1, 1)) for i in range(kills)]


def batch(folder: Path, prompts: Path, model: str, kills: int) -> list[str]:
    def arguments(out: str) -> list[str]:
        return [
            "batch",
            str(prompts),
            "--out",
            str(folder / out),
            "--model",
            model,
            "--rewriter",
            "offline",
            "--batch-size",
            "2",
        ]

    under_fire(arguments, kills)
    whole, killed = lines_of(folder / "whole"), lines_of(folder / "killed")
    found = [] if whole == killed else ["lines differ"]
    raw = (folder / "killed" / "results.jsonl").read_text().splitlines()
    found += [] if len(raw) == len(PROMPTS) else [f"{len(raw)} lines for {len(PROMPTS)} prompts"]
    found += [
        f"image {p} differs"
        for p, line in whole.items()
        if pixels(folder / "whole" / line["image"]) != pixels(folder / "killed" / line["image"])
    ]
    return found + leftovers(folder)


def lines_of(out: Path) -> dict[str, dict[str, Any]]:
    lines = [json.loads(text) for text in (out / "results.jsonl").read_text("utf-8").split("\n") if text]
    return {x["prompt"]: {k: v for k, v in x.items() if k not in VARYING} for x in lines}


def pixels(path: Path) -> str:
    from PIL import Image

    with Image.open(path) as image:
        return hashlib.sha256(image.tobytes()).hexdigest()


def leftovers(folder: Path) -> list[str]:
    """Files under final names that can't be read; what lies under a temporary name may stay after SIGKILL."""
    broken = []
    for path in folder.rglob("*"):
        try:
            if path.name.startswith(".") or not path.is_file():
                continue
            if path.suffix == ".png":
                pixels(path)
            elif path.suffix == ".json":
                json.loads(path.read_text("utf-8"))
        except Exception as error:
            broken.append(f"{path.name} can't be read ({error})")
    return broken


def collect(folder: Path, prompts: Path, model: str, kills: int) -> list[str]:
    def arguments(out: str) -> list[str]:
        return [
            "collect",
            str(prompts),
            "--out",
            str(folder / out),
            "--model",
            model,
            "--reward",
            "icons",
            "--batch-size",
            "2",
        ]

    under_fire(arguments, kills)
    whole, killed = dataset.load([folder / "whole"]), dataset.load([folder / "killed"])
    order = [list(zip(x.prompts, x.seeds, strict=True)) for x in (whole, killed)]
    if sorted(order[0]) != sorted(order[1]):
        return ["items differ"]
    places = [order[1].index(item) for item in order[0]]
    step = next(iter(whole.maps))
    far = float((whole.rewards["icons"] - killed.rewards["icons"][places]).abs().max())
    far = max(far, float((whole.maps[step].float() - killed.maps[step][places].float()).abs().max()))
    return [] if far < 1e-3 else [f"values differ by {far:.2g}"]  # another batch rounds otherwise


def optimize(folder: Path, prompts: Path, model: str, kills: int) -> list[str]:
    def arguments(out: str) -> list[str]:
        return [
            "optimize",
            LINES[0],
            "--out",
            str(folder / out),
            "--model",
            model,
            "--rewriter",
            "offline",
            "--rounds",
            "1",
        ]

    under_fire(arguments, kills)
    (expected,) = made_in(folder / "whole")
    pictures = made_in(folder / "killed")
    found = [
        f"{p.name} differs"
        for p in pictures
        if pixels(p) != pixels(expected) or read_record(p) != read_record(expected)
    ]
    return found + leftovers(folder)


def made_in(folder: Path) -> list[Path]:
    """The finished images of a folder, without the pictures of attention and what was never renamed."""
    return [p for p in sorted(folder.glob("[!.]*.png")) if not p.stem.endswith("-attention")]


def train(folder: Path, prompts: Path, model: str, kills: int) -> list[str]:
    more = folder / "more.txt"
    folder.mkdir(parents=True)
    more.write_text(
        "\n".join(
            f"{n} {colour} {thing}"
            for n in ("two", "three")
            for colour in ("green", "pink")
            for thing in ("cars", "fish", "keys")
        )
    )
    for name, source in (("data", more), ("check", prompts)):
        run(["collect", str(source), "--out", str(folder / name), "--model", model, "--reward", "icons"])

    def arguments(out: str) -> list[str]:
        return [
            "train",
            str(folder / "data"),
            "--validation",
            str(folder / "check"),
            "--out",
            str(folder / out),
            "--epochs",
            "4",
        ]

    length = run(arguments("whole"))
    for moment in moments(length, kills):
        shutil.rmtree(folder / "killed", ignore_errors=True)
        run(arguments("killed"), moment)
        if (folder / "killed").exists() and {p.name for p in (folder / "killed").glob("[!.]*")} not in (
            set(),
            {"card.json", "probe.safetensors"},
        ):
            return ["half a probe is there"]
    run(arguments("killed"))
    same = all(
        (folder / "whole" / n).read_bytes() == (folder / "killed" / n).read_bytes()
        for n in ("card.json", "probe.safetensors")
    )
    return ([] if same else ["the weights differ"]) + leftovers(folder)


def session(folder: Path, prompts: Path, model: str, kills: int) -> list[str]:
    from promptprobe.agents.plan import make_plan
    from promptprobe.agents.session import Session

    def arguments(out: str) -> list[str]:
        return ["session", "--out", str(folder / out), "--model", model, "--rewriter", "offline", "--name", "a"]

    length = run(arguments("whole"), stdin="\n".join([*LINES, "/quit"]) + "\n")
    plan, found = make_plan(model=model, rewriter="offline"), []
    for number, moment in enumerate(moments(length, kills)):
        out = f"killed-{number}"
        run(arguments(out), moment, "\n".join([*LINES, "/quit"]) + "\n")
        try:
            taken = Session(plan, folder / out / "sessions.sqlite", "a", folder / out)
            taken.say(LINES[0] if not taken.state.get("prompt") else "/facts")
            taken.close()
        except Exception as error:
            found.append(f"after {moment:.1f} s the session doesn't open ({error})")
    return found + leftovers(folder)


COMMANDS = {"batch": batch, "collect": collect, "optimize": optimize, "train": train, "session": session}

if __name__ == "__main__":
    main()
