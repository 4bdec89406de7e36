"""Everything that is settled before the first step of an optimisation: checked, then loaded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from typing_extensions import Unpack

from ..forms import prices_of
from ..options import LLMOptions, PlanOptions, ScorerOptions, check_made, names_of, refuse_beside, signed
from ..records import Origin
from ..rewards import RewardFunction
from ..runs import load_scorer, reward_of
from ..scoring import Scorer
from ..seeds import seeds_from
from ..settling import refuse_unused, settle, unused
from ..thresholds import AUTO, threshold
from ..trajectory import check_steps
from ..worlds import thesaurus_of
from .checking import guard_for
from .offline import no_words
from .rewriters import make_rewriter
from .rewrites import Rewriter


@dataclass
class Plan:
    """Everything that is settled before the first step of an optimisation, and the same for all prompts of a batch.

    `seeds` are those on which every candidate is compared; `threshold` is τ as a number (None: candidates are only
    compared), `tau` as it was given or chosen; `label` and `measure` are name and function of the reward, `prices` those of
    a million input and output tokens; `guard` says who checks rewrites; with `search_seeds` nobody can reword
    prompts, and their seeds are searched instead.
    """

    scorer: Scorer
    rewriter: Rewriter | None
    seeds: list[int]
    rounds: int
    candidates: int
    tau: str
    threshold: float | None
    label: str | None
    measure: RewardFunction | None
    prices: tuple[float, float] | None
    max_llm_calls: int | None
    max_seconds: float | None
    notes: list[str]
    guard: str = "code"
    search_seeds: bool = False

    @property
    def seed(self) -> int:
        """The first of the seeds."""
        return self.seeds[0]

    @property
    def origin(self) -> Origin:
        """Where the images come from."""
        return self.scorer.origin

    @property
    def rewriter_name(self) -> str:
        """Who rewrites, for records."""
        return getattr(self.rewriter, "name", "none")

    @property
    def settings(self) -> dict[str, Any]:
        """What a record says of the run; two runs with equal settings do the same."""
        scorer = self.scorer
        return self.origin.settings(
            probe_step=scorer.probe_step, seed=self.seed, seeds_per_prompt=len(self.seeds), rounds=self.rounds,
            candidates=self.candidates, tau=self.tau, judge=scorer.judge.name, early_step=scorer.early_step,
            objective=scorer.objective, guard=self.guard,
        )  # fmt: skip


@signed(PlanOptions)
def make_plan(*, scorer: Scorer | None = None, **options: Unpack[PlanOptions]) -> Plan:
    """Check every setting, then load pipeline, probe, rewriter and reward.

    `scorer` reuses what `make_scorer` loaded; the options that settle it are refused beside it. `rewriter` may be an
    object with `rewrite(request)`, `reward` a function of images and prompts. Raises `PromptProbeError` classes.
    """
    return plan_of("make_plan", options, scorer)


def settle_plan(where: str, options: Mapping[str, Any], scorer: Scorer | None = None) -> dict[str, Any]:
    """The options of a plan for `where`, the function or command that was called, checked before anything is loaded."""
    o = settle(PlanOptions, options, where)
    check_made("scorer", scorer, Scorer, "make_scorer")
    if scorer is not None:
        refuse_beside("scorer", set(options) & ({*names_of(ScorerOptions)} - {"seed", "reward"}))
    seeds_from(o["seed"], o["seeds_per_prompt"])
    check_steps(o["steps"], o["probe_step"])
    return o


def given_plan(where: str, plan: Plan | None, options: Mapping[str, Any]) -> Plan:
    """The plan that `where` was given, or one of its options. Raises `InputError` for both, and for what is no plan."""
    check_made("plan", plan, Plan, "make_plan")
    if plan is None:
        return plan_of(where, options, shows=False)
    refuse_beside("plan", options)
    return plan


def plan_of(where: str, options: Mapping[str, Any], scorer: Scorer | None = None, *, shows: bool = True) -> Plan:
    """As `make_plan`, for the function or command `where`; `shows` says that it may decode previews for people."""
    o = settle_plan(where, options, scorer)
    prices = prices_of(o["llm_price"])
    seeds = seeds_from(o["seed"], o["seeds_per_prompt"])
    rewriter, notes = o["rewriter"], []
    model = o["model"] if scorer is None else scorer.model or ""
    if isinstance(rewriter, str):
        rewriter, note = make_rewriter(
            rewriter, llm_model=o["llm_model"], llm_base_url=o["llm_base_url"], seed=o["seed"],
            timeout=o["llm_timeout"], max_tokens=o["llm_max_tokens"], effort=o["llm_effort"], prices=prices,
            thesaurus=thesaurus_of(model),
        )  # fmt: skip
        notes += [note] if note else []
        if rewriter is not None and not rewriter.calls_llm and o["rewriter"] == "auto":
            notes += [f"no LLM was found: {told}" for told in unused(_only_llm(o), rewriter="offline")]
    scorer = scorer or load_scorer(o)
    guard = guard_for(o["guard"], rewriter)
    if guard == "off":
        notes.append("the guard is off: no rewrite is checked for what it means")
    label, measure = reward_of(o["reward"], scorer)
    if not shows:
        refuse_unused(o, where, measured=label, judge=scorer.judge.name)
    wanted = threshold(o["tau"], scorer)
    if wanted is None:
        notes.append(
            f"the judge {scorer.judge.name} has no quantiles, so there is no τ: wordings are compared, and no prompt is "
            "called good enough; --tau NUMBER sets a bound"
        )
    return Plan(
        scorer=scorer, rewriter=rewriter, seeds=seeds, rounds=o["rounds"], candidates=o["candidates"],
        tau=AUTO if o["tau"] == "auto" and wanted is not None else str(o["tau"]), threshold=wanted, label=label,
        measure=measure, prices=prices, max_llm_calls=o["max_llm_calls"], max_seconds=o["max_seconds"], notes=notes,
        guard=guard, search_seeds=no_words(rewriter, thesaurus_of(model)),
    )  # fmt: skip


def _only_llm(settled: Mapping[str, Any]) -> dict[str, Any]:
    return {n: settled[n] for n in names_of(LLMOptions) if n != "rewriter"}


def cost_of(prices: tuple[float, float] | None, state: Mapping[str, Any]) -> float | None:
    """What the tokens of a state cost, in the currency of the prices; None without prices."""
    if prices is None:
        return None
    return round((prices[0] * state["input_tokens"] + prices[1] * state["output_tokens"]) / 1e6, 6)
