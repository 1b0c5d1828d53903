"""A vLLM server as a child process: started in its own environment, watched, stopped with everything it started.

vLLM pins its own torch and transformers, so it never shares the trainer's environment: it is a command to run.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import weakref
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import httpx

from trainer.rollouts.errors import SamplerError

WATCHDOG = Path(__file__).with_name("watchdog.py")
POLL_S = 0.25
"""Seconds between two looks at a server that is starting or stopping."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VllmServerSettings:
    """How to start a server."""

    python: Path
    """The interpreter of the environment vLLM is installed in."""
    model: Path
    """Directory of the base model, with its tokenizer and chat template."""
    log_file: Path
    """The server's output is appended here."""
    command: tuple[str, ...] = ()
    """Replaces `python -m vllm.entrypoints.openai.api_server`."""
    model_name: str = "policy"
    host: str = "127.0.0.1"
    port: int | None = None
    """By default a free one at every start."""
    dtype: str = "bfloat16"
    tool_call_parser: str = "hermes"
    max_model_len: int | None = None
    """Tokens of prompt and answer together; by default what the model was made for."""
    max_lora_rank: int = 16
    sleep_mode: bool = False
    """Lets the server give its memory back between rollouts; for a GPU that is shared with the learner."""
    on_cpu: bool = False
    """Turns chunked prefill off: with it a CPU server (vLLM 0.32) dies at a seeded request whose prompt it computes in
    pieces ("CPU Generator does not use offset"). Leaves threads unpinned, as a pinned core may be somebody else's."""
    extra_arguments: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    """Added to the trainer's own environment variables."""
    start_timeout_s: float = 600.0
    stop_timeout_s: float = 20.0
    restarts_max: int = 10
    """Crashes a run survives; more point to a cause that a restart does not cure."""


class VllmServer:
    """One server process. `url` changes with every start where each takes a free port."""

    def __init__(self, settings: VllmServerSettings) -> None:
        self.settings = settings
        self.url = ""
        self.restarts = 0
        self._process: subprocess.Popen[bytes] | None = None
        self._finalizer: weakref.finalize[[int], VllmServer] | None = None

    @property
    def pid(self) -> int | None:
        """The process id of the running server's watchdog, which is its process group."""
        return self._process.pid if self._process is not None and self._process.poll() is None else None

    def start(self) -> None:
        """Start the server and wait until it answers.

        Raises:
            SamplerError: the command is not there, the process ended, or it did not answer in time.

        """
        settings = self.settings
        port = settings.port or _free_port(settings.host)
        self.url = f"http://{settings.host}:{port}"
        settings.log_file.parent.mkdir(parents=True, exist_ok=True)
        command = command_line(settings, port)
        if shutil.which(command[0]) is None:
            raise SamplerError(
                f"vLLM server: {command[0]} is no program; install vLLM in an environment of its own "
                "(`make setup-vllm`) and point to its python"
            )
        with settings.log_file.open("ab") as log:
            # A session of its own: the server's workers are stopped with it, and Ctrl-C reaches only the trainer.
            self._process = subprocess.Popen(  # noqa: S603 - the user's own command, no shell
                [sys.executable, str(WATCHDOG), *command],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=server_environment(settings),
                start_new_session=True,
            )
        self._finalizer = weakref.finalize(self, _kill_group, self._process.pid)
        self._wait_until_ready()

    def _wait_until_ready(self) -> None:
        process, settings = self._process, self.settings
        assert process is not None, "started before"
        deadline = time.monotonic() + settings.start_timeout_s
        while time.monotonic() < deadline:
            if process.poll() is not None:
                self.stop()
                raise SamplerError(
                    f"vLLM server: ended with code {process.returncode} before it answered at {self.url}; "
                    f"its log says why: {settings.log_file}"
                )
            if is_healthy(self.url):
                return
            time.sleep(POLL_S)
        self.stop()
        raise SamplerError(
            f"vLLM server: no answer at {self.url} within {settings.start_timeout_s:.0f} s; "
            f"see {settings.log_file}, or raise start_timeout_s"
        )

    def restart(self, model: Path | None = None) -> None:
        """Stop what is left of the server and start it again, with another model where one is given.

        Raises:
            SamplerError: it crashed more often than `restarts_max`, or does not start.

        """
        if model is not None:
            self.settings = replace(self.settings, model=model)
        else:
            self.restarts += 1
        if self.restarts > self.settings.restarts_max:
            raise SamplerError(
                f"vLLM server: crashed {self.restarts} times; see {self.settings.log_file} for the cause"
            )
        self.stop()
        self.start()

    def stop(self) -> None:
        """Stop the server and all its workers; safe to call twice."""
        process = self._process
        if process is None:
            return
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            process.wait(self.settings.stop_timeout_s)
        _kill_group(process.pid)
        process.wait()
        if process.stdin is not None:
            process.stdin.close()
        self._process = None
        if self._finalizer is not None:
            self._finalizer.detach()


def command_line(settings: VllmServerSettings, port: int) -> list[str]:
    """The command that starts a server: exact log-probabilities at the sampling temperature, adapters to be loaded."""
    command = settings.command or (str(settings.python), "-m", "vllm.entrypoints.openai.api_server")
    arguments = {
        "--model": str(settings.model),
        "--served-model-name": settings.model_name,
        "--host": settings.host,
        "--port": str(port),
        "--dtype": settings.dtype,
        "--tool-call-parser": settings.tool_call_parser,
        "--max-loras": "2",  # the new adapter is loaded before the old one goes
        "--max-lora-rank": str(settings.max_lora_rank),
        "--logprobs-mode": "processed_logprobs",
        "--generation-config": "vllm",  # the model's own would quietly set top-k and top-p
    }
    flags = ["--enable-lora", "--enforce-eager", "--enable-auto-tool-choice", "--enable-prefix-caching"]
    if settings.max_model_len is not None:
        arguments["--max-model-len"] = str(settings.max_model_len)
    # On a CPU vLLM refuses the flag; a server there only stops answering, and has no memory of a GPU to give back.
    if settings.sleep_mode and not settings.on_cpu:
        flags.append("--enable-sleep-mode")
    if settings.on_cpu:
        flags.append("--no-enable-chunked-prefill")
    pairs = [text for pair in arguments.items() for text in pair]
    return [*command, *pairs, *flags, *settings.extra_arguments]


def server_environment(settings: VllmServerSettings) -> dict[str, str]:
    """The environment variables of the server."""
    ours = {
        "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "1",
        "VLLM_SERVER_DEV_MODE": "1" if settings.sleep_mode else "0",
        "VLLM_NO_USAGE_STATS": "1",
    }
    cpu = {"VLLM_CPU_OMP_THREADS_BIND": "nobind"} if settings.on_cpu else {}
    return {**os.environ, **ours, **cpu, **settings.environment}


def is_healthy(url: str, timeout_s: float = 10.0) -> bool:
    """Whether the server says that it can answer."""
    try:
        return httpx.get(f"{url}/health", timeout=timeout_s).status_code == httpx.codes.OK
    except httpx.TransportError:
        return False


def _free_port(host: str) -> int:
    with socket.socket() as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


def _kill_group(group_id: int) -> None:
    with suppress(ProcessLookupError):
        os.killpg(group_id, signal.SIGKILL)
