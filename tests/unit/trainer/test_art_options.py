"""The run file's settings as ART's own backends take them: each by its name there, none left out in silence."""

from __future__ import annotations

import pytest

from trainer.art_options import NOT_TAKEN, art_train_options

from trainer.backends.trajectories import to_choice  # isort: skip  # noqa: F401  # it repairs what ART replaces

from art.serverless import ServerlessBackend

from trainer.config import ArtConfig, RunConfig, TrainConfig
from trainer.errors import RunError
from trainer.stages import train_options

pytestmark = pytest.mark.filterwarnings("ignore")  # ART and litellm use what their dependencies have deprecated


def local_train(
    self, model, trajectory_groups, *, learning_rate=5e-6, loss_fn="cispo", epsilon=None, epsilon_high=None,
    scale_rewards=True, importance_sampling_level="token", kl_penalty_coef=0.0,
):  # fmt: skip
    """A method with the names of LocalBackend's."""


def options(train=local_train, art=None, **settings):
    """The options of a call, for these settings."""
    return art_train_options(RunConfig(train=TrainConfig(**settings), art=ArtConfig(options=art or {})), train)


def test_the_clipped_loss_goes_under_each_backends_name():
    """LocalBackend has `loss_fn`, ServerlessBackend `ppo`; both clip as the run file says."""
    common = {
        "learning_rate": 0.5,
        "scale_rewards": True,
        "importance_sampling_level": "sequence",
        "epsilon": 0.1,
        "epsilon_high": 0.3,
    }
    given = {"learning_rate": 0.5, "importance_sampling_level": "sequence", "epsilon": 0.1, "epsilon_high": 0.3}
    assert common | {"loss_fn": "ppo"} == options(loss_type="grpo", **given)
    assert common | {"ppo": True} == options(ServerlessBackend.train, loss_type="grpo", **given)
    assert 0.2 == options(loss_type="grpo")["epsilon_high"]


def test_cispos_cap_is_arts_distance_from_one():
    """Ours caps the ratio at 5, ART's at 1 + 4; without a cap ART's own stands."""
    capped = options(loss_type="cispo", epsilon_high=5.0, scale_rewards="none")
    assert ("cispo", 1.0, 4.0, False) == tuple(
        capped[name] for name in ("loss_fn", "epsilon", "epsilon_high", "scale_rewards")
    )
    assert {"learning_rate", "scale_rewards", "importance_sampling_level", "loss_fn"} == set(options(loss_type="cispo"))


def test_further_options_of_art_are_handed_on_and_misspelt_ones_named():
    """Under ART's names; the nearest one is proposed."""
    assert 0.05 == options(loss_type="cispo", art={"kl_penalty_coef": 0.05})["kl_penalty_coef"]
    with pytest.raises(RunError, match=r"art\.options\.kl_penalty: .*did you mean kl_penalty_coef\?"):
        options(loss_type="cispo", art={"kl_penalty": 0.05})
    with pytest.raises(RunError, match=r"art\.options\.kl_penalty_coef: the backend's train has no such option"):
        options(ServerlessBackend.train, loss_type="cispo", art={"kl_penalty_coef": 0.05})


def test_settings_it_does_not_take_are_all_named():
    """They may keep their defaults."""
    with pytest.raises(
        RunError, match=r"takes no train\.beta, train\.weight_decay, train\.temperature; leave them out"
    ):
        options(loss_type="cispo", beta=0.1, weight_decay=0.1, temperature=0.7)
    with pytest.raises(RunError, match=r'train\.scale_rewards "batch" is not ART.s; use group or none'):
        options(loss_type="cispo", scale_rewards="batch")


def test_every_setting_of_the_update_is_taken_or_refused():
    """A setting added to the run file must be decided on here too."""
    taken = {"learning_rate", "loss_type", "epsilon", "epsilon_high", "scale_rewards", "importance_sampling_level"}
    elsewhere = {"max_completion_length", "seed", "max_optimizer_steps"}
    assert set(train_options(TrainConfig())) - elsewhere <= taken | set(NOT_TAKEN)
