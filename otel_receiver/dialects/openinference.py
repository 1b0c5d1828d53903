"""OpenInference (Arize, Phoenix): messages spelled out in attribute keys, raw request and response beside them.

Source: the OpenInference specification, `spec/semantic_conventions.md`. Flavours seen: openai, agno, openai-agents,
langchain, anthropic, crewai, smolagents, dspy, llama-index, haystack.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from otel_receiver.dialects import autogen_chat, crewai, google_adk
from otel_receiver.dialects.autogen_chat import with_thought
from otel_receiver.dialects.base import AgentRun, Blob, Context, ModelCall, Reading, ToolExecution
from otel_receiver.dialects.candidates import Carried, best, judged_by
from otel_receiver.dialects.fields import Source, context_of, request_model_of
from otel_receiver.dialects.genai_parts import INPUT, TOOLS, answer_carriers, prompt_carriers, sources
from otel_receiver.dialects.haystack_messages import read_invocations
from otel_receiver.dialects.indexed import IndexedList, read_all_indexed
from otel_receiver.dialects.indexed_messages import indexed_answer, indexed_prompt
from otel_receiver.dialects.json_text import looks_like_json, read_json, read_structured, unquoted
from otel_receiver.dialects.langgraph import langgraph_agent
from otel_receiver.dialects.messages import read_messages, with_system
from otel_receiver.dialects.model_call import CallEvidence, build_call
from otel_receiver.dialects.normalised import is_normalised, with_own_keys
from otel_receiver.dialects.notes import Notes
from otel_receiver.dialects.python_reprs import has_reprs, held_under, repr_prompt
from otel_receiver.dialects.raw import request_tools
from otel_receiver.dialects.raw_values import RawValues
from otel_receiver.dialects.run_together import parted_calls
from otel_receiver.dialects.smolagents import without_blanks
from otel_receiver.dialects.span_ref import span_ref
from otel_receiver.dialects.tool_ids import complete_ids
from otel_receiver.dialects.tool_spans import read_tool_execution
from otel_receiver.dialects.tools import read_tools
from otel_receiver.dialects.values import as_bool, as_items, as_mapping, as_text, as_word, first_word
from otel_receiver.spans import LogRecord, Span
from spanloop.records import Message, QualityFlag, Role, ToolDefinition

KIND = "openinference.span.kind"
INPUT_LIST = "llm.input_messages"
OUTPUT_LIST = "llm.output_messages"
TOOL_LIST = "llm.tools"
PARAMETERS = "llm.invocation_parameters"
MODEL = "llm.model_name"
REQUEST, OUTPUT = "input.value", "output.value"

_AUXILIARY_KINDS = frozenset({"GUARDRAIL", "EVALUATOR"})
_RUN_KINDS = frozenset({"AGENT", "CHAIN"})
_AGENTS_SDK = ".openai_agents"
"""The instrumentation that names an agent by its graph node's id alone up to 1.4, and by the span's name before that;
its root, an agent's span too, is named after the workflow."""
_AGNO = ".agno"
_STREAM_EVENT = "First Token Stream Event"
_NO_CALL_SUFFIXES = ("_prepare_chat_with_tools",)
"""LLM-kind spans of llama-index that prepare a call and make none."""
_LLAMA_INDEX = ".llama_index"
"""The instrumentation whose raw values are its own texts of messages, poorer than any parts."""
_RESULT_WORDS = ("tool_result", "toolResult", "function_response", "functionResponse", "function_call_output")
"""What a raw request that holds results of tools mentions."""
_OWN_KEYS = frozenset({"ai.operationId", "gen_ai.prompt.0.role"})
_SYSTEM_KEYS = ('"system":', '"instructions":', '"system_instruction":', '"systemInstruction":')
"""Where a raw request has its system prompt: Bedrock's flavour spells out the messages alone up to 0.1.26."""
_ID_WORDS = ("tool_call_id", "tool_use_id", "toolUseId", "toolCallId", "call_id")
_AGENT_STEP = ".run_agent_step"
_AGENT_MARK = "current_agent_name='"


class OpenInference:
    """Spans that say their kind in `openinference.span.kind`."""

    name = "openinference"

    def claims(self, span: Span, logs: tuple[LogRecord, ...]) -> bool:
        """Whether the span says its OpenInference kind, or did before a Collector renamed it, and is its own.

        OpenInference's span processors write their keys beside those of the Vercel AI SDK and of OpenLLMetry.
        """
        del logs
        return (KIND in span.attributes and _OWN_KEYS.isdisjoint(span.attributes)) or is_normalised(span)

    def read(self, span: Span, logs: tuple[LogRecord, ...]) -> Reading:
        """The call, tool execution or run, by the span's kind."""
        if is_normalised(span):
            reading = self.read(with_own_keys(span), logs)
            return replace(reading, model_calls=tuple(_as_rewritten(call, span) for call in reading.model_calls))
        kind = (as_word(span.attributes.get(KIND)) or "").upper()
        reference, context = span_ref(span), _context(span)
        if kind == "TOOL" and google_adk.is_merged_tools(span):
            return Reading(span=reference, context=context)
        if kind == "TOOL":
            execution = read_tool_execution(span, _plain_output(span.attributes))
            return Reading(span=reference, context=context, tool_executions=(execution,))
        if kind in _RUN_KINDS and _invokes_tools(span):
            return Reading(span=reference, context=context, tool_executions=_invocations(span))
        if kind in _RUN_KINDS:
            return Reading(span=reference, context=context, agent=_read_run(span, is_agent=kind == "AGENT"))
        if kind in _AUXILIARY_KINDS and MODEL not in span.attributes:
            return Reading(span=reference, context=context, agent=AgentRun(is_agent=False, auxiliary=True))
        is_call = kind == "LLM" and not span.name.endswith(_NO_CALL_SUFFIXES)
        if is_call or kind in _AUXILIARY_KINDS:
            is_event = crewai.is_event_listener(span)
            held = crewai.restored(span) if is_event else span
            call, blobs = read_indexed_call(held, logs, auxiliary=not is_call)
            call = replace(call, detached=True) if is_event else call
            return Reading(span=reference, context=context, model_calls=(call,), blobs=blobs)
        return Reading(span=reference, context=context)


def _plain_output(attributes: Source) -> Source:
    """The attributes with an output that is said to be JSON as the text that it spells, if it is a mere string."""
    if attributes.get("output.mime_type") != "application/json":
        return attributes
    return {**attributes, "output.value": unquoted(attributes.get("output.value"))}


def _context(span: Span) -> Context:
    """The span's context; LangGraph tells the agent in the metadata only, llama-index around its calls."""
    metadata = as_text(span.attributes.get("metadata"))
    is_agent = as_word(span.attributes.get(KIND)) == "AGENT"
    agent = _step_agent(span) or (_node_of(span) if is_agent else None)
    if metadata is not None and "langgraph" in metadata:
        agent = langgraph_agent(as_mapping(read_json(metadata).value) or {})
    if is_agent and span.scope_name.endswith(_AGENTS_SDK):
        agent = first_word(span.attributes, "graph.node.id") or (span.name if span.parent_span_id else None)
    return context_of(span, OpenInference.name, agent_name=first_word(span.attributes, "agent.name") or agent)


def _node_of(span: Span) -> str | None:
    """The agent's name in the graph: CrewAI and AutoGen give agents an id that is their name; agno's means nothing.

    Agno's own keys come first: up to 0.1.x a team's node has a member's name, and earlier there are no nodes.
    """
    if span.scope_name.endswith(_AGNO):
        return first_word(span.attributes, "agno.team", "agno.agent", "graph.node.name")
    return first_word(span.attributes, "graph.node.name", "graph.node.id")


def _step_agent(span: Span) -> str | None:
    """The agent whose step it is: the last field of the repr that llama-index's step is given, after its messages."""
    text = as_text(span.attributes.get("input.value")) if span.name.endswith(_AGENT_STEP) else None
    if text is None or _AGENT_MARK not in text:
        return None
    return text.rpartition(_AGENT_MARK)[2].partition("'")[0] or None


def read_indexed_call(
    span: Span, logs: tuple[LogRecord, ...], *, auxiliary: bool = False
) -> tuple[ModelCall, tuple[Blob, ...]]:
    """The call of an LLM span: from indexed messages, from parts written beside them, else from the raw values."""
    attributes = span.attributes
    lists = read_all_indexed(attributes, (INPUT_LIST, OUTPUT_LIST, TOOL_LIST))
    places = sources(span, logs)
    raw = RawValues(attributes.get(REQUEST), attributes.get(OUTPUT))
    notes = Notes()
    is_rewritten = INPUT in attributes and not any(lists[key].entries for key in (INPUT_LIST, OUTPUT_LIST))
    is_rewritten = is_rewritten and not span.scope_name.endswith(_LLAMA_INDEX)
    if span.scope_name == google_adk.SCOPE and raw.has_both:
        # Since version 2 one span is given the messages of all calls of a run, one over another; the raw request and
        # response alone are those of one call, the last.
        lists |= {INPUT_LIST: IndexedList(), OUTPUT_LIST: IndexedList()}
    prompt = _prompt(lists[INPUT_LIST], places, raw, is_lossy=is_rewritten or bool(span.dropped_attributes_count))
    answer = _answer(lists[OUTPUT_LIST], places, raw, is_lossy=is_rewritten)
    if prompt is not None and raw.is_request_cut and _reaches(prompt.messages, raw.request_length):
        notes.flag(QualityFlag.PROMPT_TRUNCATED)
    parameters = _Parameters(attributes.get(PARAMETERS))
    tools = _tools(lists[TOOL_LIST], places, parameters, raw, notes)
    answered = as_word(attributes.get(MODEL))
    asked = _other_than(answered, request_model_of(attributes)) or parameters.model or raw.model
    call, blobs = build_call(
        CallEvidence(
            span=span,
            source=attributes,
            prompt=prompt,
            answer=_mended(answer, tools, span),
            tools=tools,
            notes=notes,
            raw=raw.about,
            model=asked or answered,
            response_model=answered if asked is not None and answered != asked else None,
            streamed=_streamed(span, parameters),
            auxiliary=auxiliary,
            continues_response_id=raw.continues_response_id,
        )
    )
    return replace(call, model=asked or answered), blobs


def _as_rewritten(call: ModelCall, span: Span) -> ModelCall:
    """The call of a span that a Collector rewrote, flagged where the text beside its calls stands nowhere else."""
    says_calls_alone = call.output is not None and bool(call.output.tool_calls) and not call.output.text
    is_lost = says_calls_alone and (OUTPUT not in span.attributes or span.scope_name.endswith(_LLAMA_INDEX))
    flags = call.flags | {QualityFlag.TEXT_DROPPED} if is_lost else call.flags
    return replace(call, lossy_history=True, flags=flags)


def _other_than(answered: str | None, asked: str | None) -> str | None:
    """The model asked for, unless the same name only stands there because a Collector copied it."""
    return asked if asked != answered else None


def _prompt(listed: IndexedList, places: tuple[Source, ...], raw: RawValues, *, is_lossy: bool) -> Carried | None:
    """The prompt; the raw request is asked where the others are absent, flagged or may have lost attributes."""
    direct = [lambda: indexed_prompt(without_blanks(listed), flattened=True), *prompt_carriers(places)]
    found = best(direct, exhaustive=True)
    if found is not None and not _instructions(found.messages) and any(map(raw.request_mentions, _SYSTEM_KEYS)):
        found = _instructed(found, raw.prompt())
    if found is not None and not is_lossy and _is_enough(found, raw):
        return judged_by(raw.prompt(), found) if raw.request_mentions('"is_error"') else found
    return best((lambda: found, lambda: _instructed(raw.prompt(), found)), exhaustive=True)


def _instructed(carried: Carried | None, found: Carried | None) -> Carried | None:
    """The prompt with the instructions found elsewhere: openai-agents writes the items of the input alone."""
    if carried is None or found is None or _instructions(carried.messages):
        return carried
    return replace(carried, messages=with_system(_instructions(found.messages), carried.messages))


def _instructions(messages: tuple[Message, ...]) -> tuple[Message, ...]:
    return tuple(message for message in messages if message.role in (Role.SYSTEM, Role.DEVELOPER))


def _is_enough(found: Carried, raw: RawValues) -> bool:
    """Whether the raw request can add nothing: the prompt is sound, or lacks only ids that the request lacks too.

    Instructions alone are no prompt: openai-agents spells out only an input that is a list.
    """
    if len(_instructions(found.messages)) == len(found.messages) or _lacks_results(found, raw):
        return False
    lacks_ids = found.notes.flags == {QualityFlag.IDS_SYNTHESISED}
    return found.is_sound or (lacks_ids and not any(raw.request_mentions(word) for word in _ID_WORDS))


def _lacks_results(found: Carried, raw: RawValues) -> bool:
    """Whether only the raw request tells of results of tools, of all or of some.

    In agno's flavour Anthropic's look like the user's words up to 0.1.x, and so do Gemini's in google-genai's; the
    anthropic flavour up to 0.1.x keeps the last of a turn's results.
    """
    calls = {call.id for message in found.messages for call in message.tool_calls}
    results = {result.call_id for message in found.messages if (result := message.tool_result) is not None}
    if results and calls <= results:
        return False
    return any(raw.request_mentions(word) for word in _RESULT_WORDS)


def _answer(listed: IndexedList, places: tuple[Source, ...], raw: RawValues, *, is_lossy: bool) -> Carried | None:
    """The answer; several indexed outputs are one turn's items, unless the raw response holds several choices."""
    is_one_turn = len(listed.entries) > 1 and raw.num_choices < 2
    direct = [lambda: indexed_answer(listed, flattened=True, is_one_turn=is_one_turn), *answer_carriers(places)]
    found = best(direct, exhaustive=True)
    is_enough = found is not None and found.is_sound and not is_lossy
    if found is not None and is_enough and (found.messages[0].tool_calls or not raw.answers_with_calls):
        return found
    return best((lambda: found, raw.answer), exhaustive=True)


def _mended(answer: Carried | None, tools: tuple[ToolDefinition, ...] | None, span: Span) -> Carried | None:
    """The answer with calls apart that its sender ran together, and with AutoGen's text beside calls."""
    if answer is None:
        return None
    messages = tuple(parted_calls(message, tools or ()) for message in answer.messages)
    if span.scope_name.endswith(autogen_chat.SCOPE):
        messages = tuple(with_thought(message, span.attributes.get(OUTPUT)) for message in messages)
    return replace(answer, messages=messages)


def _reaches(messages: tuple[Message, ...], length: int) -> bool:
    """Whether a text is as long as the value that a limit cut: then the limit cut this one too."""
    return any(len(message.text) >= length for message in messages) or any(
        len(call.arguments) >= length for message in messages for call in message.tool_calls
    )


class _Parameters:
    """The request's parameters, parsed only when they mention what is asked for."""

    def __init__(self, value: object) -> None:
        self._text = as_text(value) or ""

    def _held(self, word: str) -> Mapping[str, object]:
        return (as_mapping(read_json(self._text).value) or {}) if f'"{word}"' in self._text else {}

    @property
    def model(self) -> str | None:
        return first_word(self._held("model"), "model", "model_name") if '"model' in self._text else None

    @property
    def tools(self) -> object:
        return request_tools(self._held("tools"))

    @property
    def streamed(self) -> bool | None:
        return as_bool(self._held("stream").get("stream"))


def _streamed(span: Span, parameters: _Parameters) -> bool | None:
    if span.name.endswith("_stream") or any(event.name == _STREAM_EVENT for event in span.events):
        return True
    return parameters.streamed


def _tools(
    listed: IndexedList, places: tuple[Source, ...], parameters: _Parameters, raw: RawValues, notes: Notes
) -> tuple[ToolDefinition, ...] | None:
    """The tools offered: indexed, as gen_ai definitions, in the parameters, else in the raw request."""
    if listed.entries:
        if listed.has_gaps:
            notes.flag(QualityFlag.PROMPT_TRUNCATED)
        return read_tools([_indexed_tool(entry, notes) for entry in listed.entries], notes)
    for value in (*(place.get(TOOLS) for place in places), parameters.tools):
        tools = read_tools(value, notes) if value is not None else None
        if tools is not None:
            return tools
    return raw.tools(notes)


def _indexed_tool(entry: Mapping[str, object], notes: Notes) -> object:
    """One tool: its JSON Schema wrapper, or its fields."""
    held = {key.removeprefix("tool."): value for key, value in entry.items()}
    if "json_schema" not in held:
        return held
    reading = read_structured(held["json_schema"])
    if reading.problem is not None:
        notes.flag(QualityFlag.PROMPT_TRUNCATED)
        return {"name": held.get("name") or "?"}
    schema = as_mapping(reading.value)
    if schema is None:
        return held
    is_definition = "name" in schema or "function" in schema
    return {**{key: value for key, value in held.items() if key != "json_schema" or not is_definition}, **schema}


def _read_run(span: Span, *, is_agent: bool) -> AgentRun:
    """A run; its history is read from whole message lists in its output, on agents and on roots."""
    if not is_agent and span.parent_span_id:
        return AgentRun(is_agent=False)
    text = as_text(span.attributes.get(OUTPUT))
    if text is None or '"messages"' not in text or not looks_like_json(text):
        return AgentRun(is_agent=is_agent)
    value, notes = read_json(text).value, Notes()
    held = as_items((as_mapping(value) or {}).get("messages"))
    messages = repr_prompt(value, notes) if has_reprs(value) else read_messages(held, notes)
    return AgentRun(is_agent=is_agent, history=complete_ids(messages, notes))


def _invokes_tools(span: Span) -> bool:
    """Whether the span is of Haystack's tool invoker, which runs all tools of a turn."""
    return (
        span.name.startswith("ToolInvoker.") or '{"tool_messages"' in (as_text(span.attributes.get(OUTPUT)) or "")[:32]
    )


def _invocations(span: Span) -> tuple[ToolExecution, ...]:
    notes = Notes()
    asked, given = (read_structured(span.attributes.get(key)).value for key in (REQUEST, OUTPUT))
    return read_invocations(held_under(asked, "messages", notes), held_under(given, "tool_messages", notes), notes)
