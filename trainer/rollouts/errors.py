"""What can go wrong between a prompt and its rollouts."""

from __future__ import annotations

from collections.abc import Sequence

from trainer.errors import TrainerError


class SamplerError(TrainerError):
    """A sampler could not answer."""


class ContextLimitError(SamplerError):
    """Prompts leave no room for an answer in the policy's context; nothing was sampled.

    `prompt_ids` names every one of them, so that a caller can drop them all and ask again once.
    """

    def __init__(self, lengths: Sequence[tuple[str, int]], limit: int) -> None:
        named = ", ".join(f"{prompt_id} ({length} tokens)" for prompt_id, length in lengths[:5])
        more = f" and {len(lengths) - 5} more" if len(lengths) > 5 else ""
        super().__init__(
            f"prompt {named}{more}: no room for an answer in a context of {limit} tokens; "
            "drop these points or use a policy with a longer context"
        )
        self.prompt_ids = tuple(prompt_id for prompt_id, _ in lengths)
