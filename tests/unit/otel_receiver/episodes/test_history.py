"""What is restored in a history, which ids a story keeps, and how that is flagged."""

from dataclasses import replace

from spanloop.records import Message, QualityFlag, Role, TextPart, ToolCall, ToolResult
from tests.unit.otel_receiver.episodes.factories import (
    SYSTEM,
    agent,
    asks,
    call,
    episodes,
    flags,
    hex_id,
    result,
    root,
    says,
    spans,
    texts,
    user,
)

ASKED = [SYSTEM, user("Weather?")]
ACTION = says("Let me check.", asks("c1", "Paris"), asks("c2", "Rome"))
MADE = frozenset({QualityFlag.IDS_SYNTHESISED})
BRIEF = says("Sunny.")


def run(told, *, action=ACTION, later=None, **fields):
    """The two steps of a run whose second call reports this history."""
    second = {**fields, **(later or {})}
    readings = [root(), call(2, 10, ASKED, action, **fields), call(3, 30, [*ASKED, *told], says("Done."), **second)]
    (episode,) = episodes(readings)
    assert [2, 3] == spans(episode)
    return episode.steps


def test_a_history_as_it_was_sent_is_left_alone():
    """A prompt that really lacks the text beside tool calls keeps lacking it, without a flag."""
    told = says("", *ACTION.tool_calls)
    steps = run([told, result("c1", "sun"), result("c2", "rain")])
    assert told == steps[1].messages[2]
    assert set() == flags(steps[1])


def test_text_that_telemetry_loses_is_put_back():
    """A sender known to lose text beside tool calls gets it back from the answer, and a flag."""
    told = [says("", *ACTION.tool_calls), result("c1", "sun"), result("c2", "rain")]
    steps = run(told, later={"lossy_history": True})
    assert ACTION == steps[1].messages[2]
    assert [set(), {"history_repaired"}] == [flags(step) for step in steps]


def test_tool_calls_that_telemetry_drops_are_put_back():
    """An answer repeated as text only, before tool results, is shown with its calls again."""
    steps = run([says("Let me check."), result("", "sun"), result("", "rain")], later={"flags": MADE})
    expected = ["assistant: Let me check. [c1] [c2]", "tool: sun [c1]", "tool: rain [c2]"]
    assert expected == texts(steps[1].messages[2:])
    assert [set(), {"history_repaired"}] == [flags(step) for step in steps]


def test_an_answer_that_telemetry_drops_is_put_back():
    """Orphan tool results of an earlier answer's calls are preceded by that answer again."""
    steps = run([result("c1", "sun"), result("c2", "rain")])
    assert ["assistant: Let me check. [c1] [c2]", "tool: sun [c1]", "tool: rain [c2]"] == texts(steps[1].messages[2:])
    assert {"history_repaired"} == flags(steps[1])


def test_what_is_restored_stays_restored():
    """The third step's history is repaired for the first answer as well as for the second."""
    more = says("", asks("c3", "Oslo"))
    first = [result("c1", "sun"), result("c2", "rain")]
    readings = [
        root(),
        call(2, 10, ASKED, ACTION),
        call(3, 30, [*ASKED, *first], more),
        call(4, 50, [*ASKED, *first, result("c3", "snow")], says("Done.")),
    ]
    (episode,) = episodes(readings)
    expected = ["assistant: Let me check. [c1] [c2]", "tool: sun [c1]", "tool: rain [c2]", "assistant:  [c3]"]
    assert [*expected, "tool: snow [c3]"] == texts(episode.steps[2].messages[2:])


def test_the_next_request_is_repaired_as_well():
    """A second episode's state shows the first episode's answer with the tool calls that its sender drops."""
    told = [*ASKED, says("Let me check."), result("", "sun"), result("", "rain")]
    readings = [
        root(),
        call(2, 10, ASKED, ACTION),
        call(3, 30, told, says("Done."), flags=MADE),
        call(4, 50, [*told, says("Done."), user("Thanks")], says("Bye."), flags=MADE),
    ]
    _, second = episodes(readings)
    assert ["assistant: Let me check. [c1] [c2]", "tool: sun [c1]"] == texts(second.steps[0].messages[2:4])
    assert {"history_repaired"} == flags(second.steps[0])


def test_a_lost_output_is_taken_from_the_next_history():
    """A call whose span carries no answer has the one its successor repeats."""
    steps = run([ACTION, result("c1", "sun"), result("c2", "rain")], action=None)
    assert ACTION == steps[0].action
    assert [{"history_repaired"}, set()] == [flags(step) for step in steps]


def test_tool_calls_lost_from_an_output_are_taken_from_the_next_history():
    """An answer reassembled without its tool calls gets those that the next history has."""
    steps = run([ACTION, result("c1", "sun"), result("c2", "rain")], action=says("Let me check."))
    assert ["c1", "c2"] == [part.id for part in steps[0].action.tool_calls]
    assert {"history_repaired"} == flags(steps[0])


def test_made_ids_are_one_in_action_observation_and_state():
    """Where no id is carried, action, observation and later states share ids made from the step's span."""

    def anonymous(position):
        parts = [replace(part, id=f"call_synthetic_{position}_{i}") for i, part in enumerate(ACTION.tool_calls)]
        return says("Let me check.", *parts)

    told = [anonymous(2), result("call_synthetic_2_0", "sun"), result("call_synthetic_2_1", "rain")]
    steps = run(told, action=anonymous(1), flags=MADE)
    made = [f"call_synthetic_{hex_id(2, 16)}_{i}" for i in (0, 1)]
    assert made == [part.id for part in steps[0].action.tool_calls]
    assert made == [message.tool_result.call_id for message in steps[0].observations]
    assert steps[0].action == steps[1].messages[2]
    assert steps[0].observations == steps[1].messages[3:]
    assert [{"ids_synthesised"}, {"ids_synthesised"}] == [flags(step) for step in steps]


def test_real_ids_of_the_next_history_replace_made_ones():
    """An answer without ids takes those that the next call's history carries, and is no longer flagged."""
    made = says(
        "Let me check.", *(replace(part, id=f"call_synthetic_1_{i}") for i, part in enumerate(ACTION.tool_calls))
    )
    steps = run([ACTION, result("c1", "sun"), result("c2", "rain")], action=made, flags=MADE)
    assert ACTION == steps[0].action
    assert [set(), set()] == [flags(step) for step in steps]


def test_results_without_ids_answer_calls_by_name_and_order():
    """Results in the order of the calls get their ids; a name moves a result to the call it fits."""
    action = says("", asks("c1", "Paris"), asks("c2", "Rome", name="get_news"))
    told = [action, result("", "strike", name="get_news"), result("", "sun", name="get_weather")]
    steps = run(told, action=action, later={"flags": MADE | {QualityFlag.AMBIGUOUS_MATCH}})
    assert ["tool: strike [c2]", "tool: sun [c1]"] == texts(steps[1].messages[3:])
    assert ["tool: sun [c1]", "tool: strike [c2]"] == texts(steps[0].observations)
    assert [set(), set()] == [flags(step) for step in steps]


def test_fewer_results_than_calls_without_ids_are_ambiguous():
    """One anonymous result for two calls of one tool may belong to either, in this step and the next state."""
    steps = run([ACTION, result("", "sun")], later={"flags": MADE | {QualityFlag.AMBIGUOUS_MATCH}})
    assert {"ambiguous_match", "tool_result_missing"} == flags(steps[0])
    assert "ambiguous_match" in flags(steps[1])


def test_another_answer_in_the_history_is_inconsistent():
    """A history that has another answer where this run reported one starts an episode that is not trained on."""
    readings = [
        root(),
        call(2, 10, ASKED, says("Sunny.")),
        call(3, 30, [*ASKED, says("Rainy."), user("Sure?")], says("Yes.")),
    ]
    found = episodes(readings)
    assert [[2], [3]] == [spans(episode) for episode in found]
    assert [set(), {"history_inconsistent"}] == [flags(episode.steps[0]) for episode in found]
    assert not found[1].steps[0].trainable


def test_a_result_that_answers_no_call_is_inconsistent():
    """A history that begins with a tool result of nobody's call is not trained on, nor is what follows from it."""
    asked = [*ASKED, result("lost", "sun")]
    action = says("", asks("c1", "Paris"))
    readings = [
        root(),
        call(2, 10, asked, action),
        call(3, 30, [*asked, action, result("c1", "x")], says("Done.")),
    ]
    (episode,) = episodes(readings)
    assert [{"history_inconsistent"}] * 2 == [flags(step) for step in episode.steps]


def test_arguments_that_differ_by_id_keep_the_answer():
    """A history with the answer's calls by id but other arguments continues it; the flag says they were altered."""
    told = says("Let me check.", *(replace(part, arguments='{"city": "***"}') for part in ACTION.tool_calls))
    steps = run([told, result("c1", "sun"), result("c2", "rain")])
    assert told == steps[1].messages[2]
    assert {"arguments_altered"} == flags(steps[1])


def test_a_cut_prompt_is_recognised_by_the_last_answer():
    """A prompt whose beginning was lost follows the call whose answer it ends with; it stays untrainable."""
    cut = frozenset({QualityFlag.PROMPT_TRUNCATED})
    readings = [
        root(),
        call(2, 10, ASKED, ACTION),
        call(3, 30, [ACTION, result("c1", "sun"), result("c2", "rain")], says("Done."), flags=cut),
    ]
    (episode,) = episodes(readings)
    assert ["tool: sun [c1]", "tool: rain [c2]"] == texts(episode.steps[0].observations)
    assert [set(), {"prompt_truncated"}] == [flags(step) for step in episode.steps]


def test_a_runs_message_list_restores_its_calls():
    """Calls without tool calls, ids and answers get them from the agent span's messages, and say so."""
    final = says("Done.")
    whole = (*ASKED, ACTION, result("c1", "sun"), result("c2", "rain"), final)
    poor = [*ASKED, says("Let me check."), result("", "sun"), result("", "rain")]
    readings = [
        agent(1, history=whole),
        call(2, 10, ASKED, None, finish_reason=None),
        call(3, 30, poor, None, flags=MADE, finish_reason=None),
    ]
    (episode,) = episodes(readings)
    assert [ACTION, final] == [step.action for step in episode.steps]
    assert whole[:5] == episode.steps[1].messages
    assert [{"history_repaired"}] * 2 == [flags(step) for step in episode.steps]


def test_a_message_list_of_another_story_restores_nothing():
    """Where a call's prompt is not found in the agent span's messages, the call stays as it is."""
    readings = [agent(1, history=(user("Else"), says("B."))), call(2, 10, ASKED, None, finish_reason=None)]
    (episode,) = episodes(readings)
    assert episode.steps[0].action is None
    assert {"output_missing"} == flags(episode.steps[0])


def test_reasoning_before_the_lost_text_stays_first():
    """The canonical order of parts holds in a restored message: reasoning, text, tool calls."""
    thought = says("", *ACTION.tool_calls, thought="Hm.")
    steps = run([thought, result("c1", "sun"), result("c2", "rain")], later={"lossy_history": True})
    kinds = [type(part).__name__ for part in steps[1].messages[2].parts]
    assert ["ReasoningPart", "TextPart", "ToolCall", "ToolCall"] == kinds


def test_system_messages_in_the_middle_stay_in_place():
    """Repairs count messages without system messages and leave those where they were."""
    middle = Message(role=Role.SYSTEM, parts=(TextPart(text="Be brief."),))
    steps = run([middle, says("Let me check."), result("", "sun"), result("", "rain")], later={"flags": MADE})
    assert "system: Be brief." == texts(steps[1].messages)[2]
    assert "assistant: Let me check. [c1] [c2]" == texts(steps[1].messages)[3]


def test_results_keep_what_the_model_saw():
    """An observation is the history's text, not the tool span's."""
    steps = run([ACTION, result("c1", "sun"), result("c2", "rain")])
    expected = [ToolResult(call_id="c1", content="sun"), ToolResult(call_id="c2", content="rain")]
    assert expected == [message.tool_result for message in steps[0].observations]
    assert isinstance(steps[0].action.parts[1], ToolCall)


def test_two_histories_that_tell_a_lost_answer_differently_keep_their_own():
    """The longest chain's history gives the lost answer; another branch's state shows what it was told itself."""
    one = says("", asks("c1", "Paris"))
    more = says("", asks("c3", "Oslo"))
    readings = [
        root(),
        call(2, 10, ASKED, None),
        call(3, 30, [*ASKED, one, result("c1", "sun")], more),
        call(4, 50, [*ASKED, one, result("c1", "sun"), more, result("c3", "snow")], says("Done.")),
        call(5, 60, [*ASKED, ACTION, result("c1", "sun"), result("c2", "rain")], says("Other.")),
    ]
    found = episodes(readings)
    assert [[2, 3, 4], [5]] == [spans(episode) for episode in found]
    assert one == found[0].steps[0].action
    assert (*ASKED, ACTION, result("c1", "sun"), result("c2", "rain")) == found[1].steps[0].messages


def test_a_cut_answer_is_completed_by_the_next_history():
    """An answer that a length limit cut on its span is told whole by the next call, and no longer counts as cut."""
    cut = frozenset({QualityFlag.OUTPUT_TRUNCATED})
    readings = [
        root(),
        call(2, 10, ASKED, says("Sunny all"), flags=cut),
        call(3, 30, [*ASKED, says("Sunny all day."), user("Thanks")], says("Bye.")),
    ]
    first, second = episodes(readings)
    assert "Sunny all day." == first.steps[0].action.text
    assert [{"history_repaired"}, set()] == [flags(first.steps[0]), flags(second.steps[0])]


def test_a_stream_without_a_finish_reason_whose_answer_was_used_is_whole():
    """What a later history repeats cannot have been cut."""
    streamed = {"streamed": True, "finish_reason": None}
    readings = [
        root(),
        call(2, 10, ASKED, BRIEF, **streamed),
        call(3, 30, [*ASKED, BRIEF, user("Thanks")], says("Bye.")),
    ]
    first, _ = episodes(readings)
    assert set() == flags(first.steps[0])


def test_calls_told_in_words_stay_words():
    """An agent that really sends its tool calls as text continues its run; its state shows what it sent."""
    action = says("", asks("c1", "Paris"))
    told = says("Calling tools: [{'id': 'c1', 'name': 'get_weather', 'arguments': {'city': 'Paris'}}]")
    steps = run([told, user("Observation: sunny")], action=action)
    assert told == steps[1].messages[2]
    assert [{"tool_result_missing"}, set()] == [flags(step) for step in steps]


def test_a_prompt_that_takes_the_answer_in_continues_it():
    """Agents that write answer and result into one growing message make one episode; a longer question does not."""
    question = "Question: weather?\nAnswer now."
    thought = says("I should look at the weather in Paris.")
    grown = "Question: weather?\nThought: I should look at the weather in Paris.\nObservation: sunny\nAnswer now."
    first = call(2, 10, [SYSTEM, user(question)], thought)
    (episode,) = episodes([root(), first, call(3, 30, [SYSTEM, user(grown)], says("Sunny."))])
    assert [2, 3] == spans(episode)
    other = "Question: weather?\nIn Paris, please, and soon.\nAnswer now."
    assert 2 == len(episodes([root(), first, call(3, 30, [SYSTEM, user(other)], says("Sunny."))]))


def test_a_runs_message_list_gives_ids_to_a_whole_call():
    """A call that lacks nothing but ids takes them from the agent span's messages."""
    made = says("Let me check.", *(replace(p, id=f"call_synthetic_1_{i}") for i, p in enumerate(ACTION.tool_calls)))
    readings = [agent(1, history=(*ASKED, ACTION)), call(2, 10, ASKED, made, flags=MADE)]
    (episode,) = episodes(readings)
    assert ACTION == episode.steps[0].action
    assert {"history_repaired", "tool_result_missing"} == flags(episode.steps[0])


def test_a_text_without_its_calls_and_results_is_what_was_sent():
    """An answer's text that no tool result follows is left as it is: the agent told the failure in words."""
    steps = run([says("Let me check."), user("Error: no such city.")])
    assert says("Let me check.") == steps[1].messages[2]
    assert set() == flags(steps[1])


def test_text_that_only_later_histories_have_is_restored():
    """The answer's own report lacks the text beside its calls; the next prompt has it, or shows there was none."""
    bare = says("", *ACTION.tool_calls)
    results = (result("c1", "sun"), result("c2", "rain"))
    told, _ = run([ACTION, *results], action=bare, lossy_output=True)
    silent, _ = run([bare, *results], action=bare, lossy_output=True)
    assert ("Let me check.", {"history_repaired"}) == (told.action.text, flags(told))
    assert ("", set()) == (silent.action.text, flags(silent))


def test_text_that_no_history_tells_may_be_lost():
    """Without a later prompt nobody knows."""
    (episode,) = episodes([root(), call(2, 10, ASKED, says("", asks("c1", "Paris")), lossy_output=True)])
    assert "text_dropped" in flags(episode.steps[0])


def test_arguments_that_an_answer_leaves_blank_are_put_back():
    """Agno's flavour loses the arguments of streamed calls at 0.1.25; the history that repeats the calls has them."""
    action = says("Wait.", replace(asks("c1", "Paris"), arguments=""))
    steps = run([says("Wait.", asks("c1", "Paris")), result("c1", "sun")], action=action)
    assert steps[0].action is not None
    assert [asks("c1", "Paris")] == list(steps[0].action.tool_calls)
    assert [{"history_repaired"}, set()] == [flags(step) for step in steps]


def test_arguments_that_a_history_has_otherwise_are_flagged():
    """What an answer does tell stands, and the states that tell it otherwise are flagged."""
    steps = run([says("Let me check.", asks("c1", "Oslo"), asks("c2", "Rome")), result("c1", "sun")])
    assert steps[0].action is not None
    assert list(ACTION.tool_calls) == list(steps[0].action.tool_calls)
    assert "arguments_altered" in flags(steps[1])
