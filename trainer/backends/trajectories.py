"""Rollouts and rewards to ART's trajectory groups, and any trajectory groups to the engine's samples.

A sampled answer travels as an `openai` `Choice` with a log-probability per token (`token_id:N`, as vLLM names tokens
with `return_tokens_as_token_ids`) and the extra fields `token_ids`, `prompt_token_ids` and `temperature`. Coming back,
ids that are given are what is trained, tool-call and end-of-turn tokens included; nothing is tokenised again. Only what
carries no ids is rendered through the chat template: prompts of foreign trajectories, and recorded actions.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import art
from openai.types.chat.chat_completion import Choice
from transformers import BatchEncoding, PreTrainedTokenizerBase

from spanloop.convert import message_to_chat, parse_json, tools_to_chat
from spanloop.records import Message, ToolDefinition
from trainer.backends.art_compat import restore_transformers
from trainer.errors import TrainerError
from trainer.grpo.advantages import AdvantageConvention, DropReason, group_advantages, select_best
from trainer.grpo.samples import Sample, SampleSource, Segment
from trainer.rollouts.base import Rollout

restore_transformers()

TOKEN_ID_PREFIX = "token_id:"  # noqa: S105  # no secret
SOURCE_KEY = "source"
Chat = dict[str, Any]
"""A message in OpenAI chat form, as ART holds it."""
Tools = Sequence[Any] | None
"""Tool definitions in OpenAI chat form."""


class TrajectoryError(TrainerError):
    """A trajectory whose tokens cannot be known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoredRollout:
    """A rollout and what it is worth to the update. `None`: unscored, left out of the group."""

    rollout: Rollout
    reward: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedAction:
    """What the recorded agent did at this state, as a marked off-policy member of the group."""

    message: Message
    reward: float


def to_trajectory_group(
    messages: Sequence[Message],
    tools: Sequence[ToolDefinition],
    scored: Sequence[ScoredRollout],
    *,
    recorded: RecordedAction | None = None,
    metadata: Mapping[str, float | int | str | bool | None] | None = None,
) -> art.TrajectoryGroup:
    """One ART group: the answers of one state with their rewards; unscored answers are only counted."""
    prompt = [cast("Chat", message_to_chat(message)) for message in messages]
    chat_tools = cast("list[Chat]", tools_to_chat(tools)) or None
    members = [_trajectory(prompt, chat_tools, item) for item in scored if _is_scored(item.reward)]
    if recorded is not None:
        members.append(_recorded_trajectory(prompt, chat_tools, recorded))
    facts = {"num_unscored": sum(not _is_scored(item.reward) for item in scored), **(metadata or {})}
    return art.TrajectoryGroup(members, metadata=cast("dict[str, Any]", facts))


def _is_scored(reward: float | None) -> bool:
    return reward is not None and math.isfinite(reward)


def _trajectory(prompt: list[Chat], tools: list[Chat] | None, item: ScoredRollout) -> art.Trajectory:
    assert item.reward is not None, "only scored rollouts become trajectories"
    rollout = item.rollout
    return art.Trajectory(
        messages_and_choices=cast("Any", [*prompt, to_choice(rollout)]),
        tools=cast("Any", tools),
        reward=item.reward,
        initial_policy_version=rollout.policy_version,
        final_policy_version=rollout.policy_version,
        metadata={"prompt_id": rollout.prompt_id, "rollout_index": rollout.rollout_index},
    )


def _recorded_trajectory(prompt: list[Chat], tools: list[Chat] | None, recorded: RecordedAction) -> art.Trajectory:
    return art.Trajectory(
        messages_and_choices=cast("Any", [*prompt, message_to_chat(recorded.message)]),
        tools=cast("Any", tools),
        reward=recorded.reward,
        metadata={SOURCE_KEY: str(SampleSource.RECORDED)},
    )


def to_choice(rollout: Rollout) -> Choice:
    """A rollout as an OpenAI choice that carries its exact tokens."""
    tokens = zip(rollout.token_ids, rollout.logprobs, strict=True)
    return Choice.model_validate(
        {
            "index": rollout.rollout_index,
            "finish_reason": rollout.finish_reason,
            "message": message_to_chat(rollout.message),
            "logprobs": {
                "content": [
                    {"token": f"{TOKEN_ID_PREFIX}{token}", "logprob": logprob, "bytes": None, "top_logprobs": []}
                    for token, logprob in tokens
                ]
            },
            "token_ids": list(rollout.token_ids),
            "prompt_token_ids": list(rollout.prompt_token_ids),
            "temperature": rollout.temperature,
        }
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenisationSettings:
    """How trajectories without token ids are read."""

    convention: AdvantageConvention = AdvantageConvention.TRL
    allow_training_without_logprobs: bool = False
    """Train assistant messages that are plain dictionaries: tokens from the chat template, no log-probabilities."""
    keep_zero_variance: bool = False
    """Keep groups without differences; their samples count in normalisers and in a KL term, as in TRL."""
    chat_template_kwargs: Mapping[str, object] | None = None
    best_only: bool = False
    """RAFT: only the best answer of each group that has differences, with weight 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingSet:
    """The samples of an update and what was left out."""

    samples: tuple[Sample, ...]
    dropped: Mapping[DropReason, int]
    num_groups: int


def from_trajectory_groups(
    groups: Iterable[art.TrajectoryGroup],
    tokenizer: PreTrainedTokenizerBase,
    settings: TokenisationSettings = TokenisationSettings(),
) -> TrainingSet:
    """The engine's samples of any ART groups, with advantages by the convention; what teaches nothing is counted.

    Raises:
        TrajectoryError: a sampled answer's tokens cannot be read.

    """
    listed = list(groups)
    rewards = [[trajectory.reward for trajectory in group.trajectories] for group in listed]
    samples: list[Sample] = []
    dropped: Counter[DropReason] = Counter()
    for group, advantages in zip(listed, group_advantages(rewards, settings.convention), strict=True):
        if advantages.dropped is not None and not _kept(advantages.dropped, settings):
            dropped[advantages.dropped] += 1
            continue
        values = _best_weights(group) if settings.best_only else advantages.values
        members = zip(group.trajectories, values, strict=True)
        own = [_sample(t, advantage, tokenizer, settings) for t, advantage in members if advantage is not None]
        if not any(sample.segments for sample in own):
            dropped[DropReason.NOTHING_SAMPLED] += 1
            continue
        samples.extend(own)
    return TrainingSet(samples=tuple(samples), dropped=dict(dropped), num_groups=len(listed))


def _best_weights(group: art.TrajectoryGroup) -> tuple[float | None, ...]:
    (chosen,) = select_best([[trajectory.reward for trajectory in group.trajectories]])
    return tuple(1.0 if best else None for best in chosen)


def _kept(reason: DropReason, settings: TokenisationSettings) -> bool:
    return settings.keep_zero_variance and reason is DropReason.ZERO_VARIANCE


def supervised_sample(
    trajectory: art.Trajectory, tokenizer: PreTrainedTokenizerBase, settings: TokenisationSettings
) -> Sample:
    """A trajectory to imitate: every assistant message is trained with weight 1."""
    every = replace(settings, allow_training_without_logprobs=True)
    return _sample(trajectory, 1.0, tokenizer, every)


def _sample(
    trajectory: art.Trajectory,
    advantage: float,
    tokenizer: PreTrainedTokenizerBase,
    settings: TokenisationSettings,
) -> Sample:
    recorded = trajectory.metadata.get(SOURCE_KEY) == SampleSource.RECORDED
    permissive = replace(settings, allow_training_without_logprobs=True) if recorded else settings
    histories: list[art.Trajectory | Any] = [trajectory, *trajectory.additional_histories]
    segments: list[Segment] = []
    for history in histories:
        segments += _segments(history.messages_and_choices, history.tools, tokenizer, permissive)
    return Sample(
        segments=tuple(segments),
        advantage=advantage,
        temperature=_temperature(trajectory),
        source=SampleSource.RECORDED if recorded else SampleSource.ON_POLICY,
    )


def _temperature(trajectory: art.Trajectory) -> float:
    """Of the first choice that names it, else 1: ART samples at 1."""
    for item in trajectory.messages_and_choices:
        value = _extra(item, "temperature") if isinstance(item, Choice) else None
        if isinstance(value, int | float):
            return float(value)
    return 1.0


def _extra(choice: Choice, name: str) -> object:
    return (choice.model_extra or {}).get(name)


def _segments(
    items: Sequence[Any], tools: Tools, tokenizer: PreTrainedTokenizerBase, settings: TokenisationSettings
) -> list[Segment]:
    """One segment per trained assistant message, each after the messages before it."""
    segments = []
    for index, item in enumerate(items):
        before = [_chat(earlier) for earlier in items[:index]]
        if isinstance(item, Choice) and _has_tokens(item):
            segments.append(_sampled_segment(item, before, tools, tokenizer, settings))
        elif settings.allow_training_without_logprobs and _chat(item).get("role") == "assistant":
            segments.append(_rendered_segment(_chat(item), before, tools, tokenizer, settings))
    return segments


def _chat(item: object) -> Chat:
    """A message in the form templates read: text where there is no content, call arguments as objects."""
    chat = item.message.to_dict() if isinstance(item, Choice) else dict(cast("Chat", item))
    calls = [_with_argument_object(call) for call in cast("list[Chat]", chat.get("tool_calls") or [])]
    return {**chat, "content": chat.get("content") or "", **({"tool_calls": calls} if calls else {})}


def _with_argument_object(call: Chat) -> Chat:
    """As model servers hand calls to the template; arguments that are no JSON object stay text."""
    function = dict(call["function"])
    try:
        value = parse_json(str(function["arguments"]))
    except ValueError:
        return call
    return {**call, "function": {**function, "arguments": value}} if isinstance(value, dict) else call


def _has_tokens(choice: Choice) -> bool:
    return isinstance(_extra(choice, "token_ids"), list) or bool(choice.logprobs and choice.logprobs.content)


def _sampled_segment(
    choice: Choice, before: list[Chat], tools: Tools, tokenizer: PreTrainedTokenizerBase, settings: TokenisationSettings
) -> Segment:
    token_ids, logprobs = choice_tokens(choice, tokenizer)
    prompt = _extra(choice, "prompt_token_ids")
    return Segment(
        prompt_ids=tuple(prompt) if isinstance(prompt, list) else _prompt_ids(before, tools, tokenizer, settings),
        token_ids=token_ids,
        logprobs=logprobs,
    )


def choice_tokens(
    choice: Choice, tokenizer: PreTrainedTokenizerBase
) -> tuple[tuple[int, ...], tuple[float, ...] | None]:
    """A sampled answer's token ids, and a log-probability for each where there is one for each.

    Raises:
        TrajectoryError: the server named a token by a text that stands for no single token.

    """
    content = (choice.logprobs.content if choice.logprobs else None) or []
    given = _extra(choice, "token_ids")
    token_ids = tuple(given) if isinstance(given, list) else tuple(_token_id(t.token, tokenizer) for t in content)
    return token_ids, tuple(token.logprob for token in content) if len(content) == len(token_ids) else None


def _token_id(token: str, tokenizer: PreTrainedTokenizerBase) -> int:
    """The id a server's token name stands for: a number, a vocabulary entry, or text that is one token."""
    if token.startswith(TOKEN_ID_PREFIX):
        return int(token.removeprefix(TOKEN_ID_PREFIX))
    ids = tokenizer.encode(token, add_special_tokens=False)
    if len(ids) == 1 and tokenizer.decode(ids, clean_up_tokenization_spaces=False) == token:
        return int(ids[0])
    found = tokenizer.get_vocab().get(token)
    if found is None:
        raise TrajectoryError(
            f"trajectory: token {token!r} is not in the tokenizer's vocabulary; have the server return token ids"
            " (vLLM: return_tokens_as_token_ids)"
        )
    return found


def _rendered_segment(
    message: Chat, before: list[Chat], tools: Tools, tokenizer: PreTrainedTokenizerBase, settings: TokenisationSettings
) -> Segment:
    """An assistant message through the chat template, up to and including its end-of-turn token."""
    prompt = _prompt_ids(before, tools, tokenizer, settings)
    whole = _template([*before, message], tools, tokenizer, settings, add_generation_prompt=False)
    if whole[: len(prompt)] != prompt:
        raise TrajectoryError(
            "trajectory: the chat template does not continue its own prompt, so the answer's tokens are not known;"
            " give token ids, or leave this trajectory out"
        )
    answer = whole[len(prompt) :]
    ends = [index for index, token in enumerate(answer) if token == tokenizer.eos_token_id]
    return Segment(prompt_ids=prompt, token_ids=answer[: ends[-1] + 1] if ends else answer)


def _prompt_ids(
    before: list[Chat], tools: Tools, tokenizer: PreTrainedTokenizerBase, settings: TokenisationSettings
) -> tuple[int, ...]:
    return _template(before, tools, tokenizer, settings, add_generation_prompt=True)


def _template(
    messages: list[Chat],
    tools: Tools,
    tokenizer: PreTrainedTokenizerBase,
    settings: TokenisationSettings,
    *,
    add_generation_prompt: bool,
) -> tuple[int, ...]:
    text = tokenizer.apply_chat_template(
        cast("Any", messages),
        tools=cast("Any", tools),
        add_generation_prompt=add_generation_prompt,
        tokenize=False,
        **cast("dict[str, Any]", dict(settings.chat_template_kwargs or {})),
    )
    encoded = cast("BatchEncoding", tokenizer(str(text), add_special_tokens=False))
    return tuple(cast("list[int]", encoded["input_ids"]))
