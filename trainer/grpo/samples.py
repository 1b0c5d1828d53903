"""What the engine trains on: token ids, which of them the policy produced, and an advantage.

A sample holds one or more segments. One answer to one prompt is one segment; an episode with several model calls has
one per call, so that templates which rewrite the history between calls need no special case: the token trie merges
whatever the segments really share.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from trainer.errors import TrainerError


class SampleError(TrainerError):
    """A sample that cannot be trained."""


class SampleSource(StrEnum):
    """Who acted: decides which loss term a sample gets."""

    ON_POLICY = "on_policy"
    """Sampled from the policy being trained (or a version of it not many updates old)."""
    RECORDED = "recorded"
    """An action of the recorded agent: never scored by a ratio with probabilities nobody measured."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """One prompt and the tokens produced after it; exactly those tokens are trained."""

    prompt_ids: tuple[int, ...]
    token_ids: tuple[int, ...]
    """May be empty: an answer of no tokens has nothing to train, but counts in its group."""
    logprobs: tuple[float, ...] | None = None
    """Of each token under the policy that produced it, at its temperature. `None`: not measured."""

    def __post_init__(self) -> None:
        """Refuse what has no first prediction or no log-probability per token."""
        if not self.prompt_ids:
            raise SampleError("segment: the prompt has no tokens, so nothing predicts the first one; add a start token")
        if self.logprobs is not None and len(self.logprobs) != len(self.token_ids):
            raise SampleError(f"segment: {len(self.token_ids)} tokens but {len(self.logprobs)} log-probabilities")


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One scored answer (or episode) with its advantage."""

    segments: tuple[Segment, ...]
    advantage: float
    temperature: float = 1.0
    """At which it was sampled; the learner divides its logits by it too."""
    source: SampleSource = SampleSource.ON_POLICY

    def __post_init__(self) -> None:
        """Refuse advantages and temperatures no gradient can come from."""
        if not math.isfinite(self.advantage):
            raise SampleError(f"sample: advantage {self.advantage}; leave unscored answers out of the update")
        if not self.temperature > 0:
            raise SampleError(f"sample: temperature {self.temperature}; greedy answers have no distribution to train")

    @property
    def num_tokens(self) -> int:
        """Trained tokens."""
        return sum(len(segment.token_ids) for segment in self.segments)

    @property
    def num_logical_tokens(self) -> int:
        """Tokens a trainer computes that shares nothing between samples."""
        return sum(len(segment.prompt_ids) + len(segment.token_ids) for segment in self.segments)


def logical_tokens(samples: Sequence[Sample]) -> int:
    """Prompt and answer tokens of all samples, nothing shared."""
    return sum(sample.num_logical_tokens for sample in samples)
