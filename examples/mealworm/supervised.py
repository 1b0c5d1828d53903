"""Supervised training of the base policy: traces to batches, a loss with throw-away heads, Muon and AdamW.

A tiny model finds the save step by itself only after very long. Throw-away heads help: they name at every ingredient
whether it is forbidden, at every result whether it is suitable and the how-manieth suitable one it is, and before
every meal of a plan which of these it is to be. They share the trunk while it is trained and are then discarded. Two
attention heads are also taught to look at the result a meal is copied from.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM
from transformers.models.qwen3.modeling_qwen3 import apply_rotary_pos_emb

from examples.mealworm.domain import ALL_LISTINGS, TITLES, Kind
from examples.mealworm.state import read_state
from examples.mealworm.teacher import Trace
from examples.mealworm.tools import TOOLS
from examples.mealworm.vocabulary import ASSISTANT, END, MEALS, NEXT_PAGE, PAD, START, TITLE, WITH
from spanloop.convert import tools_to_chat
from spanloop.records import Message
from trainer.rollouts.rendering import to_chat

IGNORED = -100
VERDICTS = ("ok", "recent", "forbidden", "listing")
NUM_RANKS = 6
"""0 = not suitable, then the how-manieth suitable result of its list."""
NUM_SLOTS = 4
"""Before a meal is written: whether it is to be the first or second suitable fish, or the first or second chicken."""
OTHER_WEIGHT = 0.1
"""Loss weight of tokens the policy does not write; they still teach the words."""
MEAL_WEIGHT = 4.0
"""Of a meal the policy writes: the few tokens of an action that are not a matter of form."""
NUM_POINTERS = 2
"""Attention heads of the last layer that are taught where to look."""
HEAD_WEIGHT = 0.5
MATRIX_DECAY = 0.7
"""Muon's decoupled decay. Without it the layers' outputs grew to a thousand times the embeddings, and the last layer
could no longer read which word stands where it looks."""
EMBEDDING_STD = 0.5
"""At the start: words as large as what the layers add to them."""
FINAL_NORM = 0.3
"""The last norm's weight at the start, which keeps the first logits of such embeddings near 2."""
HEAD_LAYER = 4
"""The layer whose output the heads read. What they name must be known before the last layer can point at it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSize:
    """The shape of the policy."""

    hidden: int = 128
    layers: int = 5
    heads: int = 4
    kv_heads: int = 2
    head_dim: int = 32
    mlp: int = 320


@dataclass(frozen=True, slots=True)
class Example:
    """One trace as token ids with the targets of the loss and of the throw-away heads."""

    ids: list[int]
    weights: list[float]
    """Of predicting the token at this place."""
    forbidden: list[int]
    verdict: list[int]
    rank: list[int]
    slot: list[int]
    source: list[int]
    """Where slots are known: the place of the result that is to be written next."""


def new_model(tokenizer: PreTrainedTokenizerFast, size: ModelSize) -> Qwen3ForCausalLM:
    """A Qwen3-shaped policy with fresh weights."""
    config = Qwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=size.hidden,
        num_hidden_layers=size.layers,
        num_attention_heads=size.heads,
        num_key_value_heads=size.kv_heads,
        head_dim=size.head_dim,
        intermediate_size=size.mlp,
        max_position_embeddings=1024,
        tie_word_embeddings=True,
        rope_parameters={"rope_type": "default", "rope_theta": 10_000.0},
        attention_dropout=0.0,
        bos_token_id=None,
        eos_token_id=token_id(tokenizer, END),
        pad_token_id=token_id(tokenizer, PAD),
    )
    model = Qwen3ForCausalLM(config)
    nn.init.normal_(model.model.embed_tokens.weight, std=EMBEDDING_STD)
    nn.init.constant_(model.model.norm.weight, FINAL_NORM)
    return model


class Heads(nn.Module):
    """The throw-away heads."""

    def __init__(self, hidden: int) -> None:
        """Four linear read-outs of one layer's output."""
        super().__init__()
        self.norm = nn.RMSNorm(hidden)
        self.forbidden = nn.Linear(hidden, 2)
        self.verdict = nn.Linear(hidden, len(VERDICTS))
        self.rank = nn.Linear(hidden, NUM_RANKS)
        self.slot = nn.Linear(hidden, NUM_SLOTS)

    def loss(self, states: Tensor, batch: Batch) -> Tensor:
        """Sum of the mean cross entropies at their places."""
        pairs = (
            (self.forbidden, batch.forbidden),
            (self.verdict, batch.verdict),
            (self.rank, batch.rank),
            (self.slot, batch.slot),
        )
        losses = []
        for head, targets in pairs:
            places = targets != IGNORED
            losses.append(functional.cross_entropy(head(self.norm(states[places])), targets[places]))
        return torch.stack(losses).sum()


@dataclass(frozen=True, slots=True)
class Batch:
    """Padded examples; every tensor is [examples, tokens]."""

    ids: Tensor
    weights: Tensor
    forbidden: Tensor
    verdict: Tensor
    rank: Tensor
    slot: Tensor
    source: Tensor


class Encoder:
    """Turns traces into examples with one tokenizer."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast) -> None:
        """Look up the marks that places are found by."""
        self.tokenizer = tokenizer
        self.end, self.start, self.assistant, self.title = self._ids(END, START, ASSISTANT, TITLE)
        self.before_ingredient = set(self._ids(WITH, NEXT_PAGE))
        self.pad, self.meals = self._ids(PAD, MEALS)
        self.dishes = set(self._ids(*TITLES[Kind.FISH], *TITLES[Kind.CHICKEN], *sorted(ALL_LISTINGS)))

    def _ids(self, *tokens: str) -> list[int]:
        return [token_id(self.tokenizer, token) for token in tokens]

    def encode(self, trace: Trace) -> Example:
        """The trace as the chat template renders it."""
        ids = render(self.tokenizer, trace.messages)
        tokens = [str(self.tokenizer.convert_ids_to_tokens(number)) for number in ids]
        forbidden, verdict, rank = self._places(ids, tokens, trace)
        weights = self._weights(ids, trace.imitate)
        slot, source = self._slots(ids, tokens, weights, rank)
        return Example(
            ids=ids, weights=weights, forbidden=forbidden, verdict=verdict, rank=rank, slot=slot, source=source
        )

    def _weights(self, ids: list[int], imitate: Sequence[bool]) -> list[float]:
        weights, spoken, turn = [], False, -1
        for index, token in enumerate(ids):
            own = MEAL_WEIGHT if token in self.dishes else 1.0
            weights.append(own * imitate[turn] if spoken else OTHER_WEIGHT)
            if spoken and token == self.end:
                spoken = False
            elif token == self.assistant and index and ids[index - 1] == self.start:
                spoken, turn = True, turn + 1
        return weights

    def _places(self, ids: list[int], tokens: list[str], trace: Trace) -> tuple[list[int], list[int], list[int]]:
        state = read_state(trace.messages)
        recent_known = _recent_known(trace.messages)
        forbidden, verdict, rank = ([IGNORED] * len(ids) for _ in range(3))
        bad, suitable = False, 0
        for index in range(1, len(ids)):
            if ids[index - 1] in self.before_ingredient:
                suitable = 0 if tokens[index - 1] == WITH else suitable
                bad = tokens[index] in state.wishes.forbidden
                forbidden[index] = int(bad)
            elif ids[index - 1] == self.title and recent_known:
                verdict[index] = _verdict(tokens[index], bad=bad, recent=state.recent or ())
                suitable += verdict[index] == 0
                rank[index] = suitable if verdict[index] == 0 else 0
        return forbidden, verdict, rank

    def _slots(
        self, ids: list[int], tokens: list[str], weights: list[float], rank: list[int]
    ) -> tuple[list[int], list[int]]:
        """Which result a clean plan's next meal is and where that stands, at the token before the meal."""
        suitable = {tokens[place]: place for place, number in enumerate(rank) if 1 <= number <= NUM_SLOTS // 2}
        slot, source, writing = [IGNORED] * len(ids), [IGNORED] * len(ids), False
        for index in range(1, len(ids)):
            writing = weights[index] >= 1.0 and (writing or ids[index] == self.meals)
            if writing and suitable.get(tokens[index], index) < index:
                offset = 0 if tokens[index] in TITLES[Kind.FISH] else NUM_SLOTS // 2
                source[index - 1] = suitable[tokens[index]]
                slot[index - 1] = offset + rank[source[index - 1]] - 1
        return slot, source

    def batch(self, examples: Sequence[Example]) -> Batch:
        """Right-padded tensors; causal attention never looks right, so no mask is needed."""
        length = max(len(example.ids) for example in examples)

        def pad(rows: list[list[int]], filler: int) -> Tensor:
            return torch.tensor([row + [filler] * (length - len(row)) for row in rows])

        weights = [example.weights + [0.0] * (length - len(example.ids)) for example in examples]
        return Batch(
            ids=pad([example.ids for example in examples], self.pad),
            weights=torch.tensor(weights),
            forbidden=pad([example.forbidden for example in examples], IGNORED),
            verdict=pad([example.verdict for example in examples], IGNORED),
            rank=pad([example.rank for example in examples], IGNORED),
            slot=pad([example.slot for example in examples], IGNORED),
            source=pad([example.source for example in examples], IGNORED),
        )


def render(tokenizer: PreTrainedTokenizerFast, messages: Sequence[Message], *, prompt: bool = False) -> list[int]:
    """Token ids of a history through the chat template."""
    chat, tools = to_chat(messages), tools_to_chat(TOOLS)
    # Its annotations are narrower than what templates take.
    text = tokenizer.apply_chat_template(
        chat,  # type: ignore[arg-type]
        tools=tools,  # type: ignore[arg-type]
        add_generation_prompt=prompt,
        tokenize=False,
    )
    return list(tokenizer(str(text), add_special_tokens=False)["input_ids"])


def token_id(tokenizer: PreTrainedTokenizerFast, token: str) -> int:
    """The id of one token."""
    number = tokenizer.convert_tokens_to_ids(token)
    assert isinstance(number, int), "one token was asked for"
    return number


def _recent_known(messages: Sequence[Message]) -> bool:
    """Whether the history was looked at before the first search, so that every verdict can be told."""
    first = next((message for message in messages if message.tool_result is not None), None)
    return first is not None and '"meals"' in first.text


def _verdict(title: str, *, bad: bool, recent: Sequence[str]) -> int:
    if title in ALL_LISTINGS:
        return 3
    if bad:
        return 2
    return 1 if title in recent else 0


def loss_of(model: Qwen3ForCausalLM, heads: Heads | None, batch: Batch) -> Tensor:
    """Weighted next-token loss, with the throw-away heads where they are given."""
    found = model.model(input_ids=batch.ids, use_cache=False, output_hidden_states=heads is not None)
    logits = model.lm_head(found.last_hidden_state[:, :-1])
    losses = functional.cross_entropy(logits.flatten(0, 1), batch.ids[:, 1:].flatten(), reduction="none")
    weights = batch.weights[:, 1:].flatten()
    loss = (losses * weights).sum() / weights.sum()
    if heads is None:
        return loss
    below = found.hidden_states[HEAD_LAYER]
    return loss + HEAD_WEIGHT * (heads.loss(below, batch) + pointer_loss(model, below, batch))


def pointer_loss(model: Qwen3ForCausalLM, states: Tensor, batch: Batch) -> Tensor:
    """Cross entropy of the last layer's first heads, which are to look at the result a meal is copied from."""
    layer = model.model.layers[HEAD_LAYER]
    attention, inputs = layer.self_attn, layer.input_layernorm(states)
    shape = (*inputs.shape[:2], -1, attention.head_dim)
    queries = attention.q_norm(attention.q_proj(inputs).view(shape)).transpose(1, 2)
    keys = attention.k_norm(attention.k_proj(inputs).view(shape)).transpose(1, 2)
    positions = torch.arange(inputs.shape[1])
    queries, keys = apply_rotary_pos_emb(queries, keys, *model.model.rotary_emb(inputs, positions[None]))
    examples, places = (batch.source != IGNORED).nonzero(as_tuple=True)
    # The first heads share the first key head (grouped-query attention).
    scores = queries[examples, :NUM_POINTERS, places] @ keys[examples, 0].transpose(-1, -2) * attention.scaling
    scores = scores.masked_fill((positions > places[:, None])[:, None], float("-inf"))
    targets = batch.source[examples, places].repeat_interleave(NUM_POINTERS)
    return functional.cross_entropy(scores.flatten(0, 1), targets)


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """How long and how fast one stage trains."""

    num_steps: int
    batch_size: int
    matrix_lr: float
    """Of Muon, which takes the weight matrices."""
    other_lr: float
    """Of AdamW, which takes embeddings, norms and heads."""
    num_warmup: int = 20
    flat_share: float = 0.5
    """Share of the steps before the linear decay to zero."""

    def factor(self, step: int) -> float:
        """The learning rates' factor at a step."""
        warm = min(1.0, (step + 1) / self.num_warmup)
        left = (self.num_steps - step) / (self.num_steps * (1 - self.flat_share))
        return min(warm, left, 1.0)


def train(
    model: Qwen3ForCausalLM,
    heads: Heads | None,
    traces: Callable[[], Trace],
    encoder: Encoder,
    schedule: Schedule,
) -> Iterator[tuple[int, float]]:
    """Train in place; yields step and loss after each step."""
    matrices, others = _split_parameters(model, heads)
    optimizers: list[torch.optim.Optimizer] = [
        torch.optim.Muon(matrices, lr=schedule.matrix_lr, weight_decay=MATRIX_DECAY),
        torch.optim.AdamW(others, lr=schedule.other_lr, weight_decay=0.0, betas=(0.9, 0.98)),
    ]
    rates = (schedule.matrix_lr, schedule.other_lr)
    for step in range(schedule.num_steps):
        batch = encoder.batch([encoder.encode(traces()) for _ in range(schedule.batch_size)])
        loss = loss_of(model, heads, batch)
        loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it bare
        nn.utils.clip_grad_norm_([*matrices, *others], 1.0)
        for optimizer, rate in zip(optimizers, rates, strict=True):
            optimizer.param_groups[0]["lr"] = rate * schedule.factor(step)
            optimizer.step()
            optimizer.zero_grad()
        yield step, float(loss.detach())


def _split_parameters(model: Qwen3ForCausalLM, heads: Heads | None) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    embedding = model.get_input_embeddings().weight
    matrices = [weight for weight in model.parameters() if weight.ndim == 2 and weight is not embedding]
    others = [weight for weight in model.parameters() if weight.ndim != 2 or weight is embedding]
    return matrices, others + (list(heads.parameters()) if heads is not None else [])
