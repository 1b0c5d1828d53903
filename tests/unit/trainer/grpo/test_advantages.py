"""Group advantages by hand, against TRL's own standard deviation, and the groups that teach nothing."""

import math

import pytest
import torch

from trainer.grpo.advantages import AdvantageConvention, DropReason, group_advantages, select_best

ONE_RIGHT = [1.0, 0.0, 0.0, 1.0]


def values(rewards, convention):
    """The advantages of a single group."""
    return list(group_advantages([rewards], convention)[0].values)


@pytest.mark.parametrize(
    ("convention", "scale"),
    [
        # Deviation of [1, 0, 0, 1]: 0.5 over n, sqrt(1/3) over n - 1.
        (AdvantageConvention.TRL, math.sqrt(1 / 3) + 1e-4),
        (AdvantageConvention.VERL, math.sqrt(1 / 3) + 1e-6),
        (AdvantageConvention.ART, 0.5 + 1e-6),
        (AdvantageConvention.DR, 1.0),
    ],
)
def test_conventions_divide_the_centred_reward(convention, scale):
    """[1, 0, 0, 1] centres to plus and minus a half; conventions differ in what divides it."""
    assert values(ONE_RIGHT, convention) == pytest.approx([0.5 / scale, -0.5 / scale, -0.5 / scale, 0.5 / scale])


def test_none_keeps_the_rewards():
    """Without a convention the reward is the advantage."""
    assert ONE_RIGHT == values(ONE_RIGHT, AdvantageConvention.NONE)


def test_batch_deviation_is_over_all_groups():
    """`batch` centres per group and divides by one deviation: of [0, 1, 4, 7] it is sqrt(10)."""
    first, second = group_advantages([[0.0, 1.0], [4.0, 7.0]], AdvantageConvention.BATCH)
    scale = math.sqrt((9 + 4 + 1 + 16) / 3) + 1e-4
    assert list(first.values) == pytest.approx([-0.5 / scale, 0.5 / scale])
    assert list(second.values) == pytest.approx([-1.5 / scale, 1.5 / scale])


def test_trl_convention_is_trls():
    """The same numbers as TRL's own expression with its `nanstd`, an unscored answer among them."""
    from trl.trainer.utils import nanstd

    rewards = torch.tensor([[0.3, float("nan"), 0.9, 0.1]], dtype=torch.float64)
    expected = (rewards - rewards.nanmean(1, keepdim=True)) / (nanstd(rewards, dim=1)[:, None] + 1e-4)
    found = values([0.3, None, 0.9, 0.1], AdvantageConvention.TRL)
    assert found[1] is None
    assert expected[0, [0, 2, 3]].tolist() == pytest.approx([found[0], found[2], found[3]], rel=1e-12)


@pytest.mark.parametrize("unscored", [None, float("nan"), float("inf")])
def test_unscored_answers_take_no_part(unscored):
    """An unscored answer gets no advantage and does not move the others' mean."""
    assert [0.5, None, -0.5] == values([1.0, unscored, 0.0], AdvantageConvention.DR)


@pytest.mark.parametrize(
    ("rewards", "convention", "reason"),
    [
        ([0.7, 0.7, 0.7], AdvantageConvention.TRL, DropReason.ZERO_VARIANCE),
        ([0.7, None], AdvantageConvention.TRL, DropReason.SINGLE_ANSWER),
        ([None, float("nan")], AdvantageConvention.TRL, DropReason.UNSCORED),
        ([], AdvantageConvention.DR, DropReason.UNSCORED),
        ([0.7], AdvantageConvention.VERL, None),
        ([0.7, 0.7], AdvantageConvention.NONE, None),
        ([0.7, 0.6], AdvantageConvention.ART, None),
    ],
)
def test_groups_that_teach_nothing_name_their_reason(rewards, convention, reason):
    """Unscored groups, groups of one and groups without differences are marked, never silently zero."""
    assert reason == group_advantages([rewards], convention)[0].dropped


def test_equal_rewards_give_zero_not_nan():
    """A group of equal rewards has advantages of exactly zero under every centring convention."""
    for convention in set(AdvantageConvention) - {AdvantageConvention.NONE}:
        assert [0.0, 0.0] == values([0.25, 0.25], convention)


def test_a_group_of_one_keeps_its_reward_in_verl():
    """The convention of verl: mean 0 and deviation 1 for a single answer."""
    assert [0.7 / (1 + 1e-6)] == values([0.7], AdvantageConvention.VERL)


def test_select_best_takes_one_scored_answer_above_the_threshold():
    """RAFT trains the best answer, the first on a tie, and none where nothing is good enough."""
    groups = [[0.1, 0.9, 0.9], [None, 0.2], [None, None], [0.5, 0.4]]
    expected = ((False, True, False), (False, False), (False, False), (True, False))
    assert expected == select_best(groups, threshold=0.3)
    assert ((True, False),) == select_best([[0.0, 0.0]])
