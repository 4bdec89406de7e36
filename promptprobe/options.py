"""Every option once: name, type, default, range, help and group. Commands, functions, tools and servers are made from here.

A group is a `TypedDict`, so that `def f(**options: Unpack[Group])` has a signature which type checkers and editors
read; each key's `Option` says the rest. `settle` checks what was given in the same words everywhere, `signed` gives a
function the signature and documentation of its options. Nothing here imports torch.
"""

from __future__ import annotations

import difflib
import inspect
import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypedDict, TypeVar, Union, get_args, get_origin, get_type_hints

from .errors import InputError
from .forms import prices_of, read_tau_form, report_file, session_name
from .schedulers import AUTO, SOLVERS

if TYPE_CHECKING:
    from .agents.rewrites import Rewriter
    from .probe import Probe
    from .rewards import RewardFunction

Function = TypeVar("Function", bound=Callable[..., Any])
EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh", "max")  # how much an LLM thinks
MOST_SEEDS = 100_000  # of one prompt: a list of more is a slip of the keyboard
# What a pipeline's call takes and the engine sets itself, and what to do instead.
_ONE_EACH = "for several images of a prompt give it once for each seed"
_EVERY_ENCODER = "every text encoder is told the prompt"
_ON_STEP = "give on_step"
ENGINES_OWN = {
    "prompt": "give prompts", "prompt_2": _EVERY_ENCODER, "prompt_3": _EVERY_ENCODER, "prompt_4": _EVERY_ENCODER,
    "num_images_per_prompt": _ONE_EACH, "latents": _ONE_EACH, "generator": _ONE_EACH,
    "num_inference_steps": "give steps", "timesteps": "give steps", "output_type": "give output to finish",
    "return_dict": "leave it out", "callback": _ON_STEP, "callback_steps": _ON_STEP, "callback_on_step_end": _ON_STEP,
    "callback_on_step_end_tensor_inputs": _ON_STEP,
}  # fmt: skip


class UnknownOptionError(InputError, TypeError):
    """An option that a function does not have; also a `TypeError`, as for any unknown keyword argument."""


@dataclass(frozen=True)
class Option:
    """What is known of an option beside its name and type.

    `least` and `most` bound numbers, both allowed; `choices` are the only texts taken. `form` raises `InputError` for a
    value of another form; a text that `is_prompt` is bounded and whole. An object that Python callers may give has the method `has`. `flag` is its name on the
    command line (default: made of its own). An `example` stands behind the help of the command line.
    """

    default: Any
    help: str
    least: float | None = None
    most: float | None = None
    choices: tuple[str, ...] = ()
    form: Callable[[Any], Any] | None = None
    has: str = ""
    is_prompt: bool = False
    flag: str = ""
    example: str = ""


class WhichModel(TypedDict, total=False):
    model: Annotated[
        str | Path,
        Option("icons", "A built-in world, a diffusers pipeline folder, a .safetensors checkpoint, or a hub name.",
               example="black-forest-labs/FLUX.1-dev"),
    ]  # fmt: skip


class LoadingOptions(TypedDict, total=False):
    device: Annotated[str, Option("auto", "Torch device; auto: cuda, else mps, else cpu.", example="cuda:1")]
    dtype: Annotated[
        str | None,
        Option("auto", "Weight type of all parts; auto: float32 on a CPU, else bfloat16 or the best that the device has.",
               choices=("auto", "float32", "float16", "bfloat16")),
    ]  # fmt: skip
    offload: Annotated[
        str,
        Option("auto", "Keep weights in memory until needed; auto: as far as the GPU is too small for them.",
               choices=("auto", "none", "model", "sequential")),
    ]  # fmt: skip
    quantize: Annotated[
        str,
        Option("none", "Smaller weights of denoiser and large text encoders, on a GPU (promptprobe[quantize]).",
               choices=("none", "8bit", "4bit")),
    ]  # fmt: skip
    scheduler: Annotated[
        str,
        Option(AUTO, "Solver; auto: the model's own, or a like one where that can't be paused.",
               choices=(AUTO, *SOLVERS)),
    ]  # fmt: skip
    config: Annotated[
        str | Path | None,
        Option(None, "Pipeline folder or hub name with what a checkpoint file lacks; default: its kind's on the hub."),
    ]
    lora: Annotated[
        Sequence[str],
        Option((), "LoRA adapter: file, folder or hub name, with =STRENGTH.", example="style.safetensors=0.8"),
    ]
    revision: Annotated[str | None, Option(None, "Branch, tag or commit of a hub model.")]
    variant: Annotated[str | None, Option(None, "Weight files' variant.", example="fp16")]


class CallOptions(TypedDict, total=False):
    guidance: Annotated[float | None, Option(None, "Guidance scale; default: the model's own.", least=0, most=1000)]
    height: Annotated[
        int | None, Option(None, "Image height in pixels; default: the model's own.", least=1, most=16384)
    ]
    width: Annotated[int | None, Option(None, "Image width in pixels.", least=1, most=16384)]
    negative: Annotated[str | None, Option(None, "Negative prompt.", is_prompt=True, example="blurry")]
    pipe_args: Annotated[
        Mapping[str, Any],
        Option({}, "name=value for the pipeline's call.", flag="--pipe-arg", example="true_cfg_scale=4"),
    ]


class SeedOptions(TypedDict, total=False):
    seed: Annotated[int, Option(0, "The same seed gives the same result.", least=0, most=2**63 - 1)]


class StepsOptions(TypedDict, total=False):
    steps: Annotated[int, Option(25, "Denoising steps of a full image.", least=1, most=1000)]


class RunOptions(SeedOptions, StepsOptions, total=False):
    batch_size: Annotated[int, Option(32, "Images denoised at once.", least=1, most=4096)]


class ModelOptions(WhichModel, LoadingOptions, CallOptions, RunOptions, total=False):
    """The pipeline, how it is loaded and called."""


class RewardOptions(TypedDict, total=False):
    reward: Annotated[
        str | RewardFunction | None,
        Option(
            None, "What measures finished images; default: the world's own.", has="__call__", example="image-reward"
        ),
    ]


class WhichProbe(TypedDict, total=False):
    probe: Annotated[
        str | Path | Probe | None, Option(None, "Probe folder; a built-in world has its own.", has="predict")
    ]


class JudgingOptions(TypedDict, total=False):
    judge: Annotated[
        str,
        Option("auto", "What says at a paused step how good the image will be. probe: a trained probe. preview: the predicted "
               "image, decoded and measured with --reward. gap: how far guidance pulls. focus: how compactly the words are "
               "looked for. auto: the first of these that there is.",
               choices=("auto", "probe", "preview", "gap", "focus")),
    ]  # fmt: skip
    probe_step: Annotated[
        int, Option(5, "Step after which a trajectory is judged, 1 to the number of steps.", least=1, most=1000)
    ]
    preview_decoder: Annotated[
        str,
        Option("auto", "What decodes previews: tiny (a small decoder of the model's family), full (the model's own), or a "
               "folder. auto: tiny where it is on this machine, else full.", example="tiny"),
    ]  # fmt: skip
    objective: Annotated[
        str | None, Option(None, "Head of the probe to go by, or several with weights.", example="icons,clip=0.1")
    ]


class ProbeOptions(WhichProbe, JudgingOptions, total=False):
    """Which probe judges, at which step, by which head."""


class JudgeOptions(ProbeOptions, RewardOptions, total=False):
    """What says, at a paused step, how good the finished image will be, and what measures it in the end."""


class ComparedSeeds(TypedDict, total=False):
    seeds_per_prompt: Annotated[
        int, Option(1, "Seeds of each prompt; candidates are compared on all of them.", least=1, most=MOST_SEEDS)
    ]


class GateOptions(TypedDict, total=False):
    tau: Annotated[
        str | float,
        Option("auto", "Rewrite while the predicted reward is below: a number, a quantile of the probe's validation "
               "predictions (q0.8), reward@probability (0.9@0.8), or balanced, where fewest images are rewritten for "
               "nothing or kept though bad. auto: balanced, and no threshold for a judge without quantiles, whose best "
               "wording is then searched for.", form=read_tau_form, example="q0.8"),
    ]  # fmt: skip
    candidates: Annotated[int, Option(4, "Rewrites asked for in each round.", least=1, most=16)]


class EarlyOptions(TypedDict, total=False):
    early_step: Annotated[
        int | None,
        Option(
            None,
            "Look at all wordings at this step first and give up those that can hardly win.",
            least=1,
            most=1000,
        ),
    ]


class LoopOptions(ComparedSeeds, GateOptions, EarlyOptions, total=False):
    """How often and how widely prompts are rewritten."""

    rounds: Annotated[int, Option(3, "Rewriting rounds at most; 0 only judges and generates.", least=0, most=10)]
    guard: Annotated[
        str | None,
        Option(None, "Who checks that rewrites keep the meaning: code, llm (one more request a round), or off; default: "
               "llm with an LLM, else code.", choices=("code", "llm", "off")),
    ]  # fmt: skip


class LLMOptions(TypedDict, total=False):
    """Who rewrites."""

    rewriter: Annotated[
        str | Rewriter | None,
        Option("auto", "auto (an LLM when there is a key or URL), llm, or offline.", choices=("auto", "llm", "offline"),
               has="rewrite"),
    ]  # fmt: skip
    llm_model: Annotated[str | None, Option(None, "Chat model; default: the endpoint's.", example="qwen3.7-plus")]
    llm_base_url: Annotated[
        str | None, Option(None, "OpenAI-compatible endpoint.", example="http://localhost:11434/v1")
    ]
    llm_timeout: Annotated[
        float | None,
        Option(None, "Seconds for one answer; default: 60, on this machine 300.", least=1, most=3600),
    ]
    llm_max_tokens: Annotated[
        int | None, Option(None, "Room for one answer; default: 4000, on this machine 1500.", least=64, most=200_000)
    ]
    llm_effort: Annotated[
        str | None,
        Option(None, "How much it thinks; default: the endpoint's own.", choices=EFFORTS),
    ]
    llm_price: Annotated[
        str | None,
        Option(None, "Price of a million input,output tokens: cost is reported.", form=prices_of, example="1.6,6.4"),
    ]


class BudgetOptions(TypedDict, total=False):
    """What a prompt may cost."""

    max_llm_calls: Annotated[int | None, Option(None, "LLM requests a prompt may take.", least=0)]
    max_seconds: Annotated[
        float | None, Option(None, "Seconds a prompt may take; then the best so far is generated.", least=0)
    ]


class PlanOptions(ModelOptions, JudgeOptions, LoopOptions, LLMOptions, BudgetOptions, total=False):
    """Everything that an optimisation is made of."""


class ScorerSettings(LoadingOptions, CallOptions, RunOptions, JudgingOptions, RewardOptions, EarlyOptions, total=False):
    """How a pipeline and its judge are loaded and run."""


class ScorerOptions(WhichModel, WhichProbe, ScorerSettings, total=False):
    """A pipeline and what judges it."""


class ScoreOptions(ModelOptions, JudgeOptions, ComparedSeeds, total=False):
    """Judging without making images."""


class GenerateOptions(WhichModel, LoadingOptions, CallOptions, SeedOptions, StepsOptions, total=False):
    """One image."""


class SearchOptions(TypedDict, total=False):
    """Which seeds are tried, and who goes on when."""

    policy: Annotated[
        str,
        Option("auto", "racing drops the hopeless at several stages, fixed judges all at --probe-step, staged spends a "
               "--budget where it is worth most (auto: racing or fixed with a probe, else staged), "
               "decoded-racing and decoded do the same but measure at the last stage what it predicts, full makes all.",
               choices=("auto", "racing", "fixed", "staged", "decoded-racing", "decoded", "full")),
    ]  # fmt: skip
    top: Annotated[int, Option(1, "Images to finish.", least=1, most=MOST_SEEDS)]
    budget: Annotated[
        float | None, Option(None, "What staged may spend on average, in images made in full; default: 3.", least=1)
    ]
    diverse: Annotated[float, Option(0.0, "How much the --top images should differ.", least=0, most=1)]


class SeedSearchOptions(ModelOptions, JudgeOptions, SearchOptions, total=False):
    """A search over the seeds of a prompt."""


class OutputOptions(TypedDict, total=False):
    out: Annotated[Path, Option(Path("runs"), "Folder for what is made.")]
    as_json: Annotated[bool, Option(False, "Print JSON and nothing else.", flag="--json")]


class OpenOptions(TypedDict, total=False):
    open_it: Annotated[bool, Option(False, "Open the finished picture with the system's viewer.", flag="--open")]


class ReportOptions(TypedDict, total=False):
    report: Annotated[
        Path | None,
        Option(
            None,
            "Write a report, too: one HTML file with pictures, wordings, plots and cost.",
            form=report_file,
            example="report.html",
        ),
    ]


class BatchOptions(TypedDict, total=False):
    """How a file of prompts is read and worked through."""

    column: Annotated[str | None, Option(None, "Column or key of the prompts.")]
    expand: Annotated[bool, Option(False, "Expand {a|b} and __wildcards__.")]
    wildcards: Annotated[Path | None, Option(None, "Folder of wildcard files (promptprobe[batch]).")]
    engine: Annotated[str, Option("local", "local, or ray: a cluster (promptprobe[ray]).", choices=("local", "ray"))]
    workers: Annotated[int | None, Option(None, "Ray workers; default: one a GPU, or a CPU.", least=1)]
    dry_run: Annotated[bool, Option(False, "Estimate calls, time and cost; make nothing.")]


class MinutesOptions(TypedDict, total=False):
    max_minutes: Annotated[float | None, Option(None, "Minutes; then it stops.", least=0)]


class BatchBudgetOptions(MinutesOptions, total=False):
    llm_calls: Annotated[int, Option(8, "LLM requests under way at once.", least=1, most=256)]
    max_llm_tokens: Annotated[int | None, Option(None, "LLM tokens; then the batch stops.", least=0)]


class ServerOptions(TypedDict, total=False):
    """Where a server listens, on loopback only."""

    host: Annotated[str, Option("127.0.0.1", "Loopback address: 127.0.0.1, localhost or ::1.")]
    port: Annotated[int, Option(8721, "Port.", least=1, most=65535)]
    waiting: Annotated[int, Option(8, "Calls that may wait behind the running one.", least=0, most=1000)]


class PageOptions(TypedDict, total=False):
    """How the page is opened."""

    no_open: Annotated[bool, Option(False, "Don't open the browser.", flag="--no-open")]


class TransportOptions(TypedDict, total=False):
    """How MCP clients connect."""

    transport: Annotated[str, Option("stdio", "stdio, or http: streamable HTTP at /mcp.", choices=("stdio", "http"))]
    mcp_port: Annotated[int, Option(8722, "Port for http.", least=1, most=65535, flag="--port")]


class SessionOptions(TypedDict, total=False):
    """Which session."""

    name: Annotated[str, Option("default", "The session's name; an existing one is taken up.", form=session_name)]
    store: Annotated[Path | None, Option(None, "SQLite file of sessions; default: sessions.sqlite in --out.")]
    sessions: Annotated[bool, Option(False, "List the sessions and stop.", flag="--list")]


class CollectOptions(ComparedSeeds, total=False):
    """Which images are made for a data set, and what is kept of them."""

    part: Annotated[
        str, Option("1/1", "Share of the prompts to take, for several processes with an --out each.", example="1/2")
    ]
    probe_steps: Annotated[str, Option("5", "Steps to read, comma-separated.", flag="--probe-step", example="1,5,10")]
    blocks: Annotated[
        str, Option("default", "Attention blocks to read: default (the paper's), all, or names, comma-separated.")
    ]
    rewards: Annotated[
        str,
        Option("icons", "Reward names, comma-separated (image-reward=FOLDER for local weights), or module:function.",
               flag="--reward"),
    ]  # fmt: skip
    only_texts: Annotated[bool, Option(False, "Only what the rewards make of the prompts, no images.", flag="--texts")]


class TrainOptions(TypedDict, total=False):
    """How a probe is trained."""

    labels: Annotated[str | None, Option(None, "Rewards to predict, comma-separated; default: all.")]
    variant: Annotated[
        str | None,
        Option(None, "latents (default), words (without latents), maps (nor text embeddings), plain (the paper's).",
               choices=("latents", "words", "maps", "plain")),
    ]  # fmt: skip
    features: Annotated[int, Option(16, "Width of the CNN, a multiple of 8.", least=8, most=1024)]
    dropout: Annotated[float, Option(0.2, "Share of token features left out in training.", least=0, most=0.95)]
    epochs: Annotated[int, Option(30, "Passes over the data.", least=1, most=10_000)]
    train_batch_size: Annotated[int, Option(64, "Items in a batch.", least=1, most=65536, flag="--batch-size")]
    learning_rate: Annotated[float, Option(1e-3, "Peak learning rate.", least=1e-8, most=1)]
    oversample: Annotated[float, Option(2.0, "How much more often the lowest reward is drawn.", least=1, most=100)]


class EvaluateOptions(TypedDict, total=False):
    """How a probe is evaluated."""

    judged_step: Annotated[
        int | None, Option(None, "Step to judge; default: the probe's own.", least=1, most=1000, flag="--probe-step")
    ]
    resamples: Annotated[int, Option(1000, "Bootstrap samples of the 95 % intervals.", least=10, most=1_000_000)]


class GrpoOptions(TypedDict, total=False):
    """How a model is trained by GRPO."""

    filter: Annotated[
        str,
        Option("probe", "What parts a group half-way: its predicted best and worst are finished and learned from. probe: a trained "
               "probe. preview: the predicted image, measured with --reward. random: by lot. none: all are finished.",
               choices=("probe", "preview", "random", "none")),
    ]  # fmt: skip
    filter_step: Annotated[int, Option(2, "Step of the training run at which the filter looks.", least=1, most=999)]
    share: Annotated[float, Option(0.5, "Share of a group that the filter keeps.", least=0.01, most=1)]
    wider: Annotated[
        float,
        Option(1.0, "How many times as many groups are begun with a filter; those whose predictions differ most go on.", least=1,
               most=16),
    ]  # fmt: skip
    least_spread: Annotated[
        float, Option(0.0, "Standard deviation of a group's predictions below which it is given up.", least=0)
    ]
    groups: Annotated[int, Option(4, "Prompts learned from in an iteration.", least=1, most=4096)]
    group_size: Annotated[int, Option(8, "Images of a prompt, compared with each other.", least=2, most=512)]
    iterations: Annotated[int, Option(100, "Iterations, a step of the optimizer each.", least=1, most=1_000_000)]
    train_steps: Annotated[int, Option(6, "Denoising steps of the images learned from.", least=2, most=1000)]
    likelihood: Annotated[
        str,
        Option("path", "What is made more or less likely. path: the noisy steps that were walked (Flow-GRPO). matching: the way back "
               "to the finished image from fresh noise (advantage-weighted matching), without noise or guidance; learns from fewer images.",
               choices=("path", "matching")),
    ]  # fmt: skip
    draws: Annotated[int, Option(3, "Noise levels that an image is matched at.", least=1, most=999)]
    noisy_steps: Annotated[
        int | None,
        Option(None, "First steps of them that are walked with noise, and learned; default: those before the filter's last.",
               least=1, most=999),
    ]  # fmt: skip
    noise: Annotated[float, Option(0.7, "Level of that noise.", least=0.01, most=10)]
    rank: Annotated[int, Option(16, "Rank of the LoRA adapter.", least=1, most=1024)]
    target: Annotated[
        Sequence[str],
        Option(
            (), "Ends of the names of linear layers that learn; default: the attention's, by family.", example="to_q"
        ),
    ]
    rate: Annotated[float, Option(3e-4, "Learning rate.", least=0, most=1, flag="--learning-rate")]
    clip: Annotated[float, Option(1e-3, "How far a probability ratio may go from 1.", least=1e-8, most=1)]
    kl: Annotated[float, Option(0.01, "Weight of the distance to the model as it was; 0 leaves it out.", least=0)]
    passes: Annotated[int, Option(1, "Steps of the optimizer on the images of an iteration.", least=1, most=100)]
    watch: Annotated[
        str | None, Option(None, "Other rewards of held-out prompts, comma-separated.", example="icons-aesthetic")
    ]
    watch_prompts: Annotated[int, Option(32, "Held-out prompts that are drawn in full.", least=0, most=100_000)]
    watch_every: Annotated[int, Option(20, "Iterations from one look at them to the next.", least=1)]
    save_every: Annotated[int, Option(1, "Iterations from one state on the disk to the next.", least=1)]
    tracker: Annotated[
        str, Option("none", "Who is told the curves, too; its package must be there.", choices=("none", "trackio", "wandb"))
    ]  # fmt: skip


class GrpoRunOptions(ModelOptions, GrpoOptions, RewardOptions, WhichProbe, JudgingOptions, MinutesOptions, total=False):
    """Everything that a GRPO run is made of."""


# The headings under which `--help` shows options; each stands under the first that has it.
GROUPS: dict[str, tuple[type, ...]] = {
    "Model": (ModelOptions,),
    "Judge": (JudgeOptions,),
    "Loop": (LoopOptions,),
    "LLM": (LLMOptions,),
    "Budget": (BudgetOptions, BatchBudgetOptions),
    "Search": (SearchOptions,),
    "Prompts": (BatchOptions,),
    "Session": (SessionOptions,),
    "Data": (CollectOptions,),
    "Training": (TrainOptions, EvaluateOptions, GrpoOptions),
    "Server": (ServerOptions, PageOptions, TransportOptions),
    "Output": (OutputOptions, OpenOptions, ReportOptions),
}


@dataclass(frozen=True)
class Known:
    """An option with its name, the type that its text is read as, and its group."""

    name: str
    option: Option
    kind: type
    optional: bool
    several: bool
    types: tuple[type, ...]  # of plain values
    group: str

    @property
    def flag(self) -> str:
        return self.option.flag or "--" + self.name.replace("_", "-")

    def range(self) -> str:
        """Which values are taken, in words."""
        o = self.option
        if o.choices:
            return f"one of {', '.join(o.choices)}"
        if o.least is not None and o.most is not None:
            return f"between {o.least} and {'2^63 - 1' if o.most == 2**63 - 1 else o.most}"
        return f"at least {o.least}" if o.least is not None else ""


def _known(name: str, hint: Any, group: str) -> Known | None:
    if get_origin(hint) is not Annotated:
        return None
    hint, option = get_args(hint)[0], get_args(hint)[1]
    parts = [p for p in _members(hint) if p is not type(None)]
    several = any(get_origin(p) in (Sequence, Mapping) for p in parts) and str not in parts
    simple = next((t for t in (bool, str, Path, float, int) if t in parts), str)
    types = tuple(p for p in parts if p in (bool, int, float, str, Path))
    return Known(name, option, simple, type(None) in _members(hint), several, types, group)


def _members(hint: Any) -> list[Any]:
    import types

    return list(get_args(hint)) if get_origin(hint) in (Union, types.UnionType) else [hint]


def _table() -> dict[str, Known]:
    anything = {
        "Probe": type("Probe", (), {}),
        "RewardFunction": type("RewardFunction", (), {}),
        "Rewriter": type("Rewriter", (), {}),
    }
    table: dict[str, Known] = {}
    for group, kinds in GROUPS.items():
        for kind in kinds:
            for name, hint in get_type_hints(kind, localns=anything, include_extras=True).items():
                known = _known(name, hint, group)
                if known and name not in table:
                    table[name] = known
    return table


OPTIONS = _table()


def names_of(*kinds: type) -> list[str]:
    """The options of groups, in the order of the table."""
    wanted = {name for kind in kinds for name in kind.__annotations__}
    return [name for name in OPTIONS if name in wanted]


def default_of(name: str) -> Any:
    """An option's default."""
    return OPTIONS[name].option.default


DEFAULT_MODEL: str = default_of("model")


def refuse_unknown(kind: type, given: Iterable[str], where: str) -> None:
    """Raise `UnknownOptionError` that names the first option which `kind` has not, and the nearest one that it has."""
    known = names_of(kind)
    for name in given:
        if name not in known:
            near = difflib.get_close_matches(name, known, 1)
            hint = f"; did you mean {near[0]}?" if near else f"; it has {', '.join(known)}"
            raise UnknownOptionError(f"{where} has no option {name!r}{hint}")


def refuse_beside(what: str, given: Iterable[str]) -> None:
    """Raise `InputError` for options given beside what settles them, such as `plan`."""
    names = sorted(given)
    if names:
        raise InputError(f"{', '.join(names)} can't be given beside {what}, which settles it; leave one of them out")


def check_made(name: str, value: Any, kind: type, maker: str) -> None:
    """Raise `InputError` for something else than what `maker` returns; None is nothing."""
    if value is not None and not isinstance(value, kind):
        raise InputError(f"{name} is {value!r:.80}; give what {maker} returns")


def check(name: str, value: Any, said: str = "") -> Any:
    """The value of an option, of its type; raises `InputError` with the name (`said`, if it has another), value and range."""
    known = OPTIONS[name]
    option = known.option
    said = said or said_of(name)
    if value is None and known.optional:
        return None
    if known.several:
        pairs = isinstance(option.default, Mapping)
        if isinstance(value, str) or not isinstance(value, Mapping if pairs else Sequence):
            raise InputError(f"{said} is {value!r:.80}; give {'names with values' if pairs else 'a list'}")
        if not all(isinstance(v, str) for v in value):
            raise InputError(f"{said} is {value!r:.80}; give {'names' if pairs else 'a list of texts'}")
        return value
    if option.form:
        option.form(value)
        return value
    if known.kind in (str, Path):
        given = isinstance(value, (str, *known.types)) and not isinstance(value, bool)
        made = bool(option.has) and hasattr(value, option.has) and not isinstance(value, type)
        if not made and (not given or (option.choices and value not in option.choices)):
            wanted = known.range() or ("a path" if Path in known.types else "text")
            more = (
                ", or a function"
                if option.has == "__call__"
                else f", or an object with {option.has}"
                if option.has
                else ""
            )
            raise InputError(f"{said} is {value!r:.80}; it must be {wanted}{more}")
        if option.is_prompt:
            from .text import check_text

            check_text(value, said)
        return Path(value) if known.kind is Path else value
    if known.kind is bool:
        if not isinstance(value, bool):
            raise InputError(f"{said} is {value!r:.80}; it must be true or false")
        return value
    wanted = "a whole number" if known.kind is int else "a number"
    fits = isinstance(value, int if known.kind is int else (int, float)) and not isinstance(value, bool)
    if not fits or not math.isfinite(value):
        raise InputError(f"{said} is {value!r:.80}; it must be {wanted}{_within(known)}")
    if (option.least is not None and value < option.least) or (option.most is not None and value > option.most):
        shown = value if isinstance(value, int) else f"{value:g}"
        raise InputError(f"{said} is {shown}; it must be {known.range()}")
    return known.kind(value)


def _within(known: Known) -> str:
    return f" {known.range()}" if known.range() else ""


def said_of(name: str) -> str:
    """An option's name as people read it."""
    return OPTIONS[name].flag.removeprefix("--").replace("-", " ").replace("llm", "LLM")


def read_text(name: str, text: str) -> Any:
    """The value of an option given as text, checked; raises as `check`."""
    known = OPTIONS[name]
    if known.kind in (int, float):
        try:
            return check(name, known.kind(text))
        except ValueError:
            return check(name, text)
    return check(name, text)


def read_pipe_args(given: Sequence[str]) -> dict[str, Any]:
    """`key=value` pairs for the pipeline's call; values are JSON where they can be, else text.

    Raises `InputError` for a pair without an equals sign or a key that the engine sets itself.
    """
    values: dict[str, Any] = {}
    for pair in given:
        key, sign, text = pair.partition("=")
        if not sign or not key.isidentifier():
            raise InputError(f"pipe arg is {pair!r}; give name=value, such as max_sequence_length=256")
        if key in ENGINES_OWN:
            raise InputError(f"pipe arg {key} is set by promptprobe itself; use the option for it")
        try:
            values[key] = json.loads(text)
        except (ValueError, RecursionError):
            values[key] = text
    return values


def signed(*kinds: type) -> Callable[[Function], Function]:
    """Give a function with `**options: Unpack[...]` a signature and a docstring that name its options and defaults."""

    def sign(function: Function) -> Function:
        own = inspect.signature(function)
        parameters = [p for p in own.parameters.values() if p.kind is not p.VAR_KEYWORD]
        names = names_of(*kinds)
        made: Any = function
        made.__signature__ = own.replace(
            parameters=[
                *parameters,
                *(inspect.Parameter(n, inspect.Parameter.KEYWORD_ONLY, default=default_of(n)) for n in names),
            ]
        )
        made.__doc__ = (inspect.getdoc(function) or "") + "\n\nOptions:\n" + "\n".join(_line(n) for n in names)
        return function

    return sign


def _line(name: str) -> str:
    known = OPTIONS[name]
    bound = f" ({known.range()})" if known.range() else ""
    return f"    {name}: {known.option.help}{bound} Default: {known.option.default!r}."
