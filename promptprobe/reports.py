"""Reports of what commands did: runs (one, or a batch's), a search of seeds, a session, an evaluation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .card import ProbeCard
from .grades import grade_in_words
from .notebook import figure
from .records import CandidateRecord, RunRecord
from .report import Report, curve, marked, picture, reliability, scatter, sizes_for
from .selection import SeedSelection

MOST_ROWS = 40  # wordings of one prompt; of a prompt among many `FEW`
FEW = 5
MOST_RUNS = 1000


def runs_report(
    records: Sequence[RunRecord], *, title: str = "", unfinished: str = "",
    failed: Sequence[Mapping[str, Any]] = (),
) -> Report:  # fmt: skip
    """Of one run or of many: lineage of wordings, pictures, maps, predicted against measured rewards, cost."""
    shown = list(records)[:MOST_RUNS]
    side, letters = sizes_for(len(shown))
    one = shown[0] if len(shown) == 1 else None
    report = Report(
        title or (one.best_prompt if one else f"{len(records)} prompts"), _subtitle(shown), side=side, letters=letters,
        unfinished=unfinished, runs_title="Wordings" if one else "Prompts",
    )  # fmt: skip
    pairs = [(r.predicted_reward, r.reward) for r in shown if r.reward is not None]
    intervals = [(r.interval[0], r.interval[1]) for r in shown if r.reward is not None and r.interval]
    if pairs:
        report.plots.append(scatter(pairs, intervals))
        more = reliability(pairs)
        report.plots += [more] if more else []
    used, full = (sum(r.denoiser_calls[k] for r in records) for k in ("used", "full"))
    tokens = sum(r.llm["input_tokens"] + r.llm["output_tokens"] for r in records)
    rewards = [r.reward for r in records if r.reward is not None]
    sure = f" ({between(one.interval)})" if one and one.interval else ""
    report.facts = [
        ("reward" if one else "mean reward", figure(sum(rewards) / len(rewards) if rewards else None)),
        ("predicted", figure(sum(r.predicted_reward for r in records) / len(records) if records else None) + sure),
        ("denoiser steps", f"{used} of {full}"),
        ("seconds", f"{sum(r.seconds.get('batch', r.seconds.get('loop', 0)) for r in records):.1f}"),
        ("LLM", f"{sum(r.llm['requests'] for r in records)} requests, {tokens} tokens" if tokens else "none"),
    ]  # fmt: skip
    report.facts += [("rewritten", f"{sum(not r.unchanged for r in records)} of {len(records)}")] if not one else []
    report.runs = [_run(r, side, letters, MOST_ROWS if len(shown) < 10 else FEW) for r in shown]
    if failed:
        rows = [(line.get("prompt", ""), line["error"]) for line in failed[:100]]
        report.tables.append({"title": f"{len(failed)} failed", "head": ("prompt", "why"), "rows": [(p[:letters], e) for p, e in rows]})  # fmt: skip
    report.notes = list(dict.fromkeys(note for r in shown for note in r.notes))[:50]
    report.settings = filled(shown[0].settings) if shown else []
    return report


def _subtitle(records: Sequence[RunRecord]) -> str:
    if not records:
        return "nothing is finished yet"
    first = records[0]
    told = f"{first.settings.get('model')}, rewriter: {first.rewriter}"
    return told if len(records) > 1 else f"{told}; {first.stop_reason}, after {first.rounds} rounds"


def _run(r: RunRecord, side: int, letters: int, most: int) -> dict[str, Any]:
    sure = f" ({between(r.interval)})" if r.interval else ""
    score = f"predicted {r.predicted_reward:.3f}{sure}, reward {figure(r.reward)}, seed {r.seed}"
    pictures = [_picture_of(r, score, side)]
    wide = r.heat_maps and most > FEW
    maps = picture(r.heat_maps, "where the image looks for each word", 2 * side) if wide else None
    told = [] if r.unchanged else [f"asked for: {r.prompt}"]
    told += [grade_in_words(r.grade)] if r.grade is not None else []
    return {
        "maps": maps, "title": r.best_prompt, "told": "; ".join(told), "pictures": pictures,
        "rows": rows_of(r.candidates[:most], r.best_prompt, letters), "more": max(0, len(r.candidates) - most),
    }  # fmt: skip


def filled(settings: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Settings that say something: without those that were left out."""
    return [(name, value) for name, value in settings.items() if value not in (None, "", (), [], {})]


def between(interval: Sequence[float] | None) -> str:
    """An interval in words; a dash for none."""
    return f"{interval[0]:.3f} to {interval[1]:.3f}" if interval else figure(None)


def _picture_of(r: RunRecord, caption: str, side: int) -> dict[str, Any]:
    return picture(r._picture if r._picture is not None else r.image_file, caption, side)


def rows_of(candidates: Sequence[CandidateRecord], best: str, letters: int) -> list[dict[str, Any]]:
    """Wordings by round, each with a bar for its score, its diffuse words marked, and why it is out."""
    scores = [c.score for c in candidates if c.score is not None]
    low, high = min(scores, default=0.0), max(scores, default=0.0)
    rows, round_ = [], None
    for c in sorted(candidates, key=lambda c: c.round):
        heading = "" if c.round == round_ else "as it is" if c.round == 0 else f"round {c.round}"
        round_ = c.round
        seen = "" if c.preview is None else f"seen as {c.preview:.3f} against the prompt"
        why = "; ".join(t for t in (c.strategy if c.round else "", c.rejected and f"out: {c.rejected}", seen, c.unsure and f"unsure: {', '.join(c.unsure)}") if t)  # fmt: skip
        share = 0.5 if c.score is None or high <= low else (c.score - low) / (high - low)
        rows.append(
            {
                "heading": heading, "score": figure(c.score), "why": why, "words": marked(c.prompt, c.words, letters),
                "bar": 0 if c.score is None else round(6 + 90 * share),
                "style": "best" if c.prompt == best else "out" if c.rejected else "",
            }
        )  # fmt: skip
    return rows


def seeds_report(found: SeedSelection, *, settings: Mapping[str, Any]) -> Report:
    """Of a search over seeds: the best pictures, what each seed was thought worth and when it was given up."""
    side, letters = sizes_for(len(found.images))
    one = found.full_calls // max(len(found.seeds), 1)
    report = Report(found.prompt, f"the best of {len(found.seeds)} seeds, policy {found.policy}", side=side, letters=letters)  # fmt: skip
    pairs = [(s.last, s.reward) for s in found.winners if s.reward is not None and s.predicted]
    known = [(s.interval[0], s.interval[1]) for s in found.winners if s.reward is not None and s.interval]
    report.plots = [scatter(pairs, known if len(known) == len(pairs) else ())] if pairs else []
    report.facts = [
        ("best seed", found.best[0]), ("reward", figure(found.winners[0].reward)), ("seconds", f"{found.seconds:.1f}"),
        ("denoiser steps", f"{found.denoiser_calls}; one image takes {one}, all {found.full_calls}"),
    ]  # fmt: skip
    pictures = [picture(i, f"seed {s.seed}, reward {figure(s.reward)}", side) for s, i in zip(found.winners, found.images, strict=True)]  # fmt: skip
    report.runs = [
        {"title": "Best", "told": ", ".join(found.judges), "pictures": pictures, "rows": [], "more": 0, "maps": None}
    ]
    report.runs_title = "Pictures"
    steps = sorted({k for s in found.seeds for k in s.predicted})
    sure = any(s.interval for s in found.seeds)
    rows = [
        (
            s.seed,
            *(figure(s.predicted.get(k)) for k in steps),
            *([between(s.interval)] if sure else []),
            figure(s.reward),
            s.why,
        )
        for s in sorted(found.seeds, key=lambda s: (s.seed not in found.best, -s.stopped_at, -s.last))
    ]
    report.tables = [{"title": "Seeds", "head": ("seed", *(f"step {k}" for k in steps), *(["eight of ten lie in"] if sure else []), "reward", ""), "rows": rows}]  # fmt: skip
    report.notes, report.settings = list(found.notes), filled(settings)
    return report


def session_report(state: Mapping[str, Any], name: str, settings: Mapping[str, Any]) -> Report:
    """Of a session, as it is now: all candidates, and the pictures that were made."""
    files = [Path(f) for f in state.get("files", [])][-200:]
    side, letters = sizes_for(len(files))
    known = CandidateRecord.__dataclass_fields__
    kept = state.get("candidates", [])
    candidates = [CandidateRecord(**{"round": 0, **{k: v for k, v in c.items() if k in known}}) for c in kept]
    best = kept[state["current"]]["prompt"] if kept else ""
    report = Report(state.get("prompt") or "no prompt yet", f"session {name}, seed {state.get('seed')}", side=side, letters=letters)  # fmt: skip
    spent = state.get("spent") or {}
    report.facts = [("wordings", len(kept)), ("pictures", len(files)), ("LLM", f"{spent.get('requests', 0)} requests")]
    made = {Path(f["path"]): f for f in state.get("finished", [])}
    pictures = [picture(f, _caption(f, made.get(f)), side) for f in files]
    report.runs = [{"title": best, "told": "the current wording", "pictures": pictures, "more": 0, "maps": None,
                    "rows": rows_of(candidates, best, letters)}]  # fmt: skip
    report.settings = [("kept words", ", ".join(state.get("pinned", [])) or "none"), *filled(settings)]
    return report


def _caption(file: Path, made: Mapping[str, Any] | None) -> str:
    """What stands under a session's picture: of a finished one its wording and scores, too."""
    if made is None:
        return file.name
    score = f"predicted {figure(made.get('predicted'))}, reward {figure(made.get('reward'))}, seed {made.get('seed')}"
    return f"{made.get('prompt', '')}; {score}; {file.name}"


def evaluation_report(
    result: Mapping[str, Any], card: ProbeCard, pairs: Mapping[str, Sequence[tuple[float, float]]], step: int, items: int
) -> Report:  # fmt: skip
    """Of a probe on test data: predicted against measured by head, reliability, the figures, the learning curve."""
    report = Report("Evaluation of a probe", f"{items} images, maps of step {step}, {card.denoiser}")
    for label, own in pairs.items():
        known = card.known_step(step, card.steps)
        has = card.residuals.get(label, {}).get(str(known))
        around = [card.interval(p, 0.8, label, known) for p, _ in own] if has and len(own) <= 200 else []
        for plot in (scatter(own, around), reliability(own)):
            report.plots += [plot | {"title": f"{plot['title']}, {label}"}] if plot else []
        rows = [(n, figure(v["value"]), f"{figure(v['low'])} to {figure(v['high'])}") for n, v in result[label]["natural"].items()]  # fmt: skip
        rows += [(f"in the {n} interval", f"{v:.3f}", "") for n, v in result[label].get("coverage", {}).items()]
        if within := result[label].get("within"):
            rows.append(("SRCC within a prompt", f"{within['value']:.3f}", f"{within['low']:.3f} to {within['high']:.3f}"))  # fmt: skip
        report.tables.append({"title": label, "head": ("figure", "value", "95 % interval"), "rows": rows})
    learned = card.figures.get("learning curve")
    if learned:
        report.plots.append(curve("Learning curve", learned, "epoch", "validation SRCC"))
    shown = {k: v for k, v in vars(card).items() if k in ("steps", "probe_steps", "labels", "scheduler", "variant", "data")}  # fmt: skip
    report.settings = list(shown.items())
    return report
