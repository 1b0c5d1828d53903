"""OpenLLMetry for Amazon Bedrock: opentelemetry-instrumentation-bedrock, boto3.

`python -m tests.golden.capture.openllmetry_bedrock FOLDER TAG`, where the words in the tag choose what runs: `converse`
on the Converse API, `invoke` with Anthropic's messages in the request's body, `streamed` streamed. No root span: every
call is a trace of its own.
"""

import json
import sys
from types import SimpleNamespace

import boto3
from opentelemetry.instrumentation.bedrock import BedrockInstrumentor

from tests.golden.capture import anthropic_tools, model_server, provider_server
from tests.golden.capture.openai_loop import SYSTEM, TOOL
from tests.golden.capture.sink import Capture

FUNCTION = TOOL["function"]
SPEC = {key: FUNCTION[key] for key in ("name", "description")} | {"inputSchema": {"json": FUNCTION["parameters"]}}
MODEL = "anthropic.claude-3-5-sonnet-20240620-v1:0"
Message = dict[str, object]


def converse(client: object, messages: list[Message], *, stream: bool) -> tuple[Message, list[Message]]:
    """The model's message on the Converse API, and the results of its calls."""
    asked = {"modelId": MODEL, "messages": messages, "system": [{"text": SYSTEM}]}
    asked |= {"toolConfig": {"tools": [{"toolSpec": SPEC}]}, "inferenceConfig": {"temperature": 0.2}}
    if stream:
        message = _gathered(client.converse_stream(**asked)["stream"])
    else:
        message = client.converse(**asked)["output"]["message"]
    return message, [_result(block["toolUse"]) for block in message["content"] if "toolUse" in block]


def _result(use: Message) -> Message:
    try:
        content, status = model_server.weather(**use["input"]), "success"
    except ValueError as error:
        content, status = str(error), "error"
    return {"toolResult": {"toolUseId": use["toolUseId"], "content": [{"text": content}], "status": status}}


def _gathered(events: object) -> Message:
    """The message that the events of Converse's stream tell."""
    blocks: dict[int, Message] = {}
    for event in events:
        if "contentBlockStart" in event:
            use = event["contentBlockStart"]["start"]["toolUse"]
            blocks[event["contentBlockStart"]["contentBlockIndex"]] = {"toolUse": {**use, "input": ""}}
        elif "contentBlockDelta" in event:
            told = event["contentBlockDelta"]
            block = blocks.setdefault(told["contentBlockIndex"], {"text": ""})
            if "text" in told["delta"]:
                block["text"] += told["delta"]["text"]
            else:
                block["toolUse"]["input"] += told["delta"]["toolUse"]["input"]
    for block in blocks.values():
        if "toolUse" in block:
            block["toolUse"]["input"] = json.loads(block["toolUse"]["input"])
    return {"role": "assistant", "content": list(blocks.values())}


def invoke(client: object, messages: list[Message], *, stream: bool) -> tuple[Message, list[Message]]:
    """The model's message in Anthropic's own words, and the results of its calls."""
    asked = {"anthropic_version": "bedrock-2023-05-31", "max_tokens": 1000, "system": SYSTEM, "messages": messages}
    body = json.dumps({**asked, "tools": anthropic_tools.TOOLS})
    if stream:
        events = client.invoke_model_with_response_stream(modelId=MODEL, body=body)["body"]
        content = _anthropic_content([json.loads(event["chunk"]["bytes"]) for event in events])
    else:
        content = json.loads(client.invoke_model(modelId=MODEL, body=body)["body"].read())["content"]
    uses = [SimpleNamespace(**block) for block in content if block["type"] == "tool_use"]
    return {"role": "assistant", "content": content}, [anthropic_tools.result_of(use) for use in uses]


def _anthropic_content(events: list[Message]) -> list[Message]:
    """The blocks that the events of Anthropic's stream tell."""
    blocks: list[Message] = []
    for event in events:
        if event["type"] == "content_block_start":
            blocks.append({**event["content_block"], **({"input": ""} if "input" in event["content_block"] else {})})
        elif event["type"] == "content_block_delta" and "text" in event["delta"]:
            blocks[-1]["text"] += event["delta"]["text"]
        elif event["type"] == "content_block_delta":
            blocks[-1]["input"] += event["delta"]["partial_json"]
    return [{**block, "input": json.loads(block["input"])} if "input" in block else block for block in blocks]


def run(client: object, ask: object, *, stream: bool) -> None:
    """Ask both questions; the second continues the first's history."""
    messages: list[Message] = []
    for question in model_server.QUESTIONS:
        asked = {"text": question} if ask is converse else {"type": "text", "text": question}
        messages.append({"role": "user", "content": [asked]})
        while True:
            answer, results = ask(client, messages, stream=stream)
            messages.append(answer)
            if not results:
                break
            messages.append({"role": "user", "content": results})


if __name__ == "__main__":
    tag = sys.argv[2]
    capture = Capture(tag)
    BedrockInstrumentor().instrument(tracer_provider=capture.provider)
    keys = {"aws_access_key_id": "none", "aws_secret_access_key": "none", "region_name": "us-east-1"}
    client = boto3.client("bedrock-runtime", endpoint_url=provider_server.start(), **keys)
    run(client, converse if "converse" in tag else invoke, stream="streamed" in tag)
    capture.write()
