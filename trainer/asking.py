"""Fresh answers: the policy asked at decision points, its answers scored.

In: decision points, a sampler, a reward model. Out: each point with its rollouts and rewards, or why it has none.
"""

from __future__ import annotations

from collections.abc import Sequence

from tqdm import tqdm

from trainer.answers import AnsweredPoint
from trainer.dataset import DecisionPoint
from trainer.rewards.base import Answer, RewardModel
from trainer.rollouts.base import Prompt, Rollout, Sampler, SamplingParams
from trainer.rollouts.errors import ContextLimitError
from trainer.rollouts.rendering import RenderingError

PROMPT_TOO_LONG = "the prompt fills the policy's context"
PROMPT_REFUSED = "the chat template refuses the prompt"


POINTS_AT_A_TIME = 64
"""Points between two movements of the progress bar; a point's answers do not depend on it."""


def answer_points(
    points: Sequence[DecisionPoint],
    sampler: Sampler,
    reward_model: RewardModel,
    params: SamplingParams,
    *,
    label: str = "answer",
) -> tuple[AnsweredPoint, ...]:
    """Fresh answers to every point, scored, in the order of the points. `label` names the progress bar."""
    answered: list[AnsweredPoint] = []
    with tqdm(total=len(points), desc=label, unit="point", disable=None, leave=False) as bar:
        for start in range(0, len(points), POINTS_AT_A_TIME):
            chunk = points[start : start + POINTS_AT_A_TIME]
            answered += _answer_chunk(chunk, sampler, reward_model, params)
            bar.update(len(chunk))
    return tuple(answered)


def _answer_chunk(
    points: Sequence[DecisionPoint], sampler: Sampler, reward_model: RewardModel, params: SamplingParams
) -> list[AnsweredPoint]:
    refused, groups = _sample(points, sampler, params)
    return [
        AnsweredPoint(point=point, refused=refused[point.point_id])
        if point.point_id in refused
        else _scored(point, groups[point.point_id], reward_model)
        for point in points
    ]


def _scored(point: DecisionPoint, rollouts: tuple[Rollout, ...], reward_model: RewardModel) -> AnsweredPoint:
    answers = [Answer(point=point, message=item.message, finish_reason=item.finish_reason) for item in rollouts]
    return AnsweredPoint(point=point, rollouts=rollouts, rewards=reward_model.score_group(answers))


Refused = dict[str, str]
Groups = dict[str, tuple[Rollout, ...]]


def _sample(points: Sequence[DecisionPoint], sampler: Sampler, params: SamplingParams) -> tuple[Refused, Groups]:
    """Groups by point id; prompts that no policy can be asked are set aside, and the others asked again."""
    if not points:
        return {}, {}
    prompts = [Prompt(prompt_id=item.point_id, messages=item.messages, tools=item.tools) for item in points]
    try:
        groups = sampler.sample(prompts, params)
    except ContextLimitError as error:
        rest = [point for point in points if point.point_id not in error.prompt_ids]
        refused, sampled = _sample(rest, sampler, params)
        return {**refused, **dict.fromkeys(error.prompt_ids, PROMPT_TOO_LONG)}, sampled
    except RenderingError:
        return _sample_halves(points, sampler, params)
    return {}, {prompt.prompt_id: group for prompt, group in zip(prompts, groups, strict=True)}


def _sample_halves(points: Sequence[DecisionPoint], sampler: Sampler, params: SamplingParams) -> tuple[Refused, Groups]:
    """One of the prompts cannot be rendered and the error does not name it: halve until it stands alone."""
    if len(points) == 1:
        return {points[0].point_id: PROMPT_REFUSED}, {}
    middle = len(points) // 2
    refused, groups = _sample(points[:middle], sampler, params)
    refused_too, more = _sample(points[middle:], sampler, params)
    return {**refused, **refused_too}, {**groups, **more}
