"""Log records without span ids: which call they tell of."""

from __future__ import annotations

from dataclasses import replace

import pytest

from otel_receiver.dialects.loose_records import answer_of, home_of, is_home, owners
from otel_receiver.dialects.registry import read_span, read_spans
from spanloop.records import ToolDefinition
from tests.unit.otel_receiver.dialects.factories import make_log, make_span

SCOPE = "openlit.instrumentation.openai"
DETAILS = "gen_ai.client.inference.operation.details"
CALL = {
    "gen_ai.operation.name": "chat",
    "gen_ai.request.model": "m",
    "gen_ai.request.stream": True,
    "gen_ai.response.id": "r1",
    "gen_ai.input.messages": '[{"role":"user","parts":[{"type":"text","content":"Hi"}]}]',
}
TOOLS = ({"type": "function", "name": "f", "parameters": {"type": "object"}},)


def record(response_id: str = "r1", name: str = DETAILS, time: int = 2_000_000_000, **fields):
    """A record of a streamed answer, as OpenLIT writes it."""
    attributes = {"gen_ai.response.id": response_id, "gen_ai.tool.definitions": TOOLS}
    held = {"trace_id": "", "span_id": "", "scope_name": SCOPE, "resource": {"service.name": "s"}}
    return make_log(name, attributes=attributes, time=time, **{**held, **fields})


def span(number: int = 1, attributes=None, start_s: int = 1, **fields):
    """A streamed call of OpenLIT's that lasted two seconds."""
    start = start_s * 1_000_000_000
    held = {"scope_name": SCOPE, "resource": {"service.name": "s"}, "span_id": f"{number:016x}"}
    times = {"start_time_unix_nano": start, "end_time_unix_nano": start + 2_000_000_000}
    return make_span(CALL if attributes is None else attributes, **{**held, **times, **fields})


def found(spans, records):
    """Numbers of the spans that own records, and how many."""
    owned = owners([read_span(item) for item in spans], records)
    return {int(span_id, 16): len(told) for (_, span_id), told in owned.items()}


def test_a_record_is_read_with_the_call_it_names():
    """The tool definitions of the loose record reach the call; without it the call has none."""
    (alone,) = read_spans([span()], [])
    (joined,) = read_spans([span()], [record()])
    assert alone.model_calls[0].tools is None
    assert (ToolDefinition(name="f", parameters='{"type":"object"}'),) == joined.model_calls[0].tools
    assert [True, True] == [reading.model_calls[0].records_apart for reading in (alone, joined)]


@pytest.mark.parametrize(
    "other",
    [
        record("r2"),
        record(resource={"service.name": "other"}),
        record(scope_name="openlit.instrumentation.anthropic"),
        record(name="gen_ai.evaluation.result"),
    ],
    ids=["another answer", "another service", "another scope", "a judgement"],
)
def test_a_record_of_something_else_is_not_joined(other):
    """The answer, the service, the scope and the kind of record must all fit."""
    assert {} == found([span()], [other])


def test_calls_that_were_not_streamed_have_their_records_with_them():
    """Only streamed answers are looked for by their id."""
    assert {} == found([span(attributes={**CALL, "gen_ai.request.stream": False})], [record()])


def test_of_several_calls_with_one_id_the_one_open_at_that_time_is_meant():
    """Ids that a test server repeats: the record's time decides, and where it does not, nothing is joined."""
    calls = [span(1, start_s=1), span(2, start_s=10)]
    assert {2: 1} == found(calls, [record(time=11_000_000_000)])
    assert {} == found(calls, [record(time=30_000_000_000)])
    assert {} == found([*calls, span(3, start_s=10)], [record(time=11_000_000_000)])


def test_records_of_one_answer_share_a_home():
    """The home follows from service and response id alone; a record of a trace is at home there."""
    assert home_of(record()) == home_of(record(time=9, scope_name="x"))
    assert 3 == len({home_of(item) for item in (record(), record("r2"), record(resource={"service.name": "t"}))})
    assert is_home(home_of(record()))
    placed = replace(record(), trace_id="a" * 32)
    assert ("a" * 32, None, False) == (home_of(placed), answer_of(placed), is_home(home_of(placed)))


@pytest.mark.parametrize("lost", [record(name="gen_ai.evaluation.result"), record(""), make_log("x", trace_id="")])
def test_a_record_that_names_no_answer_has_no_home(lost):
    """Judgements are stored at once; other records without ids belong to nothing."""
    assert "" == home_of(lost)


def test_records_are_read_in_the_order_of_their_times():
    """Of two values of one field the earlier record's counts, however the records are given."""
    early, late = record(time=1_500_000_000), record(time=2_500_000_000)
    late = replace(late, attributes={**late.attributes, "gen_ai.tool.definitions": ({"name": "g"},)})
    names = [
        [tool.name for tool in read_spans([span()], given)[0].model_calls[0].tools or ()]
        for given in ([early, late], [late, early])
    ]
    assert [["f"], ["f"]] == names
