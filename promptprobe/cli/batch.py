"""`promptprobe batch`: a file of prompts, resumable."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from ..options import BatchBudgetOptions, BatchOptions, OutputOptions, PlanOptions, ReportOptions
from .made import command, only, write


@command(
    PlanOptions, BatchOptions, BatchBudgetOptions, OutputOptions, ReportOptions,
    example="promptprobe batch prompts.csv --column prompt --out results",
)  # fmt: skip
def batch(
    prompts: Annotated[Path, typer.Argument(help="Prompts: .txt (one a line), .csv, .jsonl or COCO captions .json.")],
    out: Annotated[Path, typer.Option(help="Folder of results; continued when it is there.", rich_help_panel="Output")],
    *,
    as_json: bool,
    report: Path | None,
    **options: Any,
) -> None:
    """Optimise a file of prompts into a folder. Run the same command again to go on where it stopped."""
    from ..prompt_files import Notes, expand_rows, read_prompts

    found = read_prompts(prompts, options["column"])
    notes = Notes(str(prompts), found.unit)
    rows = expand_rows(found.rows, options["wildcards"], notes) if options["expand"] else found.rows
    texts = [row.prompt for row in rows if row.repeats is None]
    for note in [*found.notes, *notes.lines()]:
        typer.echo(f"note: {note}", err=True)
    from ..view import counter, loading

    with loading(str(options["model"])):
        from ..agents import batch as work
        from ..agents.estimate import estimate
        from ..agents.plan import plan_of
        from ..printing import print_summary

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
    try:
        with counter("optimising") as on_progress:
            run_jobs = partial(work.run_jobs, on_wait=on_progress.waiting, on_step=on_progress.step)
            summary = work.run_batch(
                plan, texts, out, budget=budget, llm_calls=options["llm_calls"],
                on_progress=lambda done, total, line: on_progress(done, total), rows=rows,
                engine=make_engine(on_wait=on_progress.waiting, on_step=on_progress.step) if ray else run_jobs,
            )  # fmt: skip
    finally:
        if report:
            write(lambda: _report(out, texts), report)
    if as_json:
        typer.echo(json.dumps(summary, indent=1))
    else:
        print_summary(summary, out)
    if summary["failed"]:
        raise typer.Exit(1)


def _report(out: Path, texts: list[str]) -> Any:
    """A report of what is finished of a batch."""
    from ..agents.results import read_results
    from ..reports import runs_report

    results, wanted = read_results(out), set(texts)
    done = [r for r in results if r.prompt in wanted]
    failed = [line for line in results.failed if line.get("prompt") in wanted]
    left = len(wanted) - len(done) - len(failed)
    told = f"Not finished: {left} of {len(wanted)} prompts are left; the same command goes on." if left > 0 else ""
    return runs_report(done, title=f"Batch of {len(wanted)} prompts", unfinished=told, failed=failed)
