"""How the prompts of a run differ from what was recorded, counted by class, in the figures of each update.

Telemetry records messages and tools, never the text a production server rendered from them, so there is no recorded
prompt text to compare with. Two comparisons remain, and both are counted:

- `prompts/recorded/<class>`: points of this step whose prompt, as the policy was asked it, does not show a part of the
  recorded messages or tools as they were recorded;
- `prompts/server/<class>`: distinct prompts of the run so far that a vLLM server rendered otherwise than the policy's
  own chat template (none with the in-process sampler).
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence

from transformers import PreTrainedTokenizerBase

from trainer.answers import AnsweredPoint
from trainer.rollouts.template_mismatch import TemplateMismatch, recorded_state_faults
from trainer.workspace import Workspace

RECORDED, SERVER, COMPARED = "prompts/recorded/", "prompts/server/", "prompts/compared"
"""Names of the figures: two by class, and how many points of the step were compared."""


def count_differences(
    answered: Sequence[AnsweredPoint],
    tokenizer: PreTrainedTokenizerBase,
    server: Mapping[TemplateMismatch, int],
) -> dict[str, float]:
    """The figures of a step; a class that did not occur has none."""
    asked = [item for item in answered if item.rollouts]
    faults = Counter(fault for item in asked for fault in _faults(item, tokenizer))
    return {
        COMPARED: float(len(asked)),
        **{f"{RECORDED}{kind}": float(count) for kind, count in sorted(faults.items())},
        **{f"{SERVER}{kind}": float(count) for kind, count in sorted(server.items())},
    }


def _faults(item: AnsweredPoint, tokenizer: PreTrainedTokenizerBase) -> frozenset[TemplateMismatch]:
    ids = list(item.rollouts[0].prompt_token_ids)
    prompt = str(tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False))
    return recorded_state_faults(item.point.messages, item.point.tools, prompt)


def describe_differences(workspace: Workspace, run_id: str) -> str:
    """A run's counts in one line: the steps' points summed, the servers' prompts as they stood last."""
    totals: Counter[str] = Counter()
    for (metrics,) in workspace.query("SELECT metrics FROM updates WHERE run_id = ? ORDER BY step", [run_id]):
        for name, value in json.loads(str(metrics)).items():
            if name == COMPARED or name.startswith(RECORDED):
                totals[name] += int(value)
            elif name.startswith(SERVER):
                totals[name] = max(totals[name], int(value))
    return " ".join(f"{name.removeprefix('prompts/')}={count}" for name, count in sorted(totals.items()))
