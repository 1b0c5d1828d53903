"""Loading a policy: full weights, a fresh adapter, a saved adapter, and what is refused."""

import pytest
import torch

from tests.unit.trainer.grpo.factories import save_tiny_base
from trainer.grpo.policy import LoraSettings, PolicyError, load_policy

IDS = torch.tensor([[5, 9, 23, 40, 61]])


@pytest.fixture
def base(tmp_path):
    """A saved base policy."""
    return save_tiny_base(tmp_path / "base")


def logits(policy):
    """Of a fixed prompt."""
    with torch.no_grad():
        return policy.module(input_ids=IDS).logits


def test_full_weights_train_every_parameter(base):
    """Without an adapter every parameter of the model is trainable."""
    policy = load_policy(base, device="cpu")
    assert sum(p.numel() for p in policy.module.parameters()) == sum(
        p.numel() for p in policy.trainable_parameters().values()
    )
    assert not policy.has_adapter


def test_fresh_adapter_changes_nothing_and_covers_every_linear_layer(base):
    """A fresh LoRA leaves the logits as they are and sits on the seven linear layers of each block, not on the head."""
    plain, adapted = load_policy(base, device="cpu"), load_policy(base, lora=LoraSettings(rank=4), device="cpu")
    assert torch.equal(logits(plain), logits(adapted))
    names = {name.split(".lora_")[0] for name in adapted.trainable_parameters()}
    assert 2 * 7 == len(names)
    assert not any("lm_head" in name for name in names)


def test_equal_seeds_make_equal_adapters(base):
    """The seed fixes the A matrices whatever the global generator holds."""
    first = load_policy(base, lora=LoraSettings(seed=3), device="cpu")
    torch.manual_seed(99)
    second = load_policy(base, lora=LoraSettings(seed=3), device="cpu")
    pairs = zip(first.trainable_parameters().values(), second.trainable_parameters().values(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


def test_saved_adapter_comes_back(base, tmp_path):
    """A changed adapter saved by peft gives the same logits after loading, and is trainable again."""
    policy = load_policy(base, lora=LoraSettings(rank=4), device="cpu")
    with torch.no_grad():
        for parameter in policy.trainable_parameters().values():
            parameter.add_(0.05)
    policy.module.save_pretrained(tmp_path / "adapter")
    loaded = load_policy(base, adapter=tmp_path / "adapter", device="cpu")
    assert torch.equal(logits(policy), logits(loaded))
    assert list(policy.trainable_parameters()) == list(loaded.trainable_parameters())


def test_reference_is_the_base(base):
    """Inside `reference()` the adapter is off; outside it is on again."""
    plain, policy = load_policy(base, device="cpu"), load_policy(base, lora=LoraSettings(rank=4), device="cpu")
    with torch.no_grad():
        for parameter in policy.trainable_parameters().values():
            parameter.add_(0.05)
    changed = logits(policy)
    with policy.reference():
        assert torch.equal(logits(plain), logits(policy))
    assert torch.equal(changed, logits(policy))
    assert not torch.equal(changed, logits(plain))


def test_full_weights_have_no_reference(base):
    """Full weights cannot show their base: asking for it is an error with the remedy."""
    policy = load_policy(base, device="cpu")
    with pytest.raises(PolicyError, match="beta to 0"), policy.reference():
        pass


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"adapter": "nowhere"}, "adapter_config.json"),
        ({"dtype": "int64"}, "no floating-point"),
        ({"adapter": "nowhere", "lora": LoraSettings()}, "choose one"),
    ],
)
def test_wrong_requests_are_named(base, tmp_path, kwargs, message):
    """A missing adapter, an integer dtype and two kinds of adapter are refused with the reason."""
    if "adapter" in kwargs:
        kwargs = kwargs | {"adapter": tmp_path / kwargs["adapter"]}
    with pytest.raises(PolicyError, match=message):
        load_policy(base, device="cpu", **kwargs)


def test_missing_base_is_named(tmp_path):
    """A directory without a model is refused before transformers is asked."""
    with pytest.raises(PolicyError, match=r"config\.json"):
        load_policy(tmp_path, device="cpu")
