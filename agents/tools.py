"""promptprobe as tools of other agent systems: OpenAI function schemas and a dispatcher, LangChain, the Agents SDK.

Every system gets the same four tools from the same table; arguments come from a language model and are validated.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ..errors import InputError, PromptProbeError
from ..files import check_writable, free_path, write_together
from .service import MAX_PROMPT, MAX_PROMPTS, MAX_SEEDS, Service

SEED = Field(0, ge=0, lt=2**53, description="The same seed gives the same result.")


class _Arguments(BaseModel):
    model_config = ConfigDict(extra="forbid")


class OptimizeArguments(_Arguments):
    """Probe a prompt, rewrite it while its predicted reward is low, and generate the best one."""

    prompt: str = Field(min_length=1, max_length=MAX_PROMPT, description="What the picture should show.")
    seed: int = SEED
    rounds: int = Field(3, ge=0, le=10, description="Rewriting rounds at most.")
    candidates: int = Field(4, ge=1, le=16, description="Rewrites asked for in each round.")


class ScoreArguments(_Arguments):
    """Predict the rewards of prompts and say which words the model does not attend to; makes no image."""

    prompts: list[str] = Field(min_length=1, max_length=MAX_PROMPTS, description="Prompts to compare.")
    seed: int = SEED


class SelectSeedArguments(_Arguments):
    """Find the seed that suits a prompt best for a fraction of the compute, and generate its image."""

    prompt: str = Field(min_length=1, max_length=MAX_PROMPT, description="What the picture should show.")
    seeds: int = Field(10, ge=1, le=MAX_SEEDS, description="How many seeds to try.")
    first_seed: int = SEED


class GenerateArguments(_Arguments):
    """Generate one image of a prompt as it is."""

    prompt: str = Field(min_length=1, max_length=MAX_PROMPT, description="What the picture should show.")
    seed: int = SEED


@dataclass(frozen=True)
class ToolResult:
    """`values` are plain JSON; `images` are PNG files."""

    values: dict[str, Any]
    images: list[bytes]


@dataclass(frozen=True)
class Tool:
    """A tool's name, its arguments and what it does with a service."""

    name: str
    arguments: type[_Arguments]
    call: Callable[..., ToolResult]

    @property
    def description(self) -> str:
        return (self.arguments.__doc__ or "").strip()


def brief(record: dict[str, Any]) -> dict[str, Any]:
    """The part of an optimisation's record that an agent needs."""
    kept = ("prompt", "best_prompt", "unchanged", "stop_reason", "predicted_reward", "reward", "tau", "seed", "notes")
    tried = [
        {"prompt": c["prompt"], "predicted_reward": c["score"], "rejected": c["rejected"]} for c in record["candidates"]
    ]
    return {k: record[k] for k in kept} | {"candidates": tried}


def _optimize(service: Service, given: OptimizeArguments, **how: Any) -> ToolResult:
    record, image = service.optimize(
        given.prompt, seed=given.seed, rounds=given.rounds, candidates=given.candidates, **how
    )
    return ToolResult(brief(record), [image])


def _score(service: Service, given: ScoreArguments, **how: Any) -> ToolResult:
    return ToolResult({"scores": service.score(given.prompts, seed=given.seed, **how)}, [])


def _select_seed(service: Service, given: SelectSeedArguments, **how: Any) -> ToolResult:
    found, images = service.select_seed(given.prompt, seeds=given.seeds, first_seed=given.first_seed, **how)
    return ToolResult(found, images)


def _generate(service: Service, given: GenerateArguments, **how: Any) -> ToolResult:
    record, image = service.generate(given.prompt, seed=given.seed, **how)
    return ToolResult({"prompt": record["prompt"], "seed": record["seed"]}, [image])


TOOLS = {
    tool.name: tool
    for tool in (
        Tool("optimize_prompt", OptimizeArguments, _optimize), Tool("score_prompts", ScoreArguments, _score),
        Tool("select_seed", SelectSeedArguments, _select_seed), Tool("generate_image", GenerateArguments, _generate),
    )
}  # fmt: skip


def call_tool(service: Service, name: str, arguments: str | dict[str, Any], **how: Any) -> ToolResult:
    """Run a tool with arguments as a language model gives them, JSON text or a mapping.

    `how` takes `progress` and `cancel`. Raises `InputError` that names the tool or argument and the remedy.
    """
    tool = TOOLS.get(name)
    if tool is None:
        raise InputError(f"unknown tool {name!r}; known are {', '.join(TOOLS)}")
    try:
        values = json.loads(arguments) if isinstance(arguments, str) else arguments
        given = tool.arguments.model_validate(values)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(p) for p in first["loc"]) or "arguments"
        raise InputError(f"tool {name}: {where}: {first['msg']}") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"tool {name}: the arguments are no JSON: {error}") from error
    return tool.call(service, given, **how)


def openai_tools() -> list[dict[str, Any]]:
    """Function-tool schemas for OpenAI's chat completions; for the Responses API take each one's `function`."""
    return [
        {
            "type": "function",
            "function": {"name": t.name, "description": t.description, "parameters": t.arguments.model_json_schema()},
        }
        for t in TOOLS.values()
    ]


def dispatch(service: Service, name: str, arguments: str | dict[str, Any], out: Path | str | None = None) -> str:
    """Run a tool and return text for a tool message: JSON with paths of images in `out`, or with an `error`.

    Without `out`, images come as base64 PNG.
    """
    try:
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


def langchain_tools(service: Service | None = None, out: Path | str | None = "runs", **options: Any) -> list[Any]:
    """The tools as LangChain `StructuredTool`s; images are written to `out`. `options` are those of `make_plan`."""
    from langchain_core.tools import StructuredTool, ToolException

    service = service or Service(**options)

    def made(tool: Tool) -> Any:
        def run(**arguments: Any) -> dict[str, Any]:
            try:
                return _as_text(call_tool(service, tool.name, arguments), tool.name, out)
            except PromptProbeError as error:
                raise ToolException(str(error)) from error

        return StructuredTool.from_function(
            run, name=tool.name, description=tool.description, args_schema=tool.arguments, handle_tool_error=True
        )

    return [made(t) for t in TOOLS.values()]


def agents_sdk_tools(service: Service | None = None, out: Path | str | None = "runs", **options: Any) -> list[Any]:
    """The tools as `FunctionTool`s of the OpenAI Agents SDK (`openai-agents`); images are written to `out`.

    Raises `InputError` when the SDK is not installed.
    """
    try:
        from agents import FunctionTool
    except ImportError as error:
        raise InputError("the OpenAI Agents SDK is not installed: pip install openai-agents") from error
    service = service or Service(**options)

    def made(tool: Tool) -> Any:
        async def invoke(context: Any, arguments: str) -> str:
            import asyncio

            return await asyncio.to_thread(dispatch, service, tool.name, arguments, out)

        return FunctionTool(
            name=tool.name, description=tool.description, params_json_schema=tool.arguments.model_json_schema(),
            on_invoke_tool=invoke, strict_json_schema=False,
        )  # fmt: skip

    return [made(t) for t in TOOLS.values()]
