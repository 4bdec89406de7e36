"""A session on the page: its state as the page shows it, and one thing at a time being done.

Comes in: lines as they are typed in a session. Goes out: the state with facts, cells and pictures; on the way, events.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from ...errors import InputError, PromptProbeError
from ...events import spent_in_words, waiting_in_words
from ...facts import facts_of
from ...facts_check import check
from ...judges import Judgement
from ...pnginfo import read_record
from ...race import HOPELESS, chance_to_beat
from ...runs import notes_on
from ...scoring import Scored
from ...worlds import what_it_draws
from ..choice import best_of, margin_of, scale_of
from ..desk import SessionState, cell_key
from ..plan import Plan
from ..service import BusyError, CancelledError, Service
from ..session import Session
from .live import Live
from .pictures import FOLDER, keep_pictures, picture_key, replay_of

REFUSED = "can't do that"  # how a session answers what it can't do
MOST_FACTS = 40  # of a prompt, shown
LOG = 60  # lines of a session's history that are shown


class Board:
    """An open session. `say` begins to act on a line in a thread of its own; raises `BusyError` while another is acted on."""

    def __init__(self, service: Service, store: Path, name: str, out: Path):
        self.service, self.name, self.out = service, name, out
        self.live = Live()
        self.session = Session(service.plan, store, name, out)
        desk = self.session.desk
        desk.on_step, desk.on_doing, desk.on_look = self._step, self._doing, self._look
        desk.on_wait = lambda waiting: self._doing(waiting_in_words(vars(waiting)))
        self._begin = threading.Lock()
        self._cancel = threading.Event()
        self.doing: dict[str, Any] | None = None
        self.error = ""
        self._checkpoint = self.checkpoint

    @property
    def checkpoint(self) -> str:
        """What the store's latest state is known by; it changes when a terminal goes on with the session."""
        config = self.session.graph.get_state(self.session.config).config
        return str(config["configurable"].get("checkpoint_id"))

    def changed_elsewhere(self) -> bool:
        """Whether somebody else went on with the session since this was asked last."""
        if self.doing:
            return False
        before, self._checkpoint = self._checkpoint, self.checkpoint
        return before != self._checkpoint

    def say(self, line: str) -> None:
        """Begin to act on a line."""
        with self._begin:
            if self.doing:
                raise BusyError(f"busy with {self.doing['line'][:60]!r}; wait for it, or stop it")
            self._cancel.clear()
            self.error = ""
            self.doing = {"line": line, "what": "waiting for the device", "step": 0, "since": time.time()}
        self.live.tell("doing", **self.doing)
        threading.Thread(target=self._act, args=(line,), daemon=True).start()

    def stop(self) -> None:
        """Give up what is being done, before the next denoising step."""
        self._cancel.set()

    def _act(self, line: str) -> None:
        try:
            with self.service.turn(self._cancel):
                if line == SHOW:
                    self._show_all()
                else:
                    said = str(self.session.say(line).get("said", ""))
                    self.error = "stopped" if self._cancel.is_set() else said[:500] if said.startswith(REFUSED) else ""
        except CancelledError:
            self.error = f"stopped: {line[:200]}"
        except PromptProbeError as error:
            self.error = str(error)
        except Exception as error:
            self.error = f"{type(error).__name__}: {error}"
            raise
        finally:
            self.doing = None
            self._checkpoint = self.checkpoint
            self.live.tell("done", error=self.error)

    def _show_all(self) -> None:
        """Previews of a session that was begun elsewhere."""
        state, desk = self.session.state, self.session.desk
        desk.asked = state.get("prompt", "")
        desk.score([c["prompt"] for c in state.get("candidates", [])], state["seed"])

    def _step(self, step: int) -> None:
        if self._cancel.is_set():
            raise CancelledError("stopped")
        doing = self.doing
        if doing is not None:
            doing["step"] = step
            self.live.tell("step", step=step, what=doing["what"])

    def _doing(self, what: str) -> None:
        if self._cancel.is_set():
            raise CancelledError("stopped")
        doing = self.doing
        if doing is not None:
            doing["what"] = what
            self.live.tell("doing", **doing)

    def _look(self, scored: Sequence[Scored]) -> None:
        desk = self.session.desk
        keep_pictures(desk, scored)
        model = self.service.plan.scorer.model
        cells = []
        for s in scored:
            asked, step = desk.asked or s.prompt, s.trajectories[0][0].step
            error = s.errors[0] if s.errors else None
            seen = {"score": s.score, "error": error, "step": step, "why": s.dropped or ""}
            shown = self._shown(seen, s.prompt, s.seeds[0], asked, model)
            cells.append(shown | {"prompt": s.prompt, "seed": s.seeds[0]})
        self.live.tell("cells", cells=cells)

    def _shown(self, cell: dict[str, Any], prompt: str, seed: int, asked: str, model: str | None) -> dict[str, Any]:
        key = picture_key(prompt, seed, asked, cell["step"], model)
        folder, known = self.out / FOLDER, self.session.desk.scored.get((prompt, seed, asked))
        return cell | {
            "held": known.trajectories[0][0].step if known else 0,  # the step to go on from; a server's end forgets it
            "picture": key if (folder / f"{key}.webp").is_file() else None,
            "words": key if (folder / f"{key}.json").is_file() else None,
        }  # fmt: skip

    def view(self) -> dict[str, Any]:
        """Everything that the page shows of the session, as plain values."""
        plan, state = self.service.plan, self.session.state
        asked, seeds = state.get("prompt", ""), state.get("seeds") or [state["seed"]]
        model, kept, origin = plan.scorer.model, state.get("cells") or {}, plan.origin
        rows = []
        for c in state.get("candidates", []):
            cells = {}
            for seed in seeds:
                cell = kept.get(cell_key(c["prompt"], seed, asked))
                if cell is None and seed == state["seed"]:
                    cell = {"score": c["score"], "error": None, "step": plan.scorer.probe_step, "why": ""}
                if cell:
                    cells[str(seed)] = self._shown(cell, c["prompt"], seed, asked, model)
            rows.append(
                {
                    "id": c["id"], "prompt": c["prompt"], "strategy": c["strategy"], "cells": cells, "score": c["score"],
                    "cut": c["cut_tokens"], "unsure": c.get("unsure", []), "notes": notes_on([c["prompt"]], model),
                    "facts": _facts_in(asked, c["prompt"]),
                }
            )  # fmt: skip
        _mark_losers(rows)
        finished = [
            {**f, "number": n, "there": Path(f["path"]).is_file(), "name": Path(f["path"]).name,
             "replay": replay_of(f["path"], origin.model, origin.loading, origin.model)}
            for n, f in enumerate(state.get("finished", [])) if f.get("asked") == asked
        ]  # fmt: skip
        return {
            "session": self.name, "prompt": asked, "rows": rows, "seeds": seeds, "seed": state["seed"],
            "current": state["current"], "tau": state["tau"], "gate": _gate(state, plan), "pinned": state.get("pinned", []),
            "rejected": state.get("rejected", []), "finished": finished, "said": state.get("said", ""),
            "undo": len(state.get("history", [])), "error": self.error, "doing": self.doing, "log": self.log(),
            "scale": scale_of(plan.scorer), "spent": spent_in_words(state["spent"]) if (state.get("spent") or {}).get("requests") else "",
            "model": {
                "name": self.service.model_name, "draws": what_it_draws(model), "judge": plan.scorer.judge.name,
                "label": plan.label or plan.scorer.label, "steps": plan.scorer.steps, "probe_step": plan.scorer.probe_step,
                "rewriter": plan.rewriter_name, "notes": [*plan.notes, *plan.scorer.warnings],
            },
        }  # fmt: skip

    def log(self) -> list[dict[str, str]]:
        """What was said and answered, the latest first."""
        lines, seen = [], None
        for kept in self.session.graph.get_state_history(self.session.config, limit=4 * LOG):
            values = kept.values
            if kept.next != ("wait",) or not values.get("command") or values.get("said") == seen:
                continue
            seen = values.get("said")
            lines.append({"line": values["command"][:400], "said": str(seen or "")[:2000], "at": kept.created_at or ""})
        return lines[:LOG]

    def record(self, number: int) -> tuple[Path, dict[str, Any]]:
        """Path and record of a finished image; raises `InputError` when there is none."""
        finished = self.session.state.get("finished", [])
        if not 0 <= number < len(finished):
            raise InputError(f"image {number} is none of the {len(finished)} finished ones")
        path = Path(finished[number]["path"])
        return path, read_record(path)


@lru_cache(maxsize=512)
def _facts_in(asked: str, wording: str) -> list[dict[str, str]]:
    """The facts of what was asked for, and what became of each in a wording."""
    return [{"text": f.text, "verdict": check(f, wording).verdict} for f in facts_of(asked).facts[:MOST_FACTS]]


SHOW = "/show"  # not a command of sessions: make the previews that the page lacks


def _mark_losers(rows: list[dict[str, Any]]) -> None:
    """Say of cells that can hardly be the best any more why that is."""
    cells = [c for row in rows for c in row["cells"].values() if c["score"] is not None]
    best = max(cells, key=lambda c: c["score"], default=None)
    for cell in cells:
        one, bar = Judgement(cell["score"], cell["error"]), Judgement(best["score"], best["error"])  # type: ignore[index]
        chance = None if cell is best else chance_to_beat(one, bar)
        cell["best"] = cell is best
        if not cell["why"] and chance is not None and chance < HOPELESS:
            cell["why"] = f"a chance {f'of {chance:.2f}' if chance >= 0.005 else 'under 0.01'} to be the best"


def _gate(state: SessionState, plan: Plan) -> dict[str, Any] | None:
    """What τ says of the best wording; None before there is one."""
    if not state.get("candidates"):
        return None
    best, tau = best_of(state["candidates"], margin_of(plan.scorer)), state["tau"]
    decision = "compare" if tau is None else "finish" if best["score"] >= tau else "rewrite"
    return {"tau": tau, "best": best["id"], "score": best["score"], "decision": decision}
