"""Pack samples into token tries, so that every shared prefix is computed once.

In: samples. Out: micro-batches, each one row of tokens in depth-first order with the depth as position id, plus the
index map that says which hidden state predicts which trained token of which sample. A token attends to its ancestors
only, so the hidden state of a token is the one it would have in each sample that runs through it, and the loss on the
original samples has exactly their gradient. Nothing is assumed about templates: what two samples really share is
shared, a broken prefix is simply a branch.

Order: at each branching the largest subtree comes first. The trunk of an episode is thereby contiguous, and so is
everything that hangs off one point of it: attention is a few rectangles and triangles instead of a sparse mask.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass, field, fields

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from trainer.grpo.samples import Sample, Segment


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """A run of tokens without a branching, as placed in the packed row."""

    start: int
    """Index of its first token in the row."""
    depth: int
    """Position of its first token in the samples that run through it."""
    length: int
    parent: int
    """Index of the node before it, -1 for a root."""
    subtree_end: int
    """Index in the row after the last token of its subtree."""

    @property
    def end(self) -> int:
        """Index in the row after its last token."""
        return self.start + self.length


@dataclass(frozen=True, slots=True, kw_only=True)
class Targets:
    """The `N` trained tokens of a micro-batch, in the order of its samples and their segments."""

    pred_index_N: Tensor
    """Flat index of the token whose hidden state predicts the target."""
    target_ids_N: Tensor
    sample_index_N: Tensor
    """0-based within the micro-batch's `sample_indices`."""
    sampling_logprobs_N: Tensor
    """NaN where they were not measured."""
    temperature_N: Tensor

    def to(self, device: torch.device) -> Targets:
        """The same on another device."""
        return Targets(**{item.name: getattr(self, item.name).to(device) for item in fields(self)})


@dataclass(frozen=True, slots=True, kw_only=True)
class PackedSamples:
    """A micro-batch as a trie of `T` tokens in one row."""

    nodes: tuple[Node, ...]
    """In row order."""
    token_ids_T: Tensor
    position_ids_T: Tensor
    subtree_end_T: Tensor
    """For each token the index after the last token that may attend to it."""
    targets: Targets
    sample_indices: tuple[int, ...]
    """Which of the update's samples this micro-batch holds."""

    @property
    def num_tokens(self) -> int:
        """Tokens the model computes."""
        return int(self.token_ids_T.numel())


@dataclass(frozen=True, slots=True, kw_only=True)
class PaddedSamples:
    """A micro-batch as one padded row per segment: nothing shared, what every model computes without help."""

    token_ids_B_T: Tensor
    mask_B_T: Tensor
    """1 for tokens, 0 for padding."""
    targets: Targets
    sample_indices: tuple[int, ...]

    @property
    def num_tokens(self) -> int:
        """Tokens the model computes, padding included."""
        return int(self.token_ids_B_T.numel())


MicroBatch = PackedSamples | PaddedSamples

REPEATED_SHARE = 1 / 16
"""Of a micro-batch's tokens, how many may be computed again in the next one to end it before the budget is full."""


def pack(samples: Sequence[Sample], *, token_budget: int, enough: int | None = None) -> tuple[PackedSamples, ...]:
    """Micro-batches that hold every sample once, each of at most `token_budget` trie tokens.

    A sample longer than the budget gets a micro-batch of its own. Samples are taken in the order of their tokens, so
    neighbours share most. From `enough` tokens on a micro-batch ends where the next sample shares next to nothing with
    it: together they would take more memory and save no work. `None` fills the budget. The split does not change the
    gradient when the loss has a global normaliser.
    """
    return tuple(_pack_one(samples, group) for group in _split(samples, token_budget, enough))


def pad(samples: Sequence[Sample], *, token_budget: int) -> tuple[PaddedSamples, ...]:
    """Micro-batches of padded rows, each of at most `token_budget` places where no single sample is longer."""
    sizes = {index: max(len(_inputs(s)) for s in sample.segments) for index, sample in _trainable(samples)}
    groups: list[list[int]] = []
    used = 0
    for index in sorted(sizes, key=lambda i: -sizes[i]):
        longest = sizes[groups[-1][0]] if groups else 0
        rows = len(samples[index].segments)
        if not groups or (used + rows) * longest > token_budget:
            groups.append([])
            used = 0
        groups[-1].append(index)
        used += rows
    return tuple(_pad_one(samples, group) for group in groups)


def _trainable(samples: Sequence[Sample]) -> list[tuple[int, Sample]]:
    return [(index, sample) for index, sample in enumerate(samples) if sample.num_tokens]


def _key(ids: Sequence[int]) -> bytes:
    """Big-endian bytes: comparing them compares the tokens, at the speed of memcmp."""
    return struct.pack(f">{len(ids)}I", *ids)


def _inputs(segment: Segment) -> tuple[int, ...]:
    """The tokens whose hidden states are needed: the last one predicts nothing that is trained."""
    return segment.prompt_ids + segment.token_ids[:-1]


def _common_prefix(a: bytes, b: bytes) -> int:
    """Number of leading tokens two keys share, by bisection on equal slices."""
    low, high = 0, min(len(a), len(b)) // 4
    while low < high:
        middle = (low + high + 1) // 2
        if a[: 4 * middle] == b[: 4 * middle]:
            low = middle
        else:
            high = middle - 1
    return low


def _split(samples: Sequence[Sample], token_budget: int, enough: int | None) -> list[list[int]]:
    keyed = [[_key(_inputs(segment)) for segment in sample.segments] for sample in samples]
    order = sorted((index for index, _ in _trainable(samples)), key=lambda i: keyed[i])
    groups: list[list[int]] = []
    used = 0
    last = b""
    for index in order:
        fresh, alone = _new_tokens(last, keyed[index]), _new_tokens(b"", keyed[index])
        apart = enough is not None and used >= enough and alone - fresh <= REPEATED_SHARE * used
        if not groups or apart or used + fresh > token_budget:
            groups.append([])
            used, fresh = 0, alone
        groups[-1].append(index)
        used += fresh
        last = keyed[index][-1]
    return groups


def _new_tokens(last: bytes, keys: Sequence[bytes]) -> int:
    """An upper bound of what a sample adds to the trie: what its segments do not share with the one before."""
    total = 0
    for key in keys:
        total += len(key) // 4 - _common_prefix(last, key)
        last = key
    return total


@dataclass(slots=True)
class _Branch:
    """A node while the trie is built."""

    depth: int
    end_depth: int
    spelled_by: int
    """A sequence that runs through it."""
    ends: list[int]
    """The sequences that end with it."""
    children: list[_Branch] = field(default_factory=list)
    size: int = 0
    """Tokens of its subtree."""


def _pack_one(samples: Sequence[Sample], group: Sequence[int]) -> PackedSamples:
    segments = _trained_segments(samples, group)
    sequences = [_inputs(segment) for _, segment in segments]
    nodes, spelled_by, owners = _layout(_build(sequences))
    places = [_places(nodes, owners[i], segment) for i, (_, segment) in enumerate(segments)]
    row = [t for n, i in zip(nodes, spelled_by, strict=True) for t in sequences[i][n.depth : n.depth + n.length]]
    return PackedSamples(
        nodes=nodes,
        token_ids_T=torch.tensor(row),
        position_ids_T=torch.cat([torch.arange(node.depth, node.depth + node.length) for node in nodes]),
        subtree_end_T=torch.cat([torch.full((node.length,), node.subtree_end) for node in nodes]),
        targets=_targets(segments, places, [samples[index].temperature for index in group]),
        sample_indices=tuple(group),
    )


def _pad_one(samples: Sequence[Sample], group: Sequence[int]) -> PaddedSamples:
    segments = _trained_segments(samples, group)
    rows = [torch.tensor(_inputs(segment)) for _, segment in segments]
    tokens = pad_sequence(rows, batch_first=True)
    starts = [row * tokens.shape[1] + len(segment.prompt_ids) - 1 for row, (_, segment) in enumerate(segments)]
    places = [torch.arange(s, s + len(seg.token_ids)) for s, (_, seg) in zip(starts, segments, strict=True)]
    return PaddedSamples(
        token_ids_B_T=tokens,
        mask_B_T=pad_sequence([torch.ones_like(row) for row in rows], batch_first=True),
        targets=_targets(segments, places, [samples[index].temperature for index in group]),
        sample_indices=tuple(group),
    )


def _trained_segments(samples: Sequence[Sample], group: Sequence[int]) -> list[tuple[int, Segment]]:
    return [(local, s) for local, index in enumerate(group) for s in samples[index].segments if s.token_ids]


def _targets(
    segments: Sequence[tuple[int, Segment]], places: Sequence[Tensor], temperatures: Sequence[float]
) -> Targets:
    counts = torch.tensor([len(segment.token_ids) for _, segment in segments])
    local = torch.tensor([index for index, _ in segments]).repeat_interleave(counts)
    return Targets(
        pred_index_N=torch.cat(list(places)),
        target_ids_N=torch.tensor([token for _, segment in segments for token in segment.token_ids]),
        sample_index_N=local,
        sampling_logprobs_N=torch.tensor([v for _, s in segments for v in _logprobs(s)], dtype=torch.float32),
        temperature_N=torch.tensor(temperatures, dtype=torch.float64)[local],
    )


def _logprobs(segment: Segment) -> tuple[float, ...]:
    return segment.logprobs if segment.logprobs is not None else (float("nan"),) * len(segment.token_ids)


def _build(sequences: Sequence[tuple[int, ...]]) -> list[_Branch]:
    """The roots of the radix trie: sorted sequences are added along the rightmost path."""
    root = _Branch(depth=0, end_depth=0, spelled_by=-1, ends=[])
    path, previous = [root], b""
    keys = [_key(sequence) for sequence in sequences]
    for index in sorted(range(len(sequences)), key=lambda i: keys[i]):
        shared = _common_prefix(previous, keys[index])
        _cut(path, shared)
        if len(sequences[index]) > shared:
            leaf = _Branch(depth=shared, end_depth=len(sequences[index]), spelled_by=index, ends=[])
            path[-1].children.append(leaf)
            path.append(leaf)
        path[-1].ends.append(index)
        previous = keys[index]
    return root.children


def _cut(path: list[_Branch], shared: int) -> None:
    """Shorten the rightmost path to `shared` tokens, splitting the node that runs past them."""
    while len(path) > 1 and path[-1].depth >= shared:
        path.pop()
    last = path[-1]
    if last.end_depth > shared:
        tail = _Branch(
            depth=shared,
            end_depth=last.end_depth,
            spelled_by=last.spelled_by,
            ends=last.ends,
            children=last.children,
        )
        last.end_depth, last.children, last.ends = shared, [tail], []


def _measure(roots: list[_Branch]) -> None:
    """Set the subtree sizes and put the largest child first; no recursion, episodes may be deep."""
    order = list(roots)
    for branch in order:
        order.extend(branch.children)
    for branch in reversed(order):
        branch.size = branch.end_depth - branch.depth + sum(child.size for child in branch.children)
        branch.children.sort(key=lambda child: -child.size)


def _layout(roots: list[_Branch]) -> tuple[tuple[Node, ...], list[int], dict[int, int]]:
    """Nodes in row order, a sequence that spells each, and the node with which each sequence ends."""
    _measure(roots)
    nodes: list[Node] = []
    spelled_by: list[int] = []
    owners: dict[int, int] = {}
    stack = [(branch, -1) for branch in sorted(roots, key=lambda branch: branch.size)]
    start = 0
    while stack:
        branch, parent = stack.pop()
        length = branch.end_depth - branch.depth
        owners.update(dict.fromkeys(branch.ends, len(nodes)))
        stack.extend((child, len(nodes)) for child in reversed(branch.children))
        nodes.append(
            Node(start=start, depth=branch.depth, length=length, parent=parent, subtree_end=start + branch.size)
        )
        spelled_by.append(branch.spelled_by)
        start += length
    return tuple(nodes), spelled_by, owners


def _places(nodes: Sequence[Node], last: int, segment: Segment) -> Tensor:
    """Row indices of the hidden states that predict the segment's tokens, walking up from where it ends."""
    wanted = len(segment.prompt_ids) - 1
    pieces: list[Tensor] = []
    while last >= 0:
        node = nodes[last]
        pieces.append(torch.arange(node.start + max(wanted - node.depth, 0), node.end))
        if node.depth <= wanted:
            break
        last = node.parent
    return torch.cat(pieces[::-1])
