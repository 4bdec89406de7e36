"""Work in hard places: each must end in one line that says what to do, leave nothing half-written, and go on afterwards.

    python benchmarks/hard_places.py [--model icons-64]

A full disk and a read-only folder (as root, on small mounts of their own; else left out, and said), no file descriptors left, two
batches in one folder, a folder that was moved, prompts and settings that changed between two runs, an image cut short. The exit status is 1 when anything goes otherwise.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from killed import PROMPTS, leftovers, lines_of


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="icons-64")
    args = parser.parse_args()
    wrong = 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "prompts.txt").write_text("\n".join(PROMPTS[:4]) + "\n")
        for place in PLACES:
            try:
                said = place(folder, args.model) or "as it should be"
            except AssertionError as error:
                said, wrong = f"WRONG: {error}", wrong + 1
            print(f"{place.__name__.replace('_', ' ')}: {said}", flush=True)
    sys.exit(wrong > 0)


def run(arguments: list[str], limit: Callable[[], None] | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "promptprobe", *arguments], capture_output=True, text=True, preexec_fn=limit, check=False
    )


def batch(folder: Path, out: Path, model: str, prompts: str = "prompts.txt", *more: str) -> list[str]:
    return [
        "batch",
        str(folder / prompts),
        "--out",
        str(out),
        "--model",
        model,
        "--rewriter",
        "offline",
        "--rounds",
        "1",
        *more,
    ]


def refused(done: subprocess.CompletedProcess[str], *words: str) -> str:
    """That a command ended with exit code 2 and one line that has the words; the line."""
    last = done.stderr.strip().split("\n")[-1]
    assert done.returncode == 2, f"exit {done.returncode}: {done.stderr[-400:]}"
    assert "Traceback" not in done.stderr and last.startswith("promptprobe: "), done.stderr[-400:]
    assert not words or any(w in last for w in words), last
    return last[:150]


@contextmanager
def mounted(folder: Path, *options: str) -> Iterator[Path]:
    """A small file system of its own; raises `PermissionError` where that is not allowed."""
    folder.mkdir()
    if (
        os.geteuid()
        or subprocess.run(
            ["mount", "-t", "tmpfs", *options, "none", str(folder)], capture_output=True, check=False
        ).returncode
    ):
        raise PermissionError
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=False)


def a_full_disk(folder: Path, model: str) -> str:
    try:
        with mounted(folder / "full", "-o", "size=28k") as place:
            said = refused(run(batch(folder, place / "out", model)), "No space left")
            assert not leftovers(place), leftovers(place)
            subprocess.run(["mount", "-o", "remount,size=50m", str(place)], check=True)
            done = run(batch(folder, place / "out", model))
            assert done.returncode == 0 and len(lines_of(place / "out")) == 4, done.stderr[-300:]
            return f"{said}; with room again it went on"
    except PermissionError:
        return "left out: it needs root and mounts"


def a_read_only_folder(folder: Path, model: str) -> str:
    try:
        with mounted(folder / "closed", "-o", "ro") as place:
            said = [
                refused(run(command), "Read-only", "can't write")
                for command in (
                    batch(folder, place / "out", model),
                    ["optimize", "two red cars", "--model", model, "--out", str(place / "out")],
                    ["seeds", "two red cars", "--model", model, "--out", str(place / "out")],
                    ["session", "--model", model, "--out", str(place / "out")],
                )
            ]
            return said[0]
    except PermissionError:
        return "left out: it needs root and mounts"


def no_file_descriptors_left(folder: Path, model: str) -> str:
    said = []
    for count in (6, 9, 12):

        def few(count: int = count) -> None:
            resource.setrlimit(resource.RLIMIT_NOFILE, (count, count))

        done = run(batch(folder, folder / "few", model), few)
        assert not leftovers(folder / "few"), leftovers(folder / "few")
        last = done.stderr.strip().split("\n")[-1]
        assert done.returncode == 0 or last.isprintable(), last
        said.append(f"{count}: exit {done.returncode}" + (f" ({last[:70]})" if done.returncode else ""))
    again = run(batch(folder, folder / "few", model))
    assert again.returncode == 0 and len(lines_of(folder / "few")) == 4, again.stderr[-300:]
    return f"{'; '.join(said)}; with more it went on"


def two_batches_in_one_folder(folder: Path, model: str) -> str:
    first = subprocess.Popen(
        [sys.executable, "-m", "promptprobe", *batch(folder, folder / "both", model)],
        stderr=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )
    while not (folder / "both" / ".lock").exists() and first.poll() is None:
        time.sleep(0.05)
    held = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder / "both" / ".lock")], stdout=subprocess.PIPE, text=True
    )
    first.wait()
    assert held.stdout is not None and held.stdout.readline().strip() == "held"
    try:
        return refused(run(batch(folder, folder / "both", model)), "another batch is at work")
    finally:
        held.kill()
        held.wait()
        assert len(lines_of(folder / "both")) == 4


HOLD = "import fcntl, sys, time; f = open(sys.argv[1], 'w'); fcntl.flock(f, fcntl.LOCK_EX); print('held', flush=True); time.sleep(600)"


def a_folder_that_was_moved(folder: Path, model: str) -> str:
    (folder / "both").rename(folder / "moved")
    before = (folder / "moved" / "results.jsonl").read_bytes()
    done = run(batch(folder, folder / "moved", model))
    assert done.returncode == 0 and (folder / "moved" / "results.jsonl").read_bytes() == before, done.stderr[-300:]
    return "nothing was made again"


def changes_between_two_runs(folder: Path, model: str) -> str:
    said = refused(run(batch(folder, folder / "moved", model, "prompts.txt", "--seed", "5")), "seed")
    (folder / "other.txt").write_text("\n".join([PROMPTS[4], *PROMPTS[:4]]) + "\n")
    done = run(batch(folder, folder / "moved", model, "other.txt"))
    assert done.returncode == 0 and len(lines_of(folder / "moved")) == 5, done.stderr[-300:]
    return f"{said}; a prompt more was made alone"


def a_damaged_image(folder: Path, model: str) -> str:
    lines = lines_of(folder / "moved")
    victim = folder / "moved" / next(iter(lines.values()))["image"]
    whole = victim.read_bytes()
    victim.write_bytes(whole[: len(whole) // 2])
    done = run(batch(folder, folder / "moved", model, "other.txt"))
    assert done.returncode == 0 and victim.read_bytes() == whole, done.stderr[-300:]
    raw = [json.loads(x)["prompt"] for x in (folder / "moved" / "results.jsonl").read_text().split("\n") if x]
    assert len(raw) == len(set(raw)) == 5
    return "made again, the same"


PLACES = (
    a_full_disk, a_read_only_folder, no_file_descriptors_left, two_batches_in_one_folder, a_folder_that_was_moved,
    changes_between_two_runs, a_damaged_image,
)  # fmt: skip

if __name__ == "__main__":
    main()
