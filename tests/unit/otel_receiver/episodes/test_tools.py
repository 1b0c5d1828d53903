"""Results from tool spans, and the tools a call could use."""

import pytest

from spanloop.records import EpisodeStatus, QualityFlag, ToolCall, ToolDefinition, ToolStatus
from tests.unit.otel_receiver.episodes.factories import (
    SYSTEM,
    WEATHER,
    agent,
    asks,
    call,
    episodes,
    flags,
    result,
    root,
    says,
    spans,
    texts,
    tool,
    user,
    weather_run,
)

ASKED = [SYSTEM, user("Weather?")]
BOTH = says("", asks("c1", "Paris"), asks("c2", "Rome"))


def observed(step):
    """Call id, content and status of each observation."""
    return [(part.call_id, part.content, part.status.value) for part in (m.tool_result for m in step.observations)]


def last_step(*readings, action=BOTH, **fields):
    """The step of an episode whose only call asks for tools."""
    (episode,) = episodes([root(), call(2, 10, ASKED, action, **fields), *readings])
    return episode.steps[0]


def test_the_last_steps_results_come_from_tool_spans():
    """Nothing follows the last call, so its tools' own spans say what they returned, matched by id."""
    step = last_step(tool(3, 30, call_id="c2", result="rain"), tool(4, 31, call_id="c1", result="sun"))
    assert [("c1", "sun", "ok"), ("c2", "rain", "ok")] == observed(step)
    assert set() == flags(step)


def test_the_last_steps_results_stand_in_the_runs_messages():
    """The run's message list has what the model would be shown; of an id that it holds twice the last result counts."""
    old = [says("", asks("c1", "Oslo")), result("c1", "snow")]
    run = agent(1, history=(*old, *ASKED, BOTH, result("c1", "sun"), result("c3", "of another call")))
    (episode,) = episodes([run, call(2, 10, ASKED, BOTH), tool(3, 30, call_id="c1", result="SUN()")])
    assert [("c1", "sun", "ok")] == observed(episode.steps[0])
    assert {"tool_result_missing"} == flags(episode.steps[0])


def test_a_tool_span_without_an_id_is_matched_by_its_arguments():
    """Name and arguments find the call, whatever the order and the layout; a bare value is the only argument."""
    step = last_step(
        tool(3, 30, arguments='{"city":"Rome"}', result="rain"), tool(4, 31, arguments="Paris", result="sun")
    )
    assert [("c1", "sun", "ok"), ("c2", "rain", "ok")] == observed(step)
    assert set() == flags(step)


def test_equal_calls_are_matched_in_order():
    """Two calls with equal arguments take the executions in their order, without doubt."""
    action = says("", asks("c1", "Paris"), asks("c2", "Paris"))
    arguments = '{"city": "Paris"}'
    step = last_step(
        tool(4, 31, arguments=arguments, result="second"),
        tool(3, 30, arguments=arguments, result="first"),
        action=action,
    )
    assert [("c1", "first", "ok"), ("c2", "second", "ok")] == observed(step)
    assert set() == flags(step)


def test_a_name_alone_is_a_guess():
    """Executions that say neither id nor arguments are taken in order, which is flagged."""
    step = last_step(tool(3, 30, result="sun"), tool(4, 31, result="rain"))
    assert [("c1", "sun", "ok"), ("c2", "rain", "ok")] == observed(step)
    assert {"ambiguous_match"} == flags(step)


def test_a_guess_that_adds_nothing_is_no_doubt():
    """Tool spans that say only that a tool ran leave a history's results as they are; one that judges them does not."""
    later = call(5, 50, [*ASKED, BOTH, result("c1", "sun"), result("c2", "rain")], says("Fine."))
    ran = [tool(3, 30, status=ToolStatus.UNKNOWN), tool(4, 31, status=ToolStatus.UNKNOWN)]
    (episode,) = episodes([root(), call(2, 10, ASKED, BOTH), *ran, later])
    assert [("c1", "sun", "unknown"), ("c2", "rain", "unknown")] == observed(episode.steps[0])
    assert set() == flags(episode.steps[0])
    judged = [tool(3, 30, status=ToolStatus.ERROR), tool(4, 31, status=ToolStatus.UNKNOWN)]
    (episode,) = episodes([root(), call(2, 10, ASKED, BOTH), *judged, later])
    assert {"ambiguous_match"} == flags(episode.steps[0])


def test_a_call_without_a_result_is_missing_one():
    """A call that no history and no span answers leaves the episode incomplete."""
    (episode,) = episodes([root(), call(2, 10, ASKED, BOTH), tool(3, 30, call_id="c1", result="sun")])
    assert [("c1", "sun", "ok")] == observed(episode.steps[0])
    assert {"tool_result_missing"} == flags(episode.steps[0])
    assert EpisodeStatus.INCOMPLETE is episode.status


def test_the_status_of_a_result_comes_from_the_tools_span():
    """The history has the text the model saw, the tool's span whether it failed."""
    first, second = weather_run()
    broken = tool(9, 22, call_id="c2", result="other", status=ToolStatus.UNKNOWN, span={"failed": True, "error": "E"})
    (episode,) = episodes([root(), first, broken, second])
    assert [("c2", "sunny", "error")] == observed(episode.steps[0])


def test_a_status_in_the_history_stands():
    """What the history says of a failure is not overruled by a span."""
    action = says("", asks("c1", "Paris"))
    told = [*ASKED, action, result("c1", "no such city", status=ToolStatus.ERROR)]
    readings = [call(2, 10, ASKED, action), tool(9, 15, call_id="c1", result="x"), call(3, 30, told, says("Sorry."))]
    (episode,) = episodes([root(), *readings])
    assert [("c1", "no such city", "error")] == observed(episode.steps[0])


def test_a_failed_tools_error_is_its_result():
    """A tool span without a result that failed tells its error."""
    step = last_step(
        tool(3, 30, call_id="c1", result=None, span={"failed": True, "error": "Timeout"}),
        tool(4, 30, call_id="c2", result="rain"),
    )
    assert [("c1", "Timeout", "error"), ("c2", "rain", "ok")] == observed(step)


def test_the_last_of_several_executions_counts():
    """A tool that was tried twice for one call returned what the second try did."""
    step = last_step(
        tool(3, 30, call_id="c1", result=None, span={"failed": True, "error": "Timeout"}),
        tool(5, 40, call_id="c1", result="sun"),
        tool(4, 30, call_id="c2", result="rain"),
    )
    assert [("c1", "sun", "ok"), ("c2", "rain", "ok")] == observed(step)


def test_an_execution_belongs_to_the_nearest_earlier_call():
    """Ids that a second run repeats do not carry the first run's results over."""
    one, two = weather_run(2, 10)[0], weather_run(2, 100)[0]
    two = call(4, 100, two.model_calls[0].messages, two.model_calls[0].output)
    spans = [tool(8, 21, call_id="c2", result="first"), tool(9, 111, call_id="c2", result="second")]
    found = episodes([root(), one, two, *spans])
    assert [[("c2", "first", "ok")], [("c2", "second", "ok")]] == [observed(episode.steps[0]) for episode in found]


def test_a_final_answer_by_tool_needs_no_result():
    """A tool call by which a framework takes the structured answer ends the episode well."""
    answer = says("", ToolCall(id="c9", name="final_result", arguments="{}"))
    (episode,) = episodes([root(), call(2, 10, ASKED, answer)])
    assert set() == flags(episode.steps[0])
    assert EpisodeStatus.OK is episode.status


def test_an_agents_definitions_are_its_calls():
    """Tools carried on the agent's span are carried, not inferred."""
    run = [call(2, 10, ASKED, BOTH, tools=None, parent=1)]
    (episode,) = episodes([agent(1, tools=(WEATHER,)), *run])
    assert (WEATHER,) == episode.steps[0].tools
    assert {"tool_result_missing"} == flags(episode.steps[0])


def test_a_sub_agent_does_not_inherit_its_parents_tools():
    """Definitions do not reach through a tool's execution."""
    readings = [
        agent(1, tools=(WEATHER,)),
        call(2, 10, ASKED, says("", asks("c1", "Paris", name="delegate"))),
        tool(3, 30, name="delegate", call_id="c1", result="r"),
        call(4, 31, [user("Sub")], BOTH, parent=3, tools=None),
    ]
    found = episodes(readings)
    assert [(WEATHER,), None] == [episode.steps[0].tools for episode in found]


def test_another_calls_definitions_hold_where_tools_are_called():
    """A call without definitions has its neighbour's if it calls one of those tools; else they are inferred."""
    first, second = weather_run()
    first = call(2, 10, first.model_calls[0].messages, first.model_calls[0].output, tools=None)
    (episode,) = episodes([root(), first, second])
    assert [(WEATHER,), (WEATHER,)] == [step.tools for step in episode.steps]
    assert [set(), set()] == [flags(step) for step in episode.steps]
    silent = call(3, 30, second.model_calls[0].messages, second.model_calls[0].output, tools=None)
    (episode,) = episodes([root(), weather_run()[0], silent])
    assert [set(), {"tools_inferred"}] == [flags(step) for step in episode.steps]


def test_tools_are_inferred_from_their_spans():
    """Without definitions anywhere, the tools that ran are what is known; a schema on their span is taken."""
    first, second = weather_run(tools=None)
    carried = tool(9, 21, call_id="c2", result="sunny", definition=WEATHER)
    (episode,) = episodes([root(), first, carried, second])
    assert [(WEATHER,), (WEATHER,)] == [step.tools for step in episode.steps]
    assert [{"tools_inferred"}] * 2 == [flags(step) for step in episode.steps]
    named = tool(9, 21, call_id="c2", result="sunny")
    (episode,) = episodes([root(), first, named, second])
    assert [{"tools_inferred", "tools_incomplete"}] * 2 == [flags(step) for step in episode.steps]


def test_tools_that_were_called_but_are_nowhere_defined_are_missing():
    """Every step of an episode that calls tools misses them; an episode that calls none misses nothing."""
    (episode,) = episodes([root(), *weather_run(tools=None)])
    assert [None, None] == [step.tools for step in episode.steps]
    assert [{"tools_missing"}] * 2 == [flags(step) for step in episode.steps]
    (plain,) = episodes([root(), call(2, 10, ASKED, says("Hi."), tools=None)])
    assert set() == flags(plain.steps[0])


def test_a_definition_without_a_schema_is_incomplete_unless_a_tool_span_has_it():
    """Names alone do not let a policy be asked again; the schema on a tool's span completes them."""
    bare = (ToolDefinition(name="get_weather"),)
    (episode,) = episodes([root(), *weather_run(tools=bare)])
    assert [{"tools_incomplete"}] * 2 == [flags(step) for step in episode.steps]
    (episode,) = episodes([root(), *weather_run(tools=bare), tool(9, 21, call_id="c2", definition=WEATHER)])
    assert [set(), set()] == [flags(step) for step in episode.steps]


@pytest.mark.parametrize("flag", [QualityFlag.TOOLS_MISSING, QualityFlag.OUTPUT_MISSING, QualityFlag.IDS_SYNTHESISED])
def test_what_one_span_lacks_its_neighbours_may_give(flag):
    """Flags that a dialect sets for its span alone are decided anew with the neighbours."""
    (episode,) = episodes([root(), *weather_run(flags=frozenset({flag}))])
    assert [set(), set()] == [flags(step) for step in episode.steps]
    assert ["tool: sunny [c2]"] == texts(episode.steps[0].observations)


def test_many_equal_calls_are_all_matched():
    """A turn of a hundred equal calls without ids takes a hundred executions, each in its place."""
    action = says("", *(asks(f"c{number}", "Paris") for number in range(100)))
    executions = [tool(10 + n, 30 + n, arguments='{"city": "Paris"}', result=str(n)) for n in range(100)]
    step = last_step(*executions, action=action)
    assert [(f"c{number}", str(number), "ok") for number in range(100)] == observed(step)
    assert set() == flags(step)


def test_the_last_call_left_is_no_guess():
    """A name alone is certain once every other call of that name has its execution."""
    step = last_step(tool(3, 30, arguments='{"city": "Paris"}', result="sun"), tool(4, 31, result="rain"))
    assert [("c1", "sun", "ok"), ("c2", "rain", "ok")] == observed(step)
    assert set() == flags(step)


def test_a_number_may_be_the_only_argument():
    """A bare number on the tool's span is the value of the only argument."""
    calls = [ToolCall(id=f"c{n}", name="get_weather", arguments=f'{{"id": {n}}}') for n in (6, 7)]
    step = last_step(tool(3, 30, arguments="7", result="sun"), action=says("", *calls))
    assert [("c7", "sun", "ok")] == observed(step)
    assert {"tool_result_missing"} == flags(step)


def test_a_tool_with_other_arguments_is_not_carried_out_before_its_call():
    """A span that ran before the only call of its name, with other arguments, belongs to a call nobody told."""
    before = tool(3, 5, arguments='{"city": "Oslo"}', result="snow")
    step = last_step(before, action=says("", asks("c1", "Paris")))
    assert [] == observed(step)
    assert {"tool_result_missing"} == flags(step)


def test_tools_inside_a_call_that_calls_none_hide_rounds():
    """An SDK that runs the loop itself tells several rounds as one call: what its last round saw is not told."""
    folded = call(2, 10, ASKED, says("It is sunny."), took=80)
    (episode,) = episodes([root(), folded, tool(3, 30, parent=2, arguments='{"city": "Paris"}', result="sun")])
    assert "history_inconsistent" in flags(episode.steps[0])


def test_a_tool_that_the_provider_ran_keeps_no_answer_waiting():
    """Its result came within the answer: the step has answered, and a question after it is the next request."""
    action = says("It is sunny.", asks("b", "Paris", "web_search"))
    first = call(2, 10, ASKED, action, own_results=(result("b", "sun"),))
    later = [*ASKED, action, result("b", "sun"), user("And Rome?")]
    one, two = episodes([root(), first, call(3, 30, later, says("Rain."))])
    assert ([("b", "sun", "unknown")], EpisodeStatus.OK, [3]) == (observed(one.steps[0]), one.status, spans(two))
    assert set() == flags(one.steps[0])
