"""OpenInference spans, flavour by flavour, and what one span alone tells about its trustworthiness."""

from __future__ import annotations

import json

import pytest

from otel_receiver.dialects.registry import read_span
from otel_receiver.spans import SpanStatus
from spanloop.records import QualityFlag, ToolDefinition, ToolStatus, Usage
from tests.unit.otel_receiver.dialects.factories import brief, make_event, make_span

KIND = "openinference.span.kind"


def llm(**attributes):
    """An LLM span with one question and one answer, changed by these attributes (a dot is written `__`)."""
    held = {
        KIND: "LLM",
        "llm.model_name": "m",
        "llm.input_messages.0.message.role": "system",
        "llm.input_messages.0.message.content": "Be brief.",
        "llm.input_messages.1.message.role": "user",
        "llm.input_messages.1.message.content": "Hi",
        "llm.output_messages.0.message.role": "assistant",
        "llm.output_messages.0.message.content": "Hello",
    }
    held.update({key.replace("__", "."): value for key, value in attributes.items()})
    return {key: value for key, value in held.items() if value is not None}


def read_call(attributes, **fields):
    """The model call of a span with these attributes."""
    (call,) = read_span(make_span(attributes, **fields)).model_calls
    return call


def test_an_intact_call_has_no_flag():
    """Messages, answer and model are read and nothing is flagged."""
    call = read_call(llm())
    assert [("system", "Be brief."), ("user", "Hi")] == brief(call.messages)
    assert call.output is not None
    assert ("Hello", "m", None, frozenset()) == (call.output.text, call.model, call.response_model, call.flags)


def test_evicted_attributes_truncate_the_prompt():
    """A span that dropped attributes may have lost its oldest messages, however whole the rest looks."""
    assert QualityFlag.PROMPT_TRUNCATED in read_call(llm(), dropped_attributes_count=3).flags


@pytest.mark.parametrize("lost", [0, 1])
def test_a_missing_index_truncates_the_prompt(lost):
    """A first index above zero and a gap in the middle both mean that messages were lost."""
    attributes = llm(
        **{
            "llm__input_messages__2__message__role": "user",
            "llm__input_messages__2__message__content": "Hm",
            f"llm__input_messages__{lost}__message__role": None,
            f"llm__input_messages__{lost}__message__content": None,
        }
    )
    assert {QualityFlag.PROMPT_TRUNCATED} == read_call(attributes).flags


def test_a_whole_raw_request_repairs_missing_indexes():
    """The raw request has what the indexes lost: its messages are taken and the flag goes."""
    attributes = llm(
        llm__input_messages__0__message__role=None,
        llm__input_messages__0__message__content=None,
        input__value=json.dumps(
            {
                "model": "asked",
                "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}],
            }
        ),
    )
    call = read_call(attributes)
    assert [("system", "Be brief."), ("user", "Hi")] == brief(call.messages)
    assert (frozenset(), "asked", "m") == (call.flags, call.model, call.response_model)


def test_a_value_limit_that_cut_a_message_truncates_the_prompt():
    """The raw request tells the limit by its own length: a message of that length was cut too."""
    attributes = llm(input__value='{"messages": [{"role": "sys', llm__input_messages__0__message__content="x" * 27)
    assert {QualityFlag.PROMPT_TRUNCATED} == read_call(attributes).flags


def test_a_value_limit_that_cut_only_the_raw_request_is_harmless():
    """Messages shorter than the limit were not cut."""
    attributes = llm(input__value='{"messages": [{"role": "sys')
    assert frozenset() == read_call(attributes).flags


def test_hidden_content_is_flagged():
    """OpenInference writes a marker over content it hides."""
    attributes = llm(llm__input_messages__1__message__content="__REDACTED__")
    assert {QualityFlag.CONTENT_REDACTED} == read_call(attributes).flags


def test_counts_without_content_mean_that_capture_was_off():
    """Token counts alone are a call whose content is missing."""
    call = read_call({KIND: "LLM", "llm.model_name": "m", "llm.token_count.prompt": 5, "llm.token_count.completion": 2})
    assert (Usage(input_tokens=5, output_tokens=2), {QualityFlag.CONTENT_MISSING}) == (call.usage, call.flags)


def test_contents_and_calls_of_the_anthropic_flavour_are_not_doubled():
    """Text and calls that stand in `contents` and beside it are read once; reasoning keeps its signature."""
    prefix = "llm.output_messages.0.message"
    call = read_call(
        {
            **llm(llm__output_messages__0__message__content=None),
            f"{prefix}.contents.0.message_content.type": "reasoning",
            f"{prefix}.contents.0.message_content.text": "think",
            f"{prefix}.contents.0.message_content.signature": "sig",
            f"{prefix}.contents.1.message_content.type": "text",
            f"{prefix}.contents.1.message_content.text": "Let me check.",
            f"{prefix}.contents.2.message_content.type": "tool_use",
            f"{prefix}.contents.2.message_content.tool_call.id": "a",
            f"{prefix}.contents.2.message_content.tool_call.function.name": "f",
            f"{prefix}.contents.2.message_content.tool_call.function.arguments": "{}",
            f"{prefix}.tool_calls.0.tool_call.id": "a",
            f"{prefix}.tool_calls.0.tool_call.function.name": "f",
            f"{prefix}.tool_calls.0.tool_call.function.arguments": "{}",
        }
    )
    assert call.output is not None
    assert [("assistant", {"reasoning": "think"}, "Let me check.", ("a", "f", "{}"))] == brief([call.output])


def test_an_error_told_only_in_the_raw_request_is_found():
    """Anthropic's `is_error` stands in the raw request alone."""
    attributes = llm(
        llm__input_messages__2__message__role="tool",
        llm__input_messages__2__message__tool_call_id="a",
        llm__input_messages__2__message__content="boom",
        input__value=json.dumps(
            {
                "system": "Be brief.",
                "messages": [
                    {"role": "user", "content": "Hi"},
                    {
                        "role": "user",
                        "content": [{"type": "tool_result", "tool_use_id": "a", "content": "boom", "is_error": True}],
                    },
                ],
            }
        ),
    )
    result = read_call(attributes).messages[-1].tool_result
    assert result is not None
    assert ToolStatus.ERROR == result.status


def test_several_outputs_are_one_turn_unless_they_are_choices():
    """Items of one Responses turn are joined; of several choices only the first is the action."""
    prefix = "llm.output_messages.1.message"
    items = {
        **llm(),
        f"{prefix}.role": "assistant",
        f"{prefix}.tool_calls.0.tool_call.id": "a",
        f"{prefix}.tool_calls.0.tool_call.function.name": "f",
        f"{prefix}.tool_calls.0.tool_call.function.arguments": "{}",
    }
    call = read_call(items)
    assert call.output is not None
    assert [("assistant", "Hello", ("a", "f", "{}"))] == brief([call.output])
    choices = [{"message": {"role": "assistant", "content": "Hello"}}, {"message": {"role": "assistant"}}]
    call = read_call({**items, "output.value": json.dumps({"choices": choices})})
    assert call.output is not None
    assert [("assistant", "Hello")] == brief([call.output])


def test_a_whole_request_without_tools_offered_none():
    """A raw request that names model and messages but no tools says that there were none; its absence says nothing."""
    raw = json.dumps({"model": "m", "messages": [{"role": "user", "content": "Hi"}]})
    assert () == read_call(llm(input__value=raw)).tools
    assert read_call(llm()).tools is None


def test_a_cut_tool_schema_truncates_the_prompt():
    """A tool whose schema was cut stays named, and the prompt is known to be incomplete."""
    call = read_call(llm(llm__tools__0__tool__json_schema='{"type": "function", "function": {"name": "f", "param'))
    assert QualityFlag.PROMPT_TRUNCATED in call.flags


def test_tool_parameters_are_arguments_or_schema_by_their_shape():
    """Agno writes arguments into `tool.parameters`, openai-agents the schema."""
    schema = '{"type":"object","properties":{"city":{"type":"string"}}}'
    base = {KIND: "TOOL", "tool.name": "f", "input.value": '{"city": "Paris"}', "output.value": "sunny"}
    (agno,) = read_span(make_span({**base, "tool.parameters": '{"city": "Paris"}'})).tool_executions
    (agents,) = read_span(make_span({**base, "tool.parameters": schema})).tool_executions
    assert (None, ToolDefinition(name="f", parameters=schema)) == (agno.definition, agents.definition)
    assert '{"city": "Paris"}' == agno.arguments == agents.arguments


def test_a_tool_that_failed_is_an_error():
    """A tool span with an error keeps its exception; LangChain's message says the error in its status."""
    exception = make_event("exception", {"exception.type": "ValueError", "exception.message": "no such city"})
    span = make_span({KIND: "TOOL", "tool.name": "f"}, status=SpanStatus.ERROR, events=(exception,))
    reading = read_span(span)
    assert (ToolStatus.ERROR, None) == (reading.tool_executions[0].status, reading.tool_executions[0].result)
    assert "ValueError: no such city" == reading.span.error
    output = json.dumps({"type": "tool", "data": {"content": "boom", "tool_call_id": "a", "status": "error"}})
    (execution,) = read_span(make_span({KIND: "TOOL", "tool.name": "f", "output.value": output})).tool_executions
    assert ("a", "boom", ToolStatus.ERROR) == (execution.call_id, execution.result, execution.status)


def test_smolagents_text_calls_and_observations_become_calls_and_results():
    """Earlier calls and their results are written as text; the ids in it join them."""
    calls = "[{'id': 'a', 'type': 'function', 'function': {'name': 'f', 'arguments': {'city': 'Paris'}}}]"
    call = read_call(
        llm(
            llm__input_messages__2__message__role="tool-call",
            llm__input_messages__2__message__content=f"Calling tools:\n{calls}",
            llm__input_messages__3__message__role="tool-response",
            llm__input_messages__3__message__content="Observation:\nsunny",
        )
    )
    assert [("assistant", ("a", "f", '{"city":"Paris"}')), ("tool", ("a", "sunny"))] == brief(call.messages[2:])


def test_haystack_content_is_read_from_its_reprs():
    """Haystack's indexed messages keep roles only; the reprs in the raw values have the content."""
    prompt = [
        "ChatMessage(_role=<ChatRole.USER: 'user'>, _content=[TextContent(text='Weather?')], _name=None, _meta={})",
        "ChatMessage(_role=<ChatRole.ASSISTANT: 'assistant'>, _content=[ToolCall(tool_name='f', arguments={'c': 1}, "
        "id='a')], _name=None, _meta={})",
        "ChatMessage(_role=<ChatRole.TOOL: 'tool'>, _content=[ToolCallResult(result='sunny', origin=ToolCall("
        "tool_name='f', arguments={'c': 1}, id='a'), error=False)], _name=None, _meta={})",
    ]
    answer = "ChatMessage(_role=<ChatRole.ASSISTANT: 'assistant'>, _content=[TextContent(text='Sunny.')], _name=None)"
    attributes = {KIND: "LLM", "llm.model_name": "m", "input.value": json.dumps({"messages": prompt})}
    for index, role in enumerate(("user", "assistant", "tool")):
        attributes[f"llm.input_messages.{index}.message.role"] = role
    attributes["llm.output_messages.0.message.role"] = "assistant"
    attributes["output.value"] = json.dumps({"replies": [answer]})
    call = read_call(attributes)
    assert [("user", "Weather?"), ("assistant", ("a", "f", '{"c":1}')), ("tool", ("a", "sunny"))] == brief(
        call.messages
    )
    assert call.output is not None
    assert ("Sunny.", frozenset()) == (call.output.text, call.flags)


def test_ids_that_only_the_raw_answer_has_are_taken_from_it():
    """Indexed calls without ids yield to the raw reply that carries them; nothing is made up."""
    prefix = "llm.output_messages.0.message.tool_calls.0.tool_call.function"
    message = {"role": "assistant", "tool_calls": [{"id": "a", "function": {"name": "f", "arguments": "{}"}}]}
    call = read_call(
        {
            **llm(llm__output_messages__0__message__content=None),
            f"{prefix}.name": "f",
            f"{prefix}.arguments": "{}",
            "output.value": json.dumps({"choices": [{"message": message}]}),
        }
    )
    assert call.output is not None
    assert ([("assistant", ("a", "f", "{}"))], frozenset()) == (brief([call.output]), call.flags)


def test_haystack_tools_are_read_from_their_reprs():
    """Tools that stand only as reprs in the raw request keep name, description and schema."""
    tool = "Tool(name='f', description='d', parameters={'type': 'object'}, function=<function f at 0x7faa>)"
    raw = json.dumps({"messages": [{"role": "user", "content": "Hi"}], "tools": [tool]})
    expected = (ToolDefinition(name="f", description="d", parameters='{"type":"object"}'),)
    assert expected == read_call(llm(input__value=raw)).tools


def test_dspy_names_a_tool_by_its_span_alone():
    """The span is of the tool's own `__call__`; arguments stand among the keyword arguments, a text is quoted."""
    asked = {KIND: "TOOL", "input.value": '{"kwargs": {"city": "Paris"}}'}
    told = {"output.value": '"sunny"', "output.mime_type": "application/json"}
    (execution,) = read_span(make_span({**asked, **told}, name="get_weather.__call__")).tool_executions
    assert ("get_weather", '{"city":"Paris"}', "sunny") == (execution.name, execution.arguments, execution.result)


def test_llama_index_wraps_a_tools_result():
    """The result stands in blocks, with a mark whether it is an error."""
    output = json.dumps({"blocks": [{"text": "boom"}], "tool_name": "f", "raw_output": "boom", "is_error": True})
    (execution,) = read_span(make_span({KIND: "TOOL", "tool.name": "f", "output.value": output})).tool_executions
    assert ("boom", ToolStatus.ERROR) == (execution.result, execution.status)


def test_llama_index_calls_that_call_nothing_are_no_calls():
    """A span of kind LLM that only prepares a call reports none; the model is in the raw response."""
    assert () == read_span(make_span(llm(), name="OpenAI._prepare_chat_with_tools")).model_calls
    raw = json.dumps({"message": {}, "raw": {"id": "r", "model": "m-2025", "choices": [{"finish_reason": "stop"}]}})
    call = read_call(llm(output__value=raw))
    assert ("stop", "r", "m-2025") == (call.finish_reason, call.response_id, call.response_model)


def test_llama_index_names_the_agent_around_its_calls():
    """The step's input is a repr whose last field is the agent; a user's words that look like it come before."""
    said = "AgentSetup(input=[ChatMessage(text=\"current_agent_name='me'\")], current_agent_name='weather')"
    step = {KIND: "CHAIN", "input.value": json.dumps({"ev": said})}
    reading = read_span(make_span(step, name="BaseWorkflowAgent.run_agent_step"))
    assert "weather" == reading.context.agent_name
    assert None is read_span(make_span(step, name="other")).context.agent_name
    assert None is read_span(make_span({KIND: "CHAIN"}, name="BaseWorkflowAgent.run_agent_step")).context.agent_name


@pytest.mark.parametrize(("kind", "auxiliary"), [("EVALUATOR", True), ("GUARDRAIL", True), ("CHAIN", False)])
def test_spans_that_judge_mark_what_runs_below_them(kind, auxiliary):
    """Evaluators and guardrails say that calls below them are not the policy's."""
    run = read_span(make_span({KIND: kind})).agent
    assert run is not None
    assert (False, auxiliary) == (run.is_agent, run.auxiliary)


@pytest.mark.parametrize(
    ("metadata", "agent"),
    [
        ({"langgraph_node": "model", "langgraph_checkpoint_ns": "model:1"}, None),
        ({"langgraph_node": "researcher", "langgraph_checkpoint_ns": "researcher:1"}, "researcher"),
        ({"langgraph_node": "model", "langgraph_checkpoint_ns": "writer:1|model:2"}, "writer"),
        ({"langgraph_node": "model", "lc_agent_name": "planner"}, "planner"),
    ],
)
def test_langgraph_tells_the_agent_in_its_metadata(metadata, agent):
    """The enclosing graph's node or the agent's name is the agent; the prebuilt agents' own steps are not."""
    assert agent == read_span(make_span(llm(metadata=json.dumps(metadata)))).context.agent_name


def test_the_conversation_is_in_the_session_or_in_the_metadata():
    """A thread id in the metadata is the conversation where no session is set."""
    reading = read_span(make_span(llm(metadata='{"thread_id": "t-1"}', user__id="u")))
    assert ("t-1", "u") == (reading.context.conversation_id, reading.context.user_id)
    assert "s" == read_span(make_span(llm(metadata='{"thread_id": "t-1"}', session__id="s"))).context.conversation_id
