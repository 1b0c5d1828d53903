"""What the vLLM sampler does without a server: choose servers, start commands, and give up with a reason."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from spanloop.records import Message, Role, TextPart
from tests.unit.trainer.rollouts.models import byte_tokenizer
from trainer.rollouts.balance import balance, opening_key
from trainer.rollouts.base import Prompt, SamplingParams
from trainer.rollouts.errors import SamplerError
from trainer.rollouts.vllm import VllmSampler, VllmSettings
from trainer.rollouts.vllm_endpoint import EndpointLimits, EndpointUnavailableError
from trainer.rollouts.vllm_requests import prompt_ids, sampled, sampling_fields
from trainer.rollouts.vllm_server import VllmServer, VllmServerSettings, command_line, server_environment


def settings(tmp_path: Path, **changes: object) -> VllmServerSettings:
    """Settings whose python is this one, where vLLM is not installed."""
    values = {"python": Path(sys.executable), "model": tmp_path, "log_file": tmp_path / "logs" / "vllm.log", **changes}
    return VllmServerSettings(**values)


def prompt(*texts: str, prompt_id: str = "p") -> Prompt:
    """A conversation of a system prompt and user messages."""
    roles = [Role.SYSTEM, *[Role.USER] * (len(texts) - 1)]
    messages = tuple(Message(role=role, parts=(TextPart(text=text),)) for role, text in zip(roles, texts, strict=True))
    return Prompt(prompt_id=prompt_id, messages=messages)


def test_points_of_one_conversation_share_a_server() -> None:
    """Points that begin with the same system prompt and question have one key; another question has another."""
    assert opening_key(prompt("s", "q")) == opening_key(prompt("s", "q", "more"))
    assert opening_key(prompt("s", "q")) != opening_key(prompt("s", "r"))


def test_balance_is_stable_and_even() -> None:
    """Nearly every key has the server it has alone; all servers are tried; none gets over 1.25 of its share."""
    keys = [f"conversation {i}" for i in range(200)]
    orders = balance(keys, 4)
    assert all([0, 1, 2, 3] == sorted(order) for order in orders)
    assert max(Counter(order[0] for order in orders).values()) <= 63
    assert min(Counter(order[0] for order in orders).values()) >= 25
    alone = [balance([key], 4)[0][0] for key in keys]
    assert sum(first != order[0] for first, order in zip(alone, orders, strict=True)) <= 20


def test_one_conversation_does_not_fill_one_server() -> None:
    """When all points belong together the others still get what is over the limit."""
    firsts = Counter(order[0] for order in balance(["same"] * 8, 2))
    assert [5, 3] == sorted(firsts.values(), reverse=True)


def test_adding_a_server_moves_few_conversations() -> None:
    """A fifth server takes about a fifth of the conversations and leaves the others where their caches are."""
    keys = [f"conversation {i}" for i in range(400)]
    before, after = balance(keys, 4), balance(keys, 5)
    moved = sum(old[0] != new[0] for old, new in zip(before, after, strict=True))
    assert 50 < moved < 130


def test_the_command_asks_for_exact_logprobs_and_adapters(tmp_path: Path) -> None:
    """The server is started so that log-probabilities are at the sampling temperature and adapters can be loaded."""
    command = command_line(settings(tmp_path, max_model_len=512, extra_arguments=("--seed", "1")), 8123)
    assert [sys.executable, "-m", "vllm.entrypoints.openai.api_server"] == command[:3]
    for flag in ("--enable-lora", "--enforce-eager", "--enable-auto-tool-choice", "--enable-prefix-caching"):
        assert flag in command
    for name, value in {
        "--model": str(tmp_path),
        "--port": "8123",
        "--dtype": "bfloat16",
        "--tool-call-parser": "hermes",
        "--logprobs-mode": "processed_logprobs",
        "--generation-config": "vllm",
        "--max-model-len": "512",
    }.items():
        assert value == command[command.index(name) + 1]
    assert ["--seed", "1"] == command[-2:]
    assert not {"--enable-sleep-mode", "--no-enable-chunked-prefill"} & set(command)
    assert "--no-enable-chunked-prefill" in command_line(settings(tmp_path, on_cpu=True), 1)
    assert "--enable-sleep-mode" in command_line(settings(tmp_path, sleep_mode=True), 1)
    assert "--enable-sleep-mode" not in command_line(settings(tmp_path, sleep_mode=True, on_cpu=True), 1)
    assert ["vllm", "serve"] == command_line(settings(tmp_path, command=("vllm", "serve")), 1)[:2]


def test_the_environment_of_the_server(tmp_path: Path) -> None:
    """The server may load adapters while it runs, reports no usage, and gets what the settings add."""
    environment = server_environment(settings(tmp_path, environment={"CUDA_VISIBLE_DEVICES": "1"}))
    assert ("1", "1", "1") == (
        environment["VLLM_ALLOW_RUNTIME_LORA_UPDATING"],
        environment["VLLM_NO_USAGE_STATS"],
        environment["CUDA_VISIBLE_DEVICES"],
    )
    assert os.environ["PATH"] == environment["PATH"]


def test_a_missing_environment_names_the_make_target(tmp_path: Path) -> None:
    """Where the interpreter is not there, the error names it and what to run."""
    server = VllmServer(settings(tmp_path, python=tmp_path / "nowhere" / "python"))
    with pytest.raises(SamplerError, match=r"nowhere/python is no program; .*make setup-vllm"):
        server.start()


def test_a_server_that_ends_at_once_points_to_its_log(tmp_path: Path) -> None:
    """An interpreter without vLLM ends with its code and the log file is named; the log has the reason."""
    server = VllmServer(settings(tmp_path))
    with pytest.raises(
        SamplerError, match=r"ended with code 1 before it answered at http://127\.0\.0\.1:\d+; .*vllm\.log"
    ):
        server.start()
    assert "No module named" in (tmp_path / "logs" / "vllm.log").read_text()
    assert server.pid is None


def test_a_server_that_never_answers_is_stopped(tmp_path: Path) -> None:
    """Past the start time-out the process is ended, also one that ignores a polite request, and the limit is named."""
    stubborn = (
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(60)"
    )
    command = (sys.executable, "-c", stubborn)
    server = VllmServer(settings(tmp_path, command=command, start_timeout_s=1.5, stop_timeout_s=0.3))
    with pytest.raises(SamplerError, match=r"no answer at http.* within 2 s; .*start_timeout_s"):
        server.start()
    assert server.pid is None
    assert "up" in (tmp_path / "logs" / "vllm.log").read_text()


def test_a_killed_trainer_leaves_no_server_behind(tmp_path: Path) -> None:
    """A trainer ended by kill -9 while its server runs takes the server with it."""
    script = (
        "import sys; from pathlib import Path; from trainer.rollouts.vllm_server import *\n"
        "command = (sys.executable, '-c', 'import os, time; print(os.getpid(), flush=True); time.sleep(600)')\n"
        f"log = Path({str(tmp_path / 'log')!r})\n"
        "VllmServer(VllmServerSettings(python=Path(sys.executable), model=log, log_file=log, command=command)).start()"
    )
    trainer = subprocess.Popen([sys.executable, "-c", script], cwd=Path(__file__).parents[4])
    wait_for(lambda: (tmp_path / "log").exists() and (tmp_path / "log").read_text().endswith("\n"))
    server = int((tmp_path / "log").read_text())
    os.kill(server, 0)
    trainer.kill()
    trainer.wait()
    wait_for(lambda: not Path(f"/proc/{server}").exists())


def wait_for(condition: Callable[[], bool]) -> None:
    """Return when the condition holds; fail after a minute."""
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_endless_crashes_are_not_restarted_for_ever(tmp_path: Path) -> None:
    """After `restarts_max` restarts the error points to the log."""
    server = VllmServer(settings(tmp_path, restarts_max=0))
    with pytest.raises(SamplerError, match=r"crashed 1 times; see .*vllm\.log"):
        server.restart()


def test_a_server_that_is_not_there_is_named_in_time() -> None:
    """Nobody listening gives an error with the address and the remedy within the limits, for every waiting request."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{probe.getsockname()[1]}"
    limits = EndpointLimits(recover_timeout_s=0.4, backoff_s=0.05)
    sampler = VllmSampler(VllmSettings(urls=(url,), limits=limits), byte_tokenizer())
    begin = time.monotonic()
    with pytest.raises(EndpointUnavailableError, match=rf"{url}: not healthy within 0 s; start it again or take it"):
        sampler.sample([prompt("s", "q", prompt_id=str(i)) for i in range(8)], SamplingParams(num_samples=1))
    assert time.monotonic() - begin < 5
    sampler.close()
    sampler.close()


def test_settings_name_one_kind_of_server(tmp_path: Path) -> None:
    """Neither servers nor both kinds is an error, and so is no concurrency."""
    with pytest.raises(ValueError, match="one of the two"):
        VllmSettings(urls=("http://a",), server=settings(tmp_path))
    with pytest.raises(ValueError, match="one of the two"):
        VllmSettings()
    with pytest.raises(ValueError, match="concurrent_requests_max 0"):
        VllmSettings(urls=("http://a",), concurrent_requests_max=0)


def test_answers_without_ids_or_logprobs_are_refused() -> None:
    """A server too old to return token ids is named, rather than trained on guesses."""
    with pytest.raises(SamplerError, match="http://s: the answer has no prompt_token_ids"):
        prompt_ids("http://s", {}, {})
    with pytest.raises(SamplerError, match="http://s: 1 log-probabilities for the tokens"):
        sampled("http://s", {"token_ids": [1, 2], "logprobs": {"content": [{"logprob": -1.0}]}})
    assert ((1,), (-0.5,)) == sampled("http://s", {"token_ids": [1], "logprobs": {"token_logprobs": [-0.5]}})


def test_no_sampling_default_of_a_server_applies() -> None:
    """Every setting by which a server could change the distribution is sent, greedy asks for one answer."""
    fields = sampling_fields(SamplingParams(num_samples=4, temperature=0), max_tokens=9, seed=3, stop_ids=[5, 2])
    assert (1, 9, 0, 3, [2, 5]) == (
        fields["n"],
        fields["max_tokens"],
        fields["temperature"],
        fields["seed"],
        fields["stop_token_ids"],
    )
    neutral = {"top_p": 1.0, "top_k": 0, "min_p": 0.0, "repetition_penalty": 1.0, "presence_penalty": 0.0}
    assert neutral.items() <= fields.items()
