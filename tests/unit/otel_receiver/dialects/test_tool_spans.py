"""Executions of tools as LangChain writes them: Python's texts of arguments and messages."""

from __future__ import annotations

import pytest

from otel_receiver.dialects.registry import read_span
from tests.unit.otel_receiver.dialects.factories import make_span

TOOL = {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "f"}


@pytest.mark.parametrize(
    ("asked", "arguments"), [("{'city': 'Paris'}", '{"city":"Paris"}'), ('{"city": "Paris"}', '{"city": "Paris"}')]
)
def test_arguments_as_python_writes_them(asked, arguments):
    """A dictionary's repr is the JSON of its value; JSON stays as carried."""
    (execution,) = read_span(make_span({**TOOL, "gen_ai.tool.call.arguments": asked})).tool_executions
    assert arguments == execution.arguments


def test_a_result_that_is_a_messages_repr():
    """The text of a tool message is its fields; the result is its content and the id its call's."""
    told = "content='sunny, 21 degrees' name='f' tool_call_id='c1'"
    (execution,) = read_span(make_span({**TOOL, "gen_ai.tool.call.result": told})).tool_executions
    assert ("sunny, 21 degrees", "c1") == (execution.result, execution.call_id)
    (execution,) = read_span(make_span({**TOOL, "gen_ai.tool.call.result": "content='x'"})).tool_executions
    assert "content='x'" == execution.result
