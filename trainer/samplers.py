"""The sampler a run file asks for: the policy's own module, or vLLM servers started for the run or already running."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from trainer.config import RunConfig
from trainer.errors import RunError
from trainer.grpo.policy import Policy
from trainer.rollouts.in_process import BatchLimits, InProcessSampler
from trainer.rollouts.vllm import VllmSampler, VllmSettings
from trainer.rollouts.vllm_endpoint import EndpointLimits
from trainer.rollouts.vllm_server import VllmServerSettings

AnySampler = InProcessSampler | VllmSampler

LORA_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)
"""Ranks a vLLM server can be started for; it serves adapters of a lower one too."""


def check_sampler(config: RunConfig) -> None:
    """Refuse, before anything is loaded or recorded, what the sampler could not do in the middle of a run.

    Raises:
        RunError: it names the setting and the remedy.

    """
    if config.rollouts.sampler != "vllm":
        return
    vllm, lora = config.vllm, config.policy.lora
    if not vllm.urls and vllm.python is None:
        raise RunError(
            'rollouts.sampler = "vllm": no server; set vllm.python to the interpreter of an environment with vLLM '
            "(`make setup-vllm`), or vllm.urls to running servers"
        )
    if vllm.python is not None and not Path(vllm.python).is_file():
        raise RunError(f"vllm.python {vllm.python}: no such file; install vLLM in an environment (`make setup-vllm`)")
    if lora is None and vllm.urls:
        raise RunError(
            "vllm.urls: running servers take adapters only, and this policy is trained with full weights; add a "
            "[policy.lora] section, or set vllm.python in place of vllm.urls: a server of the run's own is restarted "
            "with the new weights after every update"
        )
    if lora is not None and lora.r > LORA_RANKS[-1]:
        raise RunError(f"policy.lora.r {lora.r}: vLLM serves adapters up to rank {LORA_RANKS[-1]}; use a lower one")
    if config.train.top_p < 1:
        raise RunError(
            f"train.top_p {config.train.top_p}: vLLM reports log-probabilities of what top-p leaves, not of the "
            "policy; use 1"
        )


def in_process_sampler(config: RunConfig, policy: Policy, version: int) -> InProcessSampler:
    """Answers with the policy's own module."""
    limits = BatchLimits(rows_max=config.rollouts.rows_max, kv_bytes_max=config.rollouts.kv_bytes_max)
    return InProcessSampler(policy, policy_version=version, limits=limits)


def vllm_sampler(config: RunConfig, log_file: Path) -> VllmSampler:
    """Connected to servers that answer with the base policy; one started here writes to `log_file`."""
    check_sampler(config)
    tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(config.policy.base)
    return VllmSampler(vllm_settings(config, log_file), tokenizer)


def vllm_settings(config: RunConfig, log_file: Path) -> VllmSettings:
    """The run file's [vllm] in the sampler's terms."""
    vllm = config.vllm
    return VllmSettings(
        urls=vllm.urls,
        server=None if vllm.urls else _server_settings(config, log_file),
        model_name=vllm.model_name,
        concurrent_requests_max=vllm.concurrent_requests_max,
        limits=EndpointLimits(request_timeout_s=vllm.request_timeout_s, recover_timeout_s=vllm.recover_timeout_s),
    )


def _server_settings(config: RunConfig, log_file: Path) -> VllmServerSettings:
    vllm, lora = config.vllm, config.policy.lora
    assert vllm.python is not None
    assert config.policy.base is not None
    return VllmServerSettings(
        python=Path(vllm.python),
        model=Path(config.policy.base),
        log_file=log_file,
        model_name=vllm.model_name,
        port=vllm.port,
        dtype=vllm.dtype,
        max_model_len=vllm.max_model_len,
        max_lora_rank=next(rank for rank in LORA_RANKS if lora is None or rank >= lora.r),
        sleep_mode=vllm.share_gpu,
        on_cpu=not torch.cuda.is_available() if vllm.on_cpu is None else vllm.on_cpu,
        extra_arguments=vllm.extra_arguments,
        start_timeout_s=vllm.start_timeout_s,
        stop_timeout_s=vllm.stop_timeout_s,
        restarts_max=vllm.restarts_max,
    )
