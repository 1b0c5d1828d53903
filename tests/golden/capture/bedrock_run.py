"""Amazon Bedrock's Converse under opentelemetry-instrumentation-botocore, or genai-bedrock 1.3b0; boto3.

`python -m tests.golden.capture.bedrock_run FOLDER TAG`; a tag with `streamed` streams. The application's span around
both questions carries the session and the user.
"""

import json
import sys

import boto3

from tests.golden.capture import model_server
from tests.golden.capture.log_sink import LogCapture
from tests.golden.capture.openai_loop import SYSTEM, TOOL
from tests.golden.capture.sink import Capture

try:
    from opentelemetry.instrumentation.genai.bedrock import BedrockInstrumentor as Instrumentor
except ImportError:
    from opentelemetry.instrumentation.botocore import BotocoreInstrumentor as Instrumentor

FUNCTION = TOOL["function"]
TOOLS = {
    "tools": [
        {
            "toolSpec": {
                "name": FUNCTION["name"],
                "description": FUNCTION["description"],
                "inputSchema": {"json": FUNCTION["parameters"]},
            }
        }
    ]
}


def result_of(use: dict[str, object]) -> dict[str, object]:
    """The tool's result as a content block."""
    try:
        text, status = model_server.weather(**use["input"]), "success"
    except ValueError as error:
        text, status = str(error), "error"
    return {"toolResult": {"toolUseId": use["toolUseId"], "content": [{"text": text}], "status": status}}


def ask(client: object, messages: list[dict[str, object]], *, stream: bool) -> list[dict[str, object]]:
    """The blocks of one answer."""
    arguments = {
        "modelId": "amazon.nova-lite-v1:0",
        "system": [{"text": SYSTEM}],
        "messages": messages,
        "toolConfig": TOOLS,
        "inferenceConfig": {"temperature": 0.2},
    }
    if not stream:
        return client.converse(**arguments)["output"]["message"]["content"]
    blocks: dict[int, dict[str, object]] = {}
    for event in client.converse_stream(**arguments)["stream"]:
        _add(blocks, event)
    return [_whole(block) for block in blocks.values()]


def _add(blocks: dict[int, dict[str, object]], event: dict[str, object]) -> None:
    if "contentBlockStart" in event:
        begun = event["contentBlockStart"]
        blocks[begun["contentBlockIndex"]] = {"toolUse": {**begun["start"]["toolUse"], "input": ""}}
    elif "contentBlockDelta" in event:
        told = event["contentBlockDelta"]
        block = blocks.setdefault(told["contentBlockIndex"], {"text": ""})
        if "text" in told["delta"]:
            block["text"] += told["delta"]["text"]
        else:
            block["toolUse"]["input"] += told["delta"]["toolUse"]["input"]


def _whole(block: dict[str, object]) -> dict[str, object]:
    use = block.get("toolUse")
    return block if use is None else {"toolUse": {**use, "input": json.loads(use["input"])}}


def run(client: object, *, stream: bool) -> None:
    """Ask both questions; the second continues the first's history."""
    messages: list[dict[str, object]] = []
    for question in model_server.QUESTIONS:
        messages.append({"role": "user", "content": [{"text": question}]})
        while True:
            content = ask(client, messages, stream=stream)
            messages.append({"role": "assistant", "content": content})
            uses = [block["toolUse"] for block in content if "toolUse" in block]
            if not uses:
                break
            messages.append({"role": "user", "content": [result_of(use) for use in uses]})


if __name__ == "__main__":
    tag = sys.argv[2]
    capture, logs = Capture(tag), LogCapture(tag)
    Instrumentor().instrument(tracer_provider=capture.provider, logger_provider=logs.provider)
    client = boto3.client(
        "bedrock-runtime",
        region_name="us-east-1",
        endpoint_url=model_server.start(),
        aws_access_key_id="none",
        aws_secret_access_key="none",
    )
    about = {"session.id": "sess-g", "user.id": "u-g"}
    with capture.provider.get_tracer("app").start_as_current_span("weather-app", attributes=about):
        run(client, stream="streamed" in tag)
    capture.write()
    logs.write()
