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
from ..scoring import Scored
from ..sheets import GREY, Caption, Tile, contact_sheet
from ..trajectory import finish, preview
from .desk import Desk, SessionState, numbers, places

PREVIEWS = 12  # shown when no numbers are given
MOST_FINISHED = 500  # images of which a session says what they are of


def compare(state: SessionState, desk: Desk, rest: str) -> SessionState:
    """Two candidates' previews side by side, and which is ahead."""
    (a, left), (b, right) = chosen = places(state, rest, least=2)[:2]
    first, second = (_paused(state, desk, n, seed).score for n, seed in chosen)
    path = _sheet(state, desk, chosen, f"compare-{a}-{b}")
    ahead, seed = (a, left) if first >= second else (b, right)
    told = f"{ahead} is ahead by {abs(first - second):.3f} on seed {seed}; {a} left, {b} right: {path}"
    return _made(state, [path], told)


def show_previews(state: SessionState, desk: Desk, rest: str) -> SessionState:
    """Pictures of what the model is heading for, of the candidates named or the latest ones."""
    latest = [(c["id"], state["seed"]) for c in state["candidates"]][-PREVIEWS:]
    chosen = places(state, rest) if rest else latest
    path = _sheet(state, desk, chosen, "preview")
    named = ", ".join(str(n) if seed == state["seed"] else f"{n}@{seed}" for n, seed in chosen)
    return _made(state, [path], f"candidates {named}, left to right, at step {desk.plan.scorer.probe_step}: {path}")


def finish_some(state: SessionState, desk: Desk, rest: str) -> SessionState:
    """Finish the candidates named, on the seeds named."""
    return _finished(state, desk, places(state, rest))


def generate(state: SessionState, desk: Desk, rest: str) -> SessionState:
    """Finish the current candidate."""
    return _finished(state, desk, [(state["current"], state["seed"])])


def heat(state: SessionState, desk: Desk, rest: str) -> SessionState:
    """Where the words of a candidate, or of the current one, are looked for."""
    number = numbers(state, rest)[0] if rest else state["current"]
    scored = desk.score([state["candidates"][number]["prompt"]], state["seed"])[0]
    image = heat_map_image(
        scored.maps, scored.tokens, scored.words, _previews(state, desk, [(number, state["seed"])])[0]
    )
    path = _kept(desk, f"heat-{number}", png_bytes(image))
    return _made(state, [path], str(path))


def _paused(state: SessionState, desk: Desk, number: int, seed: int) -> Scored:
    """What is paused of a candidate on a seed, wherever that is; begun where there is nothing."""
    prompt = state["candidates"][number]["prompt"]
    return desk.known(prompt, seed) or desk.score([prompt], seed)[0]


def _finished(state: SessionState, desk: Desk, chosen: Sequence[tuple[int, int]]) -> SessionState:
    """Finish candidates on seeds from where each is paused, those of one batch together; none is finished twice."""
    chosen = list(dict.fromkeys(chosen))
    places_of = {cell: _paused(state, desk, *cell).trajectories[0] for cell in chosen}
    order = sorted(chosen, key=lambda cell: id(places_of[cell][0]))  # those of one batch stay together
    pipeline, images = desk.plan.scorer.pipeline, dict[tuple[int, int], Any]()

    def work(cells: list[tuple[int, int]]) -> Any:
        desk.tell(f"finishing {len(cells)} from step {places_of[cells[0]][0].step}")
        return cells, finish(
            pipeline, places_of[cells[0]][0], [places_of[c][1] for c in cells], on_step=desk.on_step
        )  # fmt: skip

    for cells, made in desk.plan.scorer.fitting(order, work, lambda cell: places_of[cell][0]):
        images |= dict(zip(cells, made, strict=True))
    paths, told, finished = [], [], list(state.get("finished", []))
    for number, seed in chosen:
        record = _record(state, desk, state["candidates"][number], seed, images[number, seed])
        path = _kept(desk, f"image-{number}", png_bytes(images[number, seed], record))
        reward = record["reward"]
        measured = "" if reward is None else f", reward {reward:.3f} against your first wording"
        paths.append(path)
        desk.tiles.append(
            Tile(
                images[number, seed],
                (
                    Caption(f"{number}: {state['candidates'][number]['prompt']}"),
                    Caption(f"predicted {record['predicted_reward']:.3f}{measured}", GREY),
                ),
            )
        )
        told.append(f"{path}  (predicted {record['predicted_reward']:.3f}{measured})")
        finished.append(
            {"path": str(path), "asked": state["prompt"]}
            | {"prompt": record["best_prompt"], "seed": seed, "predicted": record["predicted_reward"], "reward": reward}
        )
    return {**_made(state, paths, "\n".join(told)), "finished": finished[-MOST_FINISHED:]}


def _record(
    state: SessionState, desk: Desk, candidate: dict[str, Any], seed: int, image: Image.Image
) -> dict[str, Any]:
    """The record of a candidate's finished image."""
    plan = desk.plan
    reward = round(float(measure(plan.measure, [image], [state["prompt"]])[0]), 5) if plan.measure else None
    return plan.origin.image_record(
        candidate["prompt"], seed, "chosen in a session", probe_step=plan.scorer.probe_step, tau=state["tau"]
    ) | {
        "prompt": state["prompt"], "unchanged": candidate["prompt"] == state["prompt"], "tau": state["tau"],
        "predicted_reward": round(_paused(state, desk, candidate["id"], seed).score, 5), "reward": reward,
        "candidates": [{**c, "rejected": None} for c in state["candidates"]],
    }  # fmt: skip


def _previews(state: SessionState, desk: Desk, chosen: Sequence[tuple[int, int]]) -> list[Image.Image]:
    images: list[Image.Image] = []
    for number, seed in chosen:
        paused, row = _paused(state, desk, number, seed).trajectories[0]
        images += preview(desk.plan.scorer.pipeline, paused, [row], decoder=desk.plan.scorer.decoder)
    return images


def _sheet(state: SessionState, desk: Desk, chosen: Sequence[tuple[int, int]], stem: str) -> Path:
    """Previews side by side, each over its number, wording and predicted reward."""
    tiles = []
    for (number, seed), image in zip(chosen, _previews(state, desk, chosen), strict=True):
        prompt, score = state["candidates"][number]["prompt"], _paused(state, desk, number, seed).score
        tiles.append(Tile(image, (Caption(f"{number}: {prompt}"), Caption(f"predicted {score:.3f}", GREY))))
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
