"""`promptprobe session`: refine a prompt with the machine, command by command."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import typer

from ..options import DEFAULT_MODEL, LoopOptions, OutputOptions, PlanOptions, ReportOptions, SessionOptions
from .made import command, only, write

_UNUSED = ("rounds", "early_step", "seeds_per_prompt", "max_llm_calls", "max_seconds")  # a person decides


@command(
    PlanOptions, LoopOptions, SessionOptions, OutputOptions, ReportOptions, leave_out=(*_UNUSED, "as_json"),
    example="promptprobe session --name cars --out runs",
)  # fmt: skip
def session(*, name: str, store: Path | None, sessions: bool, out: Path, report: Path | None, **options: Any) -> None:
    """Refine a prompt with the machine, command by command. Reads standard input when it is no terminal."""
    from ..view import SessionView, loading

    with loading("the session"):
        from ..agents.plan import plan_of
        from ..agents.session import Session, kept_model, lines_in, names, run

    path = store or out / "sessions.sqlite"
    if sessions:
        for known in names(path):
            typer.echo(known)
        return
    if options["model"] == DEFAULT_MODEL:
        options["model"] = kept_model(path, name) or DEFAULT_MODEL
    with loading(str(options["model"])):
        plan = plan_of("session", only(options, PlanOptions))
    view = SessionView()
    opened = Session(plan, path, name, out, on_wait=view.waiting)
    view.tiles = opened.desk.take_tiles
    try:
        view.greet(opened.state, opened.taken_up, name, [*plan.notes, *plan.scorer.warnings])
        run(opened, lines_in(lambda: opened.state, out / ".history"), view.show)
    finally:
        if report:
            from ..reports import session_report

            write(lambda: session_report(opened.state, name, plan.settings), report)
        opened.close()
