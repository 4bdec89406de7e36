"""The interactive session: a person refines a prompt with the machine, one command at a time.

A LangGraph graph waits for a command (an interrupt), acts on it, and waits again; a SQLite checkpointer keeps its state
after every command, so that a session can be left and taken up again. The state is plain JSON; paused trajectories are
kept beside it and made anew when a session is taken up.
"""

from __future__ import annotations

import re
import sqlite3
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from langgraph.graph import START, StateGraph
from langgraph.runtime import Runtime
from langgraph.types import Command, interrupt

from ..errors import InputError, PromptProbeError, reason_of
from ..files import check_writable, lock_file, make_folder
from ..forms import session_name
from ..options import DEFAULT_MODEL
from ..text import printable
from ..worlds import name_since
from .commands import COMMANDS, act_on
from .desk import Desk, SessionState, first_state
from .plan import Plan
from .rewrites import OnWait, Waiting

LOOK = 0.2  # seconds between looks whether the session is free
MAX_LINE = 20_000  # characters
QUIT = ("/quit", "/exit", "/q")


def wait(state: SessionState) -> SessionState:
    """Stop until the person has said something."""
    return {"command": str(interrupt({"said": state.get("said", "")}))}


def act(state: SessionState, runtime: Runtime[Desk]) -> SessionState:
    """Do what was said; an error becomes the answer and changes nothing."""
    line = state["command"].strip()
    try:
        return act_on(state, runtime.context, line)
    except PromptProbeError as error:
        return {"said": f"can't do that: {error}", "show": False}


def build(checkpointer: Any):
    """The compiled graph: `wait` and `act` in turns."""
    graph = StateGraph(SessionState, context_schema=Desk)
    graph.add_node("wait", wait)
    graph.add_node("act", act)
    graph.add_edge(START, "wait")
    graph.add_edge("wait", "act")
    graph.add_edge("act", "wait")
    return graph.compile(checkpointer=checkpointer)


class Session:
    """A named session: `state`, and `say(line)` that acts and returns the answer; `on_wait` is told when an LLM is waited
    for. Raises `InputError` for a bad name, store or folder, and for a session of another model."""

    def __init__(self, plan: Plan, store: Path, name: str, out: Path, on_wait: OnWait | None = None):
        from langgraph.checkpoint.sqlite import SqliteSaver

        session_name(name)
        check_writable(out)
        make_folder(store.parent)
        connection = None
        try:
            connection = sqlite3.connect(store, check_same_thread=False)
            saver = SqliteSaver(connection)
            saver.setup()
        except sqlite3.DatabaseError as error:
            if connection is not None:
                connection.close()
            raise InputError(
                f"{str(store)!r} is no session store ({printable(str(error), 200)}); choose another --store"
            ) from error
        self._connection, self._lock = connection, store.with_name(f".{store.name}.{name}.lock")
        make_folder(out)  # the history of what was typed is kept there
        self.graph = build(saver)
        self.desk = Desk(plan, out, on_wait=on_wait)
        self.config: Any = {"configurable": {"thread_id": name}, "recursion_limit": 1000}
        try:
            before = self.state
            self.taken_up = bool(before)
            kept = before.get("model", plan.origin.model)
        except Exception as error:  # whatever SQLite and msgpack make of bytes that aren't theirs
            self.close()
            raise damaged(store, name, error) from error
        if kept != plan.origin.model:
            self.close()
            raise InputError(f"the session {name!r} was begun with --model {kept}; give that, or another --name")
        if not self.taken_up:
            try:
                self._go_on(first_state(plan))
            except sqlite3.Error as error:
                self.close()
                raise damaged(store, name, error) from error

    @property
    def state(self) -> SessionState:
        """What is kept now."""
        return self.graph.get_state(self.config).values  # type: ignore[return-value]

    def say(self, line: str) -> SessionState:
        """Act on one line, when no page or terminal is at work with the session; the state is on the disk when this returns."""
        with self._alone():
            kept = self.graph.get_state(self.config)
            if kept.next == (
                "act",
            ):  # stopped by a kill or Ctrl-C: that command is given up, not done in place of this
                undone: SessionState = {"said": f"not done: {kept.values['command']}", "show": False}
                self.graph.update_state(self.config, undone, as_node="act")
                self._go_on(None)
            self._go_on(Command(resume=line[:MAX_LINE]))
            return self.state

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Nobody else acts on this session meanwhile; the lock of one that was killed is free."""
        began = told = time.monotonic()
        with self._lock.open("a") as file:
            while True:
                try:
                    lock_file(file)
                    break
                except BlockingIOError:
                    time.sleep(LOOK)
                now = time.monotonic()
                if self.desk.on_wait and now - told >= 1:
                    told = now
                    self.desk.on_wait(Waiting("a page or terminal is at work with this session", now - began, 0, 0, 0))
            yield

    def _go_on(self, given: Any) -> None:
        self.graph.invoke(given, self.config, context=self.desk, durability="sync")

    def close(self) -> None:
        """Close the store."""
        self._connection.close()


def damaged(store: Path, name: str, error: BaseException) -> InputError:
    """What to say of a session that can't be read."""
    return InputError(
        f"the session {name!r} in {str(store)!r} is damaged ({printable(reason_of(error), 200)}); choose another --name or --store"
    )


def kept_model(store: Path, name: str) -> str | None:
    """The model that a session was begun with; None for a new session, or one with a pipeline from Python."""
    from langgraph.checkpoint.sqlite import SqliteSaver

    if name not in names(store):
        return None
    with closing(sqlite3.connect(store, check_same_thread=False)) as connection:
        try:
            state = build(SqliteSaver(connection)).get_state({"configurable": {"thread_id": name}}).values
            return state.get("model", name_since(DEFAULT_MODEL, ""))
        except Exception as error:  # whatever SQLite and msgpack make of bytes that aren't theirs
            raise damaged(store, name, error) from error


def names(store: Path) -> list[str]:
    """Names of the sessions in a store."""
    if not store.is_file():
        return []
    try:
        with closing(sqlite3.connect(store)) as connection:
            return [row[0] for row in connection.execute("select distinct thread_id from checkpoints order by 1")]
    except sqlite3.DatabaseError:
        return []


def lines_in(state: Callable[[], SessionState], history: Path) -> Iterator[str]:
    """Lines that a person types, with editing, history and completion in a terminal; else lines of standard input."""
    if not sys.stdin.isatty():
        for line in sys.stdin:
            yield line.rstrip("\n")
        return
    yield from _typed(state, history)


def _typed(state: Callable[[], SessionState], history: Path) -> Iterator[str]:
    from prompt_toolkit import PromptSession
    from prompt_toolkit.completion import Completer, Completion
    from prompt_toolkit.history import FileHistory

    class Words(Completer):
        def get_completions(self, document: Any, event: Any) -> Iterable[Any]:
            text = document.text_before_cursor
            last = text.split(" ")[-1]
            if text.startswith("/") and " " not in text:
                choices = [f"/{name}" for name in COMMANDS]
            else:
                prompts = [c["prompt"] for c in state().get("candidates", [])]
                choices = sorted({w for p in prompts for w in re.findall(r"\w+", p)})
            for choice in choices:
                if last and choice.startswith(last) and choice != last:
                    yield Completion(choice, start_position=-len(last))

    asking: PromptSession[str] = PromptSession(
        history=FileHistory(str(history)), completer=Words(), complete_while_typing=False
    )
    while True:
        try:
            yield asking.prompt("> ")
        except KeyboardInterrupt:
            continue
        except EOFError:
            return


def run(session: Session, lines: Iterable[str], show: Callable[[SessionState], None]) -> None:
    """Act on lines until they end or say /quit; `show` prints the state after each."""
    for line in lines:
        if line.strip() in QUIT:
            return
        show(session.say(line))
