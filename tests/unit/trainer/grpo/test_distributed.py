"""Two processes under FSDP2 compute what one computes."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.unit.trainer.grpo import distributed_worker
from tests.unit.trainer.grpo.factories import tiny_policy
from trainer.checkpoint import load_checkpoint
from trainer.grpo.attention import AttentionKind
from trainer.grpo.distributed import World
from trainer.grpo.learner import ComputeSettings, Learner
from trainer.grpo.update import Updater

ROOT = Path(__file__).parents[4]


@pytest.fixture(scope="module")
def together(tmp_path_factory):
    """What two gloo processes found, and their checkpoint."""
    folder = tmp_path_factory.mktemp("two")
    command = ["torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    module = ["-m", "tests.unit.trainer.grpo.distributed_worker", str(folder)]
    done = subprocess.run(
        [sys.executable, "-m", *command, *module],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert 0 == done.returncode, done.stderr[-2000:]
    return load_file(folder / "found.safetensors"), folder / "checkpoints" / "0001"


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """What one process finds."""
    return distributed_worker.measure(tmp_path_factory.mktemp("one"))


def test_two_processes_have_the_gradients_of_one(together, alone):
    """Sharded parameters and divided micro-batches: the same gradients to 1e-10 in float64."""
    names = [name for name in alone if name.startswith("gradient")]
    assert names
    for name in names:
        torch.testing.assert_close(together[0][name], alone[name], rtol=1e-10, atol=1e-10)


def test_two_processes_take_the_steps_of_one(together, alone):
    """After two updates of two optimizer steps each the weights are the same to 1e-9."""
    for name in (name for name in alone if name.startswith("weight")):
        torch.testing.assert_close(together[0][name], alone[name], rtol=1e-9, atol=1e-9)


def test_one_process_goes_on_from_a_checkpoint_of_two(together, alone):
    """Shards are gathered when they are saved: a single process loads them, optimizer too, and ends where two did."""
    policy = tiny_policy(seed=5, dtype=torch.float64)
    updater = Updater(policy, distributed_worker.SETTINGS.optimizer)
    progress = load_checkpoint(together[1], policy, updater)
    assert 2 == progress.optimizer_step
    updater.update(distributed_worker.samples(), distributed_worker.SETTINGS)
    for name, parameter in policy.trainable_parameters().items():
        torch.testing.assert_close(parameter.detach(), alone[f"weight {name}"], rtol=1e-9, atol=1e-9)


def test_processes_run_equally_many_forwards():
    """Three micro-batches over two processes: both run two, and one of the second's does not count."""
    learner = Learner(tiny_policy(), AttentionKind.BLOCKS, ComputeSettings(micro_batch_tokens=1))
    batches = learner.micro_batches(distributed_worker.samples())[:3]
    shares = [World(rank=rank, size=2).assign(batches) for rank in range(2)]
    assert [2, 2] == [len(share) for share in shares]
    counted = [batch.sample_indices for share in shares for batch, counts in share if counts]
    assert sorted(batch.sample_indices for batch in batches) == sorted(counted)
