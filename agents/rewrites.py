"""What passes between the loop and a rewriter, and how a model's answer is read.

Comes in: text of a language model. Goes out: wordings, cleaned and bounded. Everything in it is data.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from .answers import clean_text, read_answer, unquoted, without_thoughts

if TYPE_CHECKING:
    from ..diagnosis import WordDiagnosis
    from ..facts_compare import Verdict

MAX_REWRITE_CHARACTERS = 2000


@dataclass(frozen=True)
class Try:
    """A prompt that was scored already."""

    prompt: str
    score: float


@dataclass(frozen=True)
class Rejected:
    """A wording that may not be proposed again, and why it was turned down."""

    prompt: str
    reason: str


@dataclass(frozen=True)
class RewriteRequest:
    """What a rewriter may know. `tau` is None where there is no threshold. `token_limit` is the text encoder's, without begin and end marks. `direction` is the
    person's wish in words, `keep` are words that must stay as they are; both may be empty.

    `family` names the image model (`Backbone.family`, a pipeline's class, or "icons"), `length` are the tokens of
    `prompt`, `scale` the lowest and highest score that the judge usually gives, `label` the reward that it predicts; empty
    or 0 where not known. The whole
    answer, waiting and repeats included, is there within `deadline` seconds.
    """

    prompt: str
    score: float
    tau: float | None
    words: Sequence[WordDiagnosis]
    tried: Sequence[Try]
    count: int
    token_limit: int
    round: int = 1
    direction: str = ""
    keep: Sequence[str] = ()
    family: str = ""
    rejected: Sequence[Rejected] = ()
    length: int = 0
    scale: Sequence[float] = ()
    label: str = ""
    deadline: float | None = None


@dataclass(frozen=True)
class Rewrite:
    """A proposed wording and the named strategy behind it."""

    strategy: str
    prompt: str


@dataclass
class RewriteAnswer:
    """What came back. `notes` says in words what went wrong, without any secret; after a `final` one, such as a refused
    key, asking again is of no use. `answered` says whether the LLM said something that could be read at all: a batch
    repeats the prompts of which it didn't. `learned` are the endpoint's ways that were found out on the occasion.
    `estimated` says that tokens were counted from the characters, as the endpoint named none. `verdicts` are what the
    guard found of each rewrite, by its text."""

    rewrites: list[Rewrite]
    requests: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    notes: list[str] = field(default_factory=list)
    final: bool = False
    answered: bool = True
    learned: list[str] = field(default_factory=list)
    estimated: bool = False
    verdicts: dict[str, Verdict] = field(default_factory=dict)


@dataclass(frozen=True)
class Waiting:
    """What a person who waits may be shown, about once a second: what is waited for, for how many seconds, and what
    this rewriter has used up so far; `cost` is None where no prices are known."""

    what: str
    seconds: float
    requests: int
    input_tokens: int
    output_tokens: int
    cost: float | None = None


OnWait = Callable[[Waiting], Any]


class Rewriter(Protocol):
    """Anything with a name that proposes wordings. One that waits long may take `on_wait` in `rewrite` too, and says so
    with `tells_waiting = True`."""

    name: str
    calls_llm: bool

    def rewrite(self, request: RewriteRequest) -> RewriteAnswer: ...


def ask_rewriter(rewriter: Any, request: RewriteRequest, on_wait: OnWait | None = None) -> RewriteAnswer:
    """The rewriter's answer; `on_wait` is told of the waiting where the rewriter can do that."""
    if on_wait is not None and getattr(rewriter, "tells_waiting", False):
        return rewriter.rewrite(request, on_wait=on_wait)
    return rewriter.rewrite(request)


def parse_rewrites(text: str, count: int) -> list[Rewrite]:
    """Rewrites in a model's answer: JSON wherever and however it stands, complete entries of a cut-off answer, else
    list lines.

    Thoughts and code fences are dropped, control characters removed, over-long, empty or repeated prompts left out.
    """
    rewrites: dict[str, Rewrite] = {}
    for strategy, prompt in read_answer(without_thoughts(text)):
        if len(rewrites) >= count:
            break
        if len(prompt) > 2 * MAX_REWRITE_CHARACTERS:
            continue
        cleaned = unquoted(clean_text(prompt))
        if any(c.isalnum() for c in cleaned) and len(cleaned) <= MAX_REWRITE_CHARACTERS:
            rewrites.setdefault(cleaned, Rewrite(clean_text(strategy[:200])[:60] or "unnamed", cleaned))
    return list(rewrites.values())
