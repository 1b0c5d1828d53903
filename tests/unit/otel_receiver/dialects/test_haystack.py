"""Haystack's own tracer, and what OpenInference says of Haystack beside model calls."""

from __future__ import annotations

import json

import pytest

from otel_receiver.dialects.registry import read_span
from otel_receiver.spans import SpanStatus
from spanloop.records import QualityFlag, ToolStatus, Usage
from tests.unit.otel_receiver.dialects.factories import brief, make_span

CALL = {"tool_name": "look", "arguments": {"at": "sky"}, "id": "c1", "extra": None}
ASKED = {"role": "user", "meta": {}, "name": None, "content": [{"text": "Well?"}]}
META = {
    "model": "m-2",
    "finish_reason": "tool_calls",
    "usage": {
        "prompt_tokens": 12,
        "completion_tokens": 3,
        "prompt_tokens_details": {"cached_tokens": 8},
        "completion_tokens_details": {"reasoning_tokens": 2},
    },
}
ANSWER = {
    "role": "assistant",
    "meta": META,
    "content": [{"reasoning": {"reasoning_text": "Hm.", "extra": {}}}, {"text": "Let me see."}, {"tool_call": CALL}],
}
RESULT = {"role": "tool", "content": [{"tool_call_result": {"result": "blue", "origin": CALL, "error": False}}]}
TOOL = {"type": "haystack.tools.tool.Tool", "data": {"name": "look", "description": "Looks.", "parameters": {}}}


def component(kind: str, inputs: object = None, outputs: object = None, **attributes: object):
    """A component's span."""
    held = {"haystack.component.type": kind, "haystack.component.name": "it", **attributes}
    for key, value in (("input", inputs), ("output", outputs)):
        if value is not None:
            held[f"haystack.component.{key}"] = value if isinstance(value, str) else json.dumps(value)
    return read_span(make_span(held, "haystack.component.run"))


def test_a_chat_generator_is_a_model_call():
    """Messages, reasoning, calls, tools, model, finish reason and every count come out of the component's content."""
    reading = component("OpenAIChatGenerator", {"messages": [ASKED], "tools": [TOOL]}, {"replies": [ANSWER]})
    (call,) = reading.model_calls
    assert [("user", "Well?")] == brief(call.messages)
    assert call.output is not None
    assert [("assistant", {"reasoning": "Hm."}, "Let me see.", ("c1", "look", '{"at":"sky"}'))] == brief([call.output])
    assert call.tools is not None
    assert [("look", "Looks.", "{}")] == [(tool.name, tool.description, tool.parameters) for tool in call.tools]
    assert ("m-2", "m-2", "tool_calls") == (call.model, call.response_model, call.finish_reason)
    assert call.usage == Usage(input_tokens=12, output_tokens=3, cache_read_tokens=8, reasoning_tokens=2)
    assert call.flags == frozenset()


def test_inputs_that_no_json_holds_are_read_from_their_repr():
    """A streaming callback makes Haystack write the inputs as a Python repr; nothing of them is lost."""
    text = (
        "{'messages': [ChatMessage(_role=<ChatRole.USER: 'user'>, _content=[TextContent(text='Well?')], _name=None, "
        "_meta={}), ChatMessage(_role=<ChatRole.TOOL: 'tool'>, _content=[ToolCallResult(result='blue', "
        "origin=ToolCall(tool_name='look', arguments={'at': 'sky'}, id='c1', extra=None), error=True)], _name=None, "
        "_meta={})], 'tools': [Tool(name='look', description='Looks.', parameters={'type': 'object'}, "
        "function=<function look at 0x7f>)], 'streaming_callback': <function <lambda> at 0x7f>}"
    )
    (call,) = component("OpenAIChatGenerator", text, {"replies": [ANSWER]}).model_calls
    assert [("user", "Well?"), ("tool", ("c1", "blue"))] == brief(call.messages)
    assert call.messages[1].tool_result is not None
    assert call.messages[1].tool_result.status is ToolStatus.ERROR
    assert call.tools is not None
    assert ["look"] == [tool.name for tool in call.tools]
    assert call.flags == frozenset()


@pytest.mark.parametrize(
    "text", ["{'messages': [ChatMessage(_role=<ChatRole.USER: 'user'>, _content=[TextContent(te", '{"messages": [{"ro']
)
def test_cut_inputs_are_flagged(text):
    """Inputs that a length limit cut, as a repr or as JSON, make no whole prompt."""
    (call,) = component("OpenAIChatGenerator", text, {"replies": [ANSWER]}).model_calls
    assert QualityFlag.PROMPT_TRUNCATED in call.flags


@pytest.mark.parametrize(
    "message",
    [
        {"_role": "user", "_content": [{"text": "Well?"}], "_name": None, "_meta": {}},
        {"role": "user", "content": "Well?", "name": None, "meta": {}},
    ],
)
def test_messages_of_older_releases_are_read(message):
    """Fields with an underscore before them, and content that is plain text."""
    (call,) = component("OpenAIChatGenerator", {"messages": [message]}, {"replies": [ANSWER]}).model_calls
    assert [("user", "Well?")] == brief(call.messages)


def test_a_generator_without_chat_is_a_model_call():
    """A prompt is what the user said; replies are texts whose metadata stand beside them."""
    outputs = {"replies": ["Blue."], "meta": [{"model": "m-2", "finish_reason": "stop"}]}
    (call,) = component("OpenAIGenerator", {"prompt": "Well?", "system_prompt": "Be brief."}, outputs).model_calls
    assert [("system", "Be brief."), ("user", "Well?")] == brief(call.messages)
    assert call.output is not None
    assert ("Blue.", "m-2", "stop") == (call.output.text, call.model, call.finish_reason)


def test_a_call_without_content_tracing_is_flagged():
    """The tracer tells that a generator ran; without content there is nothing to train on, and nothing is made up."""
    spec = {"haystack.component.output_spec": '{"replies": {"type": "list", "receivers": []}}'}
    (call,) = component("AzureOpenAIChatGenerator", **spec).model_calls
    assert (call.messages, call.output, call.tools) == ((), None, None)
    assert call.flags == {QualityFlag.CONTENT_MISSING}


@pytest.mark.parametrize(
    ("kind", "spec"),
    [
        ("PromptBuilder", '{"prompt": {"type": "str"}}'),
        ("AnswerBuilder", '{"answers": {"type": "list"}}'),
        ("DALLEImageGenerator", '{"images": {"type": "list"}, "revised_prompt": {"type": "str"}}'),
    ],
)
def test_other_components_are_no_model_calls(kind, spec):
    """Builders and image generators answer nobody."""
    assert component(kind, **{"haystack.component.output_spec": spec}).model_calls == ()


def test_a_component_of_the_applications_own_is_a_model_call():
    """Whatever its name, what takes messages and gives replies asks a model."""
    (call,) = component("MyModel", {"messages": [ASKED]}, {"replies": [ANSWER]}).model_calls
    assert [("user", "Well?")] == brief(call.messages)


def test_the_tool_invoker_ran_every_call_of_its_message():
    """Results carry the calls they answer; a call that got none is an execution without a result."""
    other = {"tool_call": {**CALL, "id": "c2"}}
    asked = {**ANSWER, "content": [*ANSWER["content"], other]}
    failed = {"tool_call_result": {"result": "no sky", "origin": CALL, "error": True}}
    given = {"tool_messages": [{"role": "tool", "content": [failed]}]}
    executions = component("ToolInvoker", {"messages": [asked]}, given).tool_executions
    told = [(run.name, run.call_id, run.arguments, run.result, run.status) for run in executions]
    assert told == [
        ("look", "c1", '{"at":"sky"}', "no sky", ToolStatus.ERROR),
        ("look", "c2", '{"at":"sky"}', None, ToolStatus.UNKNOWN),
    ]


def test_a_tools_result_may_be_parts():
    """Newer results are lists of text parts."""
    result = {"result": [{"text": "blue"}, {"text": "and wide"}], "origin": CALL, "error": False}
    given = {"tool_messages": [{"role": "tool", "content": [{"tool_call_result": result}]}]}
    (run,) = component("ToolInvoker", {"messages": [ANSWER]}, given).tool_executions
    assert run.result == "blue\nand wide"


def test_a_step_of_a_newer_agent_is_a_model_call():
    """From 3.0 on the agent has a span for each model call instead of a component's."""
    attributes = {
        "haystack.agent.step.llm.input": json.dumps({"messages": [ASKED], "tools": [TOOL]}),
        "haystack.agent.step.llm.output": json.dumps({"replies": [ANSWER]}),
    }
    (call,) = read_span(make_span(attributes, "haystack.agent.step.llm")).model_calls
    assert [("user", "Well?")] == brief(call.messages)
    assert (call.finish_reason, call.usage.output_tokens) == ("tool_calls", 3)


def test_a_newer_agents_tool_span_tells_its_failure():
    """The failure's text stands under `error` in the output."""
    attributes = {
        "haystack.tool.name": "look",
        "haystack.tool.description": "Looks.",
        "haystack.tool.error": True,
        "haystack.agent.step.tool.input": '{"at": "sky"}',
        "haystack.agent.step.tool.output": '{"error": "no sky"}',
    }
    (run,) = read_span(make_span(attributes, "haystack.agent.step.tool")).tool_executions
    assert (run.name, run.arguments, run.result) == ("look", '{"at": "sky"}', "no sky")
    assert run.status is ToolStatus.ERROR


def test_the_agents_span_tells_its_tools_and_messages():
    """Tools stand there also without content tracing; a set of tools is its tools."""
    tools = [{"type": "haystack.tools.toolset.Toolset", "data": {"tools": [TOOL]}}]
    attributes = {
        "haystack.agent.tools": json.dumps(tools),
        "haystack.agent.output": json.dumps({"messages": [ASKED, ANSWER, RESULT]}),
    }
    run = read_span(make_span(attributes, "haystack.agent.run")).agent
    assert run is not None
    assert run.is_agent
    assert ["look"] == [tool.name for tool in run.tools or ()]
    assert ["user", "assistant", "tool"] == [message.role.value for message in run.history]


def test_an_agent_in_a_pipeline_goes_by_its_components_name():
    """The agent's own span has no name; the component around it has one."""
    reading = component("Agent", **{"haystack.component.name": "weather_agent"})
    assert reading.context.agent_name == "weather_agent"
    assert component("OpenAIChatGenerator").context.agent_name is None


def test_a_model_call_inside_a_ranker_is_no_policys():
    """Rankers, evaluators and extractors ask a model for themselves."""
    attributes = {"haystack.component.type": "OpenAIChatGenerator", "haystack.component.name": "chat_generator"}
    (call,) = read_span(make_span(attributes, "haystack.chat_generator.run")).model_calls
    assert call.auxiliary


def test_noise_of_haystacks_start_says_nothing():
    """The tracer's failed attempt to switch itself on is neither a call nor a run."""
    span = make_span({}, "haystack.tracing.auto_enable", status=SpanStatus.ERROR)
    reading = read_span(span)
    assert (reading.model_calls, reading.tool_executions, reading.agent) == ((), (), None)


def test_openinferences_tool_invoker_ran_tools():
    """OpenInference calls the invoker a chain; its messages are reprs that tell ids, results and failures."""
    call = "ToolCall(tool_name='look', arguments={'at': 'sky'}, id='c1', extra=None)"
    asked = f"ChatMessage(_role=<ChatRole.ASSISTANT: 'assistant'>, _content=[{call}], _name=None, _meta={{}})"
    result = f"ToolCallResult(result='no sky', origin={call}, error=True)"
    given = f"ChatMessage(_role=<ChatRole.TOOL: 'tool'>, _content=[{result}], _name=None, _meta={{}})"
    attributes = {
        "openinference.span.kind": "CHAIN",
        "input.value": json.dumps({"messages": [asked]}),
        "output.value": json.dumps({"tool_messages": [given]}),
    }
    (run,) = read_span(make_span(attributes, "ToolInvoker.run")).tool_executions
    assert (run.name, run.call_id, run.arguments) == ("look", "c1", '{"at":"sky"}')
    assert (run.result, run.status) == ("no sky", ToolStatus.ERROR)


def test_openinferences_counts_are_completed_from_the_reply():
    """Cached and reasoning tokens stand in the reply's metadata only."""
    meta = repr(META)
    reply = f"ChatMessage(_role=<ChatRole.ASSISTANT: 'assistant'>, _content=[TextContent(text='Blue.')], _meta={meta})"
    attributes = {
        "openinference.span.kind": "LLM",
        "llm.output_messages.0.message.role": "assistant",
        "llm.token_count.prompt": 12,
        "output.value": json.dumps({"replies": [reply]}),
    }
    (call,) = read_span(make_span(attributes, "OpenAIChatGenerator.run")).model_calls
    assert call.usage == Usage(input_tokens=12, output_tokens=3, cache_read_tokens=8, reasoning_tokens=2)


def test_openinferences_agent_tells_its_messages():
    """The root's message list is reprs as well, not texts that the user said."""
    said = "ChatMessage(_role=<ChatRole.ASSISTANT: 'assistant'>, _content=[TextContent(text='Blue.')], _meta={})"
    attributes = {"openinference.span.kind": "CHAIN", "output.value": json.dumps({"messages": [said]})}
    run = read_span(make_span(attributes, "Agent.run")).agent
    assert run is not None
    assert [("assistant", "Blue.")] == brief(run.history)
