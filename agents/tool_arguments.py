"""The arguments of the tools, as language models fill them in: types, ranges and a line on each, for every agent system.

What an option of the table is stands there; an argument that is left out is as the server was started.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, create_model

from ..options import OPTIONS, PlanOptions, names_of
from ..text import MAX_CHARACTERS
from .arguments import MAX_IMAGES, MAX_PROMPTS, MAX_SEEDS

PROMPT: Any = (str, Field(min_length=1, max_length=MAX_CHARACTERS, description="What the picture should show."))
PROMPTS: Any = (
    list[str],
    Field(min_length=1, max_length=MAX_PROMPTS, description="Prompts to compare."),
)
SEEDS: Any = (
    Annotated[int, Field(ge=1, le=MAX_SEEDS)] | None,
    Field(None, description="How many seeds to try. Default: 10, or as many as the budget is for."),
)
TOP: Any = (Annotated[int, Field(ge=1, le=MAX_SEEDS)] | None, Field(None, description="How many of the best to finish. Default: 1."))  # fmt: skip
SIZE: Any = (
    str | None,
    Field(None, pattern=r"^(auto|[1-9][0-9]*x[1-9][0-9]*)$", description="Width and height such as 1024x768: made at the nearest that the model takes, then scaled. Default: the model's own."),
)  # fmt: skip
N: Any = (Annotated[int, Field(ge=1, le=MAX_IMAGES)] | None, Field(None, description="How many images, on seeds that follow each other. Default: 1."))  # fmt: skip


def _own(name: str, help: str = "") -> Any:
    """An option of the table as an argument that may be left out: then the server's own value holds."""
    known = OPTIONS[name]
    bounds: dict[str, Any] = {"json_schema_extra": {"enum": list(known.option.choices)}} if known.option.choices else {}
    bounds |= {k: v for k, v in (("ge", known.option.least), ("le", known.option.most)) if v is not None}
    default = "as this server was started" if name in names_of(PlanOptions) else known.option.default
    said = (help or known.option.help) + (f" Default: {default}." if default is not None else "")
    return Annotated[known.kind, Field(**bounds)] | None, Field(None, description=said)


def _arguments(name: str, doc: str, **fields: Any) -> type[BaseModel]:
    return create_model(name, __doc__=doc, __config__=ConfigDict(extra="forbid"), **fields)


OptimizeArguments = _arguments(
    "OptimizeArguments",
    "Probe a prompt, rewrite it while its predicted reward is low, and generate the best one.",
    prompt=PROMPT, seed=_own("seed"), rounds=_own("rounds"), candidates=_own("candidates"), size=SIZE,
    negative=_own("negative"), judge=_own("judge"),
)  # fmt: skip
ScoreArguments = _arguments(
    "ScoreArguments",
    "Predict the rewards of prompts and say which words the model does not attend to; makes no image.",
    prompts=PROMPTS, seed=_own("seed"), judge=_own("judge"),
)  # fmt: skip
SelectSeedArguments = _arguments(
    "SelectSeedArguments",
    "Find the seed that suits a prompt best for a fraction of the compute, and generate its image.",
    prompt=PROMPT, seeds=SEEDS, first_seed=_own("seed", "The first of the seeds; the others follow it."), policy=_own("policy"),
    budget=_own("budget"), top=TOP, size=SIZE, negative=_own("negative"), judge=_own("judge"),
)  # fmt: skip
GenerateArguments = _arguments(
    "GenerateArguments", "Generate images of a prompt as it is.", prompt=PROMPT, seed=_own("seed"), n=N, size=SIZE,
    negative=_own("negative"),
)  # fmt: skip
