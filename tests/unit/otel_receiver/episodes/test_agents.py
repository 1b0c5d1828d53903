"""Sub-agents, auxiliary calls, conversations and what spans inherit."""

from dataclasses import replace

import pytest

from otel_receiver.dialects.base import Context, ToolExecution
from spanloop.records import EndReason, EpisodeStatus
from tests.unit.otel_receiver.episodes.factories import (
    SYSTEM,
    agent,
    asks,
    call,
    episodes,
    flags,
    hex_id,
    ref,
    result,
    root,
    says,
    shape,
    spans,
    system,
    tool,
    user,
    weather_run,
)

ASKED = [SYSTEM, user("Weather?")]
DELEGATE = says("", asks("c1", "Paris", name="delegate"))


def named(name):
    """The context of a span that names its agent."""
    return Context(dialect="openinference", service_name="svc", agent_name=name)


def test_an_agent_inside_a_tool_is_an_episode_of_its_own():
    """The sub-agent's episode names the parent's episode and the tool call whose execution encloses it."""
    sub = weather_run(10, 32, parent=9)
    readings = [
        agent(1, context=named("boss")),
        call(2, 10, ASKED, DELEGATE),
        tool(8, 30, took=60, name="delegate", call_id="c1", result="sunny"),
        agent(9, 31, 58, parent=8, context=named("helper")),
        *sub,
        call(3, 100, [*ASKED, DELEGATE, result("c1", "sunny")], says("Sunny.")),
    ]
    found = {tuple(spans(episode)): episode for episode in episodes(readings)}
    boss, helper = found[(2, 3)], found[(10, 11)]
    assert ("boss", "helper") == (boss.agent_name, helper.agent_name)
    assert (boss.episode_id, "c1") == (helper.parent_episode_id, helper.parent_call_id)
    assert boss.parent_episode_id is None
    assert all("not_policy" not in flags(step) for step in helper.steps)


@pytest.mark.parametrize(("name", "call_id"), [("Helper", "c2"), ("other", None), (None, None)])
def test_one_span_may_hold_all_tools_of_a_turn(name, call_id):
    """An agent inside such a span was started by the call that bears its name; by no known one where none does."""
    both = says("", asks("c1", "x", name="look_up"), asks("c2", "x", name="ask_helper"))
    runs = tuple(ToolExecution(name=call.name, call_id=call.id, result="ok") for call in both.tool_calls)
    readings = [
        agent(1, context=named("boss")),
        call(2, 10, ASKED, both),
        replace(tool(8, 30, took=60), tool_executions=runs),
        agent(9, 31, 58, parent=8, context=named(name)),
        *weather_run(10, 32, parent=9),
        call(3, 100, [*ASKED, both, result("c1", "ok"), result("c2", "ok")], says("Sunny.")),
    ]
    found = {tuple(spans(episode)): episode for episode in episodes(readings)}
    boss, helper = found[(2, 3)], found[(10, 11)]
    assert (boss.episode_id, call_id) == (helper.parent_episode_id, helper.parent_call_id)


def test_an_agent_inside_an_agent_has_a_parent_without_a_tool_call():
    """A nested agent span with calls of its own is the outer agent's child; no tool call is invented."""
    readings = [
        agent(1, context=named("boss")),
        call(2, 10, ASKED, says("Plan.")),
        agent(9, 31, 58, parent=1, context=named("writer")),
        call(10, 32, [system("You write poems."), user("Poem")], says("Roses."), parent=9),
    ]
    boss, writer = episodes(readings)
    assert (boss.episode_id, None) == (writer.parent_episode_id, writer.parent_call_id)


def test_a_handoff_names_the_call_that_handed_over():
    """An agent that takes a shared history over is a new episode, started by the transfer call."""
    transfer = says("", asks("c1", "x", name="get_weather"), asks("c2", "x", name="transfer_to_writer"))
    told = [user("Poem"), transfer, result("c1", "sun"), result("c2", "ok")]
    readings = [
        root(),
        call(2, 10, [SYSTEM, user("Poem")], transfer, context=named("boss")),
        call(3, 30, [system("You write poems."), *told], says("Roses."), context=named("writer")),
    ]
    boss, writer = episodes(readings)
    assert (boss.episode_id, "c2") == (writer.parent_episode_id, writer.parent_call_id)


def test_a_title_call_is_not_the_policys():
    """One call beside the main episode, without tools, with instructions and a model of its own, is told apart."""
    title = call(9, 50, [system("Name this chat."), user("Weather?")], says("Weather"), tools=None, model="gpt-mini")
    found = episodes([root(), *weather_run(), title])
    assert [[2, 3], [9]] == shape(found)
    assert {"not_policy"} == flags(found[1]) == flags(found[1].steps[0])
    assert not found[1].steps[0].trainable


def test_a_judge_on_the_same_model_is_known_by_its_instructions():
    """Instructions that say so tell a judge apart, even on the policy's model."""
    judge = call(9, 50, [system("You grade answers."), user("Weather? Sunny.")], says("5"), tools=None)
    other = call(9, 50, [system("You write poems."), user("Weather? Sunny.")], says("5"), tools=None)
    assert {"not_policy"} == flags(episodes([root(), *weather_run(), judge])[1])
    assert set() == flags(episodes([root(), *weather_run(), other])[1])


def test_a_call_alone_is_the_policys():
    """Where nothing stands beside it, a call is taken for the policy's, whatever its words."""
    (episode,) = episodes([root(), call(2, 10, [system("You grade answers."), user("A")], says("5"), tools=None)])
    assert set() == flags(episode)


def test_a_call_inside_a_tool_without_an_agent_is_auxiliary():
    """A tool that asks a model once is no sub-agent; its episode still names the tool call."""
    inside = call(9, 31, [user("Summarise: ...")], says("Short."), parent=8, tools=None)
    readings = [
        root(),
        call(2, 10, ASKED, DELEGATE),
        tool(8, 30, took=20, name="delegate", call_id="c1", result="Short."),
        inside,
        call(3, 100, [*ASKED, DELEGATE, result("c1", "Short.")], says("Done.")),
    ]
    main, aside = episodes(readings)
    assert [[2, 3], [9]] == [spans(main), spans(aside)]
    assert {"not_policy"} == flags(aside)
    assert (main.episode_id, "c1") == (aside.parent_episode_id, aside.parent_call_id)


def test_what_the_sender_marks_is_auxiliary():
    """A call that its span marks, and every call under an evaluator's span, is not the policy's."""
    marked = call(9, 50, [SYSTEM, user("x")], says("5"), auxiliary=True)
    under = call(11, 70, [SYSTEM, user("y")], says("5"), parent=10)
    evaluator = agent(10, 60, 50, parent=1, is_agent=False, auxiliary=True)
    found = episodes([root(), *weather_run(), marked, evaluator, under])
    assert [set(), {"not_policy"}, {"not_policy"}] == [flags(episode) for episode in found]


def test_an_auxiliary_call_never_continues_the_policys_history():
    """A guardrail that reads the whole history is no step and no next request."""
    first, second = weather_run()
    told = [*second.model_calls[0].messages, second.model_calls[0].output]
    guard = call(9, 60, [*told, user("Is this safe?")], says("Yes"), auxiliary=True)
    found = episodes([root(), first, second, guard])
    assert [[2, 3], [9]] == shape(found)
    assert [None, None] == [episode.conversation_id for episode in found]


def test_context_comes_from_the_nearest_span_that_has_it():
    """Conversation, user, agent and service are inherited from the nearest ancestor, then from the root."""
    outer = Context(conversation_id="outer", user_id="u", service_name="svc", agent_name="boss")
    readings = [
        agent(1, context=outer),
        agent(5, 5, 500, parent=1, context=Context(conversation_id="inner")),
        *weather_run(parent=5, context=Context(dialect="openinference")),
    ]
    (episode,) = episodes(readings)
    expected = ("inner", "u", "boss", "svc")
    assert expected == (episode.conversation_id, episode.user_id, episode.agent_name, episode.service_name)


def test_an_applications_own_span_names_the_session_last():
    """A span of no dialect gives what no span of a dialect says: a web server's session need not be the agent's."""
    around = replace(root(), context=Context(conversation_id="web", user_id="u"))
    plain = weather_run(context=Context(dialect="openinference"))
    (bare,) = episodes([around, *plain])
    named = agent(7, 600, parent=1, context=Context(dialect="openinference", conversation_id="agent's"))
    (told,) = episodes([around, *plain, named])
    assert [("web", "u"), ("agent's", "u")] == [(found.conversation_id, found.user_id) for found in (bare, told)]


def test_context_of_a_lost_parent_comes_from_the_rest_of_the_trace():
    """A call whose parent never arrived takes what its trace says with one voice, and nothing it disputes."""
    other = Context(dialect="openinference", conversation_id="c", user_id="u-2")
    readings = [
        agent(5, 0, 10, parent=77, context=replace(other, user_id="u-1")),
        agent(6, 0, 10, parent=77, context=other),
        *weather_run(parent=88, context=Context(dialect="openinference")),
    ]
    (episode,) = episodes(readings)
    assert ("c", None) == (episode.conversation_id, episode.user_id)
    assert {"root_missing"} == flags(episode)


def test_a_conversation_across_traces_is_inferred_from_its_history():
    """Without an id, the second trace's episode belongs to the first's conversation; both say it was inferred."""
    first = weather_run(parent=None, trace=1)
    told = [*first[1].model_calls[0].messages, says("It is sunny."), user("And in Rome?")]
    second = call(4, 200, told, says("Rainy."), trace=2, parent=None)
    found = episodes([second, *first])
    assert [[2, 3], [4]] == shape(found)
    assert [f"inferred-{found[0].episode_id}"] * 2 == [episode.conversation_id for episode in found]
    assert [{"conversation_inferred"}] * 2 == [flags(episode) for episode in found]


def test_an_unnamed_turn_joins_the_named_conversation_it_continues():
    """A turn without an id takes that of the turn it continues."""
    first = weather_run(context=Context(service_name="svc", conversation_id="a"))
    told = [*first[1].model_calls[0].messages, says("It is sunny."), user("And in Rome?")]
    second = call(4, 200, told, says("Rainy."), trace=2, parent=None, context=Context(service_name="svc"))
    found = episodes([root(), *first, second])
    assert ["a", "a"] == [episode.conversation_id for episode in found]
    assert [set(), {"conversation_inferred"}] == [flags(episode) for episode in found]


def test_a_conversations_episodes_come_in_its_order():
    """A later turn stands after the turn it continues, though its clock is behind."""
    first = weather_run(at=500)
    told = [*first[1].model_calls[0].messages, says("It is sunny."), user("And in Rome?")]
    second = call(4, 5, told, says("Rainy."), trace=2, parent=None)
    assert [[2, 3], [4]] == shape(episodes([root(), *first, second]))


def test_a_failed_agent_fails_its_last_episode():
    """An agent span that failed after its last answer makes that episode an error, not the one before."""
    failed = agent(1, span={"failed": True, "error": "boom"})
    found = episodes([failed, *weather_run(2, 10), *weather_run(4, 100, question="Else?")])
    assert [EpisodeStatus.OK, EpisodeStatus.ERROR] == [episode.status for episode in found]


def test_parents_in_a_circle_do_not_hang_assembly():
    """Spans that are each other's parents are read all the same, without a root."""
    one, two = weather_run()
    one = replace(one, span=replace(one.span, parent_span_id=hex_id(3, 16)))
    two = replace(two, span=replace(two.span, parent_span_id=hex_id(2, 16)))
    (episode,) = episodes([one, two])
    assert [2, 3] == spans(episode)
    assert {"root_missing"} == flags(episode)


def test_several_roots_are_one_trace():
    """Two roots in one trace are no missing root, and their calls stay in order."""
    first, second = weather_run(parent=None)
    (episode,) = episodes([first, second])
    assert ([2, 3], set()) == (spans(episode), flags(episode))


def test_spans_without_times_are_assembled_and_flagged():
    """Missing times leave the order to the history and are flagged per step."""
    first, second = weather_run()
    bare = [replace(reading, span=replace(reading.span, started_at=None, ended_at=None)) for reading in (second, first)]
    (episode,) = episodes([root(), *bare])
    assert [2, 3] == spans(episode)
    assert [{"time_missing"}] * 2 == [flags(step) for step in episode.steps]
    assert (None, None) == (episode.started_at, episode.ended_at)


def test_a_span_that_ends_before_it_begins_is_skewed():
    """Times that contradict themselves are flagged."""
    first = replace(weather_run()[0], span=ref(2, 10, -5))
    assert "clock_skew" in flags(episodes([root(), first])[0].steps[0])


def test_a_trace_that_a_limit_closed_is_not_trained_on():
    """The end reason LIMIT marks every step."""
    (episode,) = episodes([root(), *weather_run()], EndReason.LIMIT)
    assert [{"trace_truncated"}] * 2 == [flags(step) for step in episode.steps]
    assert {"trace_truncated"} == flags(episode)
    assert EndReason.LIMIT is episode.end_reason


def test_no_model_call_is_no_episode():
    """Tools and agents alone make nothing."""
    assert () == episodes([agent(1), tool(2, 10, result="x")])


def test_a_child_that_starts_before_its_parent_still_inherits():
    """A parent's host may be behind: the tree is built by ids, not by times."""
    late = agent(1, 500, context=Context(conversation_id="c", service_name="svc"))
    (episode,) = episodes([*weather_run(context=Context(dialect="d")), late])
    assert ("c", set()) == (episode.conversation_id, flags(episode))
    nested = agent(5, 600, 10, parent=1, context=named("boss"))
    (episode,) = episodes([*weather_run(parent=5, context=Context(dialect="d")), late, nested])
    assert ("c", "boss") == (episode.conversation_id, episode.agent_name)
    other = agent(9, 0, 10, parent=1, context=named("other"))
    (episode,) = episodes([*weather_run(parent=5, context=Context(dialect="d")), late, nested, other])
    assert "boss" == episode.agent_name
