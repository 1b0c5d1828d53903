"""Which groups are trained on, and the control that has nothing to teach."""

from __future__ import annotations

import pytest

from tests.unit.trainer.factories import make_point, make_rollout
from trainer.answers import AnsweredPoint
from trainer.groups import make_groups
from trainer.rewards.base import Reward


def answered(*values: float | None, point_id: str = "e1:0", refused: str | None = None) -> AnsweredPoint:
    """A point whose answers have these rewards."""
    return AnsweredPoint(
        point=make_point(point_id),
        rollouts=tuple(make_rollout(index, prompt_id=point_id) for index in range(len(values))),
        rewards=tuple(Reward(value=value) for value in values),
        refused=refused,
    )


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ((0.0, 1.0), None),
        ((0.5, 0.5, 0.5), "zero_variance"),
        ((0.1 + 0.2, 0.3), "zero_variance"),
        ((None, 1.0, None), "single_answer"),
        ((None, None), "unscored"),
        ((None, 0.0, 1.0), None),
    ],
)
def test_a_group_without_differences_is_dropped_with_its_reason(values, reason):
    """Equal, single and missing rewards teach nothing; 0.1 + 0.2 equals 0.3 here."""
    (group,) = make_groups([answered(*values)])
    assert reason == group.drop_reason


def test_a_point_no_policy_can_be_asked_at_is_dropped_with_its_reason():
    """The reason is the sampler's."""
    (group,) = make_groups([answered(refused="the prompt fills the policy's context")])
    assert "the prompt fills the policy's context" == group.drop_reason


def test_the_deviation_is_over_n_and_leaves_out_unscored_answers():
    """Of 0, 1 and an unscored answer: 0.5."""
    (group,) = make_groups([answered(0.0, None, 1.0)])
    assert 0.5 == group.reward_std


def test_shuffled_rewards_are_the_same_rewards_in_other_places():
    """The step's multiset and each group's unscored places stay; the rewards themselves are not touched."""
    step = [
        answered(*(index / 10 + place / 100 for place in range(4)), None, point_id=f"e{index}:0") for index in range(9)
    ]
    plain, control = make_groups(step), make_groups(step, shuffle_seed=1)
    assert sorted(value for group in plain for value in group.scored) == sorted(
        value for group in control for value in group.scored
    )
    assert [None] * 9 == [group.trained_values[4] for group in control]
    assert [group.trained_values for group in plain] != [group.trained_values for group in control]
    assert [group.answered for group in plain] == [group.answered for group in control]


def test_shuffling_is_seeded():
    """A control run can be repeated."""
    step = [answered(0.1, 0.2, 0.3, 0.4), answered(0.5, 0.6, 0.7, 0.8, point_id="e2:0")]
    one, same, other = (make_groups(step, shuffle_seed=seed) for seed in (1, 1, 2))
    assert one == same
    assert one != other
