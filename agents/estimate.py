"""What a batch may take before it is begun: denoiser calls, time by timing two prompts' probing, requests, tokens, cost."""

from __future__ import annotations

from typing import Any

from .plan import Plan, cost_of
from .seed_choice import seeds_of

# Input and output of one rewriting request, assumed: 700 to 1,300 and 250 for prompts of 44 to 139 letters, at four letters a
# token, with four rewrites.
INPUT_TOKENS, OUTPUT_TOKENS = 1300, 250
CHECK_INPUT_TOKENS, CHECK_OUTPUT_TOKENS = 800, 120  # of a fact check: 540 and 780 were counted for 55 and 147 letters
TIMED = ("a picture of one thing", "a picture of two things")


def estimate(plan: Plan, prompts: int) -> dict[str, Any]:
    """Least and most that a batch of so many prompts takes. Longer prompts need more tokens than assumed."""
    scorer, seeds = plan.scorer, len(plan.seeds)
    rounds = plan.rounds if plan.rewriter is not None else 0
    goes_on = scorer.steps - scorer.probe_step
    least = prompts * (seeds * scorer.probe_step + goes_on)
    most = prompts * ((1 + rounds * plan.candidates) * seeds * scorer.probe_step + goes_on)
    if plan.search_seeds and plan.rounds:
        most = prompts * len(seeds_of(scorer, plan.seeds)[2]) * scorer.steps
    scorer.score(TIMED, plan.seeds)  # warm up
    calls, spent = scorer.denoiser_calls, scorer.denoising_seconds
    scorer.score(TIMED, plan.seeds)
    per_call = (scorer.denoising_seconds - spent) / (scorer.denoiser_calls - calls)
    asked = prompts * rounds if plan.rewriter is not None and plan.rewriter.calls_llm else 0
    checked = asked if plan.guard == "llm" else 0
    tokens = {
        "input_tokens": INPUT_TOKENS * asked + CHECK_INPUT_TOKENS * checked,
        "output_tokens": OUTPUT_TOKENS * asked + CHECK_OUTPUT_TOKENS * checked,
    }
    cost = cost_of(plan.prices, tokens)
    return {
        "prompts": prompts, "denoiser calls": [least, most],
        "seconds": [round(least * per_call, 1), round(most * per_call, 1)], "LLM requests": [0, asked + checked],
        "LLM tokens": [0, sum(tokens.values())], "cost": None if cost is None else [0.0, round(cost, 4)],
    }  # fmt: skip
