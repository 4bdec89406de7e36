"""The command line: thin commands over the library. `promptprobe --help` doesn't import torch."""

from __future__ import annotations

import functools
import inspect
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from . import __version__
from .errors import InputError, PromptProbeError

# Typer carries its own copy of click; this is its ClickException, with which usage errors arrive.
_USAGE_ERRORS: Any = typer.BadParameter.__mro__[2]

INTERRUPTED = 130

app = typer.Typer(
    name="promptprobe", no_args_is_help=True, add_completion=False, rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="Predict how good a diffusion model's image will be after a fifth of the steps, and rewrite prompts that will fail.",
)  # fmt: skip

Model = Annotated[str, typer.Option(help="'icons' (built in), a diffusers pipeline folder, or a hub name.")]
ProbeFolder = Annotated[Path | None, typer.Option("--probe", help="Probe folder; the icon world has its own.")]
Steps = Annotated[int, typer.Option(help="Denoising steps of a full image.")]
ProbeStep = Annotated[int, typer.Option(help="Step after which attention is read, 1 to --steps.")]
EarlyStep = Annotated[
    int | None, typer.Option(help="Look at all wordings at this step first and give up those that can hardly win.")
]
Objective = Annotated[
    str | None, typer.Option(help="Head of the probe to optimise (default: its first), or several: a,b=0.5.")
]
Guidance = Annotated[float | None, typer.Option(help="Guidance scale; default: the pipeline's own.")]
Device = Annotated[str, typer.Option(help="Torch device, such as cpu, cuda, mps.")]
Dtype = Annotated[str | None, typer.Option(help="Weight type: float32, float16, bfloat16.")]
Height = Annotated[int | None, typer.Option(help="Image height in pixels; default: the pipeline's own.")]
Width = Annotated[int | None, typer.Option(help="Image width in pixels.")]
Negative = Annotated[str | None, typer.Option("--negative", help="Negative prompt.")]
PipeArg = Annotated[
    list[str] | None, typer.Option("--pipe-arg", help="name=value for the pipeline's call, such as true_cfg_scale=4.")
]
Lora = Annotated[list[str] | None, typer.Option(help="LoRA adapter: file, folder or hub name, with =STRENGTH.")]
Offload = Annotated[str, typer.Option(help="Keep weights in memory until needed: none, model, sequential.")]
Revision = Annotated[str | None, typer.Option(help="Branch, tag or commit of a hub model.")]
Variant = Annotated[str | None, typer.Option(help="Weight files' variant, such as fp16.")]
Seed = Annotated[int, typer.Option(help="The same seed gives the same result.")]


_MODEL_OPTIONS: dict[str, tuple[Any, Any]] = {
    "guidance": (Guidance, None), "height": (Height, None), "width": (Width, None), "negative": (Negative, None),
    "pipe_arg": (PipeArg, None), "device": (Device, "cpu"), "dtype": (Dtype, None), "offload": (Offload, "none"),
    "lora": (Lora, None), "revision": (Revision, None), "variant": (Variant, None),
}  # fmt: skip


def with_model_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options that every command with a model has; it gets them as `open_pipeline` takes them."""

    @functools.wraps(command)
    def wrapped(**given: Any) -> None:
        from .pipelines import read_pipe_args

        chosen = {name: given.pop(name) for name in _MODEL_OPTIONS}
        chosen |= {"pipe_args": read_pipe_args(chosen.pop("pipe_arg") or []), "lora": chosen["lora"] or []}
        command(**given, **chosen)

    own = [p for p in inspect.signature(command, eval_str=True).parameters.values() if p.kind is not p.VAR_KEYWORD]
    more = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=kind)
        for name, (kind, default) in _MODEL_OPTIONS.items()
    ]
    wrapped.__signature__ = inspect.Signature([*own, *more])  # type: ignore[attr-defined]
    wrapped.__annotations__ = {p.name: p.annotation for p in (*own, *more)}
    return wrapped


@app.callback()
def _options(
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.")] = False,
    version: Annotated[bool, typer.Option("--version", help="Print the version and stop.", is_eager=True)] = False,
) -> None:
    if version:
        typer.echo(__version__)
        raise typer.Exit
    os.environ["PROMPTPROBE_DEBUG"] = "1" if debug else ""


@app.command()
@with_model_options
def optimize(
    prompt: Annotated[str, typer.Argument(help="What the picture should show.")],
    model: Model = "icons",
    probe: ProbeFolder = None,
    seed: Seed = 0,
    seeds_per_prompt: Annotated[int, typer.Option(help="Seeds on which every candidate is compared.")] = 1,
    rounds: Annotated[int, typer.Option(help="Rewriting rounds at most; 0 only probes and generates.")] = 3,
    candidates: Annotated[int, typer.Option(help="Rewrites asked for in each round.")] = 4,
    tau: Annotated[
        str, typer.Option(help="Rewrite while the predicted reward is below: a number, or a quantile such as q0.8.")
    ] = "q0.8",
    steps: Steps = 25,
    probe_step: ProbeStep = 5,
    early_step: EarlyStep = None,
    objective: Objective = None,
    rewriter: Annotated[str, typer.Option(help="auto (LLM when there is a key or URL), llm, or offline.")] = "auto",
    llm_model: Annotated[str | None, typer.Option(help="Chat model, such as qwen-max.")] = None,
    llm_base_url: Annotated[str | None, typer.Option(help="OpenAI-compatible endpoint.")] = None,
    llm_price: Annotated[
        str | None, typer.Option(help="Price of a million input,output tokens, such as 1.6,6.4: cost is reported.")
    ] = None,
    max_llm_calls: Annotated[int | None, typer.Option(help="Budget of LLM requests.")] = None,
    max_seconds: Annotated[
        float | None, typer.Option(help="Budget of time; then the best so far is generated.")
    ] = None,
    batch_size: Annotated[int, typer.Option(help="Images denoised at once.")] = 32,
    out: Annotated[Path, typer.Option(help="Folder for image, record and heat maps.")] = Path("runs"),
    as_json: Annotated[bool, typer.Option("--json", help="Print the record as JSON and nothing else.")] = False,
    **options: Any,
) -> None:
    """Probe a prompt, rewrite it while it scores below tau, and generate the best one."""
    from .agents.optimize import optimize as run
    from .view import LiveView

    with LiveView(quiet=as_json) as view:
        record = run(
            prompt, model=model, probe=probe, seed=seed, seeds_per_prompt=seeds_per_prompt, rounds=rounds,
            candidates=candidates, tau=tau, steps=steps, probe_step=probe_step, early_step=early_step, objective=objective,
            rewriter=rewriter,
            llm_model=llm_model, llm_base_url=llm_base_url, llm_price=llm_price, max_llm_calls=max_llm_calls,
            max_seconds=max_seconds, batch_size=batch_size, out=out, on_event=view.show,
            **options,
        )  # fmt: skip
    if as_json:
        typer.echo(json.dumps(record.as_dict(), indent=1, ensure_ascii=False))
    else:
        view.summary(record)


@app.command()
@with_model_options
def score(
    prompts: Annotated[list[str], typer.Argument(help="One or more prompts.")],
    model: Model = "icons",
    probe: ProbeFolder = None,
    seed: Seed = 0,
    seeds_per_prompt: Annotated[int, typer.Option(help="Seeds to average over.")] = 1,
    steps: Steps = 25,
    probe_step: ProbeStep = 5,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    **options: Any,
) -> None:
    """Predict rewards and diagnose each word's attention; makes no image."""
    from .runs import make_scorer, score_as_dict
    from .seeds import seeds_from
    from .view import print_scores

    scorer = make_scorer(
        model,
        probe,
        steps=steps,
        probe_step=probe_step,
        **options,
    )
    scored = scorer.score(prompts, seeds_from(seed, seeds_per_prompt), winners=0)
    if as_json:
        typer.echo(json.dumps([score_as_dict(s) for s in scored], indent=1, ensure_ascii=False))
    else:
        print_scores(scored, scorer.warnings)


@app.command()
@with_model_options
def generate(
    prompt: Annotated[str, typer.Argument(help="What the picture should show.")],
    model: Model = "icons",
    seed: Seed = 0,
    steps: Steps = 25,
    out: Annotated[Path, typer.Option(help="The PNG file to write.")] = Path("image.png"),
    **options: Any,
) -> None:
    """Generate one image of a prompt as it is."""
    from .runs import generate as run

    cut = run(
        prompt, model=model, seed=seed, steps=steps, out=out,
        **options,
    )  # fmt: skip
    if cut:
        typer.echo(f"note: {cut} tokens at the end of the prompt did not fit and were cut", err=True)
    typer.echo(str(out))


@app.command()
@with_model_options
def batch(
    prompts: Annotated[Path, typer.Argument(help="Prompts: .txt (one a line), .csv, .jsonl or COCO captions .json.")],
    out: Annotated[Path, typer.Option(help="Folder of results; continued when it is there.")],
    column: Annotated[str | None, typer.Option(help="Column or key of the prompts.")] = None,
    expand: Annotated[bool, typer.Option("--expand", help="Expand {a|b} and __wildcards__ (dynamicprompts).")] = False,
    wildcards: Annotated[Path | None, typer.Option(help="Folder of wildcard files.")] = None,
    model: Model = "icons",
    probe: ProbeFolder = None,
    seed: Seed = 0,
    seeds_per_prompt: Annotated[int, typer.Option(help="Seeds on which every candidate is compared.")] = 1,
    rounds: Annotated[int, typer.Option(help="Rewriting rounds at most.")] = 3,
    candidates: Annotated[int, typer.Option(help="Rewrites asked for in each round.")] = 4,
    tau: Annotated[str, typer.Option(help="As for optimize: a number, a quantile or reward@probability.")] = "q0.8",
    steps: Steps = 25,
    probe_step: ProbeStep = 5,
    early_step: EarlyStep = None,
    objective: Objective = None,
    rewriter: Annotated[str, typer.Option(help="auto (LLM when there is a key or URL), llm, or offline.")] = "auto",
    llm_model: Annotated[str | None, typer.Option(help="Chat model, such as qwen-max.")] = None,
    llm_base_url: Annotated[str | None, typer.Option(help="OpenAI-compatible endpoint.")] = None,
    llm_price: Annotated[str | None, typer.Option(help="Price of a million input,output tokens.")] = None,
    llm_calls: Annotated[int, typer.Option(help="LLM requests under way at once.")] = 8,
    max_llm_tokens: Annotated[int | None, typer.Option(help="Budget of LLM tokens; then the batch stops.")] = None,
    max_minutes: Annotated[float | None, typer.Option(help="Budget of time; then the batch stops.")] = None,
    reward: Annotated[str | None, typer.Option(help="What measures the images; default: the icon world's own.")] = None,
    engine: Annotated[str, typer.Option(help="local, or ray (a cluster; pip install 'promptprobe[ray]').")] = "local",
    workers: Annotated[
        int | None, typer.Option(help="Ray workers; default: one for each GPU, or for each CPU.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Estimate calls, time and cost; make nothing.")] = False,
    batch_size: Annotated[int, typer.Option(help="Images denoised at once.")] = 32,
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON.")] = False,
    **options: Any,
) -> None:
    """Optimise a file of prompts into a folder. Run the same command again to go on where it stopped."""
    from .agents import batch as work
    from .agents.estimate import estimate
    from .agents.plan import make_plan
    from .prompt_files import expand as expand_prompts
    from .prompt_files import read_prompts
    from .view import counter, print_summary

    if engine not in ("local", "ray"):
        raise InputError(f"--engine is {engine!r}; it must be local or ray")
    for name, value in (("--llm-calls", llm_calls), ("--workers", workers)):
        if value is not None and value < 1:
            raise InputError(f"{name} is {value}; it must be at least 1")
    for name, limit in (("--max-llm-tokens", max_llm_tokens), ("--max-minutes", max_minutes)):
        if limit is not None and limit < 0:
            raise InputError(f"{name} is {limit}; it must be 0 or more")
    found = read_prompts(prompts, column)
    texts = expand_prompts(found.prompts, wildcards) if expand or wildcards else found.prompts
    for note in found.notes:
        typer.echo(f"note: {note}", err=True)
    asked: dict[str, Any] = {
        "model": model, "probe": probe, "seed": seed, "seeds_per_prompt": seeds_per_prompt, "rounds": rounds,
        "candidates": candidates, "tau": tau, "steps": steps, "probe_step": probe_step, "early_step": early_step,
        "objective": objective, "rewriter": rewriter,
        "llm_model": llm_model, "llm_base_url": llm_base_url, "llm_price": llm_price, "batch_size": batch_size,
        "reward": reward,
        **options,
    }  # fmt: skip
    more: dict[str, Any] = {}
    if engine == "ray":
        from .agents.ray_batch import ray_engine

        more["engine"] = ray_engine(asked, workers)
    plan = make_plan(**asked)
    for note in [*plan.notes, *plan.scorer.warnings]:
        typer.echo(f"note: {note}", err=True)
    if dry_run:
        expected = estimate(plan, len(texts))
        typer.echo(json.dumps(expected, indent=1) if as_json else "\n".join(f"{k:16}{v}" for k, v in expected.items()))
        return
    with counter("optimising") as on_progress:
        summary = work.run_batch(
            plan, texts, out, budget=work.Budget(max_llm_tokens, max_minutes), llm_calls=llm_calls,
            on_progress=lambda done, total, line: on_progress(done, total), **more,
        )  # fmt: skip
    if as_json:
        typer.echo(json.dumps(summary, indent=1))
    else:
        print_summary(summary, out)
    if summary["failed"]:
        raise typer.Exit(1)


@app.command()
@with_model_options
def session(
    name: Annotated[str, typer.Option(help="The session's name; an existing one is taken up.")] = "default",
    store: Annotated[
        Path | None, typer.Option(help="SQLite file of sessions; default: sessions.sqlite in --out.")
    ] = None,
    sessions: Annotated[bool, typer.Option("--list", help="List the sessions and stop.")] = False,
    model: Model = "icons",
    probe: ProbeFolder = None,
    seed: Seed = 0,
    candidates: Annotated[int, typer.Option(help="Rewrites asked for at once.")] = 4,
    tau: Annotated[str, typer.Option(help="As for optimize.")] = "q0.8",
    rewriter: Annotated[str, typer.Option(help="auto, llm or offline.")] = "auto",
    llm_model: Annotated[str | None, typer.Option(help="Chat model, such as qwen-max.")] = None,
    llm_base_url: Annotated[str | None, typer.Option(help="OpenAI-compatible endpoint.")] = None,
    steps: Steps = 25,
    probe_step: ProbeStep = 5,
    out: Annotated[Path, typer.Option(help="Folder for images and heat maps.")] = Path("runs"),
    **options: Any,
) -> None:
    """Refine a prompt with the machine, command by command. Reads standard input when it is no terminal."""
    from .agents import session as work
    from .agents.plan import make_plan
    from .view import SessionView

    path = store or out / "sessions.sqlite"
    if sessions:
        for known in work.names(path):
            typer.echo(known)
        return
    work.check_name(name)
    plan = make_plan(
        model=model, probe=probe, seed=seed, candidates=candidates, tau=tau, rewriter=rewriter, llm_model=llm_model,
        llm_base_url=llm_base_url, steps=steps, probe_step=probe_step,
        **options,
    )  # fmt: skip
    opened = work.Session(plan, path, name, out)
    try:
        view = SessionView()
        view.greet(opened.state, opened.taken_up, name, [*plan.notes, *plan.scorer.warnings])
        work.run(opened, work.lines_in(lambda: opened.state, out / ".history"), view.show)
    finally:
        opened.close()


@app.command()
@with_model_options
def serve(
    host: Annotated[str, typer.Option(help="Loopback address.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port.")] = 8721,
    model: Model = "icons",
    probe: ProbeFolder = None,
    rounds: Annotated[int, typer.Option(help="Rewriting rounds at most.")] = 3,
    candidates: Annotated[int, typer.Option(help="Rewrites asked for in each round.")] = 4,
    tau: Annotated[str, typer.Option(help="As for optimize.")] = "q0.8",
    rewriter: Annotated[str, typer.Option(help="auto, llm or offline.")] = "auto",
    llm_model: Annotated[str | None, typer.Option(help="Chat model, such as qwen-max.")] = None,
    llm_base_url: Annotated[str | None, typer.Option(help="OpenAI-compatible endpoint.")] = None,
    waiting: Annotated[int, typer.Option(help="Calls that may wait behind the running one.")] = 8,
    steps: Steps = 25,
    probe_step: ProbeStep = 5,
    **options: Any,
) -> None:
    """Serve OpenAI's images API on loopback: each request is optimised; revised_prompt is the best prompt."""
    from .agents.server import check_address
    from .agents.server import serve as run

    check_address(host, port)
    service = _service(
        waiting, model=model, probe=probe, rounds=rounds, candidates=candidates, tau=tau, rewriter=rewriter,
        llm_model=llm_model, llm_base_url=llm_base_url, steps=steps, probe_step=probe_step,
        **options,
    )  # fmt: skip
    for note in [*service.plan.notes, *service.plan.scorer.warnings]:
        typer.echo(f"note: {note}", err=True)
    typer.echo(f"serving http://{host}:{port}/v1/images/generations  (Ctrl-C stops)", err=True)
    run(service, host, port)


@app.command()
@with_model_options
def mcp(
    transport: Annotated[str, typer.Option(help="stdio, or http (streamable HTTP at /mcp).")] = "stdio",
    host: Annotated[str, typer.Option(help="Loopback address for http.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port for http.")] = 8722,
    model: Model = "icons",
    probe: ProbeFolder = None,
    tau: Annotated[str, typer.Option(help="As for optimize.")] = "q0.8",
    rewriter: Annotated[str, typer.Option(help="auto, llm or offline.")] = "auto",
    llm_model: Annotated[str | None, typer.Option(help="Chat model, such as qwen-max.")] = None,
    llm_base_url: Annotated[str | None, typer.Option(help="OpenAI-compatible endpoint.")] = None,
    waiting: Annotated[int, typer.Option(help="Calls that may wait behind the running one.")] = 8,
    steps: Steps = 25,
    probe_step: ProbeStep = 5,
    **options: Any,
) -> None:
    """Serve the tools optimize_prompt, score_prompts, select_seed and generate_image to MCP clients."""
    from .agents.mcp_server import check_transport
    from .agents.mcp_server import serve as run

    check_transport(transport, host, port)
    service = _service(
        waiting, model=model, probe=probe, tau=tau, rewriter=rewriter, llm_model=llm_model, llm_base_url=llm_base_url,
        steps=steps, probe_step=probe_step,
        **options,
    )  # fmt: skip
    if transport == "http":
        typer.echo(f"serving http://{host}:{port}/mcp  (Ctrl-C stops)", err=True)
    run(service, transport, host, port)


@app.command()
@with_model_options
def seeds(
    prompt: Annotated[str, typer.Argument(help="What the picture should show.")],
    count: Annotated[
        str, typer.Option("--seeds", help="How many seeds from --seed on, or a list such as 3,7,9.")
    ] = "10",
    policy: Annotated[
        str,
        typer.Option(
            help="racing (drop the hopeless at several stages), fixed (all to --probe-step), decoded-racing and decoded (the same, but measure with the reward model what the last stage predicts), full."
        ),
    ] = "racing",
    top: Annotated[int, typer.Option(help="Images to finish.")] = 1,
    diverse: Annotated[float, typer.Option(help="0 to 1: how much the --top images should differ.")] = 0.0,
    seed: Seed = 0,
    model: Model = "icons",
    probe: ProbeFolder = None,
    reward: Annotated[str | None, typer.Option(help="What measures the images; default: the icon world's own.")] = None,
    steps: Steps = 25,
    probe_step: ProbeStep = 5,
    objective: Objective = None,
    batch_size: Annotated[int, typer.Option(help="Images denoised at once.")] = 32,
    out: Annotated[Path, typer.Option(help="Folder for the images and the record.")] = Path("runs"),
    as_json: Annotated[bool, typer.Option("--json", help="Print the record as JSON and nothing else.")] = False,
    **options: Any,
) -> None:
    """Find the best seeds of a prompt without generating all of them."""
    from .runs import search_seeds
    from .view import print_seeds

    found = search_seeds(
        prompt, count, seed=seed, policy=policy, top=top, diverse=diverse, model=model, probe=probe, reward=reward,
        steps=steps, probe_step=probe_step, objective=objective, batch_size=batch_size, out=out,
        **options,
    )  # fmt: skip
    if as_json:
        typer.echo(json.dumps(found.as_dict(), indent=1, ensure_ascii=False))
    else:
        print_seeds(found)


@app.command()
def show(
    image: Annotated[Path, typer.Argument(help="A PNG that promptprobe made.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print the whole record as JSON.")] = False,
) -> None:
    """Print what an image carries: prompts, scores, seed, model, why it stopped."""
    from .pnginfo import read_record
    from .view import print_record

    record = read_record(image)
    if as_json:
        typer.echo(json.dumps(record, indent=1, ensure_ascii=False))
    else:
        print_record(record)


@app.command()
def replay(
    image: Annotated[Path, typer.Argument(help="A PNG that promptprobe made.")],
    out: Annotated[Path, typer.Option(help="The PNG file to write.")] = Path("replay.png"),
) -> None:
    """Make the same image again from the record that it carries."""
    from .runs import replay as run

    if out.resolve() == image.resolve():
        raise InputError(f"--out is {str(out)!r}, the image itself; choose another file")
    _, difference = run(image, out)
    same = "identical" if difference == 0 else f"largest difference {difference} of 255"
    typer.echo(f"{out}: {same}")


@app.command()
@with_model_options
def collect(
    prompts: Annotated[Path, typer.Argument(help="Prompts: .txt (one a line), .csv, .jsonl or COCO captions .json.")],
    out: Annotated[Path, typer.Option(help="Folder of the data set; continued when it is there.")],
    model: Model = "icons",
    reward: Annotated[
        str,
        typer.Option(help="Reward names, comma-separated (image-reward=FOLDER for local weights), or module:function."),
    ] = "icons",
    seeds_per_prompt: Annotated[int, typer.Option(help="Images per prompt.")] = 1,
    part: Annotated[
        str, typer.Option(help="Share of the prompts to take, such as 1/2, for several processes with an --out each.")
    ] = "1/1",
    steps: Steps = 25,
    probe_step: Annotated[str, typer.Option(help="Steps to read, comma-separated.")] = "5",
    blocks: Annotated[
        str, typer.Option(help="Attention blocks to read: default (the paper's), all, or names, comma-separated.")
    ] = "default",
    seed: Seed = 0,
    batch_size: Annotated[int, typer.Option(help="Images denoised at once.")] = 32,
    only_texts: Annotated[
        bool, typer.Option("--texts", help="Only what the rewards make of the prompts, no images: for train --texts.")
    ] = False,
    **options: Any,
) -> None:
    """Generate images of many prompts and keep token maps and rewards, to train a probe on. Resumable."""
    from . import dataset
    from .backbones import probed_blocks
    from .pipelines import open_pipeline
    from .prompt_files import read_prompts
    from .rewards import load_reward, reward_name
    from .trajectory import check_steps
    from .view import counter

    if only_texts:
        without = {"--seeds-per-prompt": (seeds_per_prompt, 1), "--probe-step": (probe_step, "5"),
                   "--blocks": (blocks, "default"), "--seed": (seed, 0)}  # fmt: skip
        for name, (given, default) in without.items():
            if given != default:
                raise InputError(f"{name} {given} is for images, and --texts makes none; leave one of them out")
    texts = dataset.part_of(read_prompts(prompts).prompts, part)
    watched = _integers(probe_step, "--probe-step")
    for k in watched:
        check_steps(steps, k)
    rewards = {reward_name(name): load_reward(name, options["device"]) for name in reward.split(",")}
    pipeline, settings = open_pipeline(
        model,
        **options,
    )
    if only_texts:
        left_out = [name for name, function in rewards.items() if not dataset.compares(function)]
        if left_out and len(left_out) < len(rewards):
            typer.echo(f"note: left out, since prompts alone teach it nothing: {', '.join(left_out)}", err=True)
    with counter("collecting") as on_progress:
        if only_texts:
            n = dataset.collect_texts(
                pipeline, rewards, texts, out, steps=steps, settings=settings, batch_size=batch_size, model=str(model),
                on_progress=on_progress,
            )  # fmt: skip
        else:
            n = dataset.collect(
                pipeline, rewards, texts, out, seeds_per_prompt=seeds_per_prompt, steps=steps, probe_steps=watched,
                settings=settings, blocks=probed_blocks(pipeline, blocks), seed=seed, batch_size=batch_size,
                model=str(model), on_progress=on_progress,
            )  # fmt: skip
    typer.echo(f"{n} items in {out}")


@app.command()
def train(
    data: Annotated[list[Path], typer.Argument(help="Data sets made by `collect`.")],
    validation: Annotated[list[Path], typer.Option(help="Data sets of other prompts, to choose the best epoch.")],
    out: Annotated[Path, typer.Option(help="Folder of the probe.")],
    texts: Annotated[
        list[Path] | None, typer.Option(help="Data sets made by `collect --texts`: they teach what prompts ask for.")
    ] = None,
    labels: Annotated[str | None, typer.Option(help="Rewards to predict, comma-separated; default: all.")] = None,
    variant: Annotated[
        str | None,
        typer.Option(
            help="latents (default), words (without latents), maps (nor text embeddings), plain (the paper's)."
        ),
    ] = None,
    features: Annotated[int, typer.Option(help="Width of the CNN, a multiple of 8.")] = 16,
    dropout: Annotated[float, typer.Option(help="Share of token features left out in training.")] = 0.2,
    epochs: Annotated[int, typer.Option(help="Passes over the data.")] = 30,
    batch_size: Annotated[int, typer.Option(help="Items in a batch.")] = 64,
    learning_rate: Annotated[float, typer.Option(help="Peak learning rate.")] = 1e-3,
    oversample: Annotated[float, typer.Option(help="How much more often the lowest reward is drawn.")] = 2.0,
    seed: Seed = 0,
) -> None:
    """Train a probe on collected data."""
    from . import dataset, training
    from .files import check_writable

    check_writable(out)
    probe = training.train(
        dataset.load(data), dataset.load(validation), texts=dataset.load(texts) if texts else None,
        labels=labels.split(",") if labels else None, variant=variant, features=features, dropout=dropout, epochs=epochs, batch_size=batch_size, learning_rate=learning_rate, oversample=oversample,
        seed=seed,
        on_epoch=lambda e, loss, figure: typer.echo(f"epoch {e}/{epochs}  loss {loss:.4f}  validation SRCC {figure:.4f}"),
    )  # fmt: skip
    probe.save(out)
    typer.echo(f"kept epoch {probe.card.figures['best epoch']}: {out}")


@app.command()
def evaluate(
    data: Annotated[list[Path], typer.Argument(help="Data sets of test prompts made by `collect`.")],
    probe: Annotated[Path | None, typer.Option(help="Probe folder; default: the icon world's.")] = None,
    probe_step: Annotated[int | None, typer.Option(help="Step to judge; default: the probe's own.")] = None,
    resamples: Annotated[int, typer.Option(help="Bootstrap samples of the 95 % intervals.")] = 1000,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Print SRCC, KTC, PCC and AUC of a probe on test data: overall, score-balanced, and within a prompt across seeds."""
    from . import dataset, training
    from .evaluation import coverage, evaluate_probe
    from .pipelines import load_probe
    from .view import print_evaluation

    loaded = load_probe(probe)
    items = dataset.load(data)
    training.check_data(loaded, items)
    card, made = loaded.card, items.settings["steps"]
    step = probe_step or min(items.maps, key=lambda k: abs(k / made - card.default_step / card.steps))
    known = min(card.probe_steps, key=lambda k: abs(k / card.steps - step / made))
    if made != card.steps:
        typer.echo(f"note: the probe was trained with {card.steps} steps, the data was made with {made}", err=True)
    predicted = {n: p for n, p in training.predict(loaded, items, step).items() if n in items.rewards}
    result = evaluate_probe(predicted, items.rewards, items.prompts, resamples)
    for label in predicted:
        if card.residuals.get(label, {}).get(str(known)):
            measured = items.rewards[label].numpy()
            result[label]["coverage"] = coverage(card, label, known, predicted[label], measured)
    if as_json:
        typer.echo(json.dumps(result, indent=1))
    else:
        print_evaluation(result, len(items), len(set(items.prompts)), step)


@app.command()
def reward(
    images: Annotated[list[Path], typer.Argument(help="Image files.")],
    prompt: Annotated[list[str], typer.Option(help="What they should show: one for all, or one for each.")],
    rewards: Annotated[
        str, typer.Option("--with", help="Reward names, comma-separated, each with =FOLDER for local weights.")
    ] = "icons",
    device: Device = "cpu",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Measure finished images with reward models."""
    from .rewards import load_reward, measure, reward_name
    from .rewards.images import open_image
    from .view import print_rewards

    if len(prompt) not in (1, len(images)):
        raise InputError(f"{len(images)} images and {len(prompt)} prompts; give one --prompt, or one for each image")
    prompts = prompt * len(images) if len(prompt) == 1 else prompt
    pictures = [open_image(path) for path in images]
    table = {}
    for name in rewards.split(","):
        table[reward_name(name)] = measure(load_reward(name, device), pictures, prompts).tolist()
    if as_json:
        rows = [
            {"image": str(path), "prompt": text, "rewards": {name: round(v[i], 6) for name, v in table.items()}}
            for i, (path, text) in enumerate(zip(images, prompts, strict=True))
        ]
        typer.echo(json.dumps(rows, indent=1, ensure_ascii=False))
    else:
        print_rewards([str(p) for p in images], table)


@app.command()
def backbones() -> None:
    """List the supported model families: denoiser, probed blocks, where the text lies, tested solvers."""
    from .backbones import BACKBONES
    from .view import print_backbones

    print_backbones(list(BACKBONES.values()))


def _service(waiting: int, **options: Any) -> Any:
    """A loaded service: what is wrong with the options shows now, not at the first call."""
    from .agents.plan import make_plan
    from .agents.service import Service

    if waiting < 0:
        raise InputError(f"--waiting is {waiting}; it must be 0 or more")
    return Service(make_plan(**options), waiting=waiting)


def _integers(text: str, option: str) -> list[int]:
    try:
        return sorted({int(x) for x in text.split(",")})
    except ValueError as error:
        raise InputError(f"{option} is {text!r}; give whole numbers, comma-separated") from error


def main(arguments: list[str] | None = None) -> None:
    """Run the command line; a `PromptProbeError` becomes one line and exit code 2."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    try:
        code: Any = app(args=arguments, standalone_mode=False)
    except PromptProbeError as error:
        if os.environ.get("PROMPTPROBE_DEBUG"):
            raise
        print(f"promptprobe: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(2)
    except _USAGE_ERRORS as error:
        error.show()
        sys.exit(error.exit_code)
    if code == INTERRUPTED:  # typer makes a number of KeyboardInterrupt
        print("promptprobe: stopped; what was finished is kept", file=sys.stderr)
    sys.exit(code if isinstance(code, int) else 0)
