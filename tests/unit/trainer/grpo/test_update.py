"""Updates: any split gives the same step, limits stop before the weights change, and the report says what happened."""

import math
from dataclasses import replace

import pytest
import torch

from tests.unit.trainer.grpo.factories import tiny_lora_policy, tiny_policy
from trainer.grpo.advantages import DropReason
from trainer.grpo.attention import AttentionKind
from trainer.grpo.learner import ComputeSettings
from trainer.grpo.objective import ArtSettings, Correction, LossSettings, LossType, RecordedLoss
from trainer.grpo.optimizer import (
    OptimizerError,
    OptimizerName,
    OptimizerSettings,
    Schedule,
    build_optimizer,
    learning_rate,
)
from trainer.grpo.policy import PolicyError
from trainer.grpo.samples import Sample, SampleSource, Segment
from trainer.grpo.update import StopLimits, TrainingStopped, Updater, UpdateSettings

SGD = OptimizerSettings(optimizer=OptimizerName.SGD, learning_rate=0.05, momentum=0.0)


def sample(prompt, answer, advantage, **kwargs):
    """One answer to one prompt."""
    segment = Segment(prompt_ids=prompt, token_ids=answer, logprobs=kwargs.pop("logprobs", None))
    return Sample(segments=(segment,), advantage=advantage, **kwargs)


SAMPLES = [
    sample((5, 6, 7), (20, 21, 22), 1.0),
    sample((5, 6, 7), (20, 30), -0.5),
    sample((5, 6, 7, 8), (), -0.7),
    sample((5, 6, 7, 8), (40, 41, 42, 43), 0.8),
    sample((60, 61), (62,), -0.6),
]


def weights(policy):
    """Everything trained, flat."""
    return torch.cat([p.detach().flatten() for p in policy.trainable_parameters().values()])


def updated(settings, *, samples=SAMPLES, policy=None):
    """Weights and report after one update of a fresh policy."""
    policy = policy or tiny_policy(dtype=torch.float64)
    report = Updater(policy, settings.optimizer).update(samples, settings)
    return weights(policy), report


@pytest.mark.parametrize("loss_type", [LossType.GRPO, LossType.BNPO, LossType.DAPO, LossType.DR_GRPO, LossType.ART])
def test_micro_batches_do_not_change_the_step(loss_type):
    """One token at a time or everything at once: the same weights to 1e-12."""
    found = [
        updated(
            UpdateSettings(
                loss=LossSettings(loss_type=loss_type),
                optimizer=SGD,
                compute=ComputeSettings(micro_batch_tokens=budget),
            )
        )[0]
        for budget in (1, 7, 1000)
    ]
    torch.testing.assert_close(found[0], found[2], rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(found[1], found[2], rtol=1e-12, atol=1e-12)


def test_the_first_step_is_minus_rate_times_gradient():
    """SGD without momentum moves by exactly rate times the gradient of the mean token loss."""
    policy = tiny_policy(dtype=torch.float64)
    before = weights(policy)
    logprobs = []
    for item in SAMPLES:
        (segment,) = item.segments
        if segment.token_ids:
            ids = torch.tensor([segment.prompt_ids + segment.token_ids])
            logits = policy.module(input_ids=ids).logits[0, len(segment.prompt_ids) - 1 : -1]
            chosen = logits.log_softmax(-1).gather(1, torch.tensor(segment.token_ids)[:, None])
            logprobs.append(item.advantage * chosen.sum())
    gradients = torch.autograd.grad(-sum(logprobs) / 10, list(policy.trainable_parameters().values()))
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    settings = UpdateSettings(optimizer=SGD, max_grad_norm=1e9)
    after, report = updated(settings)
    torch.testing.assert_close(after, before - 0.05 * flat, rtol=1e-10, atol=1e-12)
    assert report.metrics["loss/grad_norm"] == pytest.approx(flat.norm().item())


def test_gradients_are_clipped_to_the_norm():
    """The step has length rate times max_grad_norm."""
    policy = tiny_policy(dtype=torch.float64)
    before = weights(policy)
    after, _ = updated(UpdateSettings(optimizer=SGD, max_grad_norm=0.25), policy=policy)
    assert (after - before).norm().item() == pytest.approx(0.05 * 0.25, rel=1e-5)


def test_iterations_and_minibatches_take_their_steps():
    """Two passes of two mini-batches are four optimizer steps; from the second on the ratio leaves 1."""
    settings = UpdateSettings(optimizer=SGD, num_iterations=2, num_minibatches=2)
    _, report = updated(settings)
    assert 4 == report.num_optimizer_steps
    assert report.metrics["offpolicy/ess"] < 1
    assert report.metrics["offpolicy/ratio_p99"] > 1


def test_kl_term_pulls_towards_the_reference(tmp_path):
    """With beta the loss has the k3 divergence from the base, which is zero for a fresh adapter and then not."""
    settings = UpdateSettings(loss=LossSettings(beta=0.5), optimizer=replace(SGD, learning_rate=2.0))
    policy = tiny_lora_policy(tmp_path)
    updater = Updater(policy, settings.optimizer)
    first, second = updater.update(SAMPLES, settings), updater.update(SAMPLES, settings)
    assert first.metrics["loss/kl_policy_ref"] == pytest.approx(0.0, abs=1e-6)
    assert second.metrics["loss/kl_policy_ref"] > 1e-5


def test_kl_term_with_full_weights_needs_a_reference():
    """Full weights have no base to switch to: an error, or a reference policy given."""
    settings = UpdateSettings(loss=LossSettings(beta=0.5), optimizer=SGD)
    with pytest.raises(PolicyError, match="no reference policy"):
        updated(settings)
    policy = tiny_policy()
    report = Updater(policy, SGD, reference=tiny_policy()).update(SAMPLES, settings)
    assert report.metrics["loss/kl_policy_ref"] == pytest.approx(0.0, abs=1e-6)


def test_art_penalty_reads_the_reference(tmp_path):
    """ART's KL penalty measures the policy before the step and moves advantages: other weights than without."""
    found = []
    for coefficient in (0.0, 0.9):
        policy = tiny_lora_policy(tmp_path / str(coefficient))
        with torch.no_grad():
            for parameter in policy.trainable_parameters().values():
                parameter.add_(0.03)
        art = LossSettings(loss_type=LossType.ART, art=ArtSettings(kl_penalty_coef=coefficient))
        found.append(updated(UpdateSettings(loss=art, optimizer=SGD), policy=policy)[0])
    assert not torch.equal(*found)


def test_recorded_actions_are_told_apart():
    """A recorded sample is counted, takes LUFFY's term, and does not count as a mismatch of the sampler."""
    recorded = sample((5, 6, 7), (33, 34), 1.0, source=SampleSource.RECORDED, logprobs=(-40.0, -40.0))
    settings = UpdateSettings(loss=LossSettings(recorded=RecordedLoss.LUFFY), optimizer=SGD)
    _, report = updated(settings, samples=[*SAMPLES, recorded])
    assert 1.0 == report.metrics["data/step_num_recorded_samples"]
    assert "offpolicy/mismatch_mean" not in report.metrics
    assert "offpolicy/recorded_logprob_mean" in report.metrics


def measured(gap):
    """The samples as a sampler would return them whose log-probabilities are off by `gap`."""
    policy = tiny_policy()
    report = []
    for item in SAMPLES:
        (segment,) = item.segments
        if segment.token_ids:
            ids = torch.tensor([segment.prompt_ids + segment.token_ids])
            logits = policy.module(input_ids=ids).logits[0, len(segment.prompt_ids) - 1 : -1]
            chosen = logits.log_softmax(-1).gather(1, torch.tensor(segment.token_ids)[:, None])[:, 0]
            report.append(
                sample(segment.prompt_ids, segment.token_ids, item.advantage, logprobs=tuple((chosen + gap).tolist()))
            )
    return report


def test_mismatch_is_measured_and_corrected():
    """A sampler off by 0.1 nats shows as such, and truncated importance weights are exp(-0.1)."""
    settings = UpdateSettings(loss=LossSettings(correction=Correction.TOKEN_TRUNCATE), optimizer=SGD)
    _, report = updated(settings, samples=measured(0.1), policy=tiny_policy())
    assert report.metrics["offpolicy/mismatch_mean"] == pytest.approx(0.1, abs=1e-4)
    assert report.metrics["offpolicy/correction_mean"] == pytest.approx(math.exp(-0.1), abs=1e-4)


@pytest.mark.parametrize(
    ("samples", "limits", "reason"),
    [
        (lambda: measured(2.0), StopLimits(), "not this policy's"),
        (lambda: SAMPLES, StopLimits(grad_norm=1e-9), "diverges"),
        (lambda: SAMPLES, StopLimits(kl_budget=1e-9), "above the budget"),
    ],
)
def test_limits_stop_before_the_weights_change(samples, limits, reason):
    """A foreign sampler, a diverging gradient and a spent KL budget end the run with the reason; nothing moved."""
    policy, reference = tiny_policy(), tiny_policy(seed=1)
    before = weights(policy).clone()
    with pytest.raises(TrainingStopped, match=reason):
        Updater(policy, SGD, reference=reference).update(samples(), UpdateSettings(optimizer=SGD, limits=limits))
    assert torch.equal(before, weights(policy))
    assert all(p.grad is None for p in policy.trainable_parameters().values())


def test_gradients_that_are_not_finite_stop_the_run():
    """A NaN in the weights is found at the first gradient, not after the step."""
    policy = tiny_policy()
    with torch.no_grad():
        policy.causal_lm.model.norm.weight[0] = float("nan")
    settings = UpdateSettings(optimizer=SGD, compute=ComputeSettings(attention=AttentionKind.UNPACKED))
    with pytest.raises(TrainingStopped, match="not finite"):
        Updater(policy, SGD).update(SAMPLES, settings)


def test_nothing_to_train_takes_no_step():
    """No samples, or only empty answers: no optimizer step, a report, and the same weights."""
    policy = tiny_policy()
    before = weights(policy).clone()
    updater = Updater(policy, SGD)
    report = updater.update([SAMPLES[2]], UpdateSettings(optimizer=SGD), dropped={DropReason.ZERO_VARIANCE: 3})
    assert 0 == report.num_optimizer_steps
    assert 3.0 == report.metrics["data/groups_dropped_zero_variance"]
    assert torch.equal(before, weights(policy))


def test_report_counts_tokens():
    """10 trained tokens; 24 logical ones; the trie computes each shared prefix once."""
    _, report = updated(UpdateSettings(optimizer=SGD))
    expected = {"data/step_trainer_tokens": 10.0, "data/tokens_logical": 26.0, "data/tokens_computed": 11.0}
    assert expected == {name: report.metrics[name] for name in expected}
    assert report.metrics["data/tokens_saved_share"] == pytest.approx(1 - 11 / 26)


def test_schedules_are_functions_of_the_step():
    """Warm-up rises to the rate, cosine and linear fall to zero at the last step, constant stays."""
    base = OptimizerSettings(learning_rate=1.0, warmup_steps=2, schedule=Schedule.LINEAR, total_steps=6)
    assert [0.5, 1.0, 1.0, 0.75, 0.0, 0.0] == [learning_rate(base, step) for step in (0, 1, 2, 3, 6, 9)]
    cosine = replace(base, schedule=Schedule.COSINE)
    assert learning_rate(cosine, 4) == pytest.approx(0.5)
    assert 1.0 == learning_rate(replace(base, schedule=Schedule.CONSTANT), 400)


def test_optimizers_that_cannot_be_built_say_why():
    """8-bit moments need CUDA parameters; a falling rate needs its end."""
    with pytest.raises(OptimizerError, match="not on CUDA"):
        build_optimizer(
            tiny_policy().trainable_parameters().values(), OptimizerSettings(optimizer=OptimizerName.ADAMW_8BIT)
        )
    with pytest.raises(ValueError, match="total_steps"):
        OptimizerSettings(schedule=Schedule.COSINE)
    with pytest.raises(ValueError, match="needs a new updater"):
        Updater(tiny_policy(), SGD).update(SAMPLES, UpdateSettings())
