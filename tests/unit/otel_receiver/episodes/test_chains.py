"""Which calls become one episode, and where the next begins."""

import hashlib
from dataclasses import replace

import pytest

from otel_receiver.dialects.base import Context
from spanloop.records import EpisodeStatus, ToolCall
from tests.unit.otel_receiver.episodes.factories import (
    SYSTEM,
    agent,
    asks,
    call,
    episodes,
    flags,
    ref,
    result,
    root,
    says,
    shape,
    spans,
    system,
    texts,
    tool,
    user,
    weather_run,
)


def test_one_run_is_one_episode():
    """A tool call and the answer to its result are two steps of one episode that ended well."""
    (episode,) = episodes([root(), *weather_run()])
    assert [2, 3] == spans(episode)
    assert EpisodeStatus.OK is episode.status
    assert ["system: You are helpful.", "user: Weather in Paris?"] == texts(episode.steps[0].messages)
    assert ["tool: sunny [c2]"] == texts(episode.steps[0].observations)
    assert "It is sunny." == episode.steps[1].action.text
    assert [set(), set()] == [flags(step) for step in episode.steps]


def test_the_same_loop_twice_is_two_episodes():
    """Equal prompts and equal answers, one after the other, belong to the run they are in."""
    found = episodes([root(), *weather_run(2, 10), *weather_run(4, 100)])
    assert [[2, 3], [4, 5]] == shape(found)
    assert [set()] * 4 == [flags(step) for episode in found for step in episode.steps]


def test_equal_runs_at_once_are_told_apart_by_call_ids():
    """Interleaved runs with equal words follow their own tool-call ids."""
    first, second = weather_run(2, 10), weather_run(4, 15)
    assert [[2, 3], [4, 5]] == shape(episodes([root(), *first, *second]))


def test_equal_runs_at_once_without_ids_are_ambiguous():
    """Where neither words, ids nor times tell two runs apart, the second steps say so."""
    readings = [root()]
    for first in (2, 4):
        for reading in weather_run(first, 10):
            report = reading.model_calls[0]
            messages = tuple(_made_ids(message) for message in report.messages)
            output = _made_ids(report.output)
            readings.append(replace(reading, model_calls=(replace(report, messages=messages, output=output),)))
    found = episodes(readings)
    assert 2 == len(found)
    assert any("ambiguous_match" in flags(episode.steps[1]) for episode in found)
    assert not any("ambiguous_match" in flags(episode.steps[0]) for episode in found)


def _made_ids(message):
    parts = tuple(
        replace(part, id="call_synthetic_2_0") if isinstance(part, ToolCall) else part for part in message.parts
    )
    if message.tool_result is not None:
        parts = (replace(message.tool_result, call_id="call_synthetic_2_0"),)
    return replace(message, parts=parts)


def test_a_new_question_after_an_answer_starts_the_next_episode():
    """The earlier turns are the state of the second episode, not its steps."""
    first = weather_run()
    told = [*first[1].model_calls[0].messages, says("It is sunny."), user("And in Rome?")]
    found = episodes([root(), *first, call(4, 200, told, says("Rainy."))])
    assert [[2, 3], [4]] == shape(found)
    assert 6 == len(found[1].steps[0].messages)


def test_a_history_that_starts_afresh_is_a_second_episode():
    """Another question without the first one's history is an episode of its own, in no conversation."""
    found = episodes([root(), *weather_run(), call(4, 100, [SYSTEM, user("Other")], says("Yes."))])
    assert [[2, 3], [4]] == shape(found)
    assert [None, None] == [episode.conversation_id for episode in found]


def test_the_order_of_messages_beats_the_clock():
    """A call whose history has another's answer comes after it, whatever its clock says; the step is flagged."""
    first, second = weather_run()
    early = replace(second, span=replace(second.span, started_at=first.span.started_at - 10**9))
    (episode,) = episodes([root(), early, first])
    assert [2, 3] == spans(episode)
    assert [set(), {"clock_skew"}] == [flags(step) for step in episode.steps]


def test_a_call_that_overlaps_its_predecessor_by_a_second_is_skewed():
    """Nobody can use an answer more than a second before it ends; a little less is how streams are closed."""
    first, second = weather_run()
    ended = second.span.started_at
    for late, expected in ((10**9, set()), (10**9 + 1, {"clock_skew"})):
        slow = replace(first, span=replace(first.span, ended_at=ended + late))
        (episode,) = episodes([root(), slow, second])
        assert expected == flags(episode.steps[1])


def test_the_longest_chain_is_the_episode():
    """Of two calls that continue one, the one that goes on stays; the other is an episode of its own."""
    first, second = weather_run()
    asked = first.model_calls[0].messages
    action = first.model_calls[0].output
    short = call(9, 35, [*asked, action, result("c2", "cold")], says("It is cold."))
    longer = [*asked, action, result("c2", "sunny")]
    more = says("", asks("c8", "Rome"))
    second = call(3, 40, longer, more)
    third = call(4, 60, [*longer, more, result("c8", "rainy")], says("Done."))
    assert [[2, 3, 4], [9]] == shape(episodes([root(), first, short, second, third]))


def test_a_call_each_its_own_trace_is_one_episode():
    """Without a root every call is a trace; the history joins them."""
    first, second = weather_run(trace=5, parent=None)
    second = replace(second, span=replace(second.span, trace_id="6".rjust(32, "0")))
    (episode,) = episodes([second, first])
    assert [2, 3] == spans(episode)
    assert set() == flags(episode)


def test_conversation_ids_keep_equal_histories_apart():
    """A history does not continue a call of another conversation."""
    first = weather_run(context=Context(service_name="svc", conversation_id="a"))
    told = [*first[1].model_calls[0].messages, says("It is sunny."), user("And in Rome?")]
    other = call(4, 200, told, says("Rainy."), trace=2, parent=None, context=Context(conversation_id="b"))
    found = episodes([root(), *first, other])
    assert ["a", "b"] == [episode.conversation_id for episode in found]
    assert [set(), set()] == [flags(episode) for episode in found]


def test_services_keep_equal_histories_apart():
    """Across traces only calls of one service continue each other."""
    first = weather_run()
    told = [*first[1].model_calls[0].messages, says("It is sunny."), user("And in Rome?")]
    other = call(4, 200, told, says("Rainy."), trace=2, parent=None, context=Context(service_name="other"))
    assert [None, None] == [episode.conversation_id for episode in episodes([root(), *first, other])]


@pytest.mark.parametrize(
    ("mine", "theirs"),
    [
        ("You are helpful.", "You are helpful. "),
        ("You plan meals for people. Today is 2026-11-23.", "You plan meals for people. Today is 2026-11-24."),
    ],
)
def test_a_system_prompt_that_changes_a_little_is_one_agents(mine, theirs):
    """Dates and spaces in a system prompt do not end an episode."""
    first, second = weather_run()
    one = replace(first.model_calls[0], messages=(system(mine), *first.model_calls[0].messages[1:]))
    two = replace(second.model_calls[0], messages=(system(theirs), *second.model_calls[0].messages[1:]))
    found = episodes([root(), replace(first, model_calls=(one,)), replace(second, model_calls=(two,))])
    assert [[2, 3]] == shape(found)


def test_another_system_prompt_is_another_agents():
    """A history handed to an agent with instructions of its own is an episode of that agent, started by the call."""
    first, second = weather_run()
    other = replace(second.model_calls[0], messages=(system("Be rude to all."), *second.model_calls[0].messages[1:]))
    found = episodes([root(), first, replace(second, model_calls=(other,))])
    assert [[2], [3]] == shape(found)
    assert (found[0].episode_id, "c2") == (found[1].parent_episode_id, found[1].parent_call_id)


def test_the_words_of_a_framework_are_no_new_question():
    """A request to repair an answer, and a tool result in words, continue the episode."""
    asked = [SYSTEM, user("Weather?")]
    thought = says("Action: get_weather")
    told = [*asked, thought, user("Observation: sunny")]
    found = episodes([root(), call(2, 10, asked, thought), call(3, 30, told, says("Sunny."))])
    assert [[2, 3]] == shape(found)


def test_pydantic_ais_word_that_an_answer_is_refused_is_no_new_question():
    """Its validator's feedback comes as a user message after a whole answer, with a system message about it."""
    asked, answer = [SYSTEM, user("Weather?")], says("Sunny.")
    words = "Your previous response failed the application's validation (this is automated feedback):\nLonger."
    told = [*asked, answer, system("Notes have no authority."), user(words)]
    assert [[2, 3]] == shape(episodes([root(), call(2, 10, asked, answer), call(3, 30, told, says("Very sunny."))]))


def test_a_question_while_tools_are_open_is_the_next_request_of_another_run():
    """A user message after unanswered tool calls starts an episode if another agent run handles it."""
    first = weather_run(parent=5)[0]
    told = [*first.model_calls[0].messages, first.model_calls[0].output, result("c2", "sunny"), user("Never mind.")]
    second = call(4, 500, told, says("Fine."), parent=6)
    runs = [agent(5, 0, 100, parent=1), agent(6, 490, 100, parent=1)]
    assert [[2], [4]] == shape(episodes([root(), *runs, first, second]))
    same_run = call(4, 50, told, says("Fine."), parent=5)
    assert [[2, 4]] == shape(episodes([root(), *runs, first, same_run]))


def test_tolerances_of_a_history():
    """A history that drops the text beside a call, reorders its arguments and strips spaces still continues it."""
    asked = [SYSTEM, user("Weather?  ")]
    action = says("Checking.", ToolCall(id="c1", name="t", arguments='{"a": 1,\n "b": [2]}'), thought="Hm.")
    told = [SYSTEM, user("Weather?"), says("", ToolCall(id="c1", name="t", arguments='{"b":[2],"a":1}'))]
    (episode,) = episodes([root(), call(2, 10, asked, action), call(3, 30, [*told, result("c1", "x")], says("Done."))])
    assert [2, 3] == spans(episode)
    assert [set(), set()] == [flags(step) for step in episode.steps]
    assert "assistant:  [c1]" == texts(episode.steps[1].messages)[2]


def test_calls_without_content_are_ordered_by_time_until_an_answer():
    """Calls that carry no messages form one episode up to the one that says it stopped."""
    readings = [
        call(2, 10, [], None, finish_reason="tool_calls", tools=None),
        call(3, 30, [], None, finish_reason="stop", tools=None),
        call(4, 50, [], None, finish_reason="tool_calls", tools=None),
    ]
    found = episodes([root(), *readings])
    assert [[2, 3], [4]] == shape(found)
    assert [EpisodeStatus.OK, EpisodeStatus.INCOMPLETE] == [episode.status for episode in found]
    assert all("content_missing" in flags(step) for episode in found for step in episode.steps)


def test_a_call_of_tools_is_no_answer_whatever_its_finish_reason():
    """Some senders say stop for tool calls as well: a user message beside the results is no new request."""
    first, second = weather_run(finish_reason="stop")
    told = (*second.model_calls[0].messages, user("(the picture)"))
    second = call(3, 30, told, says("It is sunny."))
    assert [[2, 3]] == shape(episodes([root(), first, second]))


def test_an_episodes_id_follows_from_its_first_call():
    """The id is a digest of trace, span and position, the same in every process and however often it is derived."""
    (episode,) = episodes([root(), *weather_run()])
    text = f"{1:032x}/{2:016x}/0"
    assert hashlib.sha256(text.encode()).hexdigest()[:32] == episode.episode_id


def test_two_agents_of_one_trace_do_not_mix():
    """Sibling agents with equal words keep their calls by the span they run in."""
    one, two = weather_run(2, 10, parent=5), weather_run(6, 11, parent=9)
    readings = [agent(5, 0, 100, parent=1), agent(9, 0, 100, parent=1), *one, *two]
    assert [[2, 3], [6, 7]] == shape(episodes([root(), *readings]))


def test_a_tool_that_is_handed_the_history_is_no_step():
    """A call inside a tool's execution, without that tool's result in its history, is not the agent's next step."""
    first, second = weather_run()
    inside = call(8, 22, [*first.model_calls[0].messages, first.model_calls[0].output], says("Sub."), parent=7)
    found = episodes([root(), first, tool(7, 21, took=5, call_id="c2", result="sunny"), inside, second])
    assert [[2, 3], [8]] == sorted(shape(found))


def test_equal_calls_in_traces_of_their_own_are_ambiguous():
    """Rootless calls that say the same without ids may belong to either history; the step that chose says so."""
    first, second = weather_run(parent=None)
    bare = []
    for reading in (first, second):
        report = reading.model_calls[0]
        messages = tuple(_made_ids(message) for message in report.messages)
        bare.append(
            replace(reading, model_calls=(replace(report, messages=messages, output=_made_ids(report.output)),))
        )
    times = {2: 10, 3: 100, 4: 200}
    readings = [
        replace(reading, span=ref(number, times[number], 5, trace=number, parent=None))
        for number, reading in ((2, bare[0]), (3, bare[0]), (4, bare[1]))
    ]
    found = episodes(readings)
    assert [[2], [3, 4]] == shape(found)
    assert "ambiguous_match" in flags(found[1].steps[1])
    assert "ambiguous_match" not in flags(found[1].steps[0])


def test_of_equal_branches_the_one_that_did_not_fail_is_the_episode():
    """A call that failed and another course taken afterwards: the answer belongs to the run."""
    first, second = weather_run()
    asked = (*first.model_calls[0].messages, first.model_calls[0].output)
    failed = call(9, 30, [*asked, result("c2", "too long")], None, span={"failed": True, "error": "E"})
    second = call(3, 50, [*asked, result("c2", "sunny")], says("It is sunny."))
    assert [[2, 3], [9]] == shape(episodes([root(), first, failed, second]))


def test_a_lost_step_is_told_by_the_history():
    """A history with an answer between two steps that no span reports marks the episode; the steps are whole."""
    first = weather_run()[0]
    told = [*first.model_calls[0].messages, first.model_calls[0].output, result("c2", "sunny")]
    lost = says("", asks("c8", "Rome"))
    third = call(4, 60, [*told, lost, result("c8", "rainy")], says("Done."))
    (episode,) = episodes([root(), first, third])
    assert [2, 4] == spans(episode)
    assert {"history_inconsistent"} == flags(episode)
    assert [set(), set()] == [flags(step) for step in episode.steps]
    (whole,) = episodes([root(), first, call(3, 40, told, lost), third])
    assert set() == flags(whole)


def test_results_in_another_trace_continue_and_a_last_word_of_the_user_does_not():
    """Without agent spans, a trace that ends in the user's words asks anew; one that ends in results goes on."""
    first = weather_run(parent=None)[0]
    told = [*first.model_calls[0].messages, first.model_calls[0].output, result("c2", "sunny")]
    asks_anew = call(4, 60, [*told, user("Never mind.")], says("Fine."), trace=2, parent=None)
    goes_on = call(4, 60, [*told[:-1], user("(note)"), result("c2", "sunny")], says("Fine."), trace=2, parent=None)
    assert [[2], [4]] == shape(episodes([first, asks_anew]))
    assert [[2, 4]] == shape(episodes([first, goes_on]))


def test_a_final_answer_by_tool_is_an_answer():
    """A question after the framework's answering tool is the next request, also in one run."""
    final = says("", ToolCall(id="c9", name="final_answer", arguments='{"answer": "Sunny."}'))
    told = [SYSTEM, user("Weather?"), final, result("c9", "Sunny."), user("And in Rome?")]
    readings = [agent(1), call(2, 10, [SYSTEM, user("Weather?")], final), call(3, 30, told, says("Rainy."))]
    assert [[2], [3]] == shape(episodes(readings))


def fields(question: str, trajectory: str, asked: str) -> str:
    """A prompt as DSPy's ReAct writes it."""
    return (
        f"[[ ## question ## ]]\n{question}\n\n[[ ## trajectory ## ]]\n{trajectory}\n\n"
        f"Respond with the corresponding output fields, starting with the field `[[ ## {asked} ## ]]`."
    )


def test_calls_of_one_dspy_module_are_one_episode():
    """Each prompt holds the answers so far in other fields; the last asks for others under another system prompt."""
    thought = "[[ ## next_thought ## ]]\nI look.\n\n[[ ## next_tool_name ## ]]\nget_weather\n\n[[ ## completed ## ]]"
    step = "[[ ## thought_0 ## ]]\nI look.\n\n[[ ## tool_name_0 ## ]]\nget_weather\n\n[[ ## observation_0 ## ]]\nsunny"
    acts = system("You are an agent that acts.")
    first = call(2, 2, [acts, user(fields("?", "", "next_thought"))], says(thought))
    again = call(3, 20, [acts, user(fields("?", step, "next_thought"))], says(thought))
    last = call(
        3, 20, [system("Extract."), user(fields("?", step, "answer"))], says("[[ ## answer ## ]]\nIt is sunny.")
    )
    assert [[2, 3]] == [spans(episode) for episode in episodes([root(), first, again])]
    assert [[2, 3]] == [spans(episode) for episode in episodes([root(), first, last])]


def test_a_judge_that_is_shown_prompt_and_answer_is_not_the_agent():
    """The same growth of a prompt under another system prompt, and not in DSPy's fields: two episodes."""
    first = call(2, 2, [system("You are an agent that acts."), user("Weather in Paris?")], says("It is sunny there."))
    shown = user("Weather in Paris? It is sunny there. Is it?")
    judge = call(3, 20, [system("Grade."), shown], says("Yes."))
    assert [[2], [3]] == [spans(episode) for episode in episodes([root(), first, judge])]
