"""Carriers that hold a call's raw request and response: `input.value` and `output.value`, or one JSON blob each.

They are read only when a call's other carriers are not sound, since they double the work.
"""

from __future__ import annotations

import re
from functools import cached_property

from otel_receiver.dialects.candidates import Carried
from otel_receiver.dialects.json_text import JsonProblem, JsonText, looks_like_json, read_structured
from otel_receiver.dialects.notes import Notes, is_redacted
from otel_receiver.dialects.python_reprs import has_reprs, repr_answer, repr_prompt
from otel_receiver.dialects.raw import RawResponse, read_request, read_response, request_model, request_tools
from otel_receiver.dialects.streams import joined_stream
from otel_receiver.dialects.tool_ids import complete_ids
from otel_receiver.dialects.tools import read_tools
from otel_receiver.dialects.values import as_items, as_mapping, as_text, first_word
from spanloop.records import QualityFlag, ToolDefinition

_PREVIOUS = "previous_response_id"
_CALL_MARKS = ('"tool_calls":[{', '"tool_calls": [{', '"tool_use"', '"toolUse"', '"functionCall"', '"function_call": {')
_OBJECT = re.compile(r'(?:\{"messages": ")?<[\w.]+ object at 0x[0-9a-fA-F]+>(?:"\})?')
"""What Python writes of an object that tells nothing of itself, such as a stream that a sender cannot read."""


class RawValues:
    """A span's raw request and response, each parsed at most once and only when asked for."""

    def __init__(self, request: object, response: object) -> None:
        self._request = request
        self._response = response

    @cached_property
    def request(self) -> JsonText:
        """The request's structure."""
        return read_structured(self._request)

    @cached_property
    def response(self) -> JsonText:
        """The response's structure."""
        return read_structured(self._response)

    @property
    def has_both(self) -> bool:
        """Whether the span carries a request and a response."""
        return as_text(self._request) is not None and as_text(self._response) is not None

    @property
    def is_request_cut(self) -> bool:
        """Whether the request is JSON that a length limit cut; looks at its ends only."""
        text = as_text(self._request)
        return text is not None and looks_like_json(text) and text.rstrip()[-1:] not in ("}", "]")

    @property
    def request_length(self) -> int:
        """Characters of the request as carried."""
        text = as_text(self._request)
        return len(text) if text is not None else 0

    @property
    def num_choices(self) -> int:
        """How many alternative answers the response holds; 0 when it does not say."""
        source = as_mapping(self.response.value) or {}
        return len(as_items(source.get("choices")) or ())

    def request_mentions(self, word: str) -> bool:
        """Whether the word stands anywhere in the request: cheap, before parsing it."""
        return _mentions(self._request, word)

    @property
    def answers_with_calls(self) -> bool:
        """Whether the response mentions tool calls as only an answer with some does: cheap, before parsing it."""
        return any(_mentions(self._response, mark) for mark in _CALL_MARKS)

    def prompt(self) -> Carried | None:
        """The prompt in the request."""
        if self._request is None or not _is_readable(self._request):
            return None
        notes = Notes()
        value = self.request.value
        if self.request.problem is JsonProblem.CUT:
            notes.flag(QualityFlag.PROMPT_TRUNCATED)
        elif self.request.problem is not None:
            value = self._request
        messages = repr_prompt(value, notes) if has_reprs(value) else read_request(value, notes)
        return Carried(messages=complete_ids(messages, notes), notes=notes) if messages else None

    def answer(self) -> Carried | None:
        """The answer in the response."""
        if self._response is None or not _is_readable(self._response):
            return None
        response, notes = self._read_response
        message = response.message
        if message is None:
            return None
        return Carried(messages=(message,), notes=notes, finish_reason=response.finish_reason)

    @property
    def about(self) -> RawResponse:
        """What the response says beside the answer."""
        return self._read_response[0]

    @cached_property
    def _read_response(self) -> tuple[RawResponse, Notes]:
        notes = Notes()
        value = self.response.value
        if self.response.problem is JsonProblem.CUT:
            notes.flag(QualityFlag.OUTPUT_TRUNCATED)
        elif self.response.problem is not None:
            value = self._response
        read = repr_answer(value, notes) if has_reprs(value) else read_response(joined_stream(value), notes)
        return read, notes

    def tools(self, notes: Notes) -> tuple[ToolDefinition, ...] | None:
        """The tools in the request; none at all when a whole request names a model and messages but no tools.

        A request without tools whose answer calls one is not whole.
        """
        source = as_mapping(self.request.value)
        if source is None:
            return None
        tools = read_tools(request_tools(source), notes)
        if tools is not None or not {"messages", "model"} <= set(source):
            return tools
        return None if self.answers_with_calls else ()

    @property
    def continues_response_id(self) -> str | None:
        """The response that the request goes on from, as the request says it or OpenAI's response repeats it."""
        asked = self.request.value if self.request_mentions(_PREVIOUS) else None
        found = first_word(as_mapping(asked) or {}, _PREVIOUS)
        if found is not None or not _mentions(self._response, _PREVIOUS):
            return found
        return first_word(as_mapping(self.response.value) or {}, _PREVIOUS)

    @property
    def model(self) -> str | None:
        """The model the request asks for."""
        return request_model(self.request.value) if self.request_mentions('"model') else None


def _mentions(value: object, word: str) -> bool:
    text = as_text(value)
    return word in text if text is not None else value is not None


def _is_readable(value: object) -> bool:
    text = as_text(value)
    return text is None or (text != "" and not is_redacted(text) and _OBJECT.fullmatch(text) is None)
