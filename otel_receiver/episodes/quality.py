"""What each quality flag means exactly, what it does to a step, and what to change at the sender.

One table. The contract (`spanloop.records.BLOCKING_FLAGS`) says which flags make a step untrainable; here is why, in
the words of an operator, with the switch or version to change, by dialect where they differ.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from spanloop.records import BLOCKING_FLAGS, QualityFlag

NOTHING_TO_DO = "Nothing needs to change at the sender."


@dataclass(frozen=True, slots=True, kw_only=True)
class Meaning:
    """One flag, explained."""

    when: str
    """When the flag is set: the exact condition."""
    effect: str
    """What is done with the step or the episode."""
    advice: str
    """What to change at a sender of any dialect."""
    by_dialect: Mapping[str, str] = field(default_factory=dict)
    """Better advice, by dialect."""


UNTRAINABLE = "The step is kept and shown, but no policy is asked again there."
STILL_TRAINABLE = "The step stays trainable."
EPISODE_ONLY = "The episode is marked; its steps stay trainable."

_ATTRIBUTE_LIMIT = (
    "Set OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT=10000 and leave OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT and "
    "OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT unset in the sender's environment: OpenTelemetry SDKs keep 128 attributes a "
    "span and drop the oldest, which is the system prompt"
)
_GENAI_CONTENT = (
    "Set OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT=span_and_event and "
    "OTEL_SEMCONV_STABILITY_OPT_IN=gen_ai_latest_experimental; instrumentations that still write one event a message "
    "want OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT=true. Export logs as well as traces."
)
_OPENLLMETRY_CONTENT = "Remove TRACELOOP_TRACE_CONTENT=false, and export logs if use_legacy_attributes=False is set."
_PYDANTIC_CONTENT = "Set include_content=True (and include_binary_content=True) in the instrumentation settings."
_HIDING = "Remove the OPENINFERENCE_HIDE_* variables, or the same settings of TraceConfig, for the content to train on."

MEANINGS: Mapping[QualityFlag, Meaning] = {
    QualityFlag.PROMPT_TRUNCATED: Meaning(
        when="The span reports dropped attributes, its message indexes have gaps or do not begin at 0, its JSON is "
        "cut, a text ends with the sender's mark of a cut, it goes on from a response whose call did not arrive, or "
        "its sender's form is known to drop tool calls and results.",
        effect=UNTRAINABLE,
        advice=f"{_ATTRIBUTE_LIMIT}.",
        by_dialect={
            "ag2": "Pass max_tool_result_chars=None to TelemetryMiddleware, which cuts longer tool results otherwise. "
            f"{_ATTRIBUTE_LIMIT}.",
            "openinference": f"{_ATTRIBUTE_LIMIT}; or build the provider with openinference.instrumentation."
            "TracerProvider, which keeps 10000. With agno, upgrade openinference-instrumentation-agno to 0.1.35 "
            "or later.",
            "openllmetry": f"{_ATTRIBUTE_LIMIT}; or upgrade opentelemetry-instrumentation-openai to 0.55 or "
            "later, which "
            "writes one attribute for all messages.",
        },
    ),
    QualityFlag.CONTENT_MISSING: Meaning(
        when="The call carries no messages, or roles without their text.",
        effect=UNTRAINABLE,
        advice="Switch content capture on in the instrumentation.",
        by_dialect={
            "openinference": _HIDING,
            "otel_genai": _GENAI_CONTENT,
            "openllmetry": _OPENLLMETRY_CONTENT,
            "pydantic_ai": _PYDANTIC_CONTENT,
            "vercel_ai": "Set recordInputs and recordOutputs to true in experimental_telemetry.",
            "openlit": "Leave the capture of message content on in openlit.init. Of a failed call OpenLIT tells no "
            "content, whatever is set.",
            "google_adk": "Set ADK_CAPTURE_MESSAGE_CONTENT_IN_SPANS=true, and export logs as well as traces.",
            "haystack": "Set HAYSTACK_CONTENT_TRACING_ENABLED=true before Haystack is imported.",
        },
    ),
    QualityFlag.CONTENT_REDACTED: Meaning(
        when="A redaction marker stands in a message, a tool call or a result.",
        effect=UNTRAINABLE,
        advice="Let the content to train on through the redaction, or redact by replacing names consistently.",
        by_dialect={
            "openinference": f"{_HIDING} Images over 32000 characters need OPENINFERENCE_BLOB_UPLOADER.",
            "pydantic_ai": "Pass scrubbing=False, or a callback that lets the content through, to logfire.configure.",
        },
    ),
    QualityFlag.CONTENT_REFERENCED: Meaning(
        when="A message is a reference to an uploaded file that is not under the configured root, or could not "
        "be read.",
        effect=UNTRAINABLE,
        advice="Give the receiver the root the sender uploads to, or unset "
        "OTEL_INSTRUMENTATION_GENAI_UPLOAD_BASE_PATH.",
    ),
    QualityFlag.MEDIA_MISSING: Meaning(
        when="A message has an image, sound or file without bytes, hash or address.",
        effect=UNTRAINABLE,
        advice="Let the instrumentation send media, or upload them and send their address.",
        by_dialect={
            "openinference": "Set OPENINFERENCE_BLOB_UPLOADER, or raise OPENINFERENCE_BASE64_IMAGE_MAX_LENGTH.",
            "pydantic_ai": _PYDANTIC_CONTENT,
        },
    ),
    QualityFlag.MESSAGE_UNPARSED: Meaning(
        when="A message or a part of one has a shape the dialect does not know; its neighbours were read.",
        effect=UNTRAINABLE,
        advice="Upgrade the instrumentation, or report the payload: the shape should be added to the dialect.",
        by_dialect={
            "openinference": "Upgrade the openinference-instrumentation package; agno needs 0.1.35 or later, "
            "older ones "
            "write Python reprs.",
        },
    ),
    QualityFlag.TOOLS_MISSING: Meaning(
        when="The episode calls tools, and neither the call, its agent span nor a tool span carries a definition.",
        effect=UNTRAINABLE,
        advice="Use an instrumentation that records tool definitions.",
        by_dialect={
            "otel_genai": "Replace opentelemetry-instrumentation-openai-v2, which carries no definitions, by "
            "opentelemetry-instrumentation-genai-openai 1.3b0 or later with content capture on.",
            "openllmetry": "Upgrade the opentelemetry-instrumentation packages of OpenLLMetry to 0.55 or later.",
        },
    ),
    QualityFlag.TOOLS_INFERRED: Meaning(
        when="The definitions come from the spans of tools that ran, or from another call of the episode while "
        "this one "
        "does not show that it was offered tools: more or fewer may have been.",
        effect=UNTRAINABLE,
        advice="Use an instrumentation that records the tool definitions on each model call.",
        by_dialect={
            "openinference": "openinference-instrumentation-openai-agents leaves definitions out with chat-completion "
            "models: instrument the openai client as well, or use the Responses model.",
        },
    ),
    QualityFlag.TOOLS_INCOMPLETE: Meaning(
        when="A tool definition has no parameter schema, and no tool span of the episode completes it.",
        effect=UNTRAINABLE,
        advice="Switch on the recording of full tool definitions.",
        by_dialect={
            "otel_genai": "Switch content capture on: several instrumentations strip parameters without it. Strands "
            "wants gen_ai_tool_definitions in OTEL_SEMCONV_STABILITY_OPT_IN.",
        },
    ),
    QualityFlag.IDS_SYNTHESISED: Meaning(
        when="The state or the action has a tool call whose id the sender does not carry; the receiver made one, the "
        "same in action, observation and later states.",
        effect=STILL_TRAINABLE,
        advice="Upgrade the instrumentation to a version that records tool-call ids.",
        by_dialect={
            "openinference": "Upgrade openinference-instrumentation-agno to 0.1.35 or later, which records ids.",
        },
    ),
    QualityFlag.TOOL_RESULT_MISSING: Meaning(
        when="A tool call of the action has a result neither in a later history, nor in its run's messages, nor on a "
        "tool span.",
        effect=f"{STILL_TRAINABLE} The recorded outcome of this action is not known in full.",
        advice="Instrument the tools, so that results of a last call are seen, and keep unsampled traces whole.",
    ),
    QualityFlag.AMBIGUOUS_MATCH: Meaning(
        when="A tool result, a tool span or an earlier call fits more than one place, and order alone decided.",
        effect=UNTRAINABLE,
        advice="Record tool-call ids, give each run a root span, and set a conversation id.",
    ),
    QualityFlag.ARGUMENTS_ALTERED: Meaning(
        when="The sender is known to rewrite the text of tool-call arguments, or a history has other arguments "
        "than the "
        "answer it repeats.",
        effect=f"{STILL_TRAINABLE} Arguments are compared as JSON, never byte by byte.",
        advice=NOTHING_TO_DO,
        by_dialect={
            "otel_genai": "Set OTEL_SEMCONV_STABILITY_OPT_IN=gen_ai_latest_experimental: the per-message events of "
            "opentelemetry-instrumentation-openai-v2 remove newlines from arguments.",
        },
    ),
    QualityFlag.OUTPUT_MISSING: Meaning(
        when="The call did not fail, and neither its span nor a later history carries its answer.",
        effect=f"{STILL_TRAINABLE} There is no recorded action to compare with.",
        advice="Switch the capture of outputs on; let streamed answers be read to their end before the span is closed.",
        by_dialect={
            "openinference": "Remove OPENINFERENCE_HIDE_OUTPUTS and OPENINFERENCE_HIDE_OUTPUT_MESSAGES.",
            "otel_genai": _GENAI_CONTENT,
            "openllmetry": _OPENLLMETRY_CONTENT,
            "pydantic_ai": _PYDANTIC_CONTENT,
        },
    ),
    QualityFlag.OUTPUT_TRUNCATED: Meaning(
        when="The answer ended by a length limit, or without a finish reason on a failed span or a stream whose span "
        "does not say it succeeded; or its finish reason tells of tool calls that neither it nor a later history has.",
        effect=f"{STILL_TRAINABLE} The recorded action is no example to imitate; the episode is incomplete if it "
        "is last.",
        advice="Raise the token limit of the request where the reason is length; look for clients that disconnect.",
    ),
    QualityFlag.MODEL_CALL_FAILED: Meaning(
        when="The call's span has the status error.",
        effect=f"{STILL_TRAINABLE} The episode has the status error if the call is its last.",
        advice="Look at the error of the step; a failed call that was repeated is dropped and leaves no such step.",
    ),
    QualityFlag.RETRIED: Meaning(
        when="An earlier call of the same run with the same prompt failed or broke off; it was dropped for this one.",
        effect=STILL_TRAINABLE,
        advice=NOTHING_TO_DO,
    ),
    QualityFlag.HISTORY_REPAIRED: Meaning(
        when="A message of the state or the action, or a part of one, is not on the step's own span and was restored "
        "from another span that has it.",
        effect=STILL_TRAINABLE,
        advice="Upgrade the instrumentation: it drops parts of the history it reports.",
        by_dialect={
            "openlit": f"{NOTHING_TO_DO} OpenLIT leaves earlier tool calls out of every history, up to 1.45 at least.",
            "otel_genai": "Set OTEL_SEMCONV_STABILITY_OPT_IN=gen_ai_latest_experimental: the per-message events lose "
            "the text that stands beside tool calls.",
            "openinference": "Upgrade openinference-instrumentation-agno to 0.1.35 or later.",
        },
    ),
    QualityFlag.HISTORY_INCONSISTENT: Meaning(
        when="The history has another answer where an earlier call of the same run reported one, or a tool result that "
        "answers no call in it; or tools ran inside the call that its answer does not call, so that it hides rounds of "
        "the model. On an episode: a history has an answer between two steps that no span reports.",
        effect=f"{UNTRAINABLE} An episode that only lacks a step keeps its other steps trainable.",
        advice="Check whether the application edits answers after the fact, and whether spans of the run are "
        "sampled out.",
    ),
    QualityFlag.ROOT_MISSING: Meaning(
        when="No span without a parent arrived for a trace of the episode.",
        effect=EPISODE_ONLY,
        advice="End the root span in a finally block, also when the client disconnects, flush before the process "
        "exits, "
        "and let the service that opens the trace export to the same receiver.",
    ),
    QualityFlag.CONVERSATION_INFERRED: Meaning(
        when="No span carries a conversation id; the episode continues another's history, or is continued.",
        effect=EPISODE_ONLY,
        advice="Set a conversation id on the spans.",
        by_dialect={
            "openinference": "Wrap runs in using_attributes(session_id=...). openai-agents drops its group id.",
            "otel_genai": "Set the conversation id attribute of the GenAI conventions on the agent or the chat spans.",
            "openllmetry": "Call set_association_properties({'session_id': ...}), or set_conversation_id in new "
            "versions.",
            "langsmith": "Pass metadata={'thread_id': ...} in the run's config.",
            "pydantic_ai": "Upgrade to instrumentation version 5, which carries a conversation id over "
            "message_history. Logfire scrubs session ids: name it gen_ai.conversation.id, or pass scrubbing=False.",
        },
    ),
    QualityFlag.CLOCK_SKEW: Meaning(
        when="A call began before the call whose answer it has in its history, or a second before that ended; or its "
        "span ends before it begins.",
        effect=f"{STILL_TRAINABLE} Steps are ordered by history, not by time.",
        advice="Synchronise the clocks of the sending hosts (NTP).",
    ),
    QualityFlag.TIME_MISSING: Meaning(
        when="The span has no start or no end time.",
        effect=STILL_TRAINABLE,
        advice="Check the exporter: OTLP requires both times.",
    ),
    QualityFlag.DUPLICATE_MERGED: Meaning(
        when="Several spans reported this call: an equal response id, an enclosing span with an equal answer, or an "
        "equal prompt on a span without any answer.",
        effect=STILL_TRAINABLE,
        advice="Instrument either the framework or the client, not both; one of them is enough.",
    ),
    QualityFlag.NOT_POLICY: Meaning(
        when="The sender marks the call as an evaluator, a guardrail or an embedding; or it stands alone beside the "
        "trace's main episode: one call, no tools, another system prompt, and another model, a tool around it, or a "
        "name or prompt that says so.",
        effect=f"{UNTRAINABLE} It is an episode of its own.",
        advice=NOTHING_TO_DO,
    ),
    QualityFlag.TRACE_TRUNCATED: Meaning(
        when="A limit of the receiver closed the trace before it was complete.",
        effect=UNTRAINABLE,
        advice="Raise the limits of [buffer] in the receiver's configuration, or end traces sooner at the sender.",
    ),
    QualityFlag.SYSTEM_MISSING: Meaning(
        when="The sender's telemetry is known never to tell the system prompt, and the call's messages have none.",
        effect=UNTRAINABLE,
        advice="Instrument the client of the model as well (openinference-instrumentation-openai, or another of the "
        "provider in use): it tells the whole request, and two reports of one call are merged.",
    ),
    QualityFlag.TEXT_DROPPED: Meaning(
        when="The sender is known to drop the text beside tool calls, and the action has calls without text that no "
        "later history tells; or the "
        "state has such a message, and the sender drops the text from its report though not from its request.",
        effect=f"{STILL_TRAINABLE} The recorded action may be less than the model said.",
        advice="Instrument the client of the model as well (openinference-instrumentation-openai, or another of the "
        "provider in use): it tells the whole answer, and two reports of one call are merged.",
    ),
}


def advice(flag: QualityFlag, dialect: str | None = None) -> str:
    """What to change at a sender of this dialect so that the flag goes."""
    meaning = MEANINGS[flag]
    return meaning.by_dialect.get(dialect or "", meaning.advice)


def blocks_training(flag: QualityFlag) -> bool:
    """Whether the flag alone makes a step untrainable."""
    return flag in BLOCKING_FLAGS
