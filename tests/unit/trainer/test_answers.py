"""Asking a real policy: every point gets its answers or its reason; evaluations by hand."""

from __future__ import annotations

import pytest

from spanloop.records import Message, Role, ToolResult
from tests.unit.trainer.factories import call, calls, make_point, says, user, write
from tests.unit.trainer.rollouts.models import byte_tokenizer, small_policy
from trainer.answers import REWARD, AnsweredPoint, recorded_answers
from trainer.asking import PROMPT_REFUSED, PROMPT_TOO_LONG, answer_points
from trainer.config import EvalConfig
from trainer.dataset import Pool
from trainer.evaluate import Evaluation, compare_all, evaluate_policy, evaluate_recorded
from trainer.rewards.base import CriterionScore, Reward
from trainer.rewards.spec import load_reward_model
from trainer.rollouts.base import SamplingParams
from trainer.rollouts.in_process import InProcessSampler

PARAMS = SamplingParams(num_samples=2, max_tokens=4, seed=1)


@pytest.fixture
def reward_model(tmp_path):
    """Whether the answer is not empty."""
    return load_reward_model(write(tmp_path / "r.toml", '[[criteria]]\nname = "any"\ncheck = "answer_not_empty"\n'))


def test_prompts_no_policy_can_take_are_set_aside_with_their_reason(reward_model):
    """One too long and one the template refuses do not cost the others their answers."""
    policy = small_policy(context=512)
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = (
        "{% for m in messages %}{% if m.content == 'refuse' %}{{ raise_exception('no') }}{% endif %}{{ m.content }}"
        "{% endfor %}"
    )
    sampler = InProcessSampler(type(policy)(module=policy.module, tokenizer=tokenizer, device=policy.device))
    texts = {"a:0": "one", "b:0": "refuse", "c:0": "x" * 600, "d:0": "two", "e:0": "y" * 700, "f:0": "refuse"}
    points = [make_point(point_id, messages=(user(text),)) for point_id, text in texts.items()]
    answered = answer_points(points, sampler, reward_model, PARAMS)
    assert list(texts) == [item.point.point_id for item in answered]
    assert [None, PROMPT_REFUSED, PROMPT_TOO_LONG, None, PROMPT_TOO_LONG, PROMPT_REFUSED] == [
        item.refused for item in answered
    ]
    assert [2, 0, 0, 2, 0, 0] == [len(item.rollouts) for item in answered]
    assert [2, 0, 0, 2, 0, 0] == [len(item.rewards) for item in answered]


def test_answers_do_not_depend_on_which_points_are_asked_together(reward_model):
    """A point's answers follow from its state, the policy and the seed."""
    sampler = InProcessSampler(small_policy())
    points = [make_point(f"e{n}:0") for n in range(4)]
    together = answer_points(points, sampler, reward_model, PARAMS)
    alone = answer_points(points[2:3], sampler, reward_model, PARAMS)
    assert [item.token_ids for item in alone[0].rollouts] == [item.token_ids for item in together[2].rollouts]


def test_the_recorded_action_is_scored_like_an_answer(reward_model):
    """A point whose action is missing has no score, not 0."""
    points = [make_point("a:0", action=says("yes")), make_point("b:0", action=says("")), make_point("c:0")]
    found = evaluate_recorded(points, reward_model)
    assert {"a:0": 1.0, "b:0": 0.0, "c:0": None} == found.scores(REWARD)
    assert 0.5 == found.mean(REWARD)
    assert "the recorded action is missing" == found.answered[2].refused
    assert (None, None) == (found.temperature, found.policy_version)
    assert recorded_answers(points, reward_model) == found.answered


def test_greedy_takes_one_answer_and_sampling_as_many_as_asked(reward_model):
    """`eval.num_samples` is about temperatures above 0."""
    sampler = InProcessSampler(small_policy())
    points = [make_point(f"e{n}:0") for n in range(3)]
    settings = EvalConfig(num_samples=3)
    for temperature, number in ((0.0, 1), (0.7, 3)):
        found = evaluate_policy(
            points, sampler, reward_model, policy="base", policy_version=0, temperature=temperature,
            settings=settings, max_tokens=4,
        )  # fmt: skip
        assert [number] * 3 == [len(item.rollouts) for item in found.answered]
        assert {temperature} == {rollout.temperature for item in found.answered for rollout in item.rollouts}


def answered(point_id: str, *values: float | None, style: float | None = None) -> AnsweredPoint:
    """A point whose answers have these rewards and this style."""
    scores = (CriterionScore(name="style", value=style),)
    return AnsweredPoint(
        point=make_point(point_id), rewards=tuple(Reward(value=value, criteria=scores) for value in values)
    )


def evaluation(policy: str, temperature: float | None, *points: AnsweredPoint) -> Evaluation:
    """An evaluation of these answers."""
    version = {"recorded": None, "base": 0}.get(policy, 4)
    return Evaluation(
        policy=policy, policy_version=version, temperature=temperature, num_samples=2, answered=tuple(points)
    )


def test_comparisons_by_hand():
    """Means per point first, unscored answers left out, then over points; criteria and step indices likewise."""
    base = evaluation("base", 1.0, answered("a:0", 0.0, 0.5, style=1.0), answered("b:1", None, 0.25, style=0.5))
    tuned = evaluation("tuned", 1.0, answered("a:0", 1.0, 0.5, style=0.5), answered("b:1", 0.75, None, style=None))
    greedy = evaluation("base", 0.0, answered("a:0", 0.0), answered("b:1", 0.0))
    recorded = evaluation("recorded", None, answered("a:0", 0.5), answered("b:1", None))
    rows = compare_all("run", Pool.HELDOUT, (recorded, base, greedy, tuned), EvalConfig(bootstrap_samples=200))
    found = {(row.baseline, row.candidate, row.temperature, row.aspect, row.step_index): row for row in rows}
    whole = found[("base", "tuned", 1.0, "reward", None)]
    assert (0.25, 0.75, 0.5, 2.0) == (whole.baseline_mean, whole.candidate_mean, whole.gain, whole.relative_gain)
    assert (2, 2, 0) == (whole.num_points, whole.num_clusters, whole.num_unscored)
    style = found[("base", "tuned", 1.0, "style", None)]
    assert (1.0, 0.5, 1, 1) == (style.baseline_mean, style.candidate_mean, style.num_points, style.num_unscored)
    assert (0.25, 0.75) == (
        found[("base", "tuned", 1.0, "reward", 1)].baseline_mean,
        found[("base", "tuned", 1.0, "reward", 1)].candidate_mean,
    )
    against = found[("recorded", "tuned", 1.0, "reward", None)]
    assert (0.5, 0.75, 1, 1) == (
        against.baseline_mean, against.candidate_mean, against.num_points, against.num_unscored
    )  # fmt: skip
    assert {("recorded", "base"), ("recorded", "tuned"), ("base", "tuned")} == {key[:2] for key in found}
    assert {1.0} == {key[2] for key in found if key[:2] == ("base", "tuned")}


def test_a_tool_result_in_the_state_reaches_the_policy(reward_model):
    """States with calls and results render through the template like any other."""
    result = Message(role=Role.TOOL, parts=(ToolResult(call_id="c1", content="3 recipes"),))
    state = (user("plan"), calls(call("search", '{"query": "a"}')), result)
    (item,) = answer_points(
        [make_point(messages=state)], InProcessSampler(small_policy(context=1024)), reward_model, PARAMS
    )
    text = byte_tokenizer().decode(item.rollouts[0].prompt_token_ids)
    assert "3 recipes" in text
    assert '{"name": "search", "arguments": {"query": "a"}}' in text
