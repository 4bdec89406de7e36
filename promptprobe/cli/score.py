"""`promptprobe score`: judge prompts without making images."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from ..options import OutputOptions, ScoreOptions
from ..settling import settle
from ..text import clean_prompts
from .made import command


@command(ScoreOptions, OutputOptions, leave_out=("out",), example='promptprobe score "two red cars" "a pair of autos"')
def score(
    prompts: Annotated[list[str], typer.Argument(help="One or more prompts.")],
    *,
    as_json: bool,
    **options: Any,
) -> None:
    """Predict rewards and diagnose each word's attention; makes no image."""
    clean_prompts(prompts)  # what is refused is refused before anything is loaded
    settle(ScoreOptions, options, "score")
    from ..view import loading

    with loading(str(options["model"])):
        from ..grades import grade_of
        from ..printing import print_scores
        from ..runs import judged, notes_on, score_as_dict

        scorer, scored = judged(prompts, options)
    if as_json:
        for note in scorer.warnings:
            typer.echo(f"note: {note}", err=True)
        typer.echo(json.dumps([score_as_dict(s, scorer.model) for s in scored], indent=1, ensure_ascii=False))
    else:
        grades = [grade_of(scorer.judge, s.score, scorer.probe_step, scorer.steps) for s in scored]
        print_scores(scored, [*scorer.warnings, *notes_on([s.prompt for s in scored], scorer.model)], grades)
