"""What each command of a session does: from its state and what was said to what changes."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypedDict

from ..errors import InputError
from ..files import free_path, write_together
from ..heatmaps import heat_map_image
from ..pnginfo import png_bytes
from ..scoring import Scored
from ..seeds import seeds_from
from ..thresholds import threshold
from ..tokens import clean_prompt
from ..trajectory import finish, preview
from . import rounds
from .guard import lost_words
from .plan import Plan
from .rewrites import RewriteRequest, Try

MAX_UNDO = 50


HELP = """\
TEXT                 the prompt, or your own next wording
/rewrite [WISH]      ask for rewrites, in a direction such as: more painterly
/pick N              go on from candidate N
/pin WORD...         words that every rewrite must keep; /unpin WORD...
/seed N   /tau X     another seed (all candidates are scored on it), another threshold
/compare A B         two candidates on the same seed, previews side by side
/preview [N...]      cheap pictures of what the model is heading for (default: all)
/finish N...         finish only the ones you like
/generate            finish the current one
/heat [N]            where the words are looked for, as a file
/list   /undo   /help   /quit (a session is always saved)"""


COMMANDS = tuple(re.findall(r"/(\w+)", HELP))


class SessionState(TypedDict, total=False):
    """What is kept after every command. `history` are earlier states for undo; `said` is the answer to the last command."""

    prompt: str
    current: int
    seed: int
    tau: float
    pinned: list[str]
    candidates: list[dict[str, Any]]
    round: int
    files: list[str]
    history: list[dict[str, Any]]
    command: str
    said: str
    show: bool


@dataclass
class Desk:
    """What the commands work with: a loaded plan, the folder for files, and candidates' trajectories by prompt and seed."""

    plan: Plan
    out: Path
    scored: dict[tuple[str, int], Scored] = field(default_factory=dict)

    def score(self, prompts: list[str], seed: int) -> list[Scored]:
        """Scores on one seed; what is known is not computed again."""
        missing = [p for p in dict.fromkeys(prompts) if (p, seed) not in self.scored]
        if missing:
            for s in self.plan.scorer.score(missing, [seed]):
                self.scored[s.prompt, seed] = s
        return [self.scored[p, seed] for p in prompts]


def act_on(state: SessionState, desk: Desk, line: str) -> SessionState:
    if not line:
        return {"said": "", "show": False}
    if not line.startswith("/"):
        return _wording(state, desk, line)
    name, _, rest = line[1:].partition(" ")
    known: dict[str, Callable[[SessionState, Desk, str], SessionState]] = {
        "rewrite": _rewrite, "pick": _pick, "pin": _pin, "unpin": _unpin, "seed": _seed, "tau": _tau,
        "compare": _compare, "preview": _preview, "finish": _finish, "generate": _generate, "heat": _heat,
        "list": lambda s, d, r: {"said": "", "show": True}, "undo": _undo,
        "help": lambda s, d, r: {"said": HELP, "show": False},
        "save": lambda s, d, r: {"said": "saved: everything is kept after every command", "show": False},
    }  # fmt: skip
    if name not in known:
        raise InputError(f"unknown command /{name[:40]}; /help lists them")
    if name not in ("help", "list", "undo", "save", "seed", "tau", "pin", "unpin") and not state.get("candidates"):
        raise InputError("there is no prompt yet: type one")
    return known[name](state, desk, rest.strip())


def _before(state: SessionState) -> list[dict[str, Any]]:
    """The undo history with the present state on top."""
    kept = ("prompt", "current", "seed", "tau", "pinned", "candidates", "round")
    return [*state.get("history", []), {k: state[k] for k in kept if k in state}][-MAX_UNDO:]  # type: ignore[literal-required]


def _candidate(desk: Desk, state: SessionState, number: int, prompt: str, strategy: str) -> dict[str, Any]:
    s = desk.score([prompt], state["seed"])[0]
    return {
        "id": number, "prompt": s.prompt, "strategy": strategy, "score": round(s.score, 5),
        "words": [asdict(w) for w in s.words], "cut_tokens": s.cut_tokens,
    }  # fmt: skip


def _wording(state: SessionState, desk: Desk, text: str) -> SessionState:
    prompt = clean_prompt(text)
    if not state.get("candidates"):
        first = _candidate(desk, state, 0, prompt, "as it is")
        return {
            "prompt": prompt, "candidates": [first], "current": 0, "history": _before(state), "said": _verdict(state, first),
            "show": True,
        }  # fmt: skip
    same = [c["id"] for c in state["candidates"] if c["prompt"] == prompt]
    if same:
        return _pick(state, desk, str(same[0]))
    number = len(state["candidates"])
    own = _candidate(desk, state, number, prompt, "your own")
    missing = lost_words(state.get("pinned", []), prompt)
    note = f" (lost {', '.join(missing)})" if missing else ""
    return {
        "candidates": [*state["candidates"], own], "current": number, "history": _before(state),
        "said": _verdict(state, own) + note, "show": True,
    }  # fmt: skip


def _verdict(state: SessionState, candidate: dict[str, Any]) -> str:
    side = "at or above" if candidate["score"] >= state["tau"] else "below"
    diffuse = [w["word"] for w in candidate["words"] if w["diffuse"]]
    more = f"; hardly looked at: {', '.join(diffuse)}" if diffuse else ""
    cut = f"; the last {candidate['cut_tokens']} tokens did not fit" if candidate["cut_tokens"] else ""
    return f"predicted reward {candidate['score']:.3f}, {side} τ {state['tau']:.3f}{more}{cut}"


def _rewrite(state: SessionState, desk: Desk, wish: str) -> SessionState:
    plan = desk.plan
    if plan.rewriter is None:
        raise InputError("there is no rewriter: set OPENAI_API_KEY, or start with --rewriter offline")
    current = state["candidates"][state["current"]]
    base = desk.score([current["prompt"]], state["seed"])[0]
    pinned = list(state.get("pinned", []))
    round_ = state.get("round", 0) + 1
    answer = plan.rewriter.rewrite(
        RewriteRequest(
            prompt=current["prompt"], score=current["score"], tau=state["tau"], words=base.words,
            tried=[Try(c["prompt"], c["score"]) for c in state["candidates"]], count=plan.candidates,
            token_limit=base.token_limit, round=round_, direction=wish[:500], keep=pinned,
        )
    )  # fmt: skip
    context = rounds.Context(plan.scorer, plan.rewriter, scored={0: base})
    asked: Any = rounds.first_state(
        current["prompt"], [state["seed"]], tau=state["tau"], rounds=1, count=plan.candidates
    )
    # What was tried anywhere in the session is not offered again; a wish may add things, so only the guard on loss counts.
    asked |= {"candidates": [{"prompt": current["prompt"]}], "keep": pinned}
    asked["candidates"] += [{"prompt": c["prompt"]} for c in state["candidates"] if c["id"] != current["id"]]
    screened = rounds.take_answer(asked, context, answer)
    fresh = [c for c in screened["waiting"] if c["rejected"] is None]
    desk.score([c["prompt"] for c in fresh], state["seed"])
    first = len(state["candidates"])
    made = [_candidate(desk, state, first + i, c["prompt"], c["strategy"]) for i, c in enumerate(fresh)]
    told = [f"out: {c['prompt']} ({c['rejected']})" for c in screened["waiting"] if c["rejected"]]
    best = max([current, *made], key=lambda c: c["score"])
    said = "nothing better than what you have" if best is current else f"best: {best['id']}, {_verdict(state, best)}"
    if not made:
        said = "no usable rewrite"
    return {
        "candidates": [*state["candidates"], *made], "round": round_, "history": _before(state) if made else state.get("history", []),
        "said": "\n".join([said, *told, *answer.notes]), "show": bool(made),
    }  # fmt: skip


def _numbers(state: SessionState, text: str, least: int = 1) -> list[int]:
    try:
        numbers = [int(x) for x in text.split()]
    except ValueError as error:
        raise InputError(f"{text!r} are no numbers; /list shows the candidates") from error
    wrong = [n for n in numbers if not 0 <= n < len(state["candidates"])]
    if wrong or len(numbers) < least:
        most = len(state["candidates"]) - 1
        raise InputError(
            f"give {least} or more candidate numbers from 0 to {most}" + (f", not {wrong[0]}" if wrong else "")
        )
    return numbers


def _pick(state: SessionState, desk: Desk, rest: str) -> SessionState:
    number = _numbers(state, rest)[0]
    picked = state["candidates"][number]
    return {"current": number, "history": _before(state), "said": f"{number}: {_verdict(state, picked)}", "show": True}


def _pin(state: SessionState, desk: Desk, rest: str) -> SessionState:
    words = re.findall(r"\w+", rest)[:20]
    if not words:
        raise InputError("name the words to keep, such as /pin red car")
    pinned = list(dict.fromkeys([*state.get("pinned", []), *words]))
    return {"pinned": pinned, "history": _before(state), "said": f"kept: {', '.join(pinned)}", "show": False}


def _unpin(state: SessionState, desk: Desk, rest: str) -> SessionState:
    gone = {w.casefold() for w in re.findall(r"\w+", rest)}
    pinned = [w for w in state.get("pinned", []) if gone and w.casefold() not in gone]
    return {
        "pinned": pinned,
        "history": _before(state),
        "said": f"kept: {', '.join(pinned) or 'nothing'}",
        "show": False,
    }


def _rescored(state: SessionState, desk: Desk, seed: int) -> list[dict[str, Any]]:
    desk.score([c["prompt"] for c in state.get("candidates", [])], seed)
    moved: Any = {**state, "seed": seed}
    return [_candidate(desk, moved, c["id"], c["prompt"], c["strategy"]) for c in state.get("candidates", [])]


def _seed(state: SessionState, desk: Desk, rest: str) -> SessionState:
    try:
        seed = seeds_from(int(rest), 1)[0]
    except ValueError as error:
        raise InputError(f"seed is {rest!r}; give a whole number") from error
    return {
        "seed": seed, "candidates": _rescored(state, desk, seed), "history": _before(state), "said": f"seed {seed}",
        "show": bool(state.get("candidates")),
    }  # fmt: skip


def _tau(state: SessionState, desk: Desk, rest: str) -> SessionState:
    tau = round(threshold(rest, desk.plan.scorer), 5)
    return {"tau": tau, "history": _before(state), "said": f"τ {tau:.3f}", "show": bool(state.get("candidates"))}


def _undo(state: SessionState, desk: Desk, rest: str) -> SessionState:
    history = state.get("history", [])
    if not history:
        raise InputError("there is nothing to undo")
    empty: Any = {"prompt": "", "current": 0, "pinned": [], "candidates": [], "round": 0}
    before: Any = empty | history[-1]
    return {**before, "history": history[:-1], "said": "undone", "show": True}


def _compare(state: SessionState, desk: Desk, rest: str) -> SessionState:
    a, b = (_numbers(state, rest, least=2))[:2]
    first, second = state["candidates"][a], state["candidates"][b]
    better = a if first["score"] >= second["score"] else b
    path = _save_sheet(desk, _previews(state, desk, [a, b]), f"compare-{a}-{b}")
    gap = abs(first["score"] - second["score"])
    said = f"{better} is ahead by {gap:.3f} on seed {state['seed']}; {a} left, {b} right: {path}"
    return {"said": said, "show": False, "files": [*state.get("files", []), str(path)]}


def _previews(state: SessionState, desk: Desk, numbers: list[int]) -> list[Any]:
    images = []
    for s in desk.score([state["candidates"][n]["prompt"] for n in numbers], state["seed"]):
        paused, row = s.trajectories[0]
        images += preview(desk.plan.scorer.pipeline, paused, [row])
    return images


def _preview(state: SessionState, desk: Desk, rest: str) -> SessionState:
    numbers = _numbers(state, rest) if rest else [c["id"] for c in state["candidates"]][-12:]
    path = _save_sheet(desk, _previews(state, desk, numbers), "preview")
    said = f"candidates {', '.join(map(str, numbers))}, left to right, at step {desk.plan.scorer.probe_step}: {path}"
    return {"said": said, "show": False, "files": [*state.get("files", []), str(path)]}


def _finish(state: SessionState, desk: Desk, rest: str) -> SessionState:
    paths = [_finished(state, desk, n) for n in _numbers(state, rest)]
    return {
        "said": "\n".join(paths),
        "show": False,
        "files": [*state.get("files", []), *(p.split("  ")[0] for p in paths)],
    }


def _generate(state: SessionState, desk: Desk, rest: str) -> SessionState:
    return _finish(state, desk, str(state["current"]))


def _finished(state: SessionState, desk: Desk, number: int) -> str:
    """Finish one candidate, write its image with its record, and say how it turned out."""
    from ..rewards import measure

    plan = desk.plan
    candidate = state["candidates"][number]
    paused, row = desk.score([candidate["prompt"]], state["seed"])[0].trajectories[0]
    images: Any = finish(plan.scorer.pipeline, paused, [row])
    reward = float(measure(plan.measure, images, [state["prompt"]])[0]) if plan.measure else None
    record = plan.origin.image_record(
        candidate["prompt"], state["seed"], "chosen in a session", probe_step=plan.scorer.probe_step, tau=state["tau"]
    ) | {
        "prompt": state["prompt"], "unchanged": candidate["prompt"] == state["prompt"], "tau": state["tau"],
        "predicted_reward": candidate["score"], "reward": None if reward is None else round(reward, 5),
        "candidates": [{**c, "rejected": None} for c in state["candidates"]],
    }  # fmt: skip
    path = free_path(desk.out, f"image-{number}", ".png")
    write_together({path: png_bytes(images[0], record)})
    measured = "" if reward is None else f", reward {reward:.3f} against your first wording"
    return f"{path}  (predicted {candidate['score']:.3f}{measured})"


def _heat(state: SessionState, desk: Desk, rest: str) -> SessionState:
    number = _numbers(state, rest)[0] if rest else state["current"]
    s = desk.score([state["candidates"][number]["prompt"]], state["seed"])[0]
    image = heat_map_image(s.maps, s.tokens, s.words, _previews(state, desk, [number])[0])
    path = free_path(desk.out, f"heat-{number}", ".png")
    write_together({path: png_bytes(image)})
    return {"said": str(path), "show": False, "files": [*state.get("files", []), str(path)]}


def _save_sheet(desk: Desk, images: list[Any], stem: str) -> Path:
    """Images side by side, small ones enlarged."""
    from PIL import Image

    side = max(160, *(max(i.size) for i in images))
    sheet = Image.new("RGB", (len(images) * (side + 8) - 8, side), "white")
    for n, image in enumerate(images):
        scale = side / max(image.size)
        size = (round(image.width * scale), round(image.height * scale))
        sheet.paste(image.convert("RGB").resize(size, Image.Resampling.NEAREST), (n * (side + 8), 0))
    path = free_path(desk.out, stem, ".png")
    write_together({path: png_bytes(sheet)})
    return path
