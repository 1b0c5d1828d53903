"""The meal-planning agent: the loop of model call and tool call, for many users at once.

All users' next model calls are answered in one batch: the policy samples many prompts in little more time than one.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from examples.mealworm.domain import Request
from examples.mealworm.faults import Fault, faults_at
from examples.mealworm.prompts import opening
from examples.mealworm.teacher import MAX_STEPS
from examples.mealworm.tools import TOOLS, Executed, World, make_world
from examples.mealworm.tracing import AgentTracer, EpisodeSpan
from spanloop.records import Message, Role, ToolCall, ToolResult
from trainer.rollouts.base import Prompt, Rollout, Sampler, SamplingParams

MAX_ACTION_TOKENS = 64
"""Clean actions take at most 26."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One request to work on."""

    task_id: str
    request: Request
    world: World


@dataclass(frozen=True, slots=True, kw_only=True)
class Action:
    """One step of a run, as it really happened."""

    state: tuple[Message, ...]
    message: Message
    finish_reason: str
    faults: frozenset[Fault]


@dataclass(slots=True, kw_only=True)
class Run:
    """An episode while the agent works on it."""

    task: Task
    messages: tuple[Message, ...]
    actions: list[Action] = field(default_factory=list)
    span: EpisodeSpan | None = None
    answered: bool = False
    """Whether the last action was an answer and no call."""

    @property
    def finished(self) -> bool:
        """Whether a plan was written and the user got an answer that is no broken call."""
        broken = {Fault.CUT_OFF, Fault.MALFORMED_CALL, Fault.EARLY_ANSWER}
        return self.answered and not self.actions[-1].faults & broken

    @property
    def clean(self) -> bool:
        """Whether the episode finished without a single fault."""
        return self.finished and not any(action.faults for action in self.actions)

    @property
    def over(self) -> bool:
        """Whether the loop ends here."""
        return self.answered or len(self.actions) == MAX_STEPS


def make_tasks(requests: Sequence[Request], seed: int) -> tuple[Task, ...]:
    """A task per request, each with a world of its own."""
    return tuple(_make_task(request, f"{seed}-{index:05d}") for index, request in enumerate(requests))


def _make_task(request: Request, task_id: str) -> Task:
    source = random.Random(task_id)  # noqa: S311  a reproducible world, not a secret
    return Task(task_id=task_id, request=request, world=make_world(source, request))


def work(
    sampler: Sampler,
    tasks: Sequence[Task],
    *,
    temperature: float,
    seed: int,
    tracer: AgentTracer | None = None,
) -> tuple[Run, ...]:
    """Work on all tasks at once, to their ends; with a tracer every step is exported as spans."""
    runs = tuple(Run(task=task, messages=opening(task.request)) for task in tasks)
    for run in runs:
        run.span = tracer.episode(run.task.request) if tracer is not None else None
    for step in range(MAX_STEPS):
        active = [run for run in runs if not run.over]
        if not active:
            break
        params = SamplingParams(num_samples=1, temperature=temperature, max_tokens=MAX_ACTION_TOKENS, seed=seed + step)
        for run, rollout in zip(active, _answers(sampler, active, params), strict=True):
            _advance(run, rollout)
    return runs


def _answers(sampler: Sampler, active: Sequence[Run], params: SamplingParams) -> Iterator[Rollout]:
    calls = [run.span.model_call(run.messages, params.temperature) if run.span else None for run in active]
    prompts = [Prompt(prompt_id=run.task.task_id, messages=run.messages, tools=TOOLS) for run in active]
    for call, (rollout,), run in zip(calls, sampler.sample(prompts, params), active, strict=True):
        named = replace(rollout, message=_with_own_ids(run, rollout.message))
        if call is not None:
            call.end(named)
        yield named


def _with_own_ids(run: Run, message: Message) -> Message:
    """The same message with call ids that occur once in the episode, as an inference server gives them."""
    parts = tuple(
        replace(part, id=f"call_{run.task.task_id}_{len(run.actions)}_{index}") if isinstance(part, ToolCall) else part
        for index, part in enumerate(message.parts)
    )
    return replace(message, parts=parts)


def _advance(run: Run, rollout: Rollout) -> None:
    message = rollout.message
    faults = faults_at(run.messages, message, rollout.finish_reason)
    run.actions.append(Action(state=run.messages, message=message, finish_reason=rollout.finish_reason, faults=faults))
    observations = tuple(_observe(run, called) for called in message.tool_calls)
    run.messages = (*run.messages, message, *observations)
    run.answered = not message.tool_calls
    if run.over and run.span is not None:
        run.span.end(message.text if run.answered else None)


def _observe(run: Run, called: ToolCall) -> Message:
    if run.span is None:
        executed = run.task.world.execute(called.name, called.arguments)
    else:
        executed = run.span.tool_call(called, run.task.world.execute)
    return Message(role=Role.TOOL, parts=(_result(called, executed),))


def _result(called: ToolCall, executed: Executed) -> ToolResult:
    return ToolResult(call_id=called.id, content=executed.content, name=called.name, status=executed.status)
