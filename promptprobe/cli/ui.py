"""`promptprobe ui`: the page in a browser."""

from __future__ import annotations

import threading
import webbrowser
from pathlib import Path
from typing import Annotated, Any

import typer

from ..options import OutputOptions, PageOptions, PlanOptions, ServerOptions, SessionOptions
from .made import command, only

_OPEN_AFTER = 0.7  # seconds, by when the server listens


@command(
    PlanOptions, SessionOptions, ServerOptions, PageOptions, OutputOptions, leave_out=("sessions", "as_json"),
    example="promptprobe ui results --out runs",
)  # fmt: skip
def ui(
    folders: Annotated[
        list[Path] | None, typer.Argument(help="Folders of batches whose results are shown.", show_default=False)
    ] = None,
    *, host: str, port: int, waiting: int, no_open: bool, name: str, store: Path | None, out: Path, **options: Any,
) -> None:  # fmt: skip
    """Open the page: prompts, wordings and seeds as pictures, in a browser on this machine."""
    from ..agents.gate import check_address
    from ..sources import check_results

    check_address(host, port)
    check_results(folders or [])
    typer.echo("loading the model ...", err=True)
    from ..agents.page import Page
    from ..agents.plan import plan_of
    from ..agents.server import serve
    from ..agents.service import Service

    service = Service(plan_of("ui", only(options, PlanOptions)), waiting=waiting)
    page = Page(service, out, store, name, folders or [], options)
    address = f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"
    typer.echo(f"the page is at {address}  (Ctrl-C stops)", err=True)
    if not no_open:
        timer = threading.Timer(_OPEN_AFTER, webbrowser.open, [address])
        timer.daemon = True
        timer.start()
    serve(service, host, port, page)
