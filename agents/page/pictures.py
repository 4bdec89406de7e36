"""Pictures of cells on the disk: a small preview, and each word's map; made once, when a trajectory is looked at.

They outlive the server, so that a session that is taken up shows at once what was seen.
"""

from __future__ import annotations

import base64
import io
import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from PIL import Image

from ...diagnosis import word_maps
from ...errors import InputError
from ...files import write_together
from ...replaying import NAMES_MORE
from ...scoring import Scored
from ...trajectory import preview
from ...worlds import is_built_in
from ..desk import Desk, cell_key

FOLDER = ".page"
SIDE = 512  # pixels that a preview has at most
THUMBS = (128, 256, 512)


def replay_of(path: Path | str, model: str | None, loading: Mapping[str, Any], own: str | None) -> str:
    """The command that makes an image again, to be pasted into a shell in whatever folder.

    The image was made by `model`, loaded with `loading`. The page's `own` model is named, so that nothing that a record
    names is loaded; any other is loaded only if the person trusts the record.
    """
    if any(loading.get(n) for n in NAMES_MORE):
        more = ["--trust-record"]
    elif model is None or is_built_in(model):
        more = []
    elif model == own:
        more = ["--model", str(Path(own).resolve()) if Path(own).exists() else own]
    else:
        more = ["--trust-record"]
    return shlex.join(["promptprobe", "replay", str(Path(path).resolve()), *more])


def picture_key(prompt: str, seed: int, asked: str, step: int, model: str | None) -> str:
    """The name under which the preview of a wording on a seed at a step lies."""
    return cell_key(json.dumps([prompt, step, model]), seed, asked)


def keep_pictures(desk: Desk, scored: Sequence[Scored]) -> None:
    """Write preview and maps of trajectories that were looked at; a solver that has no preview has none here."""
    scorer = desk.plan.scorer
    batches: dict[int, list[Scored]] = {}
    for s in scored:
        batches.setdefault(id(s.trajectories[0][0]), []).append(s)
    for own in batches.values():
        paused, rows = own[0].trajectories[0][0], [s.trajectories[0][1] for s in own]
        try:
            images: Sequence[Image.Image | None] = preview(scorer.pipeline, paused, rows, decoder=scorer.decoder)
        except InputError:
            images = [None] * len(rows)
        for s, image in zip(own, images, strict=True):
            key = picture_key(s.prompt, s.seeds[0], desk.asked or s.prompt, paused.step, scorer.model)
            files = {desk.out / FOLDER / f"{key}.json": json.dumps(_words(s)).encode()}
            if image is not None:
                files[desk.out / FOLDER / f"{key}.webp"] = small(image, SIDE)
            write_together(files)


def small(image: Image.Image, side: int) -> bytes:
    """The image as WebP, no side longer than `side`."""
    image = image.convert("RGB")
    image.thumbnail((side, side))
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", quality=85)
    return buffer.getvalue()


def _words(scored: Scored) -> dict[str, Any]:
    """Each word with its diagnosis and its map, scaled to its own range, a byte a place."""
    words: list[dict[str, Any]] = []
    height = width = 0
    if scored.tokens.words:
        planes = word_maps(scored.maps, scored.tokens)
        height, width = planes.shape[1:]
        for word, plane in zip(scored.words, planes, strict=True):
            low, high = float(plane.min()), float(plane.max())
            scaled = ((plane - low) / max(high - low, 1e-12) * 255).round().byte()
            words.append(asdict(word) | {"map": base64.b64encode(scaled.numpy().tobytes()).decode()})
    return {"height": height, "width": width, "words": words}


def thumbnail(path: Path, side: int) -> bytes:
    """A picture of a file for the page; raises `InputError` when it is gone or no image."""
    try:
        with Image.open(path) as image:
            image.load()
            return small(image, side)
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        raise InputError(f"the image {path.name} is gone or can't be read") from error
