"""`promptprobe collect`, `train` and `evaluate`: make a probe, and judge it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from ..errors import InputError
from ..options import (
    CallOptions,
    CollectOptions,
    EvaluateOptions,
    LoadingOptions,
    ModelOptions,
    OutputOptions,
    ReportOptions,
    SeedOptions,
    TrainOptions,
    WhichProbe,
)
from .made import command, only, write


@command(
    ModelOptions, CollectOptions, leave_out=("as_json",),
    example="promptprobe collect prompts.txt --out data/train --probe-step 1,5,10 --blocks all",
)  # fmt: skip
def collect(
    prompts: Annotated[Path, typer.Argument(help="Prompts: .txt (one a line), .csv, .jsonl or COCO captions .json.")],
    out: Annotated[
        Path, typer.Option(help="Folder of the data set; continued when it is there.", rich_help_panel="Output")
    ],
    **options: Any,
) -> None:
    """Generate images of many prompts and keep token maps and rewards, to train a probe on. Resumable."""
    from ..prompt_files import read_prompts

    found = read_prompts(prompts)
    for note in found.notes:
        typer.echo(f"note: {note}", err=True)
    from ..view import counter, loading

    with loading(str(options["model"])):
        from .. import dataset
        from ..backbones import probed_blocks
        from ..loading import settle_device
        from ..pipelines import loaded_of, open_pipeline
        from ..rewards import load_reward, reward_name
        from ..trajectory import check_steps

    texts = dataset.part_of(found.prompts, options["part"])
    watched = _integers(options["probe_steps"], "probe step")
    steps, model = options["steps"], str(options["model"])
    for k in watched:
        check_steps(steps, k)
    names = options["rewards"].split(",")
    rewards = {reward_name(name): load_reward(name, settle_device(options["device"])[0]) for name in names}
    with loading(model):
        pipeline, settings = open_pipeline(model, **only(options, LoadingOptions, CallOptions))
    for note in loaded_of(pipeline).notes:
        typer.echo(f"note: {note}", err=True)
    common: dict[str, Any] = {
        "steps": steps, "settings": settings, "batch_size": options["batch_size"], "model": model,
    }  # fmt: skip
    if options["only_texts"]:
        left_out = [name for name, function in rewards.items() if not dataset.compares(function)]
        if left_out and len(left_out) < len(rewards):
            typer.echo(f"note: left out, since prompts alone teach it nothing: {', '.join(left_out)}", err=True)
    with counter("collecting") as on_progress:
        if options["only_texts"]:
            n = dataset.collect_texts(pipeline, rewards, texts, out, on_progress=on_progress, **common)
        else:
            n = dataset.collect(
                pipeline, rewards, texts, out, seeds_per_prompt=options["seeds_per_prompt"], probe_steps=watched,
                blocks=probed_blocks(pipeline, options["blocks"]), seed=options["seed"], on_progress=on_progress,
                **common,
            )  # fmt: skip
    typer.echo(f"{n} items in {out}")


@command(TrainOptions, SeedOptions, example="promptprobe train data/train --validation data/validation --out my-probe")
def train(
    data: Annotated[list[Path], typer.Argument(help="Data sets made by `collect`.")],
    validation: Annotated[
        list[Path], typer.Option(help="Data sets of other prompts, to choose the best epoch.", rich_help_panel="Data")
    ],
    out: Annotated[Path, typer.Option(help="Folder of the probe.", rich_help_panel="Output")],
    texts: Annotated[
        list[Path] | None,
        typer.Option(
            help="Data sets made by `collect --texts`: they teach what prompts ask for.", rich_help_panel="Data"
        ),
    ] = None,
    warm_start: Annotated[
        Path | None,
        typer.Option(
            help="Folder of a probe of the same network to start from; few images then do.", rich_help_panel="Data"
        ),
    ] = None,
    *,
    train_batch_size: int,
    labels: str | None,
    **options: Any,
) -> None:
    """Train a probe on collected data."""
    from ..sources import check_data_sets

    check_data_sets([*data, *validation, *(texts or [])])
    from ..view import loading

    with loading("the data"):
        from .. import dataset, training
        from ..probe import Probe

        learned, watched = dataset.load(data), dataset.load(validation)
        read = dataset.load(texts) if texts else None
    epochs = options["epochs"]
    probe = training.train(
        learned, watched, texts=read,
        warm_start=Probe.load(warm_start) if warm_start else None, labels=labels.split(",") if labels else None, batch_size=train_batch_size,
        on_epoch=lambda e, loss, figure: typer.echo(f"epoch {e}/{epochs}  loss {loss:.4f}  validation SRCC {figure:.4f}"),
        **options,
    )  # fmt: skip
    probe.save(out)
    typer.echo(f"kept epoch {probe.card.figures['best epoch']}: {out}")


@command(
    WhichProbe,
    EvaluateOptions,
    OutputOptions,
    ReportOptions,
    leave_out=("out",),
    example="promptprobe evaluate data/test --probe P",
)
def evaluate(
    data: Annotated[list[Path], typer.Argument(help="Data sets of test prompts made by `collect`.")],
    *,
    probe: Any,
    judged_step: int | None,
    resamples: int,
    as_json: bool,
    report: Path | None,
) -> None:
    """Print SRCC, KTC, PCC and AUC of a probe on test data: overall, score-balanced, and within a prompt across seeds."""
    from ..sources import check_data_sets

    check_data_sets(data)
    from ..view import loading

    with loading("the data"):
        from .. import dataset, training
        from ..evaluation import coverage, evaluate_probe
        from ..judges import load_probe
        from ..printing import print_evaluation

        loaded = load_probe(probe)
        items = dataset.load(data)
    training.check_data(loaded, items)
    card, made = loaded.card, items.settings["steps"]
    step = judged_step or min(items.maps, key=lambda k: abs(k / made - card.default_step / card.steps))
    known = min(card.probe_steps, key=lambda k: abs(k / card.steps - step / made))
    if made != card.steps:
        typer.echo(f"note: the probe was trained with {card.steps} steps, the data was made with {made}", err=True)
    predicted = {n: p for n, p in training.predict(loaded, items, step).items() if n in items.rewards}
    result = evaluate_probe(predicted, items.rewards, items.prompts, resamples)
    for label in predicted:
        if card.residuals.get(label, {}).get(str(known)):
            measured = items.rewards[label].numpy()
            result[label]["coverage"] = coverage(card, label, known, predicted[label], measured)
    if report:
        from ..reports import evaluation_report

        pairs = {n: list(zip(predicted[n].tolist(), items.rewards[n].tolist(), strict=True)) for n in predicted}
        write(lambda: evaluation_report(result, card, pairs, step, len(items)), report)
    if as_json:
        typer.echo(json.dumps(result, indent=1))
    else:
        print_evaluation(result, len(items), len(set(items.prompts)), step)


def _integers(text: str, name: str) -> list[int]:
    try:
        return sorted({int(x) for x in text.split(",")})
    except ValueError as error:
        raise InputError(f"{name} is {text!r}; give whole numbers, comma-separated") from error
