"""promptprobe as tools of other agent systems: OpenAI function schemas and a dispatcher, LangChain, the Agents SDK.

Every system gets the same four tools from the same table; arguments come from a language model and are validated.
"""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from typing_extensions import Unpack

from ..errors import InputError, PromptProbeError
from ..files import check_writable, free_path, write_together
from ..options import PlanOptions, check, check_made, refuse_beside, signed
from ..worlds import what_it_draws
from .arguments import check_count, check_images, check_prompt, check_prompts, check_size
from .pictures_out import encoded, open_png, scaling_note
from .service import Service
from .tool_arguments import GenerateArguments, OptimizeArguments, ScoreArguments, SelectSeedArguments


@dataclass(frozen=True)
class ToolResult:
    """`values` are plain JSON; `images` are PNG files."""

    values: dict[str, Any]
    images: list[bytes]


@dataclass(frozen=True)
class Tool:
    """A tool's name, its arguments and what it does with a service."""

    name: str
    arguments: type[BaseModel]
    call: Callable[..., ToolResult]

    @property
    def description(self) -> str:
        return (self.arguments.__doc__ or "").strip()

    @property
    def makes_images(self) -> bool:
        return "size" in self.arguments.model_fields

    @property
    def schema(self) -> dict[str, Any]:
        """The arguments as JSON schema."""
        return self.arguments.model_json_schema()


def about(service: Service) -> str:
    """The loaded model for a tool's description: its name, and what it can't draw."""
    draws = what_it_draws(service.model)
    size = service.known_size
    named = service.model_name + (f", {size[0]}x{size[1]} pixels" if size else "")
    return f"The model is {named}" + (f": {draws}." if draws else ".")


def brief(record: dict[str, Any]) -> dict[str, Any]:
    """The part of an optimisation's record that an agent needs."""
    kept = ("prompt", "best_prompt", "unchanged", "stop_reason", "predicted_reward", "reward", "tau", "seed", "notes")
    tried = [
        {"prompt": c["prompt"], "predicted_reward": c["score"], "rejected": c["rejected"], "unsure": c["unsure"]}
        for c in record["candidates"]
    ]
    return {k: record[k] for k in kept} | {"candidates": tried}


def _optimize(service: Service, given: dict[str, Any], **how: Any) -> ToolResult:
    record, image = service.optimize(**given, **how)
    return ToolResult(brief(record), [image])


def _score(service: Service, given: dict[str, Any], **how: Any) -> ToolResult:
    return ToolResult({"scores": service.score(**given, **how)}, [])


def _select_seed(service: Service, given: dict[str, Any], **how: Any) -> ToolResult:
    found, images = service.select_seed(**given, **how)
    return ToolResult(found, images)


def _generate(service: Service, given: dict[str, Any], **how: Any) -> ToolResult:
    n = given.pop("n", 1)
    if n == 1:
        record, image = service.generate(**given, **how)
        return ToolResult({"prompt": record["prompt"], "seed": record["seed"]}, [image])
    records, images = service.generate_several(given.pop("prompt"), n, **given, **how)
    seeds = [record["seed"] for record in records]
    return ToolResult({"prompt": records[0]["prompt"], "seed": seeds[0], "seeds": seeds}, images)


def _delivered(result: ToolResult, size: Any) -> ToolResult:
    """The images at the size that was asked for; a note says what that took."""
    if size is None or not result.images:
        return result
    note = scaling_note(open_png(result.images[0]).size, size)
    notes = [*result.values.get("notes", []), *([note] if note else [])]
    return ToolResult(result.values | {"notes": notes}, [encoded(image, size) for image in result.images])


TOOLS = {
    tool.name: tool
    for tool in (
        Tool("optimize_prompt", OptimizeArguments, _optimize), Tool("score_prompts", ScoreArguments, _score),
        Tool("select_seed", SelectSeedArguments, _select_seed), Tool("generate_image", GenerateArguments, _generate),
    )
}  # fmt: skip


def call_tool(service: Service, name: str, arguments: str | dict[str, Any], **how: Any) -> ToolResult:
    """Run a tool with arguments as a language model gives them, JSON text or a mapping.

    `service` does the work; `how` takes `progress`, `cancel` and `place`. Raises `InputError` that names the tool or argument and the remedy.
    """
    given = check_call(name, arguments)
    size = given.get("size")
    try:
        return _delivered(TOOLS[name].call(service, given, **how), size)
    except InputError as error:
        raise InputError(f"tool {name}: {error}") from error


def check_call(name: str, arguments: str | dict[str, Any]) -> dict[str, Any]:
    """The arguments of a call, checked; raises as `call_tool`, and nothing is run."""
    tool = TOOLS.get(name) if isinstance(name, str) else None
    if tool is None:
        raise InputError(f"unknown tool {name!r:.80}; known are {', '.join(TOOLS)}")
    try:
        return _checked(tool, arguments)
    except InputError as error:
        raise InputError(f"tool {name}: {error}") from error


# How an argument is checked that is no option of the table, or stands there under another name.
_CHECKS: dict[str, Callable[[Any], Any]] = {
    "prompt": check_prompt, "prompts": check_prompts, "seeds": check_count, "first_seed": partial(check, "seed", said="first_seed"),
    "n": check_images, "size": check_size,
}  # fmt: skip


def _checked(tool: Tool, arguments: Any) -> dict[str, Any]:
    """A tool's arguments, in the types and words of the table of options; those left out or null are not among them."""
    try:
        values = json.loads(arguments) if isinstance(arguments, str) else arguments
    except (ValueError, RecursionError) as error:
        raise InputError(f"the arguments are no JSON: {error}") from error
    fields = tool.arguments.model_fields
    if not isinstance(values, Mapping):
        raise InputError(f"arguments is {values!r:.80}; give an object with {', '.join(fields)}")
    for name in values:
        if name not in fields:
            raise InputError(f"unknown argument {name!r:.80}; it has {', '.join(fields)}")
    for name, field in fields.items():
        if field.is_required() and values.get(name) is None:
            raise InputError(f"{name} is missing; give it")
    checked = {n: _CHECKS.get(n, partial(check, n))(v) for n, v in values.items() if v is not None}
    return {n: v for n, v in checked.items() if v is not None}


def openai_tools() -> list[dict[str, Any]]:
    """Function-tool schemas for OpenAI's chat completions."""
    return [
        {
            "type": "function",
            "function": {"name": t.name, "description": t.description, "parameters": t.schema},
        }
        for t in TOOLS.values()
    ]


def responses_tools() -> list[dict[str, Any]]:
    """The same function tools as OpenAI's Responses API takes them."""
    return [
        {"type": "function", "name": t.name, "description": t.description, "parameters": t.schema, "strict": False}
        for t in TOOLS.values()
    ]


def dispatch(service: Service, name: str, arguments: str | dict[str, Any], out: Path | str | None = None) -> str:
    """Run a tool and return text for a tool message: JSON with paths of images in `out`, or with an `error`.

    `service`, `name` and `arguments` are as for `call_tool`. Without `out`, images come as base64 PNG.
    """
    try:
        if out is not None:
            check_writable(out)
        return json.dumps(_as_text(call_tool(service, name, arguments), name, out), ensure_ascii=False)
    except PromptProbeError as error:
        return json.dumps({"error": str(error)})


def _as_text(result: ToolResult, name: str, out: Path | str | None) -> dict[str, Any]:
    if not result.images:
        return result.values
    if out is None:
        return result.values | {"images_png_base64": [base64.b64encode(i).decode() for i in result.images]}
    return result.values | {"images": [str(p) for p in save_images(result.images, Path(out), name)]}


def save_images(images: list[bytes], out: Path, stem: str) -> list[Path]:
    """Write PNG files under new names in `out`."""
    check_writable(out)
    paths = []
    for image in images:
        paths.append(free_path(out, stem, ".png"))
        write_together({paths[-1]: image})
    return paths


@signed(PlanOptions)
def langchain_tools(
    service: Service | None = None, out: Path | str | None = "runs", **options: Unpack[PlanOptions]
) -> list[Any]:
    """The tools as LangChain `StructuredTool`s; images are written to `out`.

    Raises `InputError` for options beside a `service`, and where nothing can be written in `out`.
    """
    from langchain_core.tools import StructuredTool, ToolException

    service = _service(service, options, out)

    def made(tool: Tool) -> Any:
        def run(**arguments: Any) -> dict[str, Any]:
            try:
                return _as_text(call_tool(service, tool.name, arguments), tool.name, out)
            except PromptProbeError as error:
                raise ToolException(str(error)) from error

        async def arun(**arguments: Any) -> dict[str, Any]:
            try:
                result = await service.begin(partial(call_tool, service, tool.name, arguments))
                return await asyncio.to_thread(_as_text, result, tool.name, out)
            except PromptProbeError as error:
                raise ToolException(str(error)) from error

        return StructuredTool.from_function(
            run, arun, name=tool.name, description=tool.description, args_schema=tool.schema, handle_tool_error=True
        )

    return [made(t) for t in TOOLS.values()]


@signed(PlanOptions)
def agents_sdk_tools(
    service: Service | None = None, out: Path | str | None = "runs", **options: Unpack[PlanOptions]
) -> list[Any]:
    """The tools as `FunctionTool`s of the OpenAI Agents SDK (`openai-agents`); images are written to `out`.

    Raises `InputError` when the SDK is not installed, for options beside a `service`, and where nothing can be written in
    `out`.
    """
    function_tool = _sdk_function_tool()
    service = _service(service, options, out)

    def made(tool: Tool) -> Any:
        async def invoke(context: Any, arguments: str) -> str:
            try:
                result = await service.begin(partial(call_tool, service, tool.name, arguments))
                return json.dumps(await asyncio.to_thread(_as_text, result, tool.name, out), ensure_ascii=False)
            except PromptProbeError as error:
                return json.dumps({"error": str(error)})

        return function_tool(
            name=tool.name, description=tool.description, params_json_schema=tool.schema,
            on_invoke_tool=invoke, strict_json_schema=False,
        )  # fmt: skip

    return [made(t) for t in TOOLS.values()]


def _service(service: Service | None, options: PlanOptions, out: Path | str | None) -> Service:
    if out is not None:
        check_writable(out)
    check_made("service", service, Service, "Service")
    if service is not None:
        refuse_beside("service", options)
    return service or Service(**options)


def _sdk_function_tool() -> Any:
    """The Agents SDK's `FunctionTool`.

    The SDK owns the import name `agents`, which a folder of that name on the path, such as the one in this project's
    repository, takes away from it. Raises `InputError` that says which of the two is the trouble.
    """
    try:
        version("openai-agents")
    except PackageNotFoundError as error:
        raise InputError("the OpenAI Agents SDK is not installed: pip install 'promptprobe[agents-sdk]'") from error
    try:
        from agents import FunctionTool
    except ImportError as error:
        found = find_spec("agents")
        where = next(iter(found.submodule_search_locations or []), "?") if found else "?"
        raise InputError(
            f"the import name `agents` of the OpenAI Agents SDK is taken by the folder {where}; start Python in "
            "another folder, or take it off sys.path"
        ) from error
    return FunctionTool
