"""Checkpoints: resuming is bit-identical, a kill leaves a usable one, and other programs can load them."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from tests.unit.trainer.grpo.factories import save_tiny_base, tiny_model, tiny_tokenizer
from trainer.checkpoint import (
    MANIFEST_FILE,
    CheckpointError,
    Progress,
    export_merged,
    latest_checkpoint,
    list_checkpoints,
    load_checkpoint,
    prune_checkpoints,
    read_progress,
    save_checkpoint,
)
from trainer.grpo.optimizer import OptimizerName, OptimizerSettings
from trainer.grpo.policy import LoraSettings, Policy, load_policy
from trainer.grpo.samples import Sample, Segment
from trainer.grpo.update import Updater, UpdateSettings

IDS = torch.tensor([[5, 9, 23, 40, 61]])
ROOT = Path(__file__).parents[3]


def samples(seed):
    """A batch drawn from the global generators, as a loop might."""
    del seed
    answers = [tuple(torch.randint(2, 90, (3,)).tolist()) for _ in range(4)]
    return [
        Sample(segments=(Segment(prompt_ids=(5, 6, 7), token_ids=a),), advantage=random.uniform(-1, 1)) for a in answers
    ]


def settings_of(optimizer):
    """An update with this optimizer."""
    return UpdateSettings(optimizer=OptimizerSettings(optimizer=optimizer, learning_rate=0.01))


def open_policy(base, *, adapter):
    """A fresh policy over the base."""
    return load_policy(base, lora=LoraSettings(rank=4) if adapter else None, device="cpu")


def losses(updater, settings, steps):
    """Losses of so many updates on fresh batches."""
    return [updater.update(samples(step), settings).metrics["loss/train"] for step in range(steps)]


@pytest.fixture
def base(tmp_path):
    """A saved base policy."""
    return save_tiny_base(tmp_path / "base")


@pytest.mark.parametrize("adapter", [True, False])
@pytest.mark.parametrize("optimizer", [OptimizerName.ADAMW, OptimizerName.SGD])
def test_resuming_is_bit_identical(base, tmp_path, adapter, optimizer):
    """Losses and weights after a resume are those of a run that never stopped, to the last bit."""
    settings = settings_of(optimizer)
    torch.manual_seed(3)
    random.seed(3)
    policy = open_policy(base, adapter=adapter)
    updater = Updater(policy, settings.optimizer)
    losses(updater, settings, 2)
    progress = Progress(step=2, optimizer_step=updater.optimizer_step, data_cursor={"epoch": 1, "seen": [1, 2]})
    saved = save_checkpoint(tmp_path / "run", policy, updater, progress)
    expected = losses(updater, settings, 3)

    torch.manual_seed(99)
    random.seed(99)
    other = open_policy(base, adapter=adapter)
    resumed = Updater(other, settings.optimizer)
    assert progress == load_checkpoint(saved, other, resumed)
    assert expected == losses(resumed, settings, 3)
    pairs = zip(policy.trainable_parameters().values(), other.trainable_parameters().values(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


def changed_policy(base):
    """An adapter that does something."""
    policy = open_policy(base, adapter=True)
    with torch.no_grad():
        for parameter in policy.trainable_parameters().values():
            parameter.add_(0.05)
    return policy


def logits(module):
    """Of a fixed prompt."""
    with torch.no_grad():
        return module(input_ids=IDS).logits


@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")  # peft asks by the old name
def test_peft_loads_an_adapter_checkpoint_as_it_is(base, tmp_path):
    """The directory is an adapter in peft's form, with the tensor names vLLM reads."""
    policy = changed_policy(base)
    saved = save_checkpoint(tmp_path / "run", policy, None, Progress(step=1))
    loaded = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), str(saved))
    assert torch.equal(logits(policy.module), logits(loaded.eval()))
    names = load_file(saved / "adapter_model.safetensors")
    assert "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight" in names


def test_merged_weights_compute_the_same(base, tmp_path):
    """An export needs no adapter and is the same policy to rounding."""
    policy = changed_policy(base)
    saved = save_checkpoint(tmp_path / "run", policy, None, Progress(step=1))
    merged = load_policy(export_merged(base, saved, tmp_path / "merged"), device="cpu")
    torch.testing.assert_close(logits(merged.module), logits(policy.module), rtol=1e-4, atol=1e-4)
    full = save_checkpoint(tmp_path / "full", merged, None, Progress(step=1))
    with pytest.raises(CheckpointError, match="holds no adapter"):
        export_merged(base, full, tmp_path / "again")


def test_half_written_and_damaged_checkpoints_are_passed_over(base, tmp_path):
    """What a kill left behind is not listed; a truncated file is refused and the one before is the latest."""
    policy, root = changed_policy(base), tmp_path / "run"
    first = save_checkpoint(root, policy, None, Progress(step=1))
    second = save_checkpoint(root, policy, None, Progress(step=2))
    (root / ".0003.writing").mkdir()
    assert (first, second) == list_checkpoints(root)
    assert second == latest_checkpoint(root)
    weights = second / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-10])
    assert first == latest_checkpoint(root)
    with pytest.raises(CheckpointError, match="use an earlier one"):
        load_checkpoint(second, policy)
    (first / MANIFEST_FILE).write_text("{", encoding="utf-8")
    assert latest_checkpoint(root) is None
    assert latest_checkpoint(tmp_path / "nowhere") is None


def test_a_format_of_another_release_is_refused(base, tmp_path):
    """The manifest names its format."""
    saved = save_checkpoint(tmp_path / "run", changed_policy(base), None, Progress(step=1))
    manifest = saved / MANIFEST_FILE
    manifest.write_text(manifest.read_text().replace('"format": 1', '"format": 2'), encoding="utf-8")
    with pytest.raises(CheckpointError, match="format is not 1"):
        read_progress(saved)


def test_a_step_can_be_written_again(base, tmp_path):
    """A step done again after a crash replaces its checkpoint and leaves nothing behind."""
    policy, root = changed_policy(base), tmp_path / "run"
    save_checkpoint(root, policy, None, Progress(step=1, metric=0.1))
    saved = save_checkpoint(root, policy, None, Progress(step=1, metric=0.2))
    assert 0.2 == read_progress(saved).metric
    assert ["0001"] == [path.name for path in root.iterdir()]


def test_pruning_keeps_the_newest_the_best_and_the_protected(base, tmp_path):
    """Of six checkpoints the last two, the best by metric and a promoted one stay."""
    policy, root = changed_policy(base), tmp_path / "run"
    for step, metric in enumerate([0.1, 0.9, 0.3, None, 0.2, 0.4], start=1):
        save_checkpoint(root, policy, None, Progress(step=step, metric=metric))
    deleted = prune_checkpoints(root, keep_last=2, protected=[root / "0003"])
    assert ["0001", "0004"] == [path.name for path in deleted]
    assert ["0002", "0003", "0005", "0006"] == sorted(path.name for path in root.iterdir())


KILLED = """
import sys
from pathlib import Path
from tests.unit.trainer.test_checkpoint import changed_policy, save_checkpoint, Progress
policy = changed_policy(Path(sys.argv[1]))
print("ready", flush=True)
step = 1
while True:
    save_checkpoint(Path(sys.argv[2]), policy, None, Progress(step=1 + step % 2))
    step += 1
"""


def test_a_kill_while_saving_leaves_a_usable_checkpoint(base, tmp_path):
    """Killed at arbitrary moments while it writes two steps over and over, a process leaves a complete one."""
    root = tmp_path / "run"
    save_checkpoint(root, changed_policy(base), None, Progress(step=0))
    command = [sys.executable, "-c", KILLED, str(base), str(root)]
    environment = os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'proto'}", "OMP_NUM_THREADS": "1"}
    for delay_s in (0.05, 0.11):
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment)
        assert b"ready\n" == process.stdout.readline()
        time.sleep(delay_s)
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
        newest = latest_checkpoint(root)
        assert newest is not None
        load_checkpoint(newest, open_policy(base, adapter=True))


def test_full_weights_checkpoint_is_a_model_directory(tmp_path):
    """Full weights are saved as transformers saves a model, tokenizer included."""
    policy = Policy(module=tiny_model(seed=4), tokenizer=tiny_tokenizer(), device=torch.device("cpu"))
    saved = save_checkpoint(tmp_path / "run", policy, None, Progress(step=7))
    assert "0007" == saved.name
    again = load_policy(saved, device="cpu")
    assert torch.equal(logits(policy.module), logits(again.module))
