"""The run file: defaults, precedence, and what a wrong key is told."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path

import pytest

from tests.unit.trainer.factories import write
from trainer.config import LoraConfig, RunConfig, TrainConfig, load_config, load_resolved, option_names
from trainer.errors import ConfigError

OURS_DIFFERS = {
    "max_steps",
    "learning_rate",
    "lr_scheduler_type",
    "optim",
    "max_completion_length",
    "gradient_checkpointing",
    "save_total_limit",
}
"""Same meaning, other default: a run here is a few steps on few points."""

DOCS = Path(__file__).parents[3] / "docs"


def test_flags_win_over_the_file_and_the_file_over_the_defaults(tmp_path):
    """Defaults < TOML < flags, key by key."""
    file = write(tmp_path / "run.toml", "[train]\nmax_steps = 9\nlearning_rate = 0.5\n")
    config = load_config(file, {"train.learning_rate": "0.25", "data.agents": '["a", "b"]', "train.loss_type": "grpo"})
    assert (9, 0.25, 64) == (config.train.max_steps, config.train.learning_rate, config.train.points_per_step)
    assert (("a", "b"), "grpo") == (config.data.agents, config.train.loss_type)


def test_paths_in_the_file_are_relative_to_it_and_flags_to_the_current_folder(tmp_path, monkeypatch):
    """A run file can be run from anywhere."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    file = write(tmp_path / "run.toml", '[policy]\nbase = "models/base"\n')
    config = load_config(file, {"reward.spec": "rewards.toml"})
    assert str(tmp_path / "models/base") == config.policy.base
    assert str(tmp_path / "here/rewards.toml") == config.reward.spec


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[train]\nlearning_rat = 1\n", "unknown key train.learning_rat; did you mean train.learning_rate?"),
        ("[polcy]\nbase = 'x'\n", "unknown key polcy; did you mean policy?"),
        ("[policy.lora]\nrank = 8\n", "unknown key policy.lora.rank; did you mean policy.lora.r?"),
        ("[eval]\nlearning_rate = 1\n", "unknown key eval.learning_rate; did you mean train.learning_rate?"),
        ("[train]\nmax_steps = 0\n", "train.max_steps: Input should be greater than or equal to 1 (got 0)"),
        ("[data]\nheldout = 0.6\nvalidation = 0.5\n", "leave nothing to train on"),
        ("[train\n", "not valid TOML"),
    ],
)
def test_a_wrong_key_or_value_is_named_with_its_remedy(tmp_path, text, told):
    """The message names the file, the key and what would be valid."""
    file = write(tmp_path / "run.toml", text)
    with pytest.raises(ConfigError) as error:
        load_config(file)
    assert told in str(error.value)
    assert str(file) in str(error.value)


def test_a_missing_run_file_is_named(tmp_path):
    """No traceback for a typo in --config."""
    with pytest.raises(ConfigError, match="not found"):
        load_config(tmp_path / "no.toml")


def test_a_resolved_configuration_reads_back_as_it_was():
    """What is saved with a run is the whole configuration."""
    config = RunConfig.model_validate({"policy": {"lora": {"r": 4}}, "eval": {"temperatures": [1.0]}})
    assert config == load_resolved(config.model_dump_json())
    assert LoraConfig(r=4) == config.policy.lora


def test_every_option_is_documented():
    """A docstring stands under each field of each section."""
    undocumented = [
        f"{section.__name__}.{key}"
        for section in (*RunConfig.model_fields.values(),)
        for section in [section.annotation]
        for key, field in section.model_fields.items()
        if not field.description and key != "lora"
    ]
    assert [] == undocumented
    assert {"train.num_generations", "policy.lora.r", "eval.bootstrap_samples"} <= set(option_names())


def test_the_documented_example_loads():
    """The example run file of the docs is valid, and says what it says."""
    config = load_config(DOCS / "example-run.toml")
    assert (("meal-planner",), 256) == (config.data.agents, config.train.max_completion_length)


def test_the_names_equal_those_of_trl():
    """Options that TRL has too keep its name and take its default."""
    from trl import GRPOConfig

    theirs = {field.name: field.default for field in dataclasses.fields(GRPOConfig)}
    train = RunConfig().train
    same = {key for key in TrainConfig.model_fields if key in theirs} - OURS_DIFFERS
    assert {"num_generations", "loss_type", "epsilon", "beta", "scale_rewards", "max_grad_norm"} <= same
    assert {key: theirs[key] for key in same} == {key: getattr(train, key) for key in same}


def test_importing_the_configuration_loads_no_torch():
    """`trainer --help` must not wait for torch."""
    code = "import sys, trainer.config; assert not {'torch', 'art', 'duckdb'} & set(sys.modules), 'heavy import'"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
