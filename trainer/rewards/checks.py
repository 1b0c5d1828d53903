"""The built-in checks: programs that look at one answer. Name → function in `BUILT_IN`; parameters are keywords.

A check returns a score in [0, 1], or `None` with a reason when it does not apply: an answer without tool calls is
neither good nor bad at calling tools, and free credit would teach the policy not to call any.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache

from jsonschema import Draft202012Validator
from jsonschema.exceptions import SchemaError, ValidationError
from referencing import Registry
from referencing.exceptions import Unresolvable

from spanloop.convert import parse_json
from spanloop.hashing import canonical_json
from spanloop.records import Message, Role, ToolCall
from trainer.rewards.base import Answer

CheckResult = tuple[float | None, str | None]
"""Score (or `None`: does not apply) and the reason a person reads."""

UNPARSED_CALL = "<tool_call>"
"""What is left in the text when a model's call could not be parsed."""

NO_CALLS = (None, "no tool calls")


def tool_calls_valid(answer: Answer) -> CheckResult:
    """Share of calls that name a known tool and whose arguments fit its schema; a call left unparsed scores 0."""
    if UNPARSED_CALL in answer.message.text:
        return 0.0, "a tool call could not be parsed"
    return _share(answer.message.tool_calls, lambda call: _call_problem(call, answer))


def json_valid(answer: Answer, *, where: str = "arguments") -> CheckResult:
    """Whether JSON parses: `where` is `arguments` (share of calls with a JSON object) or `answer` (the text)."""
    if where == "answer":
        return (1.0, None) if _is_json(answer.message.text) else (0.0, "the answer is not JSON")
    if where != "arguments":
        raise ValueError(f"json_valid: where is {where!r}; use 'arguments' or 'answer'")
    if UNPARSED_CALL in answer.message.text:
        return 0.0, "a tool call could not be parsed"
    return _share(answer.message.tool_calls, lambda call: _arguments(call)[1])


def no_repeated_tool_call(answer: Answer, *, ignore: Sequence[str] = ()) -> CheckResult:
    """Share of calls that equal no other call of the answer and none recorded before it, arguments as JSON values.

    `ignore` names tools that may well be called again (a clock, a search whose results change).
    """
    seen = {_key(call) for message in answer.point.messages for call in message.tool_calls}
    problems: list[str | None] = []
    for call in answer.message.tool_calls:
        repeated = _key(call) in seen and call.name not in ignore
        problems.append("a call repeats an earlier one" if repeated else None)
        seen.add(_key(call))
    return _share_of(problems)


def answer_not_empty(answer: Answer) -> CheckResult:
    """1 when the answer says something or calls a tool."""
    return (1.0, None) if _says_something(answer.message) else (0.0, "the answer is empty")


def finished(answer: Answer) -> CheckResult:
    """1 when the answer says something or calls a tool, and was not cut off by the token limit."""
    if answer.finish_reason == "length":
        return 0.0, "the answer was cut off"
    return answer_not_empty(answer)


BUILT_IN: Mapping[str, Callable[..., CheckResult]] = {
    "tool_calls_valid": tool_calls_valid,
    "json_valid": json_valid,
    "no_repeated_tool_call": no_repeated_tool_call,
    "answer_not_empty": answer_not_empty,
    "finished": finished,
}


def _share(calls: Sequence[ToolCall], problem: Callable[[ToolCall], str | None]) -> CheckResult:
    return _share_of([problem(call) for call in calls])


def _share_of(problems: Sequence[str | None]) -> CheckResult:
    if not problems:
        return NO_CALLS
    found = [problem for problem in problems if problem is not None]
    return 1 - len(found) / len(problems), "; ".join(dict.fromkeys(found)) or None


def _key(call: ToolCall) -> tuple[str, str]:
    return call.name, canonical_json(call.arguments)


def _says_something(message: Message) -> bool:
    return message.role is Role.ASSISTANT and bool(message.text.strip() or message.tool_calls)


def _is_json(text: str) -> bool:
    try:
        parse_json(_without_fence(text))
    except ValueError:
        return False
    return True


def _without_fence(text: str) -> str:
    """The text inside a Markdown code fence, where the whole answer is one."""
    lines = text.strip().splitlines()
    fenced = len(lines) > 1 and lines[0].startswith("```") and lines[-1].strip() == "```"
    return "\n".join(lines[1:-1]) if fenced else text


def _arguments(call: ToolCall) -> tuple[object, str | None]:
    try:
        value = parse_json(call.arguments)
    except ValueError:
        return None, "arguments are not JSON"
    return value, None if isinstance(value, dict) else "arguments are not an object"


def _call_problem(call: ToolCall, answer: Answer) -> str | None:
    tool = next((tool for tool in answer.point.tools if tool.name == call.name), None)
    if tool is None:
        return "unknown tool"
    value, problem = _arguments(call)
    if problem is not None or tool.parameters is None:
        return problem
    try:
        _validator(tool.parameters).validate(value)
    except ValidationError as error:
        return f"arguments do not fit the schema ({error.validator} at {error.json_path})"
    return None


class UnusableSchemaError(ValueError):
    """A recorded tool's schema is no JSON Schema: no answer is to blame, so the criterion is unscored."""


@lru_cache(maxsize=1024)
def _validator(schema_text: str) -> Draft202012Validator:
    try:
        schema = json.loads(schema_text)
        Draft202012Validator.check_schema(schema)
    except (ValueError, SchemaError) as error:
        raise UnusableSchemaError("the tool's schema is no JSON Schema") from error
    # An empty registry keeps a `$ref` in recorded data from reaching for the network.
    return Draft202012Validator(schema, registry=Registry())


NOT_THE_ANSWERS_FAULT = (UnusableSchemaError, Unresolvable)
"""Errors of the recorded data: the criterion is unscored, and the check is not counted as broken."""
