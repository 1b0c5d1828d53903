"""How a prompt differs from the record, counted by class."""

from __future__ import annotations

from dataclasses import replace

from tests.unit.trainer.factories import make_point, make_rollout
from tests.unit.trainer.rollouts.models import byte_tokenizer
from trainer.answers import AnsweredPoint
from trainer.prompt_differences import count_differences
from trainer.rollouts.rendering import render_prompt
from trainer.rollouts.template_mismatch import TemplateMismatch


def test_a_prompt_that_lost_a_message_is_counted_beside_one_that_is_whole():
    """One of two prompts lacks the recorded user message; a refused point is not compared; a server's count is kept."""
    tokenizer, point = byte_tokenizer(), make_point()
    whole = render_prompt(tokenizer, point.messages, point.tools)
    lost = render_prompt(tokenizer, (replace(point.messages[-1], parts=()),), point.tools)
    asked = [
        AnsweredPoint(point=point, rollouts=(replace(make_rollout(0), prompt_token_ids=ids),)) for ids in (whole, lost)
    ]
    refused = AnsweredPoint(point=point, refused="too long")
    found = count_differences([*asked, refused], tokenizer, {TemplateMismatch.WHITESPACE: 3})
    assert {"prompts/compared": 2.0, "prompts/recorded/other": 1.0, "prompts/server/whitespace": 3.0} == found
