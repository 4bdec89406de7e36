"""The loop as a block of diffusers' modular pipelines: a prompt goes in, the best wording of it comes out.

Put it before the block that encodes the text. It judges with a pipeline of its own (that of `plan`), since a modular pipeline
can't be paused from outside; both may share their components.
"""

from __future__ import annotations

from typing import Any

from diffusers.modular_pipelines import InputParam, ModularPipelineBlocks, OutputParam
from typing_extensions import Unpack

from ..errors import InputError
from ..options import PlanOptions, signed
from ..tokens import clean_prompt
from .loop import best_wording
from .plan import given_plan


class OptimizePromptBlock(ModularPipelineBlocks):
    """Replaces `prompt` in the state by its best wording, and adds `original_prompt` and `predicted_reward`."""

    model_name = "promptprobe"

    def __init__(self, plan: Any):
        super().__init__()
        self._plan = plan

    @property
    def description(self) -> str:
        """What the block does, for diffusers' documentation of a pipeline."""
        return "Rewrites the prompt while the image that it would give is predicted to be poor."

    @property
    def inputs(self) -> list[InputParam]:
        """The prompt, one text."""
        return [InputParam("prompt", type_hint=str, required=True, description="What the picture should show.")]

    @property
    def intermediate_outputs(self) -> list[OutputParam]:
        """The best wording, the user's own, and the predicted reward."""
        return [
            OutputParam("prompt", type_hint=str, description="The best wording."),
            OutputParam("original_prompt", type_hint=str, description="What was asked for."),
            OutputParam("predicted_reward", type_hint=float, description="Of the best wording."),
        ]

    def __call__(self, components: Any, state: Any) -> tuple[Any, Any]:
        """Run the loop on the state's prompt. Raises `InputError` for anything but one text."""
        block = self.get_block_state(state)
        if not isinstance(block.prompt, str):
            raise InputError(f"prompt is {block.prompt!r:.80}; give the block one text")
        block.original_prompt = clean_prompt(block.prompt)
        best, _ = best_wording(block.original_prompt, self._plan)
        block.prompt, block.predicted_reward = best["prompt"], best["score"]
        self.set_block_state(state, block)
        return components, state


@signed(PlanOptions)
def modular_block(plan: Any = None, **options: Unpack[PlanOptions]) -> OptimizePromptBlock:
    """The block for a plan (what `make_plan` returns) or for its options."""
    return OptimizePromptBlock(given_plan("modular_block", plan, options))
