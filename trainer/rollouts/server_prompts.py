"""Whether a server renders prompts as the trainer does: each distinct one is compared, differences counted by kind."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping
from threading import Lock

from transformers import PreTrainedTokenizerBase

from trainer.rollouts.base import Prompt
from trainer.rollouts.rendering import renderer_of
from trainer.rollouts.template_mismatch import TemplateMismatch, classify_mismatch

log = logging.getLogger(__name__)


class ServerPrompts:
    """The prompts of one sampler's servers beside the trainer's own. Safe to use from several threads."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self._tokenizer = tokenizer
        self._mismatches: Counter[TemplateMismatch] = Counter()
        self._noted: set[tuple[int, ...]] = set()
        self._reported: dict[str, int] = {}
        self._lock = Lock()

    @property
    def mismatches(self) -> Mapping[TemplateMismatch, int]:
        """How many distinct prompts the server rendered otherwise than the trainer, by kind."""
        return dict(self._mismatches)

    def compare(self, prompt: Prompt, ours: tuple[int, ...], theirs: tuple[int, ...]) -> None:
        """Note how the server's token ids of a prompt differ from ours, if they do."""
        if theirs == ours:
            return
        own = renderer_of(self._tokenizer).text(prompt.messages, prompt.tools)
        server = str(
            self._tokenizer.decode(list(theirs), skip_special_tokens=False, clean_up_tokenization_spaces=False)
        )
        self.note(ours, classify_mismatch(own, server) or TemplateMismatch.TOKENISATION)

    def note(self, ours: tuple[int, ...], kind: TemplateMismatch) -> None:
        """Count a prompt once, however often it is asked."""
        with self._lock:
            if ours not in self._noted:
                self._noted.add(ours)
                self._mismatches[kind] += 1

    def report(self) -> None:
        """Say what was found since the last call; prompts themselves stay out of the log."""
        found = {str(kind): count for kind, count in self._mismatches.items()}
        if found != self._reported:
            self._reported = found
            kinds = " ".join(f"{kind}={count}" for kind, count in sorted(found.items()))
            log.warning("server renders prompts otherwise than the trainer: %s", kinds)
