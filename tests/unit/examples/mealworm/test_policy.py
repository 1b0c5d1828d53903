"""The shipped base policy: small, loadable, and the one its vocabulary was made for."""

from pathlib import Path

from examples.mealworm.domain import Split, profiles_of
from examples.mealworm.make_base_policy import POLICY
from examples.mealworm.measure import measure
from examples.mealworm.vocabulary import build_tokenizer
from trainer.grpo.policy import load_policy
from trainer.rollouts.in_process import InProcessSampler


def test_the_policy_is_small_and_safe() -> None:
    """At most 16 MB altogether, weights as safetensors, nothing pickled."""
    files = [path for path in POLICY.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= 16 * 2**20
    assert {".safetensors", ".json", ".jinja"} >= {Path(path).suffix for path in files}


def test_its_tokenizer_is_the_one_of_this_vocabulary() -> None:
    """The tokenizer saved beside the weights has the same tokens and template as the code builds."""
    policy, fresh = load_policy(POLICY, device="cpu"), build_tokenizer()
    assert fresh.get_vocab() == policy.tokenizer.get_vocab()
    assert fresh.chat_template == policy.tokenizer.chat_template
    assert policy.causal_lm.config.vocab_size == len(fresh)


def test_it_finishes_most_episodes_and_few_without_a_fault() -> None:
    """The base is competent and has habits: it nearly always gets to an answer, and rarely a clean one."""
    sampler = InProcessSampler(load_policy(POLICY, device="cpu"))
    found = measure(sampler, profiles_of(Split.VALIDATION), num_episodes=40, temperature=1.0, seed=1)
    assert found.finished >= 0.8
    assert found.clean <= 0.5
    assert 0.4 <= found.mean_value <= 0.8
