"""The token trie: what is shared, where things stand in the row, and which hidden state predicts what."""

import pytest

from trainer.grpo.samples import Sample, SampleError, Segment
from trainer.grpo.trie import pack


def sample(prompt, answer, **kwargs):
    """One answer to one prompt."""
    segment = Segment(prompt_ids=tuple(prompt), token_ids=tuple(answer), logprobs=kwargs.pop("logprobs", None))
    return Sample(segments=(segment,), advantage=1.0, **kwargs)


def test_two_answers_share_their_prompt():
    """The prompt stands once; each answer without its last token follows; targets read the state before them."""
    (packed,) = pack([sample([5, 6, 7], [1, 2, 3]), sample([5, 6, 7], [1, 4])], token_budget=100)
    assert [5, 6, 7, 1, 2] == packed.token_ids_T.tolist()
    assert [0, 1, 2, 3, 4] == packed.position_ids_T.tolist()
    by_sample = {
        packed.sample_indices[i]: (
            packed.targets.pred_index_N[packed.targets.sample_index_N == i].tolist(),
            packed.targets.target_ids_N[packed.targets.sample_index_N == i].tolist(),
        )
        for i in range(2)
    }
    assert {0: ([2, 3, 4], [1, 2, 3]), 1: ([2, 3], [1, 4])} == by_sample


def test_trunk_comes_first_and_intervals_name_the_descendants():
    """The larger subtree stands first; `subtree_end` of a token ends where its last descendant ends."""
    samples = [sample([1, 2], [9, 8]), sample([1, 2, 3, 4], [7, 7]), sample([1, 2, 3, 4], [6, 6])]
    (packed,) = pack(samples, token_budget=100)
    assert [1, 2, 3, 4] == packed.token_ids_T[:4].tolist()
    assert 9 == packed.token_ids_T[-1].item()
    assert [7, 7, 6, 6] == packed.subtree_end_T[:4].tolist()
    assert [5, 6, 7] == packed.subtree_end_T[4:].tolist()
    assert [0, 1, 2, 3, 4, 4, 2] == packed.position_ids_T.tolist()


def test_unrelated_samples_share_nothing():
    """Different first tokens make a forest; positions start again at zero."""
    (packed,) = pack([sample([1, 2], [3]), sample([4, 5], [6])], token_budget=100)
    assert [0, 1, 0, 1] == packed.position_ids_T.tolist()
    assert {-1} == {node.parent for node in packed.nodes}


def test_an_answer_that_is_a_prefix_of_another_needs_no_tokens():
    """A sample whose inputs are a prefix of another's adds targets, not tokens."""
    (packed,) = pack([sample([1, 2], [3, 4, 5, 6]), sample([1, 2], [3, 9])], token_budget=100)
    assert 5 == packed.num_tokens
    assert 6 == packed.targets.pred_index_N.numel()


def test_an_empty_answer_has_no_targets():
    """An answer of no tokens takes part in no micro-batch."""
    (packed,) = pack([sample([1, 2], []), sample([1, 2], [3])], token_budget=100)
    assert (1,) == packed.sample_indices
    assert () == pack([sample([1, 2], [])], token_budget=10)


def test_a_broken_prefix_is_a_branch():
    """Two calls of one sample whose second prompt rewrites the history share what they share and no more."""
    calls = (
        Segment(prompt_ids=(1, 2), token_ids=(3, 4)),
        Segment(prompt_ids=(1, 2, 9, 4, 5), token_ids=(6,)),
    )
    (packed,) = pack([Sample(segments=calls, advantage=1.0)], token_budget=100)
    assert sorted([1, 2, 3, 9, 4, 5]) == sorted(packed.token_ids_T.tolist())
    assert {0} == set(packed.targets.sample_index_N.tolist())


def test_budget_splits_between_samples():
    """Micro-batches stay within the budget, hold every sample once, and an oversized sample stands alone."""
    samples = [sample([1, 2, 3], [i, i, i]) for i in range(4, 10)] + [sample(range(50, 70), [1, 2])]
    batches = pack(samples, token_budget=9)
    assert sorted(range(7)) == sorted(i for batch in batches for i in batch.sample_indices)
    assert [9, 9, 21] == sorted(batch.num_tokens for batch in batches)


def test_unrelated_samples_are_split_before_the_budget_is_full():
    """With enough tokens a micro-batch ends before a sample that shares next to nothing; one that shares stays."""
    apart = [sample([i] * 30, [1, 2, 3]) for i in range(10, 16)]
    assert [32] * 6 == [batch.num_tokens for batch in pack(apart, token_budget=1000, enough=32)]
    assert [64] * 3 == [batch.num_tokens for batch in pack(apart, token_budget=1000, enough=33)]
    assert [192] == [batch.num_tokens for batch in pack(apart, token_budget=1000)]
    star = [sample([5] * 30, [i, i, i]) for i in range(10, 16)]
    assert [30 + 6 * 2] == [batch.num_tokens for batch in pack(star, token_budget=1000, enough=32)]
    common = [sample([5] * 5 + [i] * 30, [1, 2, 3]) for i in range(10, 14)]
    found = [batch.num_tokens for batch in pack(common, token_budget=1000, enough=32)]
    assert [5 + 3 * 32, 37] == found, "five tokens are computed again when they are at most a sixteenth"


def test_sampling_logprobs_and_temperatures_stand_at_their_tokens():
    """Measured log-probabilities come back in target order; missing ones are NaN."""
    samples = [
        sample([1, 2], [3, 4], logprobs=(-0.5, -1.5), temperature=0.7),
        sample([1, 2], [5]),
    ]
    (packed,) = pack(samples, token_budget=100)
    first = packed.targets.sample_index_N == packed.sample_indices.index(0)
    assert [-0.5, -1.5] == packed.targets.sampling_logprobs_N[first].tolist()
    assert [0.7, 0.7] == packed.targets.temperature_N[first].tolist()
    assert packed.targets.sampling_logprobs_N[~first].isnan().all()


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Segment(prompt_ids=(), token_ids=(1,)), "prompt has no tokens"),
        (lambda: Segment(prompt_ids=(1,), token_ids=(1, 2), logprobs=(0.0,)), "2 tokens but 1"),
        (lambda: sample([1], [2], temperature=0.0), "temperature 0.0"),
        (lambda: Sample(segments=(), advantage=float("nan")), "advantage nan"),
    ],
)
def test_untrainable_samples_are_refused(build, message):
    """Samples no gradient can come from are refused when they are built."""
    with pytest.raises(SampleError, match=message):
        build()
