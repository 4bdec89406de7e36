"""What people see in the terminal while something runs: a run, a session, how many are done. Built on rich."""

from __future__ import annotations

import contextlib
import dataclasses
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.markup import escape
from rich.panel import Panel
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from .events import OnEvent, spent_in_words, tau_text, waiting_in_words, what_goes_on
from .grades import grade_in_words
from .notebook import picture_or_none
from .printing import print_lines
from .records import RunRecord
from .sheets import Caption, Tile
from .terminal import show_pictures
from .word_bars import bars_below, diffuse_line, focus_text, unsure_note

ROOMY = 64  # columns of a terminal in which wordings have their strategies beside them
WAITING_LINES = 10  # seconds between lines that say what is waited for, where there is no terminal


class LiveView:
    """Follows a run's events: candidates with predicted rewards, the words' focus, what is going on."""

    def __init__(self, quiet: bool = False):
        self.console = Console(stderr=quiet)
        self.quiet = quiet
        self.rows: list[dict[str, Any]] = []
        self.doing, self.best, self.head = "loading", 0, ""
        self.tau: float | None = None
        self.live: Live | None = None
        self.waits = Waits()
        self.unfinished: RunRecord | None = None  # of a run that was interrupted

    def __enter__(self) -> LiveView:
        if not self.quiet and self.console.is_terminal:
            self.live = Live(self._draw(), console=self.console, refresh_per_second=8, transient=True)
            self.live.start()
        return self

    def __exit__(self, *exc) -> None:
        if self.live:
            self.live.stop()

    def show(self, event: str, values: dict[str, Any]) -> None:
        """Take one event of the loop."""
        self.doing = what_goes_on(event, values) or self.doing
        if event == "start":
            self.tau = values["tau"]
            self.head = f"{tau_text(self.tau)}   rewriter: {values['rewriter']}"
            self._plain(f"prompt: {values['prompt']}\n{tau_text(self.tau)}, rewriter: {values['rewriter']}")
        elif event == "interrupted":
            self.unfinished = values["record"]
        elif event == "waiting":
            if self.waits.due(values):
                self._plain(f"  {self.doing}")
        elif event == "step":
            self.doing = self.doing.split(" · ")[0] + f" · step {values['step']}"
        elif event == "probed":
            self.rows += values["candidates"]
            self.best = values["best"]
            for c in values["candidates"]:
                score = f"{c['score']:.3f}" if c["score"] is not None else "  -  "
                why = f"   [out: {c['rejected']}]" if c["rejected"] else unsure_note(c)
                self._plain(f"  {score}  {c['prompt']}{why}")
        if self.live:
            self.live.update(self._draw())

    def summary(self, record: RunRecord) -> None:
        """Print the finished run."""
        if self.console.is_terminal:
            self.doing = ""
            self.best = next((c.id for c in record.candidates if c.prompt == record.best_prompt), self.best)
            self.console.print(self._draw())
        told = f"   ({words})" if (words := grade_in_words(record.grade)) else ""
        lines = [
            ("best prompt", record.best_prompt + ("   (unchanged)" if record.unchanged else "")),
            ("stopped because", f"{record.stop_reason}, after {record.rounds} rounds"),
            ("predicted reward", f"{record.predicted_reward:.3f}{told}"),
        ]
        lines += diffuse_line(next((c.words for c in record.candidates if c.prompt == record.best_prompt), ()))
        lines += _previews(record)
        if record.reward is not None:
            lines.append(("reward", f"{record.reward:.3f}   ({record.reward_label}, against your own prompt)"))
        used, full, one = record.denoiser_calls["used"], record.denoiser_calls["full"], record.settings["steps"]
        lines.append(
            ("denoiser calls", f"{used} where one image takes {one}, instead of {full} for making all in full")
        )
        if record.llm["requests"]:
            lines.append(("LLM", spent_in_words(record.llm)))
        if record.image_file:
            lines += [("image", record.image_file), ("heat maps", record.heat_maps or "")]
        print_lines(self.console, [*lines, *(("note", note) for note in record.notes)])
        image = picture_or_none(record)
        if image is not None:
            reward = "" if record.reward is None else f", reward {record.reward:.3f}"
            score = f"predicted {record.predicted_reward:.3f}{reward}"
            show_pictures(self.console, [Tile(image, (Caption(record.best_prompt), Caption(score)))])

    def _plain(self, text: str) -> None:
        if not self.quiet and not self.live:
            print(text, flush=True)

    def _draw(self) -> Panel:
        table = Table(box=None, pad_edge=False, expand=True)
        table.add_column("round", justify="right", width=5)
        table.add_column("predicted", justify="right", width=9)
        roomy = self.console.width >= ROOMY  # else the prompt alone gets what there is
        table.add_column("prompt, each word over its focus" if roomy else "prompt", ratio=1)
        if roomy:
            table.add_column("strategy", overflow="fold", min_width=12, max_width=26)
        for c in self.rows[-14:]:
            beside = [Text(c["strategy"], style="dim")] if roomy else []
            if c["score"] is None:
                out = Text(f"{c['prompt']}  ({c['rejected']})", style="dim")
                table.add_row(str(c["round"]), "out", out, *beside)
                continue
            style = "bold green" if c["id"] == self.best else _style(c["score"], self.tau)
            wording = focus_text(c["prompt"], c["words"]).append(unsure_note(c), style="dim")
            table.add_row(str(c["round"]), Text(f"{c['score']:.3f}", style=style), wording, *beside)
        body = Group(Text(self.head, style="dim"), table, Text(self.doing, style="cyan"))
        return Panel(body, title="promptprobe", title_align="left")


def _previews(record: RunRecord) -> list[tuple[str, str]]:
    """What the last choice went by, if there was one."""
    seen = {c.id: c.preview for c in record.candidates if c.preview is not None}
    if 0 not in seen or len(seen) < 2:
        return []
    best = max(v for i, v in seen.items() if i)
    told = f"{seen[0]:.3f} as it is, {best:.3f} the best of {len(seen) - 1} rewrites"
    return [("chosen by", f"{record.reward_label} of the predicted images against your own prompt: {told}")]


def _style(score: float, tau: float | None) -> str:
    """How a score is shown: whether it reaches the threshold, if there is one."""
    return "default" if tau is None else "green" if score >= tau else "yellow"


class Waits:
    """Which of the words about waiting, told each second, become a line."""

    def __init__(self) -> None:
        self.last = 0.0

    def due(self, values: Any) -> bool:
        """Whether `WAITING_LINES` seconds have gone by, of this waiting, since the last line."""
        seconds = values["seconds"]
        if seconds < self.last:
            self.last = 0.0
        due = seconds - self.last >= WAITING_LINES
        if due:
            self.last = seconds
        return bool(due)


class SessionView:
    """Prints a session: its answers, and the candidates with each word over a bar of its attention."""

    def __init__(self) -> None:
        self.console = Console(soft_wrap=False)
        self.waits, self.told = Waits(), 0
        self.tiles: Callable[[], Sequence[Tile]] = list  # pictures that the last command made

    def waiting(self, waiting: Any) -> None:
        """That an LLM is waited for: one line that is written over, or one now and then where there is no terminal."""
        values = dataclasses.asdict(waiting)
        text = waiting_in_words(values)
        if self.console.is_terminal:
            self.console.print(text.ljust(self.told), end="\r", highlight=False, soft_wrap=True)
            self.told = len(text)
        elif self.waits.due(values):
            print(text, flush=True)

    def greet(self, state: Any, taken_up: bool, name: str, notes: Sequence[str]) -> None:
        """The first lines; the candidates of a session that is taken up."""
        self.console.print(
            f"session {escape(name)}" + (" taken up" if taken_up else "") + ": type a prompt, or /help; /quit leaves",
            highlight=False,
        )
        for note in notes:
            self.console.print(f"note: {escape(note)}", highlight=False)
        if state.get("candidates"):
            self.table(state)

    def show(self, state: Any) -> None:
        """The answer to a command."""
        if self.told:
            self.console.print(" " * self.told, end="\r")
            self.told = 0
        if state.get("show") and state.get("candidates"):
            self.table(state)
        if state.get("said"):
            wrapped = self.console.is_terminal  # between words, and a path stays whole
            self.console.print(
                escape(state["said"]), highlight=False, soft_wrap=not wrapped, overflow="ignore", crop=False
            )
        show_pictures(self.console, self.tiles())

    def table(self, state: Any) -> None:
        """All candidates, the current one marked."""
        for c in state["candidates"]:
            mark = "→" if c["id"] == state["current"] else " "
            style = _style(c["score"], state["tau"])
            head = f"{mark}{c['id']:3} "
            left = len(head) + 8
            width = max(20, self.console.width - left - 1)
            for i, (words, bars) in enumerate(bars_below(c["prompt"], c["words"], width)):
                start = Text.assemble(head, (f"{c['score']:7.3f} ", style)) if i == 0 else Text(" " * left)
                self.console.print(start + words)
                self.console.print(Text(" " * left) + bars)
            if c.get("unsure"):
                self.console.print(Text(" " * left + unsure_note(c).strip(), style="dim"))
        kept = f", kept: {', '.join(state['pinned'])}" if state.get("pinned") else ""
        spent = state.get("spent") or {}
        cost = "" if spent.get("cost") is None else f", cost {spent['cost']:g}"
        tokens = spent.get("input_tokens", 0) + spent.get("output_tokens", 0)
        money = f", LLM {spent['requests']} requests, {tokens} tokens{cost}" if spent.get("requests") else ""
        self.console.print(
            f"seed {state['seed']}, {tau_text(state['tau'])}{escape(kept)}{money}", style="dim", highlight=False
        )


class Counting:
    """Shows how many are done, and what is waited for; without a terminal, a line now and then."""

    def __init__(self, what: str, progress: Progress | None):
        self.what, self.progress = what, progress
        self.task = None if progress is None else progress.add_task(what, total=None)
        self.last, self.waits, self.steps = 0, Waits(), 0

    def __call__(self, done: int, total: int) -> None:
        """So many of `total` are done."""
        if self.progress is not None and self.task is not None:
            self.progress.update(self.task, completed=done, total=total, description=self._told())
        elif done == total or done - self.last >= max(total // 20, 1):
            self.last = done
            more = f", {self.steps} steps" if self.steps else ""
            print(f"{self.what} {done}/{total}{more}", file=sys.stderr, flush=True)

    def step(self, step: int) -> None:
        """One more denoising step of a batch of images was done."""
        self.steps += 1
        if self.progress is not None and self.task is not None:
            self.progress.update(self.task, description=self._told())

    def _told(self) -> str:
        return f"{self.what} · {self.steps} steps" if self.steps else self.what

    def waiting(self, waiting: Any) -> None:
        """An LLM is waited for (`Waiting`)."""
        values = dataclasses.asdict(waiting)
        if self.progress is not None and self.task is not None:
            self.progress.update(self.task, description=escape(waiting_in_words(values)))
        elif self.waits.due(values):
            print(waiting_in_words(values), file=sys.stderr, flush=True)


@contextlib.contextmanager
def counter(what: str) -> Iterator[Counting]:
    """A progress bar with the time left."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield Counting(what, None)
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console) as progress:
        yield Counting(what, progress)


@contextlib.contextmanager
def loading(what: str) -> Iterator[Callable[[str], None]]:
    """Says in a terminal that something is being loaded, from the first moment on; what it gives says what is done since.
    The line is gone afterwards."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda doing: None
        return
    with console.status(f"loading {escape(what)}") as status:
        yield status.update


@contextlib.contextmanager
def drawing(what: str) -> Iterator[OnEvent]:
    """As `loading`; what it gives takes events: notes are printed, and in a terminal the steps are counted."""
    with loading(what) as say:

        def tell(event: str, values: dict[str, Any]) -> None:
            if event == "note":
                print(f"note: {values['text']}", file=sys.stderr)
            elif event == "step":
                say(f"step {values['step']} of {values['steps']}")

        yield tell
