"""`promptprobe batch`: a file of prompts, resumable."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from ..options import BatchBudgetOptions, BatchOptions, OutputOptions, PlanOptions
from .made import command, only


@command(
    PlanOptions, BatchOptions, BatchBudgetOptions, OutputOptions,
    example="promptprobe batch prompts.csv --column prompt --out results",
)  # fmt: skip
def batch(
    prompts: Annotated[Path, typer.Argument(help="Prompts: .txt (one a line), .csv, .jsonl or COCO captions .json.")],
    out: Annotated[Path, typer.Option(help="Folder of results; continued when it is there.", rich_help_panel="Output")],
    *,
    as_json: bool,
    **options: Any,
) -> None:
    """Optimise a file of prompts into a folder. Run the same command again to go on where it stopped."""
    from ..agents import batch as work
    from ..agents.estimate import estimate
    from ..agents.plan import plan_of
    from ..printing import print_summary
    from ..prompt_files import Notes, expand_rows, read_prompts
    from ..view import counter

    found = read_prompts(prompts, options["column"])
    notes = Notes(str(prompts), found.unit)
    rows = expand_rows(found.rows, options["wildcards"], notes) if options["expand"] else found.rows
    texts = [row.prompt for row in rows if row.repeats is None]
    for note in [*found.notes, *notes.lines()]:
        typer.echo(f"note: {note}", err=True)
    asked = only(options, PlanOptions)
    ray = options["engine"] == "ray"
    if ray:
        from ..agents.ray_batch import ray_engine

        make_engine = partial(ray_engine, asked, options["workers"])
        make_engine()  # says at once when Ray isn't installed
    plan = plan_of("batch", asked, shows=False)
    for note in [*plan.notes, *plan.scorer.warnings]:
        typer.echo(f"note: {note}", err=True)
    if options["dry_run"]:
        expected = estimate(plan, len(texts))
        typer.echo(json.dumps(expected, indent=1) if as_json else "\n".join(f"{k:16}{v}" for k, v in expected.items()))
        return
    budget = work.Budget(options["max_llm_tokens"], options["max_minutes"])
    with counter("optimising") as on_progress:
        run_jobs = partial(work.run_jobs, on_wait=on_progress.waiting)
        summary = work.run_batch(
            plan, texts, out, budget=budget, llm_calls=options["llm_calls"],
            on_progress=lambda done, total, line: on_progress(done, total), rows=rows,
            engine=make_engine(on_wait=on_progress.waiting) if ray else run_jobs,
        )  # fmt: skip
    if as_json:
        typer.echo(json.dumps(summary, indent=1))
    else:
        print_summary(summary, out)
    if summary["failed"]:
        raise typer.Exit(1)
