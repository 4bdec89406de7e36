"""`promptprobe session`: refine a prompt with the machine, command by command."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import typer

from ..options import DEFAULT_MODEL, LoopOptions, OutputOptions, PlanOptions, SessionOptions
from .made import command, only

_UNUSED = ("rounds", "early_step", "seeds_per_prompt", "max_llm_calls", "max_seconds")  # a person decides


@command(
    PlanOptions, LoopOptions, SessionOptions, OutputOptions, leave_out=(*_UNUSED, "as_json"),
    example="promptprobe session --name cars --out runs",
)  # fmt: skip
def session(*, name: str, store: Path | None, sessions: bool, out: Path, **options: Any) -> None:
    """Refine a prompt with the machine, command by command. Reads standard input when it is no terminal."""
    from ..agents.plan import plan_of
    from ..agents.session import Session, check_name, kept_model, lines_in, names, run
    from ..view import SessionView

    path = store or out / "sessions.sqlite"
    if sessions:
        for known in names(path):
            typer.echo(known)
        return
    check_name(name)
    if options["model"] == DEFAULT_MODEL:
        options["model"] = kept_model(path, name) or DEFAULT_MODEL
    plan = plan_of("session", only(options, PlanOptions))
    view = SessionView()
    opened = Session(plan, path, name, out, on_wait=view.waiting)
    try:
        view.greet(opened.state, opened.taken_up, name, [*plan.notes, *plan.scorer.warnings])
        run(opened, lines_in(lambda: opened.state, out / ".history"), view.show)
    finally:
        opened.close()
