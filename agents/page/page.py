"""The page's own state: sessions that are open, folders of results, and who watches for what a terminal did."""

from __future__ import annotations

import contextlib
import sqlite3
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ...errors import InputError
from ...forms import session_name
from ...sources import check_results
from ..service import Service
from ..session import kept_model, names
from .board import Board
from .routes import routes_of
from .settings import settings_of

WATCH = 2.0  # seconds between looks whether a terminal went on with a session
MOST_OPEN = 20


class Page:
    """What `routes` serve: sessions of a `store` (default: `sessions.sqlite` in `out`), the first of them `name`, and the
    results in `folders`. `given` are the options of the command line. Raises `InputError` for a folder without results."""

    def __init__(
        self, service: Service, out: Path, store: Path | None = None, name: str = "default",
        folders: Sequence[Path] = (), given: Mapping[str, Any] | None = None,
    ):  # fmt: skip
        self.service, self.out, self.store = service, out, store or out / "sessions.sqlite"
        self.name, self.folders, self.given = session_name(name), check_results(folders), dict(given or {})
        self._models: dict[str, str | None] = {}  # of sessions in the store, which keep theirs
        self._boards: dict[str, Board] = {}
        self._lock = threading.Lock()
        self._watching = False
        self.ending: Callable[[], bool] = lambda: False  # whether the server stops, so that nobody need listen any more

    def routes(self) -> list[Any]:
        """The routes of a Starlette application."""
        return routes_of(self)

    def board(self, name: str) -> Board:
        """The session of a name, opened; raises `InputError` for one of another model."""
        with self._lock:
            if name not in self._boards:
                if len(self._boards) >= MOST_OPEN:
                    raise InputError(f"{MOST_OPEN} sessions are open; start the server anew for others")
                self._boards[name] = Board(self.service, self.store, name, self.out)
            if not self._watching:
                self._watching = True
                threading.Thread(target=self._watch, daemon=True).start()
            return self._boards[name]

    def view(self, board: Board) -> dict[str, Any]:
        """A session as the page shows it, and what else there is."""
        model = self.service.plan.origin.model
        for n in names(self.store):
            if n not in self._models:
                self._models[n] = kept_model(self.store, n)
        known = [n for n, kept in self._models.items() if kept == model or n in self._boards]
        return board.view() | {
            "sessions": known,
            "folders": [f.resolve().name for f in self.folders],
            "start": board.live.start,
        }

    def settings(self) -> list[dict[str, Any]]:
        """What the server was started with, by group."""
        return settings_of(self.service.plan, self.given)

    def folder(self, number: int) -> Path:
        """A folder of results; raises `InputError` for one that was not named."""
        if not 0 <= number < len(self.folders):
            raise InputError("no such folder was named when the server was started")
        return self.folders[number]

    def _watch(self) -> None:
        while True:
            time.sleep(WATCH)
            for board in list(self._boards.values()):
                with contextlib.suppress(sqlite3.Error):  # locked by a terminal that writes: looked at again
                    if board.live.listeners and board.changed_elsewhere():
                        board.live.tell("anew")
