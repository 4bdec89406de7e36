"""What commands print when they are done: tables of scores, seeds, figures, records. Built on rich."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table
from rich.text import Text

from .events import diffuse_words
from .grades import grade_in_words
from .notebook import figure
from .sheets import Caption, Tile
from .terminal import show_pictures
from .text import printable
from .word_bars import DIFFUSE, focus_text, unsure_note

_STEP, _NO_STEPS = 10, 31  # columns of letters that a step takes in the table of seeds, and all else at least
NAMES = 18  # columns of a name before what it is


def print_lines(console: Console, lines: Sequence[tuple[str, str]]) -> None:
    """Lines of a name and what it is. A terminal shows long ones under each other, wrapped between words; elsewhere each
    stays one line."""
    for name, value in lines:
        if not console.is_terminal or " " not in value or console.width < 2 * NAMES:  # a path stays whole, to be copied
            console.print(f"{escape(name):{NAMES - 1}} {escape(value)}", soft_wrap=True, highlight=False)
            continue
        table = Table.grid(padding=0)
        table.add_column(min_width=NAMES, no_wrap=True)
        table.add_column(overflow="fold")
        table.add_row(Text(name + " "), Text(value))
        console.print(table)


def print_scores(scored: Sequence[Any], warnings: Sequence[str], grades: Sequence[int | None] = ()) -> None:
    """A table of prompts with predicted rewards and `grades`, and each prompt's words."""
    from .runs import score_as_dict

    console = Console()
    whole = not console.is_terminal  # elsewhere a line stays a line; a terminal's wrap between words
    for i, s in enumerate(scored):
        spread = f"  (seeds {min(s.predicted):.3f} to {max(s.predicted):.3f})" if len(s.predicted) > 1 else ""
        words = score_as_dict(s)["words"]
        console.print(
            Text.assemble((f"{s.score:.3f}", "bold"), f"{spread}  ", focus_text(s.prompt, words)),
            soft_wrap=whole,
        )
        diffuse = diffuse_words(words)
        if grade := grade_in_words(grades[i] if grades else None):
            console.print(f"       {grade}", highlight=False, soft_wrap=whole)
        why = f" ({DIFFUSE})" if diffuse else ""
        console.print(f"       diffuse: {escape(', '.join(diffuse)) or 'none'}{why}", highlight=False, soft_wrap=whole)
        if s.cut_tokens:
            console.print(
                f"       note: the last {s.cut_tokens} tokens did not fit the text encoder's {s.token_limit} and were cut"
            )
    for warning in warnings:
        console.print(f"note: {escape(warning)}", soft_wrap=whole)


def print_evaluation(result: dict[str, dict], items: int, prompts: int, step: int) -> None:
    """Tables of the agreement figures per head."""
    console = Console()
    console.print(f"{items} images of {prompts} prompts, maps of step {step}")
    for label, figures in result.items():
        table = Table("figure", "natural", f"score-balanced ({figures['balanced items']})", title=label)
        for name, value in figures["natural"].items():
            table.add_row(name, _figure(value), _figure((figures["balanced"] or {}).get(name)))
        for level, share in figures.get("coverage", {}).items():
            table.add_row(f"reward in the {level} interval", f"{share:.3f}", "")
        if figures["within"]:
            table.add_row("SRCC within a prompt", _figure(figures["within"]), "")
        console.print(table)


def print_summary(summary: dict[str, Any], out: Any) -> None:
    """The summary of a batch."""
    table = Table(show_header=False)
    for name, value in summary.items():
        if value not in (None, ""):
            table.add_row(name, str(value))
    console = Console()
    console.print(table)
    console.print(f"results: {escape(str(out))}/results.jsonl, results.csv, grid.png, images/", soft_wrap=True)
    if summary["left"]:
        console.print(f"{summary['left']} prompts are left; run the same command again to go on", soft_wrap=True)
    if missing := summary.get("without an LLM answer"):
        console.print(f"{missing} had no answer of the LLM; run the same command again to ask anew", soft_wrap=True)


def print_seeds(found: Any) -> None:
    """The seeds of a search, the best first, with what the probe said of each."""
    console = Console()
    steps = sorted({k for s in found.seeds for k in s.predicted})
    fit = max(1, min(len(steps), (console.width - _NO_STEPS) // _STEP))
    last = fit == 1 < len(steps)  # what each was thought worth at last
    steps = steps[len(steps) - fit :]
    table = Table(
        "seed", *(["predicted"] if last else [f"step {k}" for k in steps]), "reward", Column("", overflow="fold")
    )
    order = {s: i for i, s in enumerate(found.best)}
    for s in sorted(found.seeds, key=lambda s: (order.get(s.seed, len(order)), -s.stopped_at, -s.last)):
        shown = [s.last if s.predicted else None] if last else [s.predicted.get(k) for k in steps]
        values = ["" if v is None else f"{v:.3f}" for v in shown]
        style = "bold green" if s.seed in order else "dim"
        table.add_row(str(s.seed), *values, "" if s.reward is None else f"{s.reward:.3f}", s.why, style=style)
    console.print(table)
    one = found.full_calls // max(len(found.seeds), 1)
    cost = f"{found.denoiser_calls} where one image takes {one}, instead of {found.full_calls} for making all, {found.seconds:.2f} s"
    lines = [("denoiser calls", cost)]
    lines += [("image", s.image_file) for s in found.seeds if s.image_file]
    print_lines(console, [*lines, *(("note", note) for note in found.notes)])
    told = [f"seed {s.seed}" + ("" if s.reward is None else f", reward {s.reward:.3f}") for s in found.winners]
    show_pictures(console, [Tile(i, (Caption(t),)) for t, i in zip(told, found.images, strict=True)])


def print_record(record: dict[str, Any]) -> None:
    """A record that an image carries, in lines; whatever it says, no control character reaches the terminal."""
    console = Console()
    lines = [("prompt", record.get("prompt")), ("best prompt", record.get("best_prompt"))]
    lines += [
        (k.replace("_", " "), record.get(k)) for k in ("stop_reason", "predicted_reward", "reward", "tau", "seed")
    ]
    lines += [(k, v) for k, v in record.get("settings", {}).items() if k != "seed"]
    lines += [("rewriter", record.get("rewriter")), ("version", record.get("version"))]
    print_lines(console, [(printable(name), printable(str(value))) for name, value in lines if value is not None])
    for c in record.get("candidates", []):
        score = "  out" if c.get("score") is None else f"{c['score']:.3f}"
        why = f"   [{c['rejected']}]" if c.get("rejected") else unsure_note(c)
        console.print(f"  {score}  {escape(printable(str(c.get('prompt')) + why))}", soft_wrap=True, highlight=False)


def print_rewards(images: Sequence[str], table: dict[str, list[float]]) -> None:
    """A row for each image, a column for each reward."""
    shown = Table("image", *table)
    for i, image in enumerate(images):
        shown.add_row(escape(image), *[f"{values[i]:.4f}" for values in table.values()])
    Console().print(shown)


def print_findings(found: Sequence[Any]) -> None:
    """What the doctor found, part by part: a mark, a name, what it is, and under it what to do."""
    console = Console()
    marks = {"ok": ("ok", "green"), "missing": ("--", "yellow"), "wrong": ("!!", "bold red")}
    part = ""
    for f in found:
        if f.part != part:
            part = f.part
            console.print(f"\n{escape(part)}", style="bold")
        mark, style = marks[f.state]
        line = Text.assemble(("  " + mark, style), f"  {printable(f.name):22} {printable(f.what)}")
        console.print(line, soft_wrap=True)
        if f.remedy:
            console.print(f"      {escape(f.remedy)}", style="dim", soft_wrap=True, highlight=False)
    wrong = sum(f.state == "wrong" for f in found)
    console.print(f"\n{f'{wrong} wrong' if wrong else 'nothing is wrong'}; -- is optional", highlight=False)


def print_backbones(rows: Sequence[Any]) -> None:
    """The table of backbones."""
    table = Table("family", "denoiser", "probed blocks", "text keys", "tested solvers")
    for row in rows:
        table.add_row(row.family, row.denoiser, row.blocks, row.text_position, row.solvers)
    Console().print(table)


def _figure(known: Mapping[str, float | None] | None) -> str:
    if known is None or known["value"] is None:
        return figure(None)
    return f"{figure(known['value'])}  [{figure(known['low'])}, {figure(known['high'])}]"


def print_trained(folder: Path, row: Mapping[str, Any], watched: Sequence[Mapping[str, Any]]) -> None:
    """What a GRPO run has left: held-out figures, first and last, and what it took."""
    console = Console()
    if watched:
        table = Table("held-out prompts", "at first", "now")
        first, last = watched[0], watched[-1]
        for name in last:
            if name not in ("iteration", "calls"):
                table.add_row(name, f"{first[name]:.3f}", f"{last[name]:.3f}")
        console.print(table)
    if row:
        console.print(f"{row['iteration']} iterations, {row['calls']:.0f} denoiser calls, {row['seconds']:.0f} s")
    console.print(f"adapter: {folder}", soft_wrap=True, highlight=False)
