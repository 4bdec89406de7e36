"""The commands of a session that make pictures: previews side by side, finished images, heat maps; each leaves files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from ..errors import InputError
from ..files import free_path, write_together
from ..heatmaps import heat_map_image
from ..notebook import read_picture
from ..pnginfo import png_bytes
from ..rewards import measure
from ..sheets import GREY, Caption, Tile, contact_sheet
from ..trajectory import finish, preview
from .desk import Desk, SessionState, numbers

PREVIEWS = 12  # shown when no numbers are given


def compare(state: SessionState, desk: Desk, rest: str) -> SessionState:
    """Two candidates' previews side by side, and which is ahead."""
    a, b = numbers(state, rest, least=2)[:2]
    first, second = state["candidates"][a]["score"], state["candidates"][b]["score"]
    path = _sheet(state, desk, [a, b], f"compare-{a}-{b}")
    ahead = a if first >= second else b
    told = f"{ahead} is ahead by {abs(first - second):.3f} on seed {state['seed']}; {a} left, {b} right: {path}"
    return _made(state, [path], told)


def show_previews(state: SessionState, desk: Desk, rest: str) -> SessionState:
    """Pictures of what the model is heading for, of the candidates named or the latest ones."""
    chosen = numbers(state, rest) if rest else [c["id"] for c in state["candidates"]][-PREVIEWS:]
    path = _sheet(state, desk, chosen, "preview")
    named = ", ".join(map(str, chosen))
    return _made(state, [path], f"candidates {named}, left to right, at step {desk.plan.scorer.probe_step}: {path}")


def finish_some(state: SessionState, desk: Desk, rest: str) -> SessionState:
    """Finish the candidates named."""
    return _finished(state, desk, numbers(state, rest))


def generate(state: SessionState, desk: Desk, rest: str) -> SessionState:
    """Finish the current candidate."""
    return _finished(state, desk, [state["current"]])


def heat(state: SessionState, desk: Desk, rest: str) -> SessionState:
    """Where the words of a candidate, or of the current one, are looked for."""
    number = numbers(state, rest)[0] if rest else state["current"]
    scored = desk.score([state["candidates"][number]["prompt"]], state["seed"])[0]
    image = heat_map_image(scored.maps, scored.tokens, scored.words, _previews(state, desk, [number])[0])
    path = _kept(desk, f"heat-{number}", png_bytes(image))
    return _made(state, [path], str(path))


def _finished(state: SessionState, desk: Desk, chosen: Sequence[int]) -> SessionState:
    paths, told = [], []
    for number in chosen:
        image, record = _finish(state, desk, state["candidates"][number])
        path = _kept(desk, f"image-{number}", png_bytes(image, record))
        reward = record["reward"]
        measured = "" if reward is None else f", reward {reward:.3f} against your first wording"
        paths.append(path)
        desk.tiles.append(
            Tile(
                image,
                (
                    Caption(f"{number}: {state['candidates'][number]['prompt']}"),
                    Caption(f"predicted {record['predicted_reward']:.3f}{measured}", GREY),
                ),
            )
        )
        told.append(f"{path}  (predicted {record['predicted_reward']:.3f}{measured})")
    return _made(state, paths, "\n".join(told))


def _finish(state: SessionState, desk: Desk, candidate: dict[str, Any]) -> tuple[Image.Image, dict[str, Any]]:
    """The finished image of a candidate, and its record."""
    plan, seed = desk.plan, state["seed"]
    paused, row = desk.score([candidate["prompt"]], seed)[0].trajectories[0]
    images: Any = finish(plan.scorer.pipeline, paused, [row])
    reward = round(float(measure(plan.measure, images, [state["prompt"]])[0]), 5) if plan.measure else None
    record = plan.origin.image_record(
        candidate["prompt"], seed, "chosen in a session", probe_step=plan.scorer.probe_step, tau=state["tau"]
    ) | {
        "prompt": state["prompt"], "unchanged": candidate["prompt"] == state["prompt"], "tau": state["tau"],
        "predicted_reward": candidate["score"], "reward": reward,
        "candidates": [{**c, "rejected": None} for c in state["candidates"]],
    }  # fmt: skip
    return images[0], record


def _previews(state: SessionState, desk: Desk, chosen: Sequence[int]) -> list[Image.Image]:
    images: list[Image.Image] = []
    for scored in desk.score([state["candidates"][n]["prompt"] for n in chosen], state["seed"]):
        paused, row = scored.trajectories[0]
        images += preview(desk.plan.scorer.pipeline, paused, [row], decoder=desk.plan.scorer.decoder)
    return images


def _sheet(state: SessionState, desk: Desk, chosen: Sequence[int], stem: str) -> Path:
    """Previews side by side, each over its number, wording and predicted reward."""
    tiles = []
    for number, image in zip(chosen, _previews(state, desk, chosen), strict=True):
        c = state["candidates"][number]
        tiles.append(Tile(image, (Caption(f"{number}: {c['prompt']}"), Caption(f"predicted {c['score']:.3f}", GREY))))
    desk.tiles = tiles
    return _kept(desk, stem, png_bytes(contact_sheet(tiles)))


def show_files(state: SessionState, desk: Desk, rest: str) -> SessionState:
    """The last pictures of this session again, as many as asked for; those that are gone are named."""
    many = int(rest) if rest.isdecimal() and int(rest) else 1
    if rest and not rest.isdecimal():
        raise InputError(f"{rest[:40]!r} is no number of pictures; /show 2 shows the last two")
    paths = state.get("files", [])[-many:]
    told = []
    for path in paths:
        try:
            desk.tiles.append(Tile(read_picture(path), (Caption(Path(path).name),)))
            told.append(path)
        except InputError as error:
            told.append(str(error))
    return {"said": "\n".join(told) or "no picture was made yet; /preview and /finish make some", "show": False}


def _kept(desk: Desk, stem: str, data: bytes) -> Path:
    """The free path under which a picture was written."""
    path = free_path(desk.out, stem, ".png")
    write_together({path: data})
    return path


def _made(state: SessionState, paths: Sequence[Path], told: str) -> SessionState:
    return {"said": told, "show": False, "files": [*state.get("files", []), *map(str, paths)]}
