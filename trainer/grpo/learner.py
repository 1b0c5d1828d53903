"""The learner's view of a policy: log-probabilities of micro-batches, packed or padded, and which way is safe to use.

`Learner` is a module of its own so that FSDP can shard it with the head and the embedding: its forward is the one
entry through which all parameters are used.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import cast

import torch
from torch import Tensor, nn
from torch.autograd.graph import save_on_cpu
from torch.nn import functional
from transformers.modeling_layers import GradientCheckpointingLayer

from trainer.grpo.attention import (
    AttentionKind,
    TrieAttention,
    attention_interface,
    padded_length,
    trie_attention,
)
from trainer.grpo.fused_head import choose_head, head_logprobs
from trainer.grpo.logprobs import TokenLogprobs
from trainer.grpo.policy import Policy, PolicyError
from trainer.grpo.samples import Sample, Segment
from trainer.grpo.trie import MicroBatch, PackedSamples, PaddedSamples, pack, pad

CHECK_SAMPLES = 4
"""Samples of the first batch on which packed and padded computation are compared, shortened: whole ones could take more
memory than any micro-batch of the update."""
CHECK_SHARED_TOKENS, CHECK_OWN_TOKENS = 512, 128
"""What is kept of the tokens all of them begin with, and of each one's own. The first keeps so many of both even where
nothing is shared: a long chain is computed another way than a short one."""
CHECK_SEGMENTS = 2
"""Segments kept of each."""

ENOUGH_TOKENS = {"cpu": 512, "cuda": 4096}
"""By device: tokens at once that keep it busy. Where samples share nothing, more cost memory and, on a CPU, time too
(measured there; the figure for CUDA is not)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ComputeSettings:
    """How the learner computes; none of these changes a result beyond rounding."""

    attention: AttentionKind | None = None
    """`None`: the fastest that passes the check on the first batch."""
    micro_batch_tokens: int = 8192
    """Tokens the model computes at once, at most."""
    micro_batch_enough: int | None = None
    """Tokens from which a micro-batch ends where the next sample shares next to nothing with it. `None`: by the device,
    `ENOUGH_TOKENS`."""
    gradient_checkpointing: bool = False
    """Recompute each layer in the backward instead of keeping its activations."""
    activation_offload: bool = False
    """Keep activations in host memory between forward and backward (CUDA)."""

    def __post_init__(self) -> None:
        """Refuse a budget that holds nothing."""
        if self.micro_batch_tokens < 1 or (self.micro_batch_enough is not None and self.micro_batch_enough < 1):
            raise ValueError(
                f"micro_batch_tokens {self.micro_batch_tokens}, micro_batch_enough {self.micro_batch_enough}: both"
                " start at 1"
            )


class Learner(nn.Module):
    """Computes token log-probabilities with gradients."""

    def __init__(self, policy: Policy, kind: AttentionKind, settings: ComputeSettings) -> None:
        super().__init__()
        self.module = policy.module
        self.policy = policy
        self.kind = kind
        self.settings = settings
        weight, bias = _head_tensors(policy)
        self.head = choose_head(weight, bias, torch.bfloat16 if self._halved() else weight.dtype)

    def micro_batches(self, samples: Sequence[Sample]) -> tuple[MicroBatch, ...]:
        """The samples in micro-batches of the form this learner computes."""
        budget, enough = self.settings.micro_batch_tokens, self.settings.micro_batch_enough
        if self.kind is AttentionKind.UNPACKED:
            return pad(samples, token_budget=budget)
        enough = enough or ENOUGH_TOKENS.get(self.policy.device.type, ENOUGH_TOKENS["cpu"])
        return pack(samples, token_budget=budget, enough=enough)

    def forward(self, batch: MicroBatch) -> TokenLogprobs:
        """Log-probabilities and entropies of the batch's targets. Call within `active()`."""
        with self._autocast(), self._offload():
            hidden = self._packed(batch) if isinstance(batch, PackedSamples) else self._padded(batch)
            targets = batch.targets.to(self.policy.device)
            chosen = hidden.index_select(0, targets.pred_index_N)
            weight, bias = _head_tensors(self.policy)
            return head_logprobs(self.head, chosen, weight, bias, targets.target_ids_N, targets.temperature_N)

    @contextmanager
    def active(self) -> Iterator[None]:
        """Around forward *and* backward: checkpointed layers look their attention up again when they recompute."""
        with ExitStack() as stack:
            if self.kind is not AttentionKind.UNPACKED:
                stack.enter_context(attention_interface(self.policy.causal_lm))
            if self.settings.gradient_checkpointing:
                stack.enter_context(_checkpointed_layers(self.policy))
            yield

    def _packed(self, batch: PackedSamples) -> Tensor:
        device = self.policy.device
        length = padded_length(batch.num_tokens) if self.kind is AttentionKind.FLEX else batch.num_tokens
        extra = (0, length - batch.num_tokens)
        attention: TrieAttention = trie_attention(self.kind, batch, device)
        output = self.policy.causal_lm.base_model(
            input_ids=functional.pad(batch.token_ids_T, extra).to(device)[None],
            position_ids=functional.pad(batch.position_ids_T, extra).to(device)[None],
            use_cache=False,
            trie_attention=attention,
        )
        return cast("Tensor", output.last_hidden_state[0])

    def _padded(self, batch: PaddedSamples) -> Tensor:
        output = self.policy.causal_lm.base_model(
            input_ids=batch.token_ids_B_T.to(self.policy.device),
            attention_mask=batch.mask_B_T.to(self.policy.device),
            use_cache=False,
        )
        return cast("Tensor", output.last_hidden_state.flatten(0, 1))

    def _autocast(self) -> torch.autocast | nullcontext[None]:
        return torch.autocast("cuda", dtype=torch.bfloat16) if self._halved() else nullcontext()

    def _halved(self) -> bool:
        """Whether float32 masters on CUDA compute in bfloat16; everything else computes in the type it has."""
        masters = next(iter(self.policy.module.parameters())).dtype is torch.float32
        return self.policy.device.type == "cuda" and masters

    def _offload(self) -> save_on_cpu | nullcontext[None]:
        wanted = self.settings.activation_offload and torch.is_grad_enabled()
        return save_on_cpu(pin_memory=self.policy.device.type == "cuda") if wanted else nullcontext()


def _head_tensors(policy: Policy) -> tuple[Tensor, Tensor | None]:
    """Weight and bias of the language-model head."""
    head = policy.lm_head
    return cast("Tensor", head.weight), cast("Tensor | None", getattr(head, "bias", None))


@contextmanager
def _checkpointed_layers(policy: Policy) -> Iterator[None]:
    model = policy.causal_lm
    layers = [layer for layer in model.modules() if isinstance(layer, GradientCheckpointingLayer)]
    if not layers:
        raise PolicyError(f"policy: {type(model).__name__} has no layers that can be recomputed; switch it off")
    # transformers renamed both within major version 5.
    renamed = hasattr(model, "activation_checkpointing_enable")
    enable = model.activation_checkpointing_enable if renamed else model.gradient_checkpointing_enable
    disable = model.activation_checkpointing_disable if renamed else model.gradient_checkpointing_disable
    cast("Callable[[], None]", enable)()
    # Only the layers themselves: `train()` would switch on dropout below them, and the sampler used none.
    for layer in layers:
        layer.training = True
    try:
        yield
    finally:
        for layer in layers:
            layer.training = False
        cast("Callable[[], None]", disable)()


@dataclass(frozen=True, slots=True, kw_only=True)
class AttentionChoice:
    """The way chosen, and why faster ones were not."""

    kind: AttentionKind
    rejected: tuple[str, ...] = ()


def choose_attention(policy: Policy, samples: Sequence[Sample], settings: ComputeSettings) -> AttentionChoice:
    """The fastest way that gives what plain computation gives on the first samples, in values and gradients.

    Raises:
        PolicyError: the way asked for in `settings.attention` fails the check.

    """
    wanted = settings.attention
    rejected: list[str] = []
    for kind in _candidates(policy) if wanted is None else [wanted]:
        problem = None if kind is AttentionKind.UNPACKED else _problem(policy, kind, samples, settings)
        if problem is None:
            return AttentionChoice(kind=kind, rejected=tuple(rejected))
        rejected.append(f"{kind}: {problem}")
    raise PolicyError(f"attention {rejected[-1]}; leave the choice open or use unpacked")


def _candidates(policy: Policy) -> list[AttentionKind]:
    first = AttentionKind.FLEX if policy.device.type == "cuda" else AttentionKind.BLOCKS
    return [first, AttentionKind.DENSE, AttentionKind.UNPACKED]


def _problem(policy: Policy, kind: AttentionKind, samples: Sequence[Sample], settings: ComputeSettings) -> str | None:
    layer_types = set(getattr(policy.causal_lm.config.get_text_config(), "layer_types", None) or ["full_attention"])
    if layer_types != {"full_attention"}:
        # Short samples would pass the check: a window shows only beyond its length.
        return f"layers of type {', '.join(sorted(layer_types))} see less than all tokens before them"
    few = _check_samples(samples)
    if not few:
        return None
    try:
        packed = _measure(Learner(policy, kind, settings), few)
    except Exception as error:  # noqa: BLE001 - a compiler's errors have no common class; the choice names what failed
        return f"{type(error).__name__}: {error}"
    return _difference(packed, _measure_plainly(policy, few))


def _check_samples(samples: Sequence[Sample]) -> list[Sample]:
    """The shortest sample and its neighbours in token order: together they branch, and cost little."""
    trainable = [sample for sample in samples if sample.num_tokens]
    trainable.sort(key=lambda sample: [segment.prompt_ids + segment.token_ids for segment in sample.segments])
    shortest = min(range(len(trainable)), key=lambda index: trainable[index].num_logical_tokens, default=0)
    start = max(0, min(shortest, len(trainable) - CHECK_SAMPLES))
    return _shortened(trainable[start : start + CHECK_SAMPLES])


def _shortened(samples: Sequence[Sample]) -> list[Sample]:
    """The samples with the first of their shared tokens dropped and their ends cut off; they branch where they did."""
    trained = [[s for s in sample.segments if s.token_ids][:CHECK_SEGMENTS] for sample in samples]
    prompts = [segment.prompt_ids for segments in trained for segment in segments]
    shared = _common_start(prompts)
    first = max(0, min(shared - CHECK_SHARED_TOKENS, *(len(prompt) - 1 for prompt in prompts)))
    lengths = [CHECK_SHARED_TOKENS, *[shared - first] * (len(samples) - 1)]
    return [
        replace(sample, segments=tuple(_cut(segment, first, length + CHECK_OWN_TOKENS) for segment in segments))
        for sample, segments, length in zip(samples, trained, lengths, strict=True)
    ]


def _common_start(sequences: Sequence[tuple[int, ...]]) -> int:
    """Tokens all of them begin with: those that the first and the last in their order share."""
    first, last = min(sequences), max(sequences)
    return next((index for index, token in enumerate(first) if token != last[index]), len(first))


def _cut(segment: Segment, first: int, length: int) -> Segment:
    """At most `length` of a segment's tokens from `first` on, some of them of its answer."""
    answer = segment.token_ids[: CHECK_OWN_TOKENS // 2]
    return Segment(prompt_ids=segment.prompt_ids[first : first + length - len(answer)], token_ids=answer)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Measurement:
    logprobs: Tensor
    gradients: Tensor


def _measure(learner: Learner, samples: Sequence[Sample]) -> _Measurement:
    (batch,) = pack(samples, token_budget=sum(sample.num_logical_tokens for sample in samples))
    with learner.active():
        logprobs = learner(batch).logprobs_N
        gradients = _gradients(learner.policy, (logprobs * _signs(logprobs)).sum())
    return _Measurement(logprobs=logprobs.detach(), gradients=gradients)


def _measure_plainly(policy: Policy, samples: Sequence[Sample]) -> _Measurement:
    """The same from the model's own logits, one row per segment, in the order `pack` gives the targets."""
    (packed,) = pack(samples, token_budget=sum(sample.num_logical_tokens for sample in samples))
    ordered = [(samples[index], s) for index in packed.sample_indices for s in samples[index].segments if s.token_ids]
    signs = _signs(packed.targets.temperature_N).to(policy.device)
    values: list[Tensor] = []
    total: Tensor | None = None
    for sample, segment in ordered:
        logprobs = _plain_logprobs(policy, segment, sample.temperature)
        start = sum(value.numel() for value in values)
        share = _gradients(policy, (logprobs * signs[start : start + logprobs.numel()]).sum())
        total = share if total is None else total + share
        values.append(logprobs.detach())
    assert total is not None, "there is a sample to check"
    return _Measurement(logprobs=torch.cat(values), gradients=total)


def _plain_logprobs(policy: Policy, segment: Segment, temperature: float) -> Tensor:
    ids = torch.tensor([segment.prompt_ids + segment.token_ids[:-1]], device=policy.device)
    logits = policy.module(input_ids=ids, use_cache=False, logits_to_keep=len(segment.token_ids)).logits[0]
    wide: Tensor = logits if logits.dtype is torch.float64 else logits.float()
    targets = torch.tensor(segment.token_ids, device=policy.device)
    return (wide / temperature).log_softmax(-1).gather(1, targets[:, None]).squeeze(1)


def _signs(like: Tensor) -> Tensor:
    """Alternating weights for a sum of log-probabilities, so that errors do not average out."""
    return torch.where(torch.arange(like.numel(), device=like.device) % 2 == 0, 1.0, -0.5)


def _gradients(policy: Policy, total: Tensor) -> Tensor:
    """Of all trained parameters, flat."""
    parameters = list(policy.trainable_parameters().values())
    gradients = torch.autograd.grad(total, parameters, allow_unused=True)
    whole = [torch.zeros_like(p) if g is None else g for g, p in zip(gradients, parameters, strict=True)]
    return torch.cat([gradient.flatten() for gradient in whole])


def _difference(packed: _Measurement, plain: _Measurement) -> str | None:
    rounding = 2e-3 if plain.logprobs.dtype is torch.float64 or packed.gradients.device.type == "cpu" else 0.25
    worst = (packed.logprobs - plain.logprobs).abs().max().item()
    if not worst <= rounding:
        return f"log-probabilities differ from plain computation by up to {worst:.3g} (limit {rounding})"
    mine, theirs = packed.gradients.float(), plain.gradients.float()
    norms = mine.norm() * theirs.norm()
    cosine = (mine @ theirs / norms.clamp(min=1e-30)).item()
    needed = 0.999 if rounding < 0.1 else 0.98
    if norms > 0 and not cosine >= needed:
        return f"gradients differ from plain computation: cosine {cosine:.4f} (at least {needed})"
    return None
