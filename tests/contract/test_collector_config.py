"""collector-config.yaml: what it refers to exists, nothing buffers in memory, and no agent's span is filtered out."""

import re
from pathlib import Path

import pytest
import yaml

from otel_receiver.config import LimitsConfig

CONFIG = yaml.safe_load((Path(__file__).parents[2] / "collector-config.yaml").read_text())
PIPELINES = CONFIG["service"]["pipelines"]

KEPT_SPANS = {
    "OTel GenAI": {"gen_ai.operation.name": "chat", "gen_ai.provider.name": "openai"},
    "OTel GenAI before 1.37": {"gen_ai.system": "openai"},
    "OTel GenAI tool": {"gen_ai.tool.name": "search", "gen_ai.tool.call.id": "c1"},
    "OpenInference": {"openinference.span.kind": "LLM"},
    "OpenLLMetry": {"traceloop.span.kind": "tool"},
    "OpenLLMetry before 0.54": {"llm.request.type": "chat", "gen_ai.system": "OpenAI"},
    "Vercel legacy": {"ai.operationId": "ai.streamText.doStream"},
    "Vercel v7": {"gen_ai.operation.name": "agent_step"},
    "Pydantic-AI 2 tool": {"logfire.msg": "running tool"},
    "LangSmith": {"langsmith.span.kind": "llm"},
    "MLflow": {"mlflow.spanType": '"CHAT_MODEL"'},
    "Langfuse": {"langfuse.observation.type": "generation"},
    "Google ADK": {"gcp.vertex.agent.llm_request": "{}"},
    "Strands": {"gen_ai.operation.name": "execute_tool", "gen_ai.agent.name": "a"},
    "Microsoft": {"executor.id": "e"},
    "Haystack": {"haystack.component.name": "llm"},
    "LiteLLM": {"llm.is_streaming": "False"},
    "Quotient trace": {},
    "Quotient marker": {"quotient.end_of_trace": True},
    "retrieval": {"db.system.name": "chroma", "db.operation": "query"},
    "retrieval, older": {"db.system": "redis"},
    "retrieval over HTTP": {"db.system.name": "qdrant", "http.request.method": "POST"},
    "model call over HTTP": {"gen_ai.request.model": "m", "http.request.method": "POST"},
}


def drops(conditions: list[str], attributes: dict[str, object], *, is_root: bool = False, event_name: str = "") -> bool:
    """Whether a filter drops a record: the part of OTTL that the file uses, evaluated."""

    def holds(condition: str) -> bool:
        text = re.sub(r'(?:span|log)\.attributes\["([^"]+)"\]', r'attributes.get("\1")', condition)
        text = text.replace("nil", "None").replace("IsRootSpan()", "is_root").replace("log.event_name", "event_name")
        names = {"attributes": attributes, "is_root": is_root, "event_name": event_name, "__builtins__": {}}
        return bool(eval(text, names))

    return any(holds(condition) for condition in conditions)


def trace_conditions() -> list[str]:
    """The conditions of every filter in the traces pipeline."""
    filters = [name for name in PIPELINES["traces"]["processors"] if name.startswith("filter")]
    return [condition for name in filters for condition in CONFIG["processors"][name]["trace_conditions"]]


def log_conditions() -> list[str]:
    """The conditions of every filter in the logs pipeline."""
    filters = [name for name in PIPELINES["logs"]["processors"] if name.startswith("filter")]
    return [condition for name in filters for condition in CONFIG["processors"][name]["log_conditions"]]


def test_every_component_that_is_referred_to_is_defined_and_used():
    """A name without a definition stops the Collector; a definition without use is a mistake of ours."""
    for kind in ("receivers", "processors", "exporters"):
        used = {name for pipeline in PIPELINES.values() for name in pipeline[kind]}
        assert used == set(CONFIG[kind])
    assert set(CONFIG["service"]["extensions"]) == set(CONFIG["extensions"])


def test_traces_and_logs_both_reach_the_receiver():
    """Several dialects carry messages in log records."""
    assert {"traces", "logs"} == set(PIPELINES)
    assert {("otlp_grpc/episodes",)} == {tuple(pipeline["exporters"]) for pipeline in PIPELINES.values()}


def test_nothing_acknowledges_what_is_only_in_memory():
    """No processor that buffers, and an exporter queue on disk with fsync that neither overflows nor gives up."""
    buffering = {"batch", "groupbytrace", "tail_sampling"}
    types = {name.partition("/")[0] for pipeline in PIPELINES.values() for name in pipeline["processors"]}
    assert set() == types & buffering
    assert {"memory_limiter"} == {pipeline["processors"][0] for pipeline in PIPELINES.values()}
    exporter = CONFIG["exporters"]["otlp_grpc/episodes"]
    assert CONFIG["extensions"][exporter["sending_queue"]["storage"]]["fsync"] is True
    assert exporter["sending_queue"]["block_on_overflow"] is True
    assert 0 == exporter["retry_on_failure"]["max_elapsed_time"]


def test_batches_fit_the_receiver():
    """What the receiver refuses as too large, the Collector drops."""
    largest = CONFIG["exporters"]["otlp_grpc/episodes"]["sending_queue"]["batch"]["max_size"]
    assert largest < LimitsConfig().request_bytes_max / 4


def test_the_receiver_is_found_by_environment_and_ports_do_not_collide():
    """The endpoint has a default that is not the Collector's own port."""
    endpoint = CONFIG["exporters"]["otlp_grpc/episodes"]["endpoint"]
    match = re.fullmatch(r"\$\{env:SPANLOOP_ENDPOINT:-(.+)\}", endpoint)
    assert match is not None
    protocols = CONFIG["receivers"]["otlp"]["protocols"]
    assert all(match.group(1) not in protocol["endpoint"] for protocol in protocols.values())


@pytest.mark.parametrize("dialect", KEPT_SPANS)
def test_the_filter_keeps_the_spans_of_every_dialect(dialect):
    """Also below the root, where most model calls are."""
    assert drops(trace_conditions(), KEPT_SPANS[dialect]) is False


def test_the_filter_drops_infrastructure_below_the_root_only():
    """An HTTP client call goes; the same as a root stays, because it may be the request an agent answers."""
    assert drops(trace_conditions(), {"http.request.method": "GET"}) is True
    assert drops(trace_conditions(), {"rpc.system": "grpc"}) is True
    assert drops(trace_conditions(), {"http.request.method": "GET"}, is_root=True) is False


def test_events_are_kept_and_log_lines_dropped():
    """Both carriers of an event name are known."""
    assert drops(log_conditions(), {}, event_name="gen_ai.user.message") is False
    assert drops(log_conditions(), {"event.name": "gen_ai.choice"}) is False
    assert drops(log_conditions(), {"gen_ai.evaluation.name": "relevance"}) is False
    assert drops(log_conditions(), {"code.function.name": "f"}) is True


def test_redaction_never_masks_token_counts():
    """No blocked key pattern matches a usage key."""
    patterns = CONFIG["processors"]["redaction/secrets"]["blocked_key_patterns"]
    keys = ("gen_ai.usage.input_tokens", "llm.token_count.prompt", "gen_ai.input.messages", "input.value")
    assert [] == [(pattern, key) for pattern in patterns for key in keys if re.fullmatch(pattern, key)]
    assert all(any(re.fullmatch(p, key) for p in patterns) for key in ("http.request.header.authorization", "api_key"))
