"""`promptprobe score`: judge prompts without making images."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from ..options import OutputOptions, ScoreOptions, ScorerOptions
from .made import command, only, say_notes


@command(ScoreOptions, OutputOptions, leave_out=("out",), example='promptprobe score "two red cars" "a pair of autos"')
def score(
    prompts: Annotated[list[str], typer.Argument(help="One or more prompts.")],
    *,
    seed: int,
    seeds_per_prompt: int,
    as_json: bool,
    **options: Any,
) -> None:
    """Predict rewards and diagnose each word's attention; makes no image."""
    from ..runs import make_scorer, notes_on, score_as_dict
    from ..seeds import seeds_from
    from ..tokens import clean_prompt
    from ..view import print_scores

    texts = [clean_prompt(p) for p in prompts]
    scorer = make_scorer(**only(options, ScorerOptions))
    scored = scorer.score(texts, seeds_from(seed, seeds_per_prompt), winners=0)
    if as_json:
        for note in scorer.warnings:
            say_notes("note", {"text": note})
        typer.echo(json.dumps([score_as_dict(s, scorer.model) for s in scored], indent=1, ensure_ascii=False))
    else:
        print_scores(scored, [*scorer.warnings, *notes_on(texts, scorer.model)])
