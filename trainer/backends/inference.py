"""Chat completions from the policy in this process, so that an ART script can sample with `model.openai_client()`.

A small server for one machine and one user: OpenAI's chat form over HTTP on a local port, answers by the in-process
sampler, each with its exact token ids. It answers while no update runs; for load, put vLLM in front and give its URL to
the backend.
"""

from __future__ import annotations

import json
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import cast

from spanloop.convert import ChatFormError, messages_from_chat, tools_from_chat
from trainer.backends.trajectories import to_choice
from trainer.errors import TrainerError
from trainer.grpo.policy import Policy
from trainer.rollouts.base import Prompt, Rollout, SamplingParams
from trainer.rollouts.in_process import InProcessSampler

REQUEST_BYTES_MAX = 64 * 2**20
"""A longer request is refused."""
DEFAULT_MAX_TOKENS = 512
"""Of an answer whose request names no limit."""
CHOICES_MAX = 256
"""Answers per request."""
LOCAL_KEY = "local"
"""The server listens on the loopback interface only and checks no key; clients want one."""


class RequestError(TrainerError):
    """A request that cannot be answered, with its HTTP status."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class PolicyServer:
    """Serves one model until closed."""

    def __init__(self, policy: Policy, lock: threading.Lock, current_name: Callable[[], str]) -> None:
        """Start serving.

        Args:
            policy: what answers.
            lock: held while the policy is used, here and by the update.
            current_name: the model's name with its step, `name@step`.

        """
        self._sampler = InProcessSampler(policy)
        self._lock = lock
        self._current_name = current_name
        handler = type("Handler", (_Handler,), {"policy_server": self})
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), cast("type[BaseHTTPRequestHandler]", handler))
        self._http.daemon_threads = True
        self._thread = threading.Thread(target=self._http.serve_forever, name="policy-server", daemon=True)
        self._thread.start()
        self.base_url = f"http://127.0.0.1:{self._http.server_address[1]}/v1"
        self.api_key = LOCAL_KEY

    def close(self) -> None:
        """Stop serving; safe to call twice."""
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()

    def models(self) -> dict[str, object]:
        """The answer to `GET /v1/models`."""
        return {"object": "list", "data": [{"id": self._current_name(), "object": "model", "owned_by": "spanloop"}]}

    def complete(self, request: Mapping[str, object]) -> dict[str, object]:
        """The answer to `POST /v1/chat/completions`.

        Raises:
            RequestError: the request is malformed, names another model, or asks for streaming.

        """
        self._check(request)
        prompt, params = _prompt(request), _params(request)
        with self._lock:
            name = self._current_name()
            (rollouts,) = self._sampler.sample([prompt], params)
        return _completion(name, rollouts)

    def _check(self, request: Mapping[str, object]) -> None:
        current = self._current_name()
        asked = str(request.get("model", ""))
        if asked not in {current, current.rpartition("@")[0]}:
            raise RequestError(404, f"model {asked!r} is not served; the current one is {current}")
        if request.get("stream"):
            raise RequestError(400, "streaming is not offered; ask without stream")


def _prompt(request: Mapping[str, object]) -> Prompt:
    try:
        messages = messages_from_chat(cast("list[dict[str, object]]", request.get("messages") or []))
        tools = tools_from_chat(cast("list[dict[str, object]]", request.get("tools") or []))
    except (ChatFormError, ValueError, TypeError, AttributeError) as error:
        raise RequestError(400, f"messages or tools are not in OpenAI's chat form: {error}") from error
    if not messages:
        raise RequestError(400, "messages is empty; give at least one")
    return Prompt(prompt_id="request", messages=messages, tools=tools)


def _params(request: Mapping[str, object]) -> SamplingParams:
    limit = request.get("max_completion_tokens") or request.get("max_tokens") or DEFAULT_MAX_TOKENS
    seed = request.get("seed")
    try:
        params = SamplingParams(
            num_samples=int(str(request.get("n") or 1)),
            temperature=float(str(_given(request, "temperature", 1.0))),
            top_p=float(str(_given(request, "top_p", 1.0))),
            max_tokens=int(str(limit)),
            seed=None if seed is None else int(str(seed)),
        )
    except ValueError as error:
        raise RequestError(400, f"sampling options: {error}") from error
    if params.num_samples > CHOICES_MAX:
        raise RequestError(400, f"n {params.num_samples} is above {CHOICES_MAX}")
    return params


def _given(request: Mapping[str, object], name: str, default: float) -> object:
    value = request.get(name)
    return default if value is None else value


def _completion(name: str, rollouts: tuple[Rollout, ...]) -> dict[str, object]:
    prompt_tokens = len(rollouts[0].prompt_token_ids)
    completion_tokens = sum(len(rollout.token_ids) for rollout in rollouts)
    return {
        "id": f"chatcmpl-{uuid.uuid4().hex}",
        "object": "chat.completion",
        "created": int(time.time()),
        "model": name,
        "choices": [to_choice(rollout).to_dict() for rollout in rollouts],
        "usage": {
            "prompt_tokens": prompt_tokens,
            "completion_tokens": completion_tokens,
            "total_tokens": prompt_tokens + completion_tokens,
        },
    }


class _Handler(BaseHTTPRequestHandler):
    """HTTP in, JSON out."""

    policy_server: PolicyServer
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:  # the standard library's name
        """Serve the list of models."""
        if self.path.rstrip("/") == "/v1/models":
            self._reply(200, self.policy_server.models())
        else:
            self._refuse(RequestError(404, f"path {self.path} is not served; use /v1/models"))

    def do_POST(self) -> None:  # the standard library's name
        """Serve a chat completion."""
        try:
            if self.path.rstrip("/") != "/v1/chat/completions":
                raise RequestError(404, f"path {self.path} is not served; use /v1/chat/completions")
            self._reply(200, self.policy_server.complete(self._body()))
        except RequestError as error:
            self._refuse(error)
        except TrainerError as error:
            self._refuse(RequestError(400, str(error)))

    def _body(self) -> Mapping[str, object]:
        length = int(self.headers.get("Content-Length") or 0)
        if length > REQUEST_BYTES_MAX:
            raise RequestError(413, f"request of {length} bytes is above {REQUEST_BYTES_MAX}")
        try:
            body = json.loads(self.rfile.read(length))
        except ValueError as error:
            raise RequestError(400, f"the body is no JSON: {error}") from error
        if not isinstance(body, dict):
            raise RequestError(400, "the body is no JSON object")
        return body

    def _refuse(self, error: RequestError) -> None:
        kind = "invalid_request_error" if error.status < 500 else "server_error"
        self._reply(error.status, {"error": {"message": str(error), "type": kind, "code": error.status}})

    def _reply(self, status: int, payload: Mapping[str, object]) -> None:
        content = json.dumps(payload).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the standard library's name
        """Log nothing: requests carry prompts."""
