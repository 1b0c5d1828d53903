"""What the run file says of vLLM reaches the server, and what could not work is refused before anything starts."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from trainer.config import LoraConfig, PolicyConfig, RolloutsConfig, RunConfig, TrainConfig, VllmConfig, load_config
from trainer.errors import ConfigError, RunError
from trainer.rollouts.vllm_server import command_line
from trainer.samplers import check_sampler, vllm_settings

URL = "http://127.0.0.1:8000"
LORA = LoraConfig()


def config(vllm: VllmConfig, lora: LoraConfig | None = LORA, **train: float) -> RunConfig:
    """A run that asks vLLM."""
    return RunConfig(
        policy=PolicyConfig(base="base", lora=lora),
        rollouts=RolloutsConfig(sampler="vllm"),
        vllm=vllm,
        train=TrainConfig(**train),
    )


@pytest.mark.parametrize(
    ("found", "told"),
    [
        (config(VllmConfig()), "set vllm.python"),
        (config(VllmConfig(python="nowhere/python")), "vllm.python nowhere/python: no such file"),
        (config(VllmConfig(urls=(URL,)), lora=None), "trained with full weights; add a [policy.lora] section"),
        (config(VllmConfig(urls=(URL,)), lora=LoraConfig(r=1024)), "adapters up to rank 512"),
        (config(VllmConfig(urls=(URL,)), top_p=0.9), "train.top_p 0.9"),
    ],
)
def test_what_could_not_work_is_refused_with_its_remedy(found, told):
    """No server, no interpreter, full weights into a foreign server, too high a rank, a cut distribution."""
    with pytest.raises(RunError) as caught:
        check_sampler(found)
    assert told in str(caught.value)


def test_what_can_work_is_let_through():
    """Adapters for a foreign server; full weights where the server is our own."""
    check_sampler(config(VllmConfig(urls=(URL,))))
    check_sampler(config(VllmConfig(python=sys.executable), lora=None))


def test_every_setting_of_the_server_reaches_it():
    """Port, length, precision, rank and further arguments stand in its command; limits go to the requests."""
    vllm = VllmConfig(
        python=sys.executable, port=8123, max_model_len=2048, dtype="float16", share_gpu=True, on_cpu=False,
        extra_arguments=("--seed=3",), request_timeout_s=7, recover_timeout_s=8, start_timeout_s=9, stop_timeout_s=10,
        restarts_max=2, concurrent_requests_max=5, model_name="planner",
    )  # fmt: skip
    settings = vllm_settings(config(vllm, lora=LoraConfig(r=12)), Path("run/vllm.log"))
    server = settings.server
    assert server is not None
    command = " ".join(command_line(server, server.port or 0))
    for part in (
        "--port 8123", "--max-model-len 2048", "--dtype float16", "--max-lora-rank 16", "--enable-sleep-mode",
        "--served-model-name planner", "--model base", "--seed=3",
    ):  # fmt: skip
        assert part in command
    assert "--no-enable-chunked-prefill" not in command
    assert (Path("run/vllm.log"), 9, 10, 2) == (
        server.log_file, server.start_timeout_s, server.stop_timeout_s, server.restarts_max
    )  # fmt: skip
    assert (5, 7, 8) == (
        settings.concurrent_requests_max, settings.limits.request_timeout_s, settings.limits.recover_timeout_s
    )  # fmt: skip


def test_an_interpreter_is_found_beside_the_run_file_and_its_link_is_kept(tmp_path):
    """A virtual environment's python is a link; following it would leave the environment."""
    (tmp_path / "python").symlink_to(sys.executable)
    (tmp_path / "run.toml").write_text('[vllm]\npython = "python"\n')
    assert str(tmp_path / "python") == load_config(tmp_path / "run.toml").vllm.python


def test_running_servers_and_one_to_start_exclude_each_other(tmp_path):
    """The message names both keys."""
    (tmp_path / "run.toml").write_text(f'[vllm]\npython = "python"\nurls = ["{URL}"]\n')
    with pytest.raises(ConfigError, match=r"vllm\.urls and vllm\.python"):
        load_config(tmp_path / "run.toml")
