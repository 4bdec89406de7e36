"""What says, at a paused step, how good the finished image will be.

Comes in: an `Observation`. Goes out: a `Judgement` for each trajectory. Each judge is one file; who goes on at which
stage is a policy's business (`search`), not a judge's.

| judge | reads | knows how sure it is |
| --- | --- | --- |
| `ProbeJudge` | what its probe was trained on | yes: its card has quantiles and errors |
| `PreviewJudge` | the clean latents, decoded and measured with a reward model | no |
| `FocusJudge` | the words' token maps; nothing is trained | no |
"""

from .base import Judge, Judgement, Needs
from .focus import FocusJudge
from .preview import PreviewJudge
from .probe import ProbeJudge, load_probe

__all__ = ["FocusJudge", "Judge", "Judgement", "Needs", "PreviewJudge", "ProbeJudge", "load_probe"]
