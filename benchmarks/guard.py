"""What the intent guard lets through: hand-written prompts with two good and two bad rewrites each, and sets made from templates.

    python benchmarks/guard.py [--old COMMIT] [--errors]

`data/guard_tuned.jsonl` may be looked at, `data/guard_held.jsonl` was written before the guard and only its totals count.
By code alone, without an LLM; "unsure" competes, so it counts as let through. `--old` runs the guard of an earlier commit
beside it; `--errors` prints every wrong verdict of the tuned half.
"""

from __future__ import annotations

import argparse
import importlib
import io
import itertools
import json
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from promptprobe.agents.guard import compare, lost
from rich.console import Console
from rich.table import Table
from scipy.stats import norm

DATA = Path(__file__).parent / "data"
Case = tuple[str, str, str]  # kind, prompt, rewrite


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--old", metavar="COMMIT", help="compare with the guard of this commit")
    parser.add_argument("--errors", action="store_true", help="print the wrong verdicts of the tuned half")
    args = parser.parse_args()
    console = Console(width=110)
    old = old_guard(args.old) if args.old else None
    for half in ("tuned", "held"):
        good, bad = cases(half)
        table = Table(f"{half} half", "good rejected", "bad passed", *(["old: rejected", "old: passed"] if old else []))
        for kind in [*dict.fromkeys(k for k, _, _ in good), "all"]:
            some = [[c for c in part if kind in ("all", c[0])] for part in (good, bad)]
            table.add_row(kind, *figures(some, lost), *(figures(some, old) if old else []))
        console.print(table)
        unsure = sum(compare(p, r).verdict == "unsure" for _, p, r in [*good, *bad])
        console.print(f"unsure: {unsure} of {len(good) + len(bad)}\n")
    table = Table("made from templates", "cases", "rejected", "wanted")
    for name, made, wanted in templates():
        rejected = [c for c in made if lost(c[1], c[2])]
        table.add_row(name, str(len(made)), share(len(rejected), len(made)), wanted)
    console.print(table)
    if args.errors:
        good, bad = cases("tuned")
        for right, part in ((True, good), (False, bad)):
            for kind, prompt, rewrite in part:
                if bool(lost(prompt, rewrite)) == right:
                    console.print(
                        f"{kind}, {'good' if right else 'bad'}: {prompt!r} -> {rewrite!r}: {lost(prompt, rewrite)}"
                    )


def cases(half: str) -> tuple[list[Case], list[Case]]:
    """Good and bad rewrites of one half."""
    good, bad = [], []
    for line in (DATA / f"guard_{half}.jsonl").read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        good += [(row["kind"], row["prompt"], r) for r in row["good"]]
        bad += [(row["kind"], row["prompt"], r) for r in row["bad"]]
    return good, bad


def figures(parts: list[list[Case]], guard: Callable[[str, str], list[str]]) -> list[str]:
    good, bad = parts
    return [
        share(sum(bool(guard(p, r)) for _, p, r in good), len(good)),
        share(sum(not guard(p, r) for _, p, r in bad), len(bad)),
    ]


def share(hits: int, of: int) -> str:
    """A share with its Wilson interval (Wilson 1927), 95 %."""
    z = norm.ppf(0.975)
    middle = (hits + z * z / 2) / (of + z * z)
    half = z / (of + z * z) * (hits * (of - hits) / of + z * z / 4) ** 0.5
    return f"{hits / of:.1%} [{max(0, middle - half):.1%}, {min(1, middle + half):.1%}]"


def templates() -> Iterator[tuple[str, list[Case], str]]:
    """Sets whose right answer is known by how they were made."""
    things = [
        "barrel",
        "lantern",
        "typewriter",
        "kettle",
        "accordion",
        "birdhouse",
        "wheelbarrow",
        "parrot",
        "goat",
        "canoe",
    ]
    pairs = [(a, b) for a, b in itertools.permutations(things, 2)]
    scenes = [
        f"a {a} {r} a {b}"
        for (a, b), r in zip(pairs, itertools.cycle(["next to", "behind", "in front of", "and"]), strict=False)
    ]
    yield "unchanged", [("", p, p) for p in scenes], "0"
    padding = [
        "masterpiece, best quality, {}",
        "{}, highly detailed, 8k, sharp focus",
        "a beautiful photo of {}, soft light",
        "{}, golden hour, misty mood",
    ]
    yield "with quality words, light or style", [("", p, q.format(p)) for p in scenes for q in padding], "0"
    for name, values in (
        ("textures", ["wooden", "glass", "metal", "leather", "velvet", "fluffy", "rusty"]),
        ("shapes", ["round", "square", "triangular", "oval", "heart-shaped"]),
        ("sizes", ["large", "tiny", "huge", "small"]),
        ("colours", ["red", "teal", "brown", "white", "purple"]),
    ):
        made = []
        for (a, b), (x, y) in zip(pairs, itertools.cycle(_different(values)), strict=False):
            made.append(("", f"a {x} {a} and a {y} {b}", f"a {y} {a} and a {x} {b}"))
        yield f"{name} swapped", made, ">= 95 %"
        yield f"{name} kept, order turned", [("", p, _turned(p)) for _, p, _ in made], "0"
    for relation in ("behind", "in front of", "on top of", "to the left of", "below"):
        made = [("", f"a {a} {relation} a {b}", f"a {b} {relation} a {a}") for a, b in pairs]
        yield f"{relation}, swapped", made, ">= 95 %"
        split = [("", f"a {a} {relation} a {b}", f"A {a} and a {b}. The {a} is {relation} the {b}.") for a, b in pairs]
        yield f"{relation}, split", split, "0"
    deeds = ["chasing", "carrying", "painting", "feeding", "hugging"]
    who = ["nun", "walrus", "robot", "beaver", "sailor", "ghost"]
    swapped = [("", f"a {a} {d} a {b}", f"a {b} {d} a {a}") for a, b in itertools.permutations(who, 2) for d in deeds]
    yield "who does what to whom, swapped", swapped, ">= 95 %"
    passive = {"chasing": "chased", "carrying": "carried", "painting": "painted", "feeding": "fed", "hugging": "hugged"}
    said = [
        ("", f"a {a} {d} a {b}", f"a {b} being {passive[d]} by a {a}")
        for a, b in itertools.permutations(who, 2)
        for d in deeds
    ]
    yield "who does what to whom, passive", said, "0"


def _different(values: list[str]) -> list[tuple[str, str]]:
    near = {frozenset(p) for p in (("large", "huge"), ("tiny", "small"))}
    return [p for p in itertools.permutations(values, 2) if frozenset(p) not in near]


def _turned(prompt: str) -> str:
    first, second = prompt.split(" and ")
    return f"{second} and {first}"


def old_guard(commit: str) -> Callable[[str, str], list[str]]:
    """`lost` of the code at `commit`, unpacked beside this one under another name."""
    root = Path(__file__).parent.parent
    packed = subprocess.run(
        ["git", "archive", commit, "agents", "promptprobe"], cwd=root, check=True, capture_output=True
    ).stdout
    folder = Path(tempfile.mkdtemp())
    with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
        archive.extractall(folder, filter="data")
    old = folder / "old"
    (old / "agents").mkdir(parents=True)
    (old / "icons").mkdir()
    for target, source in (
        ("agents/guard.py", "agents/guard.py"), ("phrases.py", "promptprobe/phrases.py"), ("words.py", "promptprobe/words.py"),
        ("icons/captions.py", "promptprobe/icons/captions.py"), ("icons/scenes.py", "promptprobe/icons/scenes.py"),
    ):  # fmt: skip
        (old / target).write_text((folder / source).read_text(encoding="utf-8"), encoding="utf-8")
    for package in (old, old / "agents", old / "icons"):
        (package / "__init__.py").touch()
    sys.path.insert(0, str(folder))
    guard: Callable[[str, str], list[str]] = importlib.import_module("old.agents.guard").lost
    return guard


if __name__ == "__main__":
    main()
