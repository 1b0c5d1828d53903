"""OpenInference's bedrock flavour: openinference-instrumentation-bedrock, boto3.

`python -m tests.golden.capture.openinference_bedrock FOLDER TAG`. A tag with `invoke` sends Anthropic's own body, else
Converse is used; a tag that ends with `streamed` streams.
"""

import json
import os
import sys

import boto3
from openinference.instrumentation import using_attributes
from openinference.instrumentation.bedrock import BedrockInstrumentor

from tests.golden.capture import model_server
from tests.golden.capture.openai_loop import SYSTEM, TOOL
from tests.golden.capture.sink import Capture

TAG = sys.argv[2]
STREAMED = TAG.endswith("streamed")
MODEL = "anthropic.claude-3-5-sonnet-20240620-v1:0"
FUNCTION = TOOL["function"]
SPEC = {
    "name": "get_weather",
    "description": FUNCTION["description"],
    "inputSchema": {"json": FUNCTION["parameters"]},
}
ANTHROPIC_TOOL = {
    "name": "get_weather",
    "description": FUNCTION["description"],
    "input_schema": FUNCTION["parameters"],
}


def told(arguments: dict[str, str]) -> tuple[str, bool]:
    """What the tool says, and whether it failed."""
    try:
        return model_server.weather(**arguments), False
    except ValueError as error:
        return str(error), True


def converse(client: object, messages: list[object]) -> dict[str, object]:
    """The model's message by Converse."""
    asked = {
        "modelId": MODEL,
        "system": [{"text": SYSTEM}],
        "messages": messages,
        "inferenceConfig": {"temperature": 0.2, "maxTokens": 100},
        "toolConfig": {"tools": [{"toolSpec": SPEC}]},
    }
    if not STREAMED:
        return client.converse(**asked)["output"]["message"]
    blocks: dict[int, dict[str, object]] = {}
    for event in client.converse_stream(**asked)["stream"]:
        if "contentBlockStart" in event:
            begun = event["contentBlockStart"]
            blocks[begun["contentBlockIndex"]] = {"toolUse": {**begun["start"]["toolUse"], "input": ""}}
        elif "contentBlockDelta" in event:
            _add(blocks.setdefault(event["contentBlockDelta"]["contentBlockIndex"], {"text": ""}), event)
    for block in blocks.values():
        if "toolUse" in block:
            block["toolUse"]["input"] = json.loads(block["toolUse"]["input"])
    return {"role": "assistant", "content": list(blocks.values())}


def _add(block: dict[str, object], event: dict[str, object]) -> None:
    delta = event["contentBlockDelta"]["delta"]
    if "text" in delta:
        block["text"] += delta["text"]
    else:
        block["toolUse"]["input"] += delta["toolUse"]["input"]


def invoke(client: object, messages: list[object]) -> dict[str, object]:
    """The model's message by Anthropic's own body."""
    body = {
        "anthropic_version": "bedrock-2023-05-31",
        "max_tokens": 100,
        "temperature": 0.2,
        "system": SYSTEM,
        "messages": messages,
        "tools": [ANTHROPIC_TOOL],
    }
    if not STREAMED:
        answer = json.loads(client.invoke_model(modelId=MODEL, body=json.dumps(body))["body"].read())
        return {"role": "assistant", "content": answer["content"]}
    blocks: list[dict[str, object]] = []
    for event in client.invoke_model_with_response_stream(modelId=MODEL, body=json.dumps(body))["body"]:
        told = json.loads(event["chunk"]["bytes"])
        if told["type"] == "content_block_start":
            blocks.append({**told["content_block"], "pieces": ""})
        elif told["type"] == "content_block_delta":
            blocks[-1]["pieces"] += told["delta"].get("text") or told["delta"].get("partial_json")
    return {"role": "assistant", "content": [_whole(block) for block in blocks]}


def _whole(block: dict[str, object]) -> dict[str, object]:
    pieces = block.pop("pieces")
    return {**block, "text": pieces} if block["type"] == "text" else {**block, "input": json.loads(pieces)}


def results(answer: dict[str, object]) -> list[dict[str, object]]:
    """The results of the message's calls, as the content of the next message."""
    found: list[dict[str, object]] = []
    for block in answer["content"]:
        if "toolUse" in block:
            said, failed = told(block["toolUse"]["input"])
            state = {"status": "error" if failed else "success"}
            found.append(
                {"toolResult": {"toolUseId": block["toolUse"]["toolUseId"], "content": [{"text": said}], **state}}
            )
        elif block.get("type") == "tool_use":
            said, failed = told(block["input"])
            state = {"is_error": True} if failed else {}
            found.append({"type": "tool_result", "tool_use_id": block["id"], "content": said, **state})
    return found


def run(client: object) -> None:
    """Ask both questions; the second continues the first's history."""
    ask = invoke if "invoke" in TAG else converse
    messages: list[object] = []
    for question in model_server.QUESTIONS:
        content = [{"type": "text", "text": question}] if "invoke" in TAG else [{"text": question}]
        messages.append({"role": "user", "content": content})
        while True:
            answer = ask(client, messages)
            messages.append(answer)
            if not (given := results(answer)):
                break
            messages.append({"role": "user", "content": given})


if __name__ == "__main__":
    os.environ.update(AWS_ACCESS_KEY_ID="none", AWS_SECRET_ACCESS_KEY="none", AWS_DEFAULT_REGION="us-east-1")
    capture = Capture(TAG)
    BedrockInstrumentor().instrument(tracer_provider=capture.provider)
    client = boto3.client("bedrock-runtime", endpoint_url=model_server.start())
    with using_attributes(session_id="sess-b", user_id="u-b"):
        run(client)
    capture.write()
