"""Everything that is settled before the first step of an optimisation: checked, then loaded."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .. import icons
from ..errors import InputError
from ..probe import Probe
from ..records import loading_given
from ..runs import make_scorer, reward_of
from ..scoring import Scorer
from ..seeds import seeds_from
from ..thresholds import threshold
from ..trajectory import check_steps
from ..worlds import thesaurus_of
from .rewriters import make_rewriter


@dataclass
class Plan:
    """Everything that is settled before the first step of an optimisation, and the same for all prompts of a batch."""

    scorer: Scorer
    rewriter: Any
    model: str
    loading: dict[str, Any]
    seed: int
    seeds: list[int]
    rounds: int
    candidates: int
    tau: str
    threshold: float
    label: str | None
    measure: Any
    prices: tuple[float, float] | None
    max_llm_calls: int | None
    max_seconds: float | None
    notes: list[str]

    @property
    def settings(self) -> dict[str, Any]:
        """What a record says of the run; two runs with equal settings do the same."""
        scorer = self.scorer
        return {
            "model": self.model, "steps": scorer.steps, "probe_step": scorer.probe_step, "seed": self.seed,
            "seeds_per_prompt": len(self.seeds), "rounds": self.rounds, "candidates": self.candidates, "tau": self.tau,
            "scheduler": type(scorer.pipeline.scheduler).__name__, "early_step": scorer.early_step, "objective": scorer.objective,
            **scorer.settings,
        }  # fmt: skip


def make_plan(
    *,
    model: str | Path = icons.NAME,
    probe: str | Path | Probe | None = None,
    seed: int = 0,
    seeds_per_prompt: int = 1,
    rounds: int = 3,
    candidates: int = 4,
    tau: str | float = "q0.8",
    steps: int = 25,
    probe_step: int = 5,
    rewriter: Any = "auto",
    llm_model: str | None = None,
    llm_base_url: str | None = None,
    llm_price: str | None = None,
    max_llm_calls: int | None = None,
    max_seconds: float | None = None,
    batch_size: int = 32,
    reward: Any = None,
    scorer: Scorer | None = None,
    **options: Any,
) -> Plan:
    """Check every setting, then load pipeline, probe, rewriter and reward. Raises `PromptProbeError` classes."""
    if candidates < 1:
        raise InputError(f"candidates is {candidates}; it must be at least 1")
    if rounds < 0:
        raise InputError(f"rounds is {rounds}; it must be 0 or more")
    for name, limit in (("max LLM calls", max_llm_calls), ("max seconds", max_seconds)):
        if limit is not None and limit < 0:
            raise InputError(f"{name} is {limit}; it must be 0 or more")
    prices = prices_of(llm_price)
    seeds = seeds_from(seed, seeds_per_prompt)
    check_steps(steps, probe_step)
    notes: list[str] = []
    if isinstance(rewriter, str):
        rewriter, note = make_rewriter(
            rewriter, llm_model=llm_model, llm_base_url=llm_base_url, seed=seed, thesaurus=thesaurus_of(model)
        )
        notes += [note] if note else []
    if scorer is None:
        scorer = make_scorer(model, probe, steps=steps, probe_step=probe_step, batch_size=batch_size, **options)
    label, measure = reward_of(reward, model)
    return Plan(
        scorer=scorer, rewriter=rewriter, model=str(model),
        loading=loading_given(options), seed=seed,
        seeds=seeds, rounds=rounds, candidates=candidates, tau=str(tau), threshold=threshold(tau, scorer), label=label,
        measure=measure, prices=prices, max_llm_calls=max_llm_calls, max_seconds=max_seconds, notes=notes,
    )  # fmt: skip


def prices_of(text: str | None) -> tuple[float, float] | None:
    if text is None:
        return None
    try:
        given, got = (float(x) for x in text.split(","))
    except ValueError as error:
        raise InputError(f"LLM price is {text!r}; give two numbers, for a million input and output tokens") from error
    return given, got


def cost_of(prices: tuple[float, float] | None, state) -> float | None:
    if prices is None:
        return None
    return round((prices[0] * state["input_tokens"] + prices[1] * state["output_tokens"]) / 1e6, 6)
