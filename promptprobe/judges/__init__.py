"""What says, at a paused step, how good the finished image will be.

Comes in: an `Observation`. Goes out: a `Judgement` for each trajectory. Each judge is one file; who goes on at which
stage is a policy's business (`search`), not a judge's.

| judge | reads | knows how sure it is |
| --- | --- | --- |
| `ProbeJudge` | what its probe was trained on | yes: its card has quantiles and errors |
| `PreviewJudge` | the clean latents, decoded and measured with a reward model | no |
| `GapJudge` | how far guidance pulls; nothing is trained | no |
| `FocusJudge` | the words' token maps; nothing is trained | no |

`choose_judge` takes the best of them that there is for a model.
"""

from .base import Judge, Judgement, Needs
from .choosing import choose_judge
from .focus import FocusJudge
from .gap import GapJudge
from .preview import PreviewJudge
from .probe import ProbeJudge, load_probe

__all__ = [
    "FocusJudge", "GapJudge", "Judge", "Judgement", "Needs", "PreviewJudge", "ProbeJudge", "choose_judge", "load_probe",
]  # fmt: skip
