"""What an images request makes: the loop, or a search of the prompt's seeds, one image after the other.

Comes in: a service and a request that was read. Goes out: encoded images with what is known of each; on the way, previews
of what the model is heading for at each stage. All of it runs in the thread of the call.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from ..errors import InputError
from ..pnginfo import png_bytes
from ..seeds import seeds_from
from ..trajectory import preview
from .images_request import ImagesRequest
from .pictures_out import encoded, open_png, scaling_note
from .service import Service


@dataclass
class Made:
    """A finished image in the form that was asked for, the prompt it was made of, its size, and what is known of it."""

    data: bytes
    prompt: str
    size: str
    known: dict[str, Any]


@dataclass
class Partials:
    """At most `wanted` previews of an image on its way; the last one is kept for the trajectory that is finished."""

    service: Service
    given: ImagesRequest
    told: Callable[[bytes, int], None]
    sent: int = 0
    last: Any = field(default=None, repr=False)

    def __call__(self, event: str, paused: Any, row: int) -> None:
        wanted = self.given.partial_images
        if self.sent >= wanted or (event != "generating" and self.sent >= wanted - 1):
            return
        seen = (id(paused), row, paused.step)
        if seen == self.last:
            return
        scorer = self.service.plan.scorer
        with contextlib.suppress(InputError):  # of some steps there is no preview
            image = preview(scorer.pipeline, paused, [row], max(paused.clean_latents, default=None), decoder=scorer.decoder)[0]  # fmt: skip
            size = self.given.size or self.service.size
            data = encoded(png_bytes(image), size, self.given.form, self.given.compression)
            self.last = seen
            self.told(data, self.sent)
            self.sent += 1


def make_images(
    service: Service, given: ImagesRequest, *, on_partial: Callable[[bytes, int], None] = lambda data, index: None,
    on_image: Callable[[Made], None] = lambda made: None, **how: Any,
) -> list[Made]:  # fmt: skip
    """Make what was asked for; `how` takes `progress`, `cancel` and `place`. Raises as `Service.optimize`."""
    made: list[Made] = []

    def take(image: bytes, prompt: str, known: dict[str, Any]) -> None:
        own = open_png(image).size
        told = [*known.pop("notes", []), *given.notes, *filter(None, [scaling_note(own, given.size)])]
        size = given.size or own
        data = encoded(image, given.size, given.form, given.compression)
        known |= {"made_at": f"{own[0]}x{own[1]}", "notes": told}
        made.append(Made(data, prompt, f"{size[0]}x{size[1]}", known))
        on_image(made[-1])

    def partials() -> Partials | None:
        return Partials(service, given, on_partial) if given.partial_images else None

    if given.search:
        found, images = service.select_seed(
            given.prompt, first_seed=given.seed, top=given.n, size=given.size, on_trajectory=partials(), **given.search,
            **given.loop, **how,
        )  # fmt: skip
        rewards = {s["seed"]: s["reward"] for s in found["seeds"]}
        for seed, image in zip(found["best"], images, strict=True):
            take(image, found["prompt"], {"reward": rewards[seed], "seed": seed, "notes": list(found["notes"])})
        return made
    seed = given.seed
    if seed is not None:
        seeds_from(seed, given.n * given.loop.get("seeds_per_prompt", 1))
    for _ in range(given.n):
        record, image = service.optimize(
            given.prompt, seed=seed, size=given.size, on_trajectory=partials(), **given.loop, **how
        )
        seed = 1 + max(s for c in record["candidates"] for s in c["seeds"])  # no image is made twice
        known = {k: record[k] for k in ("predicted_reward", "reward", "seed", "stop_reason", "notes")}
        take(image, record["best_prompt"], known | {"notes": list(record["notes"])})
    return made
