"""Child processes of the demo: started in sessions of their own, and stopped however the demo ends."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

START_TIMEOUT_S = 60.0
"""Seconds a receiver has to accept connections."""
STOP_TIMEOUT_S = 20.0
"""Seconds a process has to end after SIGTERM, before SIGKILL."""
POLL_S = 0.1

CHILD_ENVIRONMENT = {
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",  # otherwise a dependency of ART asks the network for prices
    "HF_HUB_OFFLINE": "1",
}

Stream = int | IO[bytes] | None
"""What `Popen` takes for an output: a file, or one of its constants."""


class DemoError(RuntimeError):
    """The demo cannot go on; the text says why and what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Receiver:
    """A running `otel-receiver serve`."""

    process: subprocess.Popen[bytes]
    endpoint: str
    """Where agents export to, OTLP over gRPC."""
    log: Path

    def check(self) -> None:
        """Raise DemoError when it has ended."""
        code = self.process.poll()
        if code is not None:
            raise DemoError(f"otel-receiver ended with exit code {code}; its log is {self.log}:\n{tail(self.log)}")


def program(name: str) -> str:
    """Path of a console script of this environment; raises DemoError when it is not installed."""
    path = Path(sys.executable).with_name(name)
    if not path.is_file():
        raise DemoError(f"{name} is not installed beside {sys.executable}; run `make setup`")
    return str(path)


def free_port() -> int:
    """A TCP port nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@contextmanager
def receiver(store: Path, log_dir: Path, log: Path) -> Iterator[Receiver]:
    """An `otel-receiver serve` on free ports, for as long as the block lasts."""
    ports = (free_port(), free_port())
    addresses = [f"127.0.0.1:{port}" for port in ports]
    command = [program("otel-receiver"), "serve", "--store", str(store), "--log-dir", str(log_dir)]
    command += ["--grpc", addresses[0], "--http", addresses[1]]
    with log.open("wb") as output, child(command, stdout=output, stderr=output) as process:
        running = Receiver(process=process, endpoint=f"http://{addresses[0]}", log=log)
        _wait_until_listening(running, ports[0])
        yield running


def run(*command: str) -> str:
    """What a program of this environment prints; its progress shows meanwhile. Raises DemoError when it fails."""
    with child([program(command[0]), *command[1:]], stdout=subprocess.PIPE) as process:
        output, _ = process.communicate()
    if process.returncode:
        raise DemoError(f"`{' '.join(command)}` failed with exit code {process.returncode}; its message stands above")
    return output.decode("utf-8")


@contextmanager
def child(command: Sequence[str], *, stdout: Stream, stderr: Stream = None) -> Iterator[subprocess.Popen[bytes]]:
    """A process in a session of its own, so that Ctrl-C reaches the demo first; stopped when the block ends."""
    process = subprocess.Popen(  # noqa: S603  our own console scripts
        list(command),
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        stderr=stderr,
        env={**os.environ, **CHILD_ENVIRONMENT},
        start_new_session=True,
    )
    try:
        yield process
    finally:
        stop(process)


def stop(process: subprocess.Popen[bytes]) -> None:
    """End a process and everything it started; safe to call when it has ended."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        if process.poll() is not None:
            return
        os.killpg(process.pid, number)
        try:
            process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            continue


def stop_on_signals() -> None:
    """Turn SIGTERM into SystemExit and SIGINT into KeyboardInterrupt, so that every context manager ends its process.

    SIGINT too: a shell without job control starts what runs in the background with SIGINT ignored.
    """
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    signal.signal(signal.SIGINT, signal.default_int_handler)


def tail(path: Path, num_lines: int = 15) -> str:
    """The last lines of a text file."""
    return "\n".join(path.read_text(encoding="utf-8", errors="replace").splitlines()[-num_lines:])


def _wait_until_listening(running: Receiver, port: int) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline:
        running.check()
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(POLL_S)
    raise DemoError(f"otel-receiver did not listen within {START_TIMEOUT_S:g} s; its log is {running.log}")
