"""Every loss against the real TRL `GRPOTrainer._compute_loss` on a small model: value and parameter gradients."""

import itertools

import pytest
import torch
from datasets import Dataset
from trl import GRPOConfig, GRPOTrainer

from tests.unit.trainer.grpo.factories import tiny_model, tiny_policy, tiny_tokenizer
from trainer.grpo.attention import AttentionKind
from trainer.grpo.learner import ComputeSettings, Learner
from trainer.grpo.loss import policy_loss
from trainer.grpo.objective import Correction, LossInputs, LossSettings, LossType, RatioLevel, normaliser
from trainer.grpo.samples import Sample, Segment

pytestmark = pytest.mark.filterwarnings("ignore")  # TRL calls what transformers has renamed

PROMPTS = [(5, 6, 7), (5, 6, 7), (9, 4), (9, 4)]
ANSWERS = [(11, 12, 13, 14), (11, 3), (8, 21, 22), ()]
ADVANTAGES = [1.2, -0.7, 0.4, -1.1]
MAX_COMPLETION_LENGTH = 6


def padded(rows, width, *, left=False, fill=0):
    """Rows of equal width."""
    return torch.tensor(
        [[fill] * (width - len(r)) + list(r) if left else [*r] + [fill] * (width - len(r)) for r in rows]
    )


@pytest.fixture(scope="module")
def trainer(tmp_path_factory):
    """A GRPOTrainer around the tiny model; its options are set per test."""
    config = GRPOConfig(
        output_dir=str(tmp_path_factory.mktemp("trl")),
        use_cpu=True,
        bf16=False,
        report_to=[],
        per_device_train_batch_size=4,
        num_generations=4,
        max_completion_length=MAX_COMPLETION_LENGTH,
    )
    built = GRPOTrainer(
        model=tiny_model(),
        reward_funcs=lambda completions, **_: [0.0] * len(completions),
        args=config,
        train_dataset=Dataset.from_dict({"prompt": ["w9"] * 4}),
        processing_class=tiny_tokenizer(),
    )
    built.current_gradient_accumulation_steps = 1
    return built


def noise(seed, scale):
    """Per-token offsets, padded like the answers."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(len(ANSWERS), 4, generator=generator) * scale


def trl_inputs():
    """The batch as TRL holds it."""
    answers = padded(ANSWERS, 4)
    mask = padded([[1] * len(answer) for answer in ANSWERS], 4)
    return {
        "prompt_ids": padded(PROMPTS, 3, left=True),
        "prompt_mask": padded([[1] * len(prompt) for prompt in PROMPTS], 3, left=True),
        "completion_ids": answers,
        "completion_mask": mask,
        "advantages": torch.tensor(ADVANTAGES),
        "num_items_in_batch": mask.sum().float(),
    }


def flat(table):
    """The entries of real tokens in order."""
    return torch.cat([table[row, : len(answer)] for row, answer in enumerate(ANSWERS)])


def engine_loss(settings, old, reference, sampling):
    """The engine's loss and parameter gradients on the same batch; `None` old means the learner's own."""
    policy = tiny_policy()
    samples = [
        Sample(segments=(Segment(prompt_ids=p, token_ids=a),), advantage=w)
        for p, a, w in zip(PROMPTS, ANSWERS, ADVANTAGES, strict=True)
    ]
    learner = Learner(policy, AttentionKind.BLOCKS, ComputeSettings())
    (batch,) = learner.micro_batches(samples)
    with learner.active():
        logprobs = learner(batch).logprobs_N

    def chosen(table):
        return torch.cat([table[index, : len(ANSWERS[index])] for index in batch.sample_indices])

    inputs = LossInputs(
        logprobs_N=logprobs,
        old_logprobs_N=logprobs.detach() if old is None else chosen(old),
        sampling_logprobs_N=torch.full_like(logprobs, float("nan")) if sampling is None else chosen(sampling),
        reference_logprobs_N=None if reference is None else chosen(reference),
        sample_index_N=batch.targets.sample_index_N,
        advantages_S=torch.tensor([ADVANTAGES[index] for index in batch.sample_indices]),
        recorded_S=torch.zeros(len(batch.sample_indices), dtype=torch.bool),
    )
    with learner.active():
        loss = policy_loss(inputs, settings, normaliser(samples, settings)).loss
        loss.backward()
    return loss.item(), {name: p.grad for name, p in policy.module.named_parameters()}


def trl_loss(trainer, settings, old, reference, correction=None):
    """TRL's loss and parameter gradients, options set from ours."""
    trainer.loss_type = str(settings.loss_type)
    trainer.importance_sampling_level = str(settings.importance_sampling_level)
    trainer.epsilon_low, trainer.epsilon_high = settings.epsilon, settings.upper
    trainer.args.delta, trainer.beta = settings.delta, settings.beta
    trainer.args.use_bias_correction_kl = settings.use_bias_correction_kl
    trainer.use_vllm = correction is not None
    trainer.vllm_importance_sampling_correction = True
    inputs = trl_inputs()
    if old is not None:
        inputs["old_per_token_logps"] = old
    if reference is not None:
        inputs["ref_per_token_logps"] = reference
    if correction is not None:
        inputs["importance_sampling_ratio"] = correction
    trainer.model.zero_grad()
    trainer.model.train()
    loss = trainer._compute_loss(trainer.model, inputs)
    loss.backward()
    return loss.item(), {name: p.grad for name, p in trainer.model.named_parameters()}


def own_logprobs(trainer):
    """What the tiny model says of each answer token, padded."""
    inputs = trl_inputs()
    ids = torch.cat([inputs["prompt_ids"], inputs["completion_ids"]], 1)
    mask = torch.cat([inputs["prompt_mask"], inputs["completion_mask"]], 1)
    with torch.no_grad():
        logprobs, _, _ = trainer._get_per_token_logps_and_entropies(trainer.model, ids, mask, 4)
    return logprobs


def assert_same(found, expected):
    """Value and each parameter's gradient within 1e-6 of the largest entry."""
    assert expected[0] == pytest.approx(found[0], rel=1e-6, abs=1e-6)
    for name, gradient in expected[1].items():
        scale = max(1.0, gradient.abs().max().item())
        torch.testing.assert_close(found[1][name], gradient, rtol=0, atol=1e-6 * scale)


TYPES = [LossType.GRPO, LossType.BNPO, LossType.DR_GRPO, LossType.DAPO, LossType.CISPO]


@pytest.mark.parametrize(
    ("loss_type", "level"), list(itertools.product(TYPES, [RatioLevel.TOKEN, RatioLevel.SEQUENCE]))
)
def test_loss_is_trls(trainer, loss_type, level):
    """Each loss type and ratio level, off-policy, clipped asymmetrically and from above, with a KL term."""
    high = 1.3 if loss_type is LossType.CISPO else 0.28
    settings = LossSettings(
        loss_type=loss_type,
        importance_sampling_level=level,
        epsilon=0.1,
        epsilon_high=high,
        delta=1.35,
        beta=0.07,
        max_completion_length=MAX_COMPLETION_LENGTH,
    )
    own = own_logprobs(trainer)
    old, reference = own + noise(1, 0.4), own + noise(2, 0.3)
    assert_same(engine_loss(settings, old, reference, None), trl_loss(trainer, settings, old, reference))


def test_plain_k3_term_is_trls(trainer):
    """The KL term without the importance ratio, as the GRPO paper has it."""
    settings = LossSettings(beta=0.3, use_bias_correction_kl=False)
    own = own_logprobs(trainer)
    old, reference = own + noise(1, 0.4), own + noise(2, 0.3)
    assert_same(engine_loss(settings, old, reference, None), trl_loss(trainer, settings, old, reference))


@pytest.mark.parametrize("loss_type", TYPES)
def test_on_policy_loss_is_trls(trainer, loss_type):
    """Without old log-probabilities the learner's own are taken, in both."""
    settings = LossSettings(loss_type=loss_type, epsilon_high=5.0, max_completion_length=MAX_COMPLETION_LENGTH)
    assert_same(engine_loss(settings, None, None, None), trl_loss(trainer, settings, None, None))


@pytest.mark.parametrize("mode", [Correction.TOKEN_TRUNCATE, Correction.SEQUENCE_MASK])
def test_sampler_correction_is_trls(trainer, mode):
    """The sampler-learner weight multiplies the token loss as TRL's `importance_sampling_ratio` does."""
    settings = LossSettings(correction=mode, correction_max=1.2)
    own = own_logprobs(trainer)
    old, sampling = own + noise(3, 0.05), own + noise(4, 0.3)
    mask = trl_inputs()["completion_mask"]
    if mode is Correction.TOKEN_TRUNCATE:
        ratio = (old - sampling).exp().clamp(max=1.2)
    else:
        ratio = ((old - sampling) * mask).sum(1, keepdim=True).exp()
        ratio = torch.where(ratio <= 1.2, ratio, 0.0).expand(-1, 4)
    expected = trl_loss(trainer, settings, old, None, correction=ratio)
    assert_same(engine_loss(settings, old, None, sampling), expected)
