"""The reward specification: a TOML file of weighted criteria and gates, made into a reward model.

`docs/example-rewards.toml` shows the format. A wrong key, an unknown check or criterion fails at load time with the
file, the key and what would be valid.
"""

from __future__ import annotations

import inspect
import logging
import math
import tomllib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import Field, ValidationError

from spanloop.hashing import content_hash, message_hash
from trainer.config import Scalar, Section
from trainer.errors import RewardSpecError
from trainer.explain import explain, nearest
from trainer.rewards.base import Answer, CriterionScore, Reward
from trainer.rewards.cache import RewardCache
from trainer.rewards.checks import BUILT_IN, NOT_THE_ANSWERS_FAULT
from trainer.rewards.gates import Gate, combine
from trainer.rewards.python_checks import PREFIX, load_function, source_hash

log = logging.getLogger(__name__)

Parameter = Scalar | list[Scalar]


class CriterionSpec(Section):
    """One aspect of an answer."""

    name: str = Field(min_length=1)
    """What the reports call it."""
    check: str
    """A built-in check, or `python:module:function`."""
    weight: float = Field(default=1.0, ge=0)
    """Share in the reward, relative to the other criteria; 0 only reports it."""
    parameters: dict[str, Parameter] = Field(default_factory=dict)
    """Keywords of the check."""


class GateSpec(Section):
    """A criterion that caps the reward when it fails."""

    criterion: str
    """Name of the criterion."""
    threshold: float = Field(default=1.0, gt=0, le=1)
    """The gate fails below this score."""
    cap: float = Field(ge=0, le=1)
    """The most the reward can be once it failed."""


class RewardSpec(Section):
    """The whole file."""

    name: str = "reward"
    """What the reports call this reward model."""
    criteria: tuple[CriterionSpec, ...] = Field(min_length=1)
    gates: tuple[GateSpec, ...] = ()


_KEYS = tuple(
    ["name", "criteria", "gates"]
    + [f"criteria.{key}" for key in CriterionSpec.model_fields]
    + [f"gates.{key}" for key in GateSpec.model_fields]
)


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckCriterion:
    """A criterion behind which a program stands."""

    name: str
    weight: float
    check: Callable[..., object]
    parameters: Mapping[str, Parameter]

    def score(self, answer: Answer) -> CriterionScore:
        """What the check says; a check that raises or returns nonsense leaves the answer unscored, and says where."""
        try:
            return _read_result(self.name, self.check(answer, **self.parameters))
        except NOT_THE_ANSWERS_FAULT as error:
            return CriterionScore(name=self.name, value=None, reason=str(error))
        except Exception as error:  # noqa: BLE001  # the reward call: foreign code must not end a run
            return CriterionScore(name=self.name, value=None, reason=_where(error), broken=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class SpecRewardModel:
    """A reward specification, ready to score."""

    spec: RewardSpec
    spec_hash: str
    """Covers the file's meaning and the source of its python checks."""
    criteria: tuple[CheckCriterion, ...]
    gates: tuple[Gate, ...]
    cache: RewardCache
    broken: Counter[str] = field(default_factory=Counter)
    """How often each criterion's check failed, by `name: reason`."""

    def score_group(self, answers: Sequence[Answer]) -> tuple[Reward, ...]:
        """One reward per answer, in their order."""
        return tuple(self._score(answer) for answer in answers)

    def _score(self, answer: Answer) -> Reward:
        key = (answer.point.state_hash, _answer_hash(answer), self.spec_hash)
        reward = self.cache.get(key)
        if reward is None:
            scores = tuple(criterion.score(answer) for criterion in self.criteria)
            self._count_broken(scores)
            reward = combine(scores, {criterion.name: criterion.weight for criterion in self.criteria}, self.gates)
            self.cache.put(key, reward)
        return reward

    def _count_broken(self, scores: Sequence[CriterionScore]) -> None:
        for score in scores:
            if score.broken:
                label = f"{score.name}: {score.reason}"
                if not self.broken[label]:
                    log.warning(
                        "check_failed criterion=%s reason=%s; its answers stay unscored", score.name, score.reason
                    )
                self.broken[label] += 1


def load_reward_model(path: Path, *, cache_entries_max: int = 100_000) -> SpecRewardModel:
    """The reward model of a specification file; raises `RewardSpecError` for anything wrong in it."""
    spec = _read_spec(path)
    criteria = tuple(_criterion(path, item) for item in spec.criteria)
    _check_names(path, spec)
    sources = [source_hash(item.check) for item in criteria]
    return SpecRewardModel(
        spec=spec,
        spec_hash=content_hash([spec.model_dump(mode="json"), sources]),
        criteria=criteria,
        gates=tuple(Gate(criterion=gate.criterion, threshold=gate.threshold, cap=gate.cap) for gate in spec.gates),
        cache=RewardCache(cache_entries_max),
    )


def _read_spec(path: Path) -> RewardSpec:
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise RewardSpecError(f"reward specification {path}: not found; set reward.spec or --reward") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise RewardSpecError(f"reward specification {path}: not valid TOML: {error}") from None
    except OSError as error:
        raise RewardSpecError(f"reward specification {path}: cannot be read: {error.strerror}") from None
    try:
        return RewardSpec.model_validate(tables)
    except ValidationError as error:
        raise RewardSpecError(f"reward specification {path}: {explain(error, _KEYS)}") from None


def _check_names(path: Path, spec: RewardSpec) -> None:
    names = [criterion.name for criterion in spec.criteria]
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise RewardSpecError(f"reward specification {path}: criteria.name {twice[0]!r} stands twice; rename one")
    for gate in spec.gates:
        if gate.criterion not in names:
            raise RewardSpecError(
                f"reward specification {path}: gates.criterion {gate.criterion!r} is no criterion; "
                f"valid are {', '.join(names)}"
            )


def _criterion(path: Path, item: CriterionSpec) -> CheckCriterion:
    origin = f"reward specification {path}: criterion {item.name!r}"
    if item.check.startswith(PREFIX):
        check = load_function(item.check, path.parent.resolve(), origin)
    elif item.check in BUILT_IN:
        check = BUILT_IN[item.check]
    else:
        near = nearest(item.check, tuple(BUILT_IN))
        hint = f"did you mean {near!r}? " if near else ""
        raise RewardSpecError(
            f"{origin}: unknown check {item.check!r}; {hint}valid are {', '.join(BUILT_IN)} and python:module:function"
        )
    _check_parameters(check, item, origin)
    return CheckCriterion(name=item.name, weight=item.weight, check=check, parameters=item.parameters)


def _check_parameters(check: Callable[..., object], item: CriterionSpec, origin: str) -> None:
    signature = inspect.signature(check)
    try:
        signature.bind(None, **item.parameters)
    except TypeError as error:
        valid = ", ".join(list(signature.parameters)[1:]) or "none"
        raise RewardSpecError(f"{origin}: parameters: {error}; {item.check} takes {valid}") from None


def _read_result(name: str, result: object) -> CriterionScore:
    """Accepts a number, a bool, `None`, a pair of those and a reason, or a `CriterionScore`."""
    if isinstance(result, CriterionScore):
        return _checked(name, result.value, result.reason)
    if isinstance(result, tuple) and len(result) == 2:
        value, reason = result
        return _checked(name, value, None if reason is None else str(reason))
    return _checked(name, result, None)


def _checked(name: str, value: object, reason: str | None) -> CriterionScore:
    if value is None:
        return CriterionScore(name=name, value=None, reason=reason or "does not apply")
    if not isinstance(value, int | float) or math.isnan(value) or not 0 <= value <= 1:
        kind = f"a {type(value).__name__}" if not isinstance(value, int | float) else f"{value}"
        return CriterionScore(name=name, value=None, reason=f"the check returned {kind}, not [0, 1]", broken=True)
    return CriterionScore(name=name, value=float(value), reason=reason)


def _where(error: Exception) -> str:
    """The class of the error and the line that raised it; its text may quote user data, so it stays out."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    place = f" at {Path(trace.tb_frame.f_code.co_filename).name}:{trace.tb_lineno}" if trace is not None else ""
    return f"the check raised {type(error).__name__}{place}"


def _answer_hash(answer: Answer) -> str:
    return content_hash([message_hash(answer.message), answer.finish_reason])
