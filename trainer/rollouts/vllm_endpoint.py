"""One vLLM server as the sampler sees it: requests that are repeated until answered, and the adapter it should serve.

The server is one that we started (then it is restarted when it crashes) or one that somebody else runs (then it is
waited for). Either way the adapter is loaded again before anything is asked of a server that came back.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, cast

import httpx

from trainer.rollouts.errors import SamplerError
from trainer.rollouts.vllm_server import VllmServer, is_healthy

Json = dict[str, object]

RETRIED_STATUSES = frozenset({408, 409, 425, 429, 500, 502, 503, 504})
REASON_CHARACTERS_MAX = 300
"""Of a server's own error text, what goes into ours."""


class EndpointUnavailableError(SamplerError):
    """A server cannot answer now; another one may."""


class RequestRefusedError(SamplerError):
    """The server understood the request and refused it; repeating it does not help."""

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointLimits:
    """How long and how often to ask."""

    request_timeout_s: float = 600.0
    """One request: a whole group of answers."""
    connect_timeout_s: float = 10.0
    attempts_max: int = 5
    backoff_s: float = 0.5
    """Wait before the second attempt; it doubles with every further one."""
    recover_timeout_s: float = 120.0
    """How long a server may be unwell: then ours is started again, and one that somebody else runs is given up."""


class Adapter(NamedTuple):
    """A LoRA adapter under the name requests use."""

    name: str
    directory: Path


class VllmEndpoint:
    """Requests to one server. Safe to use from several threads."""

    def __init__(self, server: VllmServer | str, *, model_name: str, limits: EndpointLimits | None = None) -> None:
        self._server = server if isinstance(server, VllmServer) else None
        self._given_url = server.rstrip("/") if isinstance(server, str) else ""
        self._limits = limits or EndpointLimits()
        self._model_name = model_name
        self._lock = threading.RLock()
        self._epoch = 0
        """Counts recoveries, so that of many requests that saw one crash only the first one recovers."""
        self._adapter: Adapter | None = None
        self._gone_since: float | None = None
        timeout = httpx.Timeout(self._limits.request_timeout_s, connect=self._limits.connect_timeout_s)
        self._client = httpx.Client(timeout=timeout, limits=httpx.Limits(max_connections=None))

    @property
    def url(self) -> str:
        """Where the server listens now."""
        return self._given_url if self._server is None else self._server.url

    @property
    def served_model(self) -> str:
        """The name to ask for: the adapter, or the base model while none is loaded."""
        return self._adapter.name if self._adapter is not None else self._model_name

    def post(self, path: str, body: Mapping[str, object], *, for_policy: bool = False) -> Json:
        """The answer to a request, asked again where a repeat can help. With `for_policy` the model is filled in.

        Raises:
            EndpointUnavailableError: no answer within the attempts.
            RequestRefusedError: the server refused the request as such.

        """
        why, status = "", None
        for attempt in range(self._limits.attempts_max):
            if attempt:
                time.sleep(self._limits.backoff_s * 2 ** (attempt - 1))
            epoch = self._epoch
            try:
                request = {**body, "model": self.served_model} if for_policy else body
                response = self._client.post(self.url + path, json=request)
            except httpx.TransportError as error:
                why, status = type(error).__name__, None
                self._recover(epoch)
                continue
            if response.is_success:
                return _json(response)
            why, status = f"status {response.status_code}: {_reason(response)}", response.status_code
            self._after_refusal(path, response, epoch, for_policy=for_policy)
        if status == httpx.codes.INTERNAL_SERVER_ERROR:
            # It lives and fails at this request every time, as at a history its chat template cannot take.
            raise RequestRefusedError(f"vLLM {self.url}{path}: {why}; {self._remedy('try another prompt')}", status)
        raise EndpointUnavailableError(
            f"vLLM {self.url}{path}: no answer in {self._limits.attempts_max} attempts, last {why}; "
            f"{self._remedy('raise request_timeout_s if answers are long')}"
        )

    def _after_refusal(self, path: str, response: httpx.Response, epoch: int, *, for_policy: bool) -> None:
        """Return where asking again can help: a passing failure, or a server that lost our adapter."""
        if response.status_code in RETRIED_STATUSES:
            self._recover(epoch)
        elif for_policy and response.status_code == httpx.codes.NOT_FOUND and self._adapter is not None:
            self._reload(epoch)
        else:
            raise RequestRefusedError(
                f"vLLM {self.url}{path}: status {response.status_code}: {_reason(response)}; "
                f"{self._remedy('check the model name and the server version')}",
                response.status_code,
            )

    def _remedy(self, advice: str) -> str:
        return advice if self._server is None else f"{advice}, and see {self._server.settings.log_file}"

    def _recover(self, epoch: int) -> None:
        """Bring the server back if it is gone; at once if another thread has done so since `epoch`."""
        with self._lock:
            if self._epoch != epoch:
                return
            if self._server is None:
                self._wait_for_given_server()
            elif not self._own_server_answers(self._server):
                self._server.restart()
            else:
                return
            self._load(self._adapter)
            self._epoch += 1

    def _reload(self, epoch: int) -> None:
        with self._lock:
            if self._epoch == epoch:
                self._load(self._adapter)
                self._epoch += 1

    def _own_server_answers(self, server: VllmServer) -> bool:
        """Whether the process is there and says it is well; a busy one gets the time it needs."""
        deadline = time.monotonic() + self._limits.recover_timeout_s
        while server.pid is not None and time.monotonic() < deadline:
            if is_healthy(server.url):
                return True
            time.sleep(self._limits.backoff_s)
        return False

    def _wait_for_given_server(self) -> None:
        # Of many requests that find a server gone, one waits for it; the others then give up at once.
        since = self._gone_since if self._gone_since is not None else time.monotonic()
        while not is_healthy(self.url):
            if time.monotonic() - since > self._limits.recover_timeout_s:
                self._gone_since = since
                raise EndpointUnavailableError(
                    f"vLLM {self.url}: not healthy within {self._limits.recover_timeout_s:.0f} s; "
                    "start it again or take it from the list of servers"
                )
            time.sleep(self._limits.backoff_s)
        self._gone_since = None

    def context_tokens_max(self) -> int:
        """Tokens of prompt and answer the server takes. Raises EndpointUnavailableError."""
        try:
            response = self._client.get(f"{self.url}/v1/models")
        except httpx.TransportError:
            self._recover(self._epoch)
            response = self._client.get(f"{self.url}/v1/models")
        models = cast("list[Json]", _json(response).get("data", []))
        lengths = [model["max_model_len"] for model in models if isinstance(model.get("max_model_len"), int)]
        if not lengths:
            raise RequestRefusedError(f"vLLM {self.url}/v1/models: names no max_model_len; is this a vLLM server?")
        return int(cast("int", lengths[0]))

    def serve(self, adapter: Adapter) -> None:
        """Load the adapter, ask for it from now on, and unload the one before."""
        with self._lock:
            before = self._adapter
            self._load(adapter)
            self._adapter = adapter
            if before is not None and before.name != adapter.name:
                self._unload(before.name)

    def serve_model(self, directory: Path) -> None:
        """Serve these full weights from now on; only a server that we started can change its model."""
        if self._server is None:
            raise SamplerError(
                f"vLLM {self.url}: cannot load the full weights in {directory} into a server that somebody else runs; "
                "train a LoRA adapter, or let the trainer start the server"
            )
        with self._lock:
            self._adapter = None
            self._server.restart(directory)
            self._epoch += 1

    def _load(self, adapter: Adapter | None) -> None:
        if adapter is None:
            return
        body = {"lora_name": adapter.name, "lora_path": str(adapter.directory)}
        response = self._admin("/v1/load_lora_adapter", body)
        if response.status_code == httpx.codes.BAD_REQUEST:
            # A server that outlived an earlier run may hold other weights under this name.
            self._unload(adapter.name)
            response = self._admin("/v1/load_lora_adapter", body)
        if not response.is_success:
            raise SamplerError(
                f"vLLM {self.url}/v1/load_lora_adapter: status {response.status_code} for {adapter.directory}: "
                f"{_reason(response)}; {self._remedy('the server must see this directory, run with --enable-lora')}"
            )

    def _unload(self, name: str) -> None:
        # 404 says that it is gone already, which is what is wanted.
        self._admin("/v1/unload_lora_adapter", {"lora_name": name})

    def _admin(self, path: str, body: Mapping[str, object]) -> httpx.Response:
        try:
            return self._client.post(self.url + path, json=body)
        except httpx.TransportError as error:
            raise EndpointUnavailableError(
                f"vLLM {self.url}{path}: {type(error).__name__}; {self._remedy('is the server running?')}"
            ) from error

    def sleep(self) -> None:
        """The server gives its memory back: weights to the CPU, keys and values dropped."""
        self._sleep_or_wake("/sleep?level=1")

    def wake(self) -> None:
        """The server takes its memory again."""
        self._sleep_or_wake("/wake_up")

    def _sleep_or_wake(self, path: str) -> None:
        response = self._admin(path, {})
        if not response.is_success:
            raise SamplerError(
                f"vLLM {self.url}{path}: status {response.status_code}; start the server with --enable-sleep-mode and "
                "VLLM_SERVER_DEV_MODE=1 (sleep_mode = true where the trainer starts it)"
            )

    def close(self) -> None:
        """Stop the server if it is ours; safe to call twice."""
        self._client.close()
        if self._server is not None:
            self._server.stop()


def _json(response: httpx.Response) -> Json:
    try:
        value = response.json()
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise RequestRefusedError(f"vLLM {response.url}: the answer is no JSON object; is this a vLLM server?")
    return value


def _reason(response: httpx.Response) -> str:
    """The first line of the server's own words; those that follow may quote the request."""
    try:
        value = response.json()
        text = value["error"]["message"]
    except (ValueError, KeyError, TypeError):
        text = response.reason_phrase
    return str(text).partition("\n")[0][:REASON_CHARACTERS_MAX]
