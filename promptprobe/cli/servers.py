"""`promptprobe serve` and `promptprobe mcp`: the loop for clients on this machine."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import typer

from ..errors import PromptProbeError
from ..options import OutputOptions, PlanOptions, ServerOptions, SessionOptions, TransportOptions
from .made import command, only


@command(
    PlanOptions,
    ServerOptions,
    SessionOptions,
    OutputOptions,
    leave_out=("name", "sessions", "as_json"),
    example="promptprobe serve --port 8721",
)
def serve(*, host: str, port: int, waiting: int, out: Path, store: Path | None, **options: Any) -> None:
    """Serve OpenAI's images API and the page on loopback: each request is optimised; revised_prompt is the best prompt."""
    from ..agents.gate import check_address

    check_address(host, port)  # before anything heavy is loaded
    from ..agents.page import Page
    from ..agents.server import serve as run

    service = _service("serve", waiting, options)
    for note in [*service.plan.notes, *service.plan.scorer.warnings]:
        typer.echo(f"note: {note}", err=True)
    typer.echo(
        f"serving http://{host}:{port}/v1/images/generations and the page at http://{host}:{port}/  (Ctrl-C stops)",
        err=True,
    )
    run(service, host, port, Page(service, out, store, given=options))


@command(PlanOptions, ServerOptions, TransportOptions, leave_out=("port",), example="promptprobe mcp --rewriter llm")
def mcp(*, transport: str, host: str, mcp_port: int, waiting: int, **options: Any) -> None:
    """Serve the tools optimize_prompt, score_prompts, select_seed and generate_image to MCP clients."""
    from ..agents.gate import check_transport

    check_transport(transport, host, mcp_port)
    from ..agents.mcp_server import serve as run
    from ..agents.service import Service

    given = only(options, PlanOptions)
    service = Service(waiting=waiting, **given)
    # Clients wait a minute for the first answer, and a large model takes longer to load.
    threading.Thread(target=_load, args=(service,), daemon=True, name="promptprobe-loading").start()
    if transport == "http":
        typer.echo(f"serving http://{host}:{mcp_port}/mcp  (Ctrl-C stops)", err=True)
    run(service, transport, host, mcp_port)


def _load(service: Any) -> None:
    """Load a service's plan now; what goes wrong is told here, and to every call."""
    try:
        for note in [*service.plan.notes, *service.plan.scorer.warnings]:
            typer.echo(f"note: {note}", err=True)
    except PromptProbeError as error:
        typer.echo(f"error: {error}", err=True)


def _service(where: str, waiting: int, options: dict[str, Any]) -> Any:
    """A loaded service: what is wrong with the options shows now, not at the first call."""
    from ..agents.plan import plan_of
    from ..agents.service import Service

    return Service(plan_of(where, only(options, PlanOptions), shows=False), waiting=waiting)
