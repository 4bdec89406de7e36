"""The folder of a batch: `results.jsonl` with one whole line a prompt, `images/`, at the end `results.csv` and `grid.png`.

It is locked while one run is at work, and belongs to the settings that it was begun with.
"""

from __future__ import annotations

import contextlib
import csv
import hashlib
import io
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from ..errors import InputError
from ..files import lock_file, make_folder, write_together
from ..pnginfo import png_bytes
from ..prompt_files import PromptRow
from ..sheets import GREY, SIDE, Caption, Tile, contact_sheet, fitted
from ..sources import RESULTS
from ..worlds import named_before, world_of
from .batch_rows import cell, summary_rows
from .plan import Plan

SETTINGS = "settings.json"
SUMMARY = "results.csv"
GRID = "grid.png"
GRID_IMAGES = 60  # at most
LOCK = ".lock"
IMAGES = "images"
ANSWERS = "llm-answers"
COLUMNS = (
    "prompt", "best_prompt", "unchanged", "predicted_reward", "reward", "reward_label", "seed", "rounds", "stop_reason",
    "seconds", "llm_requests", "input_tokens", "output_tokens", "cost", "unanswered", "image", "error",
)  # fmt: skip


def item_key(prompt: str, settings: dict[str, Any]) -> str:
    """What a prompt's result is known by: a hash of the prompt and everything that changes the result."""
    text = json.dumps([prompt, settings], sort_keys=True, ensure_ascii=False, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:24]


def batch_settings(plan: Plan) -> dict[str, Any]:
    """What must be equal for results to lie in one folder."""
    judge = plan.scorer.judge
    # Folders from before there was a choice were guarded by code; the judge's digest stands under its name.
    known = {k: v for k, v in plan.settings.items() if (k, v) != ("guard", "code") and k != "judge"}
    world = world_of(plan.origin.model) if plan.origin.model else None
    if world is not None and world.known_as:  # folders from before its name was another's go on
        known["model"] = world.known_as
    return known | {"rewriter": plan.rewriter_name, "reward": plan.label, judge.name: judge.digest}


def result_lines(text: str) -> Iterator[dict[str, Any]]:
    """The whole lines of a results file; one that a crash has cut off is left out."""
    for raw in text.split("\n"):  # other line ends, such as U+2028, may stand within a text
        with contextlib.suppress(ValueError, RecursionError):
            line = json.loads(raw)
            if isinstance(line, dict):
                yield line


class BatchFolder:
    """The output folder of a batch: locked while one run works in it, every line whole or absent.

    Raises `InputError` when another run is at work there, or when it holds results made with other settings.
    """

    def __init__(self, out: Path, settings: dict[str, Any]):
        self.out = out
        make_folder(out)
        self._lock = (out / LOCK).open("w")
        try:
            lock_file(self._lock)
        except OSError as error:
            self._lock.close()
            raise InputError(
                f"another batch is at work in {str(out)!r}; wait for it or choose another --out"
            ) from error
        try:
            self._check(settings)
            self.lines = self._read()
        except InputError:
            self._lock.close()
            raise
        (out / IMAGES).mkdir(exist_ok=True)
        self._file = (out / RESULTS).open("a", encoding="utf-8")
        self._twice = False  # does a line stand there that a later one replaces?

    def _check(self, settings: dict[str, Any]) -> None:
        path = self.out / SETTINGS
        plain = json.loads(json.dumps(settings, default=str))
        if not path.exists():
            write_together({path: (json.dumps(plain, indent=1, sort_keys=True) + "\n").encode()})
            return
        try:
            before = dict(json.loads(path.read_text("utf-8")))
        except (ValueError, TypeError) as error:
            raise InputError(f"{path} is damaged ({error}); choose another --out") from error
        changed = [
            f"{key} {before.get(key)!r}, now it is {plain.get(key)!r}"
            for key in sorted(set(plain) | set(before))
            if plain.get(key) != before.get(key)
        ]
        if changed:
            older = named_before(before) if named_before(plain) is None else None
            raise InputError(
                f"{str(self.out)!r} holds results made with {'; with '.join(changed)}; choose another --out or the same settings"
                + (f", with --model {older}" if older else "")
            )

    def _read(self) -> dict[str, dict[str, Any]]:
        """Finished lines by key. A line cut off by a crash, failed ones and those whose image is gone or doesn't open are dropped."""
        path = self.out / RESULTS
        if not path.exists():
            return {}
        lines: dict[str, dict[str, Any]] = {}
        text = path.read_bytes().decode("utf-8", errors="replace")
        for line in result_lines(text):
            with contextlib.suppress(KeyError, TypeError):
                if not line.get("error") and self._has_image(line["image"]):
                    lines[line["key"]] = line
        kept = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines.values())
        if kept != text:
            write_together({path: kept.encode()})
        return lines

    def _has_image(self, name: str) -> bool:
        """Whether an image lies in this folder under this name, whole; the name is a file's and may say anything."""
        path = (self.out / name).resolve()
        if not path.is_relative_to((self.out / IMAGES).resolve()) or not path.is_file():
            return False
        try:
            with Image.open(path) as image:
                image.verify()
        except Exception:  # a damaged file makes Pillow raise classes of many kinds
            return False
        return True

    def add(self, line: dict[str, Any], image: bytes | None) -> None:
        """Keep a result: first its image, then its line, on the disk before this returns."""
        if image is not None:
            write_together({self.out / line["image"]: image})
        try:
            self._file.write(json.dumps(line, ensure_ascii=False) + "\n")
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError as error:
            raise InputError(f"can't write {self.out / RESULTS}: {error.strerror}; choose another --out") from error
        self._twice = self._twice or line["key"] in self.lines
        self.lines[line["key"]] = line

    def link(self, links: Mapping[str, dict[str, Any]]) -> None:
        """Say of finished lines which rows of the prompt file they are for, by prompt, as the file is now."""
        told = {k: line | links.get(line.get("prompt", ""), {}) for k, line in self.lines.items()}
        if told != self.lines:
            self.lines = told
            self._write_all()

    def _write_all(self) -> None:
        """One line for each key, the latest."""
        self._file.close()
        text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in self.lines.values())
        write_together({self.out / RESULTS: text.encode()})
        self._file = (self.out / RESULTS).open("a", encoding="utf-8")
        self._twice = False

    def lacks_answer(self, key: str) -> bool:
        """Whether the LLM did not answer when this prompt was worked on, so that it is done again."""
        return bool((self.lines.get(key) or {}).get("llm", {}).get("unanswered"))

    def summarise(self, keys: Sequence[str], rows: Sequence[PromptRow] = ()) -> None:
        """Write `results.csv` and `grid.png` of what is finished, in the order of `keys`, or of the `rows` of a file."""
        if self._twice:
            self._write_all()
        lines = [self.lines[k] for k in keys if k in self.lines]
        flat: dict[str, dict[str, Any]] = {}
        for line in lines:
            llm = line.get("llm", {})
            flat[line["prompt"]] = line | {
                "seconds": line.get("seconds", {}).get("loop"), "llm_requests": llm.get("requests"),
                "input_tokens": llm.get("input_tokens"), "output_tokens": llm.get("output_tokens"),
                "cost": llm.get("cost"), "unanswered": llm.get("unanswered"),
            }  # fmt: skip
        table: Iterable[list[Any]] = [list(COLUMNS), *([line.get(c) for c in COLUMNS] for line in flat.values())]
        if rows:
            table = summary_rows(COLUMNS, flat, rows)
        buffer = io.StringIO()
        writer = csv.writer(buffer)
        for row in table:
            writer.writerow([cell(value) for value in row])
        grid = png_bytes(grid_image(self.out, lines))
        write_together({self.out / SUMMARY: buffer.getvalue().encode("utf-8-sig"), self.out / GRID: grid})

    def close(self) -> None:
        """Let another run work here."""
        with contextlib.suppress(OSError):  # what a full disk didn't take was told when it was written
            self._file.close()
        self._lock.close()


def grid_image(out: Path, lines: Sequence[dict[str, Any]]) -> Image.Image:
    """A sheet of the first images, each over its prompt and rewards."""
    tiles = []
    for line in [line for line in lines if line.get("image")][:GRID_IMAGES]:
        with Image.open(out / line["image"]) as image:
            image.load()
        reward = line.get("reward")
        score = f"predicted {line['predicted_reward']:.2f}" + ("" if reward is None else f", reward {reward:.2f}")
        tiles.append(Tile(fitted(image, SIDE), (Caption(line["best_prompt"]), Caption(score, GREY))))
    return contact_sheet(tiles)


def summary_of(lines: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Means and sums over finished lines."""
    good = [line for line in lines if "error" not in line]
    rewards = [line["reward"] for line in good if line.get("reward") is not None]
    return {
        "finished": len(good),
        "without an LLM answer": sum(bool(line["llm"].get("unanswered")) for line in good),
        "changed": sum(not line["unchanged"] for line in good),
        "mean predicted reward": round(sum(line["predicted_reward"] for line in good) / len(good), 4) if good else None,
        "mean reward": round(sum(rewards) / len(rewards), 4) if rewards else None,
        "denoiser calls": sum(line["denoiser_calls"]["used"] for line in good),
        "LLM requests": sum(line["llm"]["requests"] for line in good),
        "LLM tokens": sum(line["llm"]["input_tokens"] + line["llm"]["output_tokens"] for line in good),
        "cost": round(sum(line["llm"]["cost"] or 0 for line in good), 6),
    }
