"""What the loop hands to the backend, and what it does about a checkpoint nobody recorded."""

from __future__ import annotations

from tests.unit.trainer.factories import make_point, make_rollout
from trainer.answers import AnsweredPoint
from trainer.backends.options import train_request
from trainer.config import TrainConfig
from trainer.groups import Group
from trainer.rewards.base import Reward
from trainer.stages import train_options, trajectory_group


def test_every_training_option_reaches_the_backend_under_its_name():
    """The backend knows each of them, and takes their values."""
    config = TrainConfig(
        loss_type="cispo", epsilon_high=5.0, learning_rate=0.5, optim="sgd", momentum=0.7, beta=0.1, seed=3,
        importance_sampling_level="sequence", scale_rewards="batch", max_grad_norm=2.0, num_iterations=2,
        num_minibatches=3, max_steps=4, lr_scheduler_type="linear", kl_budget=0.2, max_completion_length=99,
    )  # fmt: skip
    request = train_request(dict(train_options(config)))
    loss, optimizer = request.update.loss, request.update.optimizer
    assert ("cispo", 5.0, 0.1, "sequence", 99) == (
        loss.loss_type, loss.epsilon_high, loss.beta, loss.importance_sampling_level, loss.max_completion_length
    )  # fmt: skip
    assert ("sgd", 0.5, 0.7, "linear", 4 * 2 * 3) == (
        optimizer.optimizer, optimizer.learning_rate, optimizer.momentum, optimizer.schedule, optimizer.total_steps
    )  # fmt: skip
    assert (2.0, 2, 3, 3, 0.2, "batch") == (
        request.update.max_grad_norm, request.update.num_iterations, request.update.num_minibatches,
        request.update.seed, request.update.limits.kl_budget, request.convention,
    )  # fmt: skip


def test_a_group_goes_to_art_with_the_values_it_is_trained_on():
    """Token ids as sampled, the permuted value of a control run, unscored answers left out and counted."""
    answered = AnsweredPoint(
        point=make_point(),
        rollouts=tuple(make_rollout(index) for index in range(3)),
        rewards=tuple(Reward(value=value) for value in (0.1, None, 0.9)),
    )
    group = trajectory_group(Group(answered=answered, trained_values=(0.9, None, 0.1)))
    assert [0.9, 0.1] == [item.reward for item in group.trajectories]
    assert {"num_unscored": 1, "point_id": "e1:0"} == group.metadata
    assert [[3, 4, 5], [3, 4, 5]] == [item.messages_and_choices[-1].token_ids for item in group.trajectories]
