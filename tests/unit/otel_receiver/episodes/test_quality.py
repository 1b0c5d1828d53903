"""Every quality flag: readings that set it, like readings that do not, and its explanation."""

from dataclasses import replace

import pytest

from otel_receiver.dialects.base import Context
from otel_receiver.dialects.registry import DIALECTS
from otel_receiver.episodes.quality import MEANINGS, NOTHING_TO_DO, UNTRAINABLE, advice, blocks_training
from spanloop.records import BLOCKING_FLAGS, EndReason, QualityFlag, ToolDefinition
from tests.unit.otel_receiver.episodes.factories import (
    SYSTEM,
    WEATHER,
    agent,
    asks,
    call,
    episodes,
    result,
    root,
    says,
    system,
    tool,
    user,
    weather_run,
)

ASKED = [SYSTEM, user("Weather?")]
BOTH = says("Let me check.", asks("c1", "Paris"), asks("c2", "Rome"))
TOLD = [*ASKED, BOTH, result("c1", "sun"), result("c2", "rain")]
FAILED = {"failed": True, "error": "E"}
MADE = frozenset({QualityFlag.IDS_SYNTHESISED, QualityFlag.AMBIGUOUS_MATCH})


def only(*, flag=None, messages=ASKED, output=None, **fields):
    """A root and one call."""
    carried = frozenset() if flag is None else frozenset({flag})
    return [root(), call(2, 10, messages, output or says("Sun."), flags=carried, **fields)]


def run(told=TOLD, **later):
    """A root and the two calls of a run whose second reports this history."""
    return [root(), call(2, 10, ASKED, BOTH), call(3, 30, told, says("Done."), **later)]


def made(message):
    """The message with ids that a dialect made."""
    return says(message.text, *(replace(part, id=f"call_synthetic_0_{part.id}") for part in message.tool_calls))


def at(readings, index, **times):
    """The readings, one of them with other times."""
    changed = replace(readings[index], span=replace(readings[index].span, **times))
    return [*readings[:index], changed, *readings[index + 1 :]]


PLAIN = run()
STREAM = {"streamed": True, "finish_reason": None}
OTHER = Context(dialect="otel_genai", service_name="svc")
TITLE = call(9, 60, [system("Give this chat a title."), user("Q")], says("T"), tools=None)
NEXT = call(4, 90, [*TOLD, says("Done."), user("More?")], says("No."))

CARRIED = (
    QualityFlag.PROMPT_TRUNCATED,
    QualityFlag.CONTENT_REDACTED,
    QualityFlag.CONTENT_REFERENCED,
    QualityFlag.MEDIA_MISSING,
    QualityFlag.MESSAGE_UNPARSED,
    QualityFlag.SYSTEM_MISSING,
    QualityFlag.TEXT_DROPPED,
)
"""What only the span itself can show: its dialect sets the flag, the step has it."""

CASES = {
    **{flag: (only(flag=flag), only()) for flag in CARRIED},
    QualityFlag.CONTENT_MISSING: (only(messages=[]), only()),
    QualityFlag.TOOLS_MISSING: (only(output=BOTH, tools=None), only(tools=None)),
    QualityFlag.TOOLS_INFERRED: (
        [*only(output=BOTH, tools=None), tool(3, 30, call_id="c1", result="x", definition=WEATHER)],
        [*only(output=BOTH), tool(3, 30, call_id="c1", result="x", definition=WEATHER)],
    ),
    QualityFlag.TOOLS_INCOMPLETE: (only(tools=(ToolDefinition(name="t"),)), only(tools=(WEATHER,))),
    QualityFlag.IDS_SYNTHESISED: (
        [*only(output=made(BOTH))],
        run(told=TOLD, flags=MADE),
    ),
    QualityFlag.TOOL_RESULT_MISSING: (only(output=BOTH), PLAIN),
    QualityFlag.AMBIGUOUS_MATCH: (
        run(told=[*TOLD[:3], result("", "sun")], flags=MADE),
        run(told=[*TOLD[:3], result("", "sun"), result("", "rain")], flags=MADE),
    ),
    QualityFlag.ARGUMENTS_ALTERED: (
        run(told=[*ASKED, says("", asks("c1", "*"), asks("c2", "*")), *TOLD[3:]]),
        PLAIN,
    ),
    QualityFlag.OUTPUT_MISSING: (
        [root(), call(2, 10, ASKED, None)],
        [root(), call(2, 10, ASKED, None, span=FAILED)],
    ),
    QualityFlag.OUTPUT_TRUNCATED: (only(**STREAM), only(**STREAM, span={"succeeded": True})),
    QualityFlag.MODEL_CALL_FAILED: ([root(), call(2, 10, ASKED, None, span=FAILED)], only()),
    QualityFlag.RETRIED: (
        [root(), call(2, 10, ASKED, None, span=FAILED), call(3, 30, ASKED, says("Sun."))],
        [root(), call(2, 10, ASKED, None, span=FAILED), call(3, 30, [*ASKED, user("?")], says("Sun."))],
    ),
    QualityFlag.HISTORY_REPAIRED: (run(told=[*ASKED, *TOLD[3:]]), PLAIN),
    QualityFlag.HISTORY_INCONSISTENT: (run(told=[*ASKED, result("lost", "x")]), PLAIN),
    QualityFlag.ROOT_MISSING: (PLAIN[1:], PLAIN),
    QualityFlag.CONVERSATION_INFERRED: (
        [*PLAIN, NEXT],
        [*PLAIN, TITLE],
    ),
    QualityFlag.CLOCK_SKEW: (at(PLAIN, 2, started_at=PLAIN[1].span.started_at - 1), PLAIN),
    QualityFlag.TIME_MISSING: (at(PLAIN, 2, ended_at=None), PLAIN),
    QualityFlag.DUPLICATE_MERGED: (
        [*only(), call(3, 12, ASKED, says("Sun."), took=5, parent=2, context=OTHER)],
        [*only(), call(3, 12, ASKED, says("Rain."), took=5, parent=2, context=OTHER)],
    ),
    QualityFlag.NOT_POLICY: ([*PLAIN, TITLE], [*PLAIN, NEXT]),
}


def all_flags(readings, end_reason=EndReason.IMPORTED):
    """The flags of all episodes and steps."""
    found = episodes(readings, end_reason)
    assert found
    held = [episode.quality_flags for episode in found]
    return frozenset().union(*held, *(step.quality_flags for episode in found for step in episode.steps))


@pytest.mark.parametrize("flag", sorted(CASES))
def test_a_flag_is_set_when_its_condition_holds(flag):
    """Minimal readings set the flag; like readings without the condition do not."""
    with_it, without_it = CASES[flag]
    assert flag in all_flags(with_it)
    assert flag not in all_flags(without_it)


def test_a_receiver_limit_truncates():
    """The same readings are truncated if a limit ended them, and not otherwise."""
    assert QualityFlag.TRACE_TRUNCATED in all_flags(PLAIN, EndReason.LIMIT)
    assert QualityFlag.TRACE_TRUNCATED not in all_flags(PLAIN)


def test_every_flag_has_a_case():
    """No flag of the contract goes untested."""
    assert set(QualityFlag) == {*CASES, QualityFlag.TRACE_TRUNCATED}


@pytest.mark.parametrize("flag", sorted(QualityFlag))
def test_every_flag_is_explained(flag):
    """The table says when a flag is set and what to do, and calls untrainable what the contract makes so."""
    meaning = MEANINGS[flag]
    assert meaning.when.endswith(".")
    assert all(text.endswith(".") for text in (meaning.advice, *meaning.by_dialect.values()))
    assert blocks_training(flag) is (flag in BLOCKING_FLAGS) is meaning.effect.startswith(UNTRAINABLE)


def test_blocking_flags_make_a_step_untrainable():
    """A step is trainable exactly if it carries no flag that the table calls untrainable."""
    for with_it, _ in CASES.values():
        for episode in episodes(with_it):
            for step in episode.steps:
                blocked = any(blocks_training(flag) for flag in step.quality_flags) or not step.messages
                assert blocked is not step.trainable


def test_advice_is_the_dialects_own():
    """A dialect's advice names its switch; others get the general one."""
    flag = QualityFlag.CONTENT_MISSING
    assert "OPENINFERENCE_HIDE_" in advice(flag, "openinference")
    assert "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT" in advice(flag, "otel_genai")
    assert "TRACELOOP_TRACE_CONTENT" in advice(flag, "openllmetry")
    assert "include_content=True" in advice(flag, "pydantic_ai")
    assert MEANINGS[flag].advice == advice(flag, "unheard_of") == advice(flag)
    assert NOTHING_TO_DO == advice(QualityFlag.RETRIED, "openinference")


def test_advice_is_for_dialects_that_exist():
    """A dialect's own advice is found under the name the dialect goes by."""
    known = {dialect.name for dialect in DIALECTS}
    assert [] == [name for meaning in MEANINGS.values() for name in meaning.by_dialect if name not in known]


def test_advice_asks_for_nothing_that_is_in_place_already():
    """What a sender loses whatever is set is said to be so, and the switch that helps is named where there is one."""
    assert "whatever is set" in advice(QualityFlag.CONTENT_MISSING, "openlit")
    assert NOTHING_TO_DO in advice(QualityFlag.HISTORY_REPAIRED, "openlit")
    assert "max_tool_result_chars=None" in advice(QualityFlag.PROMPT_TRUNCATED, "ag2")
    assert "client" in advice(QualityFlag.SYSTEM_MISSING, "ag2")


def test_the_attribute_limit_is_named():
    """Truncated prompts point to the SDK limit that causes most of them."""
    assert "OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT" in advice(QualityFlag.PROMPT_TRUNCATED, "openinference")
    assert "0.1.35" in advice(QualityFlag.PROMPT_TRUNCATED, "openinference")


def test_an_agent_around_a_run_changes_no_flag():
    """The agent's span adds nothing that would have to be flagged."""
    assert frozenset() == all_flags([agent(1), *weather_run()])
