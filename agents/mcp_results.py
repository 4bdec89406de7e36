"""What MCP clients get of a tool's result: values, a small preview of every image, and a link to the whole one.

Some clients refuse answers of more than a million characters, so that the previews of one answer have at most
`PREVIEW_BYTES` together; the images lie in a folder of the server's and are read as resources.
"""

from __future__ import annotations

import base64
import json
import math
from typing import Any

from .kept_files import KeptFiles
from .pictures_out import PREVIEW_BYTES, open_png, small_preview
from .tools import ToolResult

SCHEME = "promptprobe://images/"

_TEXT, _NUMBER, _MAYBE, _WHOLE = (
    {"type": "string"},
    {"type": "number"},
    {"type": ["number", "null"]},
    {"type": "integer"},
)
_TEXTS = {"type": "array", "items": _TEXT}


def _object(required: str = "", **properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": required.split()}


_IMAGES = {
    "type": "array",
    "description": "The images: a resource to be read, the same as a file on this machine, and the size in pixels.",
    "items": _object("uri file width height", uri=_TEXT, file=_TEXT, width=_WHOLE, height=_WHOLE),
}
_WORD = _object("word", word=_TEXT)
OUTPUTS: dict[str, dict[str, Any]] = {
    "optimize_prompt": _object(
        "prompt best_prompt predicted_reward seed candidates images", prompt=_TEXT, best_prompt=_TEXT,
        unchanged={"type": "boolean"}, stop_reason=_TEXT, predicted_reward=_NUMBER, reward=_MAYBE, tau=_MAYBE, seed=_WHOLE,
        notes=_TEXTS, images=_IMAGES,
        candidates={"type": "array", "items": _object("prompt", prompt=_TEXT, predicted_reward=_MAYBE, rejected={"type": ["string", "null"]}, unsure=_TEXTS)},
    ),
    "score_prompts": _object("scores", scores={"type": "array", "items": _object(
        "prompt score words", prompt=_TEXT, score=_NUMBER, seeds={"type": "array", "items": _WHOLE},
        predicted={"type": "array", "items": _NUMBER}, cut_tokens=_WHOLE, words={"type": "array", "items": _WORD}, notes=_TEXTS)}),
    "select_seed": _object(
        "prompt best seeds images", prompt=_TEXT, policy=_TEXT, best={"type": "array", "items": _WHOLE}, notes=_TEXTS,
        seeds={"type": "array", "items": _object("seed", seed=_WHOLE, reward=_MAYBE)}, denoiser_calls=_NUMBER, images=_IMAGES,
    ),
    "generate_image": _object(
        "prompt seed images", prompt=_TEXT, seed=_WHOLE, seeds={"type": "array", "items": _WHOLE}, notes=_TEXTS, images=_IMAGES
    ),
}  # fmt: skip
JOB = _object(
    "job tool state progress", job=_TEXT, tool=_TEXT, state={"enum": ["running", "done", "failed", "cancelled"]},
    progress=_NUMBER, doing=_TEXT, error={"type": ["string", "null"]},
)  # fmt: skip


def content_of(result: ToolResult, kept: KeptFiles, full: bool = False) -> Any:
    """A tool's result as MCP has it; `full` puts the whole images into the answer instead of previews."""
    from mcp_types import CallToolResult, ImageContent, ResourceLink, TextContent

    values: dict[str, Any] = dict(result.values)
    content: list[Any] = []
    named = []
    for image in result.images:
        name = kept.keep(image, "png")
        width, height = open_png(image).size
        named.append({"uri": SCHEME + name, "file": str(kept.find(name)), "width": width, "height": height})
        data, kind = (image, "image/png") if full else small_preview(image, PREVIEW_BYTES // len(result.images))
        content.append(ImageContent(type="image", data=base64.b64encode(data).decode(), mime_type=kind))
        content.append(
            ResourceLink(uri=SCHEME + name, name=name, mime_type="image/png", size=len(image), title=f"{width}x{height} PNG")
        )  # fmt: skip
    if result.images:
        values["images"] = named
    text = TextContent(type="text", text=json.dumps(values, ensure_ascii=False))
    return CallToolResult(content=[text, *content], structured_content=_plain(values))


def _plain(value: Any) -> Any:
    """Without what JSON does not know: keys are texts, and no number is infinite."""
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
