"""A request to OpenAI's images API, read: what it takes today, and options of ours beside it.

Comes in: the JSON of a request. Goes out: an `ImagesRequest`, or a `ParameterError` that names the parameter.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..errors import InputError
from ..options import check
from .arguments import Size, check_images, check_prompt, check_size
from .pictures_out import FORMATS

MAX_PARTIAL = 3
# What a quality means here: options of the loop. `low` makes the prompt as it is, the others on more and more seeds.
QUALITIES: dict[str, dict[str, int]] = {
    "auto": {}, "low": {"rounds": 0}, "medium": {}, "standard": {}, "high": {"seeds_per_prompt": 4},
    "hd": {"seeds_per_prompt": 4}, "xhigh": {"seeds_per_prompt": 8}, "max": {"seeds_per_prompt": 8},
}  # fmt: skip
_TODAY = {"auto": "medium", "standard": "medium", "hd": "high"}  # names of answers for those of requests
_CHOICES = {
    "quality": tuple(QUALITIES), "output_format": FORMATS, "response_format": ("b64_json", "url"),
    "background": ("auto", "opaque"), "moderation": ("auto", "low"), "style": ("vivid", "natural"),
    "complexity": ("low", "medium", "high"),
}  # fmt: skip
_DO_NOTHING = ("moderation", "style", "complexity")
_TAKEN = (
    "prompt", "model", "n", "size", *_CHOICES, "output_compression", "stream", "partial_images", "user",
    "safety_identifier", "seed", "policy", "budget", "judge", "negative_prompt",
)  # fmt: skip


class ParameterError(InputError):
    """A parameter that can't be used; `parameter` is its name."""

    def __init__(self, message: str, parameter: str, code: str | None = None):
        super().__init__(message)
        self.parameter, self.code = parameter, code


@dataclass(frozen=True)
class ImagesRequest:
    """What is to be made, and how it is to be delivered. `size` is None where the model's own will do."""

    prompt: str
    n: int
    size: Size | None
    quality: str
    form: str
    compression: int
    url: bool
    stream: bool
    partial_images: int
    seed: int | None
    search: dict[str, Any]
    loop: dict[str, Any]
    notes: tuple[str, ...]

    @property
    def quality_told(self) -> str:
        """The quality in the words of an answer."""
        return _TODAY.get(self.quality, self.quality)


def read_request(body: Mapping[str, Any]) -> ImagesRequest:
    """A request, checked; raises `ParameterError`."""
    for name in body:
        if name not in _TAKEN:
            raise ParameterError(f"Unknown parameter: {name!r:.80}; known are {', '.join(_TAKEN)}", name[:80], "unknown_parameter")  # fmt: skip
    given = {name: value for name, value in body.items() if value is not None}
    if "prompt" not in given:
        raise ParameterError("prompt is missing", "prompt", "missing_required_parameter")
    for name, choices in _CHOICES.items():
        if name in given and given[name] not in choices:
            raise ParameterError(f"{name} is {given[name]!r:.80}; it must be one of {', '.join(choices)}", name, "invalid_value")  # fmt: skip
    for name in ("model", "user", "safety_identifier"):
        if not isinstance(given.get(name, ""), str):
            raise ParameterError(f"{name} is {given[name]!r:.80}; it must be text", name, "invalid_type")
    if type(given.get("stream", False)) is not bool:
        raise ParameterError(f"stream is {given['stream']!r:.80}; it must be true or false", "stream", "invalid_type")
    form, compression = given.get("output_format", "png"), _whole(given, "output_compression", 100, 0, 100)
    if form == "png" and compression != 100:
        raise ParameterError(f"output_compression is {compression} beside output_format png, which loses nothing; choose webp or jpeg", "output_compression")  # fmt: skip
    stream, partial = given.get("stream", False), _whole(given, "partial_images", 0, 0, MAX_PARTIAL)
    if partial and not stream:
        raise ParameterError(f"partial_images is {partial} without stream; set stream to true", "partial_images")
    url = given.get("response_format", _usual_form(given.get("model", ""))) == "url"
    if url and stream:
        if "response_format" in given:
            raise ParameterError("response_format is url beside stream, whose events carry the images; use b64_json", "response_format")  # fmt: skip
        url = False
    search: dict[str, Any] = {name: _own(given, name) for name in ("policy", "budget") if name in given}
    quality = given.get("quality", "auto")
    if search and QUALITIES[quality]:
        raise ParameterError(f"quality is {quality} beside {' and '.join(search)}, which says how much is spent; leave one out", "quality")  # fmt: skip
    own = {"negative": _own(given, "negative", "negative_prompt"), "judge": _own(given, "judge")}
    return ImagesRequest(
        prompt=_checked("prompt", check_prompt, given["prompt"]), n=_checked("n", check_images, given.get("n", 1)),
        size=_checked("size", check_size, given.get("size")), quality=quality, form=form, compression=compression, url=url,
        stream=stream, partial_images=partial, seed=_own(given, "seed"), search=search,
        loop=QUALITIES[quality] | {k: v for k, v in own.items() if v is not None},
        notes=tuple(f"{name} does nothing here" for name in _DO_NOTHING if given.get(name, "auto") != "auto"),
    )  # fmt: skip


def _usual_form(model: str) -> str:
    """How a client that doesn't say expects its images: the DALL-E models answered with addresses, today's with base64."""
    return "url" if model.startswith("dall-e") else "b64_json"


def _whole(given: Mapping[str, Any], name: str, default: int, least: int, most: int) -> int:
    value = given.get(name, default)
    if type(value) is not int or not least <= value <= most:
        raise ParameterError(f"{name} is {value!r:.80}; it must be a whole number between {least} and {most}", name, "invalid_value")  # fmt: skip
    return value


def _own(given: Mapping[str, Any], name: str, said: str = "") -> Any:
    """The value of an option of the table, which requests call `said`."""
    said = said or name
    return _checked(said, lambda value: check(name, value, said), given[said]) if said in given else None


def _checked(name: str, check: Any, value: Any) -> Any:
    try:
        return check(value)
    except InputError as error:
        raise ParameterError(str(error), name, "invalid_value") from error
