"""An ART user's own script on the torch backend: register, sample, train, imitate, prune, resume."""

import json

import pytest

from trainer.backends.trajectories import to_trajectory_group  # isort: skip  # first: it repairs what ART replaces

import art
import torch

from spanloop.records import Message, Role, TextPart
from tests.unit.trainer.grpo.factories import save_tiny_base
from trainer.backends.factory import make_backend
from trainer.backends.options import OptionError, train_request
from trainer.backends.torch_backend import BackendError, TorchBackend
from trainer.backends.trajectories import (
    RecordedAction,
    ScoredRollout,
    TokenisationSettings,
    TrajectoryError,
    from_trajectory_groups,
)
from trainer.grpo.advantages import AdvantageConvention, DropReason
from trainer.grpo.objective import LossType, RatioLevel
from trainer.grpo.optimizer import OptimizerName
from trainer.grpo.samples import SampleSource
from trainer.rollouts.base import Prompt, SamplingParams
from trainer.rollouts.in_process import InProcessSampler

pytestmark = pytest.mark.filterwarnings("ignore")  # ART and litellm use what their dependencies have deprecated

QUESTION = (Message(role=Role.USER, parts=(TextPart(text="w9 w10 w11"),)),)


def run(coroutine):
    """Its result."""
    import asyncio

    return asyncio.run(coroutine)


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """A saved base policy."""
    return save_tiny_base(tmp_path_factory.mktemp("base"))


def new_model(base):
    """As an ART script makes one."""
    return art.TrainableModel(name="cook", project="meals", base_model=str(base), report_metrics=[])


def sampled_groups(policy, rewards, *, tokens=5):
    """A group per list of rewards, answered by the policy itself."""
    sampler = InProcessSampler(policy)
    params = SamplingParams(num_samples=len(rewards[0]), max_tokens=tokens, seed=1)
    groups = []
    for number, values in enumerate(rewards):
        prompt = Prompt(prompt_id=str(number), messages=QUESTION)
        (rollouts,) = sampler.sample([prompt], params)
        scored = [ScoredRollout(rollout=r, reward=v) for r, v in zip(rollouts, values, strict=True)]
        groups.append(to_trajectory_group(QUESTION, (), scored))
    return groups


def test_an_art_script_runs_unchanged(base, tmp_path):
    """Completions over HTTP, two kinds of training, logging, supervised steps, checkpoints kept and deleted."""

    async def script():
        async with TorchBackend(path=tmp_path / ".art") as backend:
            model = new_model(base)
            await model.register(backend)
            client = model.openai_client()
            groups = []
            for _ in range(2):
                completion = await client.chat.completions.create(
                    model=model.get_inference_name(), messages=[{"role": "user", "content": "w9"}], n=3, max_tokens=4
                )
                trajectories = [
                    art.Trajectory(
                        messages_and_choices=[{"role": "user", "content": "w9"}, choice], reward=float(index)
                    )
                    for index, choice in enumerate(completion.choices)
                ]
                groups.append(art.TrajectoryGroup(trajectories))
            await model.log(groups, split="train")
            result = await backend.train(model, groups, learning_rate=1e-3)
            await model.log(metrics=result.metrics, step=result.step)
            assert 1 == result.step == await model.get_step()
            assert "cook@1" == model.get_inference_name()
            assert result.metrics["offpolicy/mismatch_mean"] < 1e-3
            await backend.train(model, groups, loss_type="dapo", learning_rate=1e-3)
            await model.train_sft(
                [trajectory for group in groups for trajectory in group.trajectories],
                art.TrainSFTConfig(learning_rate=1e-3, batch_size=4),
            )
            assert 3 == await model.get_step()
            await model.delete_checkpoints()
            return [path.name for path in (tmp_path / ".art/meals/models/cook/checkpoints").iterdir()]

    assert ["0003"] == run(script())
    history = (tmp_path / ".art/meals/models/cook/history.jsonl").read_text().splitlines()
    assert any("loss/train" in json.loads(line) for line in history)


def test_training_raises_the_rewarded_answers(base, tmp_path):
    """After updates with two rewarded answers of four, their likelihood has risen against the others'."""

    async def script():
        backend = TorchBackend(path=tmp_path, lora=None, serve=False)
        model = new_model(base)
        await model.register(backend)
        policy = backend.policy_of(model)
        groups = sampled_groups(policy, [[1.0, 0.0, 1.0, 0.0]])
        samples = from_trajectory_groups(groups, policy.tokenizer).samples

        def likelihoods():
            found = []
            for item in samples:
                (segment,) = item.segments
                ids = torch.tensor([segment.prompt_ids + segment.token_ids])
                with torch.no_grad():
                    logits = policy.module(input_ids=ids).logits[0, len(segment.prompt_ids) - 1 : -1]
                found.append(logits.log_softmax(-1).gather(1, torch.tensor(segment.token_ids)[:, None]).sum().item())
            return found

        before = likelihoods()
        for _ in range(3):
            await backend.train(model, groups, loss_type="grpo", learning_rate=1e-3, optim="adamw")
        return [b - a for a, b in zip(before, likelihoods(), strict=True)]

    good, bad, better, worse = run(script())
    assert min(good, better) > max(bad, worse)


def test_registering_again_goes_on_where_it_stopped(base, tmp_path):
    """A second process (a new backend) resumes weights, step and optimizer: the same weights as without the break."""

    async def train(directory, *, breaks):
        backend = TorchBackend(path=directory, serve=False)
        model = new_model(base)
        await model.register(backend)
        groups = sampled_groups(backend.policy_of(model), [[1.0, 0.0, 0.3], [0.0, 0.2, 0.9]])
        options = {"loss_type": "dapo", "learning_rate": 1e-2, "mismatch_limit": None}
        for _ in range(2):
            await backend.train(model, groups, **options)
            if breaks:
                await backend.close()
                backend = TorchBackend(path=directory, serve=False)
                await model.register(backend)
        assert 2 == await backend._get_step(model)
        return torch.cat([p.detach().flatten() for p in backend.policy_of(model).trainable_parameters().values()])

    assert torch.equal(run(train(tmp_path / "a", breaks=False)), run(train(tmp_path / "b", breaks=True)))


def test_groups_that_teach_nothing_count_as_a_step(base, tmp_path):
    """Equal rewards: no optimizer step, the reason in the metrics, and still a checkpoint of the step."""

    async def script():
        backend = TorchBackend(path=tmp_path, serve=False)
        model = new_model(base)
        await model.register(backend)
        groups = sampled_groups(backend.policy_of(model), [[0.5, 0.5]])
        return await backend.train(model, groups, learning_rate=1e-3)

    result = run(script())
    assert (1, 0.0, 1.0) == (
        result.step,
        result.metrics["data/step_num_gradient_steps"],
        result.metrics["data/groups_dropped_zero_variance"],
    )
    assert result.checkpoint_path.endswith("0001")


def test_exact_tokens_survive_the_journey(base, tmp_path):
    """Ids, log-probabilities and temperature come back as sampled; an unscored answer is left out, not zero."""
    policy = TorchBackend(path=tmp_path, serve=False)._open(new_model(base)).policy
    sampler = InProcessSampler(policy)
    (rollouts,) = sampler.sample(
        [Prompt(prompt_id="p", messages=QUESTION)], SamplingParams(num_samples=3, temperature=0.7, max_tokens=4, seed=2)
    )
    rewards = [1.0, None, 0.0]
    scored = [ScoredRollout(rollout=r, reward=v) for r, v in zip(rollouts, rewards, strict=True)]
    group = to_trajectory_group(QUESTION, (), scored)
    assert 1 == group.metadata["num_unscored"]
    data = from_trajectory_groups([group], policy.tokenizer)
    segments = [sample.segments[0] for sample in data.samples]
    assert [rollouts[0].token_ids, rollouts[2].token_ids] == [s.token_ids for s in segments]
    assert [rollouts[0].prompt_token_ids] * 2 == [s.prompt_ids for s in segments]
    assert [rollouts[0].logprobs, rollouts[2].logprobs] == [s.logprobs for s in segments]
    assert [0.7, 0.7] == [sample.temperature for sample in data.samples]


def choice(content, tokens):
    """A choice of a server that names tokens."""
    logprobs = [{"token": t, "logprob": -1.0, "bytes": None, "top_logprobs": []} for t in tokens]
    return art.types.Choice.model_validate(
        {
            "index": 0,
            "finish_reason": "stop",
            "message": {"role": "assistant", "content": content},
            "logprobs": {"content": logprobs},
        }
    )


def test_foreign_trajectories_are_rendered_turn_by_turn(base, tmp_path):
    """Two sampled turns without prompt ids: each is a segment after its own rendered prompt, named tokens included."""
    tokenizer = TorchBackend(path=tmp_path, serve=False)._open(new_model(base)).policy.tokenizer
    turns = [
        {"role": "user", "content": "w9"},
        choice("w20", ["token_id:20", "token_id:1"]),
        {"role": "user", "content": "w10"},
        choice("w21", ["w21", "<|im_end|>"]),
    ]
    other = [{"role": "user", "content": "w9"}, choice("w22", ["token_id:22", "token_id:1"])]
    group = art.TrajectoryGroup(
        [
            art.Trajectory(messages_and_choices=turns, reward=1.0),
            art.Trajectory(messages_and_choices=other, reward=0.0),
        ]
    )
    first, second = from_trajectory_groups([group], tokenizer).samples
    assert [(20, 1), (21, 1)] == [segment.token_ids for segment in first.segments]
    # <|im_start|> user w9 <|im_end|> <|im_start|> assistant, then the first answer and the second question.
    opening = (2, 5, 9, 1, 2, 6)
    assert [opening, (*opening, 20, 1, 2, 5, 10, 1, 2, 6)] == [segment.prompt_ids for segment in first.segments]
    assert [(22, 1)] == [segment.token_ids for segment in second.segments]


def test_recorded_actions_are_marked_and_rendered(base, tmp_path):
    """The recorded action joins the group's mean, carries no log-probabilities and ends with its end-of-turn token."""
    policy = TorchBackend(path=tmp_path, serve=False)._open(new_model(base)).policy
    (rollouts,) = InProcessSampler(policy).sample(
        [Prompt(prompt_id="p", messages=QUESTION)], SamplingParams(num_samples=2, max_tokens=3, seed=2)
    )
    action = RecordedAction(message=Message(role=Role.ASSISTANT, parts=(TextPart(text="w30 w31"),)), reward=1.0)
    scored = [ScoredRollout(rollout=r, reward=0.0) for r in rollouts]
    data = from_trajectory_groups(
        [to_trajectory_group(QUESTION, (), scored, recorded=action)],
        policy.tokenizer,
        TokenisationSettings(convention=AdvantageConvention.DR),
    )
    recorded = data.samples[-1]
    assert [-1 / 3, -1 / 3, 2 / 3] == pytest.approx([sample.advantage for sample in data.samples])
    assert SampleSource.RECORDED is recorded.source
    assert (30, 31, 1) == recorded.segments[0].token_ids
    assert recorded.segments[0].logprobs is None


def test_raft_imitates_the_best_answer_of_each_group(base, tmp_path):
    """`loss_type="sft"`: one sample of weight 1 per group with differences, and its likelihood rises."""

    async def script():
        backend = TorchBackend(path=tmp_path, lora=None, serve=False)
        model = new_model(base)
        await model.register(backend)
        groups = sampled_groups(backend.policy_of(model), [[0.1, 0.9, 0.3], [0.5, 0.5, 0.5]])
        options = {"loss_type": "sft", "learning_rate": 1e-3, "mismatch_limit": None}
        return [(await backend.train(model, groups, **options)).metrics for _ in range(2)]

    first, second = run(script())
    assert 1.0 == first["data/step_num_samples"]
    assert 1.0 == first["data/groups_dropped_zero_variance"]
    assert second["loss/train"] < first["loss/train"]


def test_unknown_tokens_and_untokenised_groups_are_told(base, tmp_path):
    """A token name outside the vocabulary is an error with the remedy; plain dictionaries are a drop reason."""
    tokenizer = TorchBackend(path=tmp_path, serve=False)._open(new_model(base)).policy.tokenizer
    question = {"role": "user", "content": "w9"}

    def group(*answers):
        return art.TrajectoryGroup(
            [art.Trajectory(messages_and_choices=[question, a], reward=float(i)) for i, a in enumerate(answers)]
        )

    with pytest.raises(TrajectoryError, match="return_tokens_as_token_ids"):
        from_trajectory_groups([group(choice("x", ["nowhere"]), choice("w9", ["w9"]))], tokenizer)
    plain = group({"role": "assistant", "content": "w40"}, {"role": "assistant", "content": "w41 w42"})
    assert {DropReason.NOTHING_SAMPLED: 1} == from_trajectory_groups([plain], tokenizer).dropped
    permissive = TokenisationSettings(allow_training_without_logprobs=True)
    data = from_trajectory_groups([plain], tokenizer, permissive)
    assert [(40, 1), (41, 42, 1)] == [sample.segments[0].token_ids for sample in data.samples]


def test_options_mean_what_they_mean_to_art_or_to_trl():
    """Without loss_type: ART's loss, clipping, advantages and optimizer; with it: TRL's."""
    art_request = train_request({"learning_rate": 1e-5, "loss_fn": "ppo", "scale_rewards": False})
    assert LossType.ART is art_request.update.loss.loss_type
    assert art_request.update.loss.art.ppo
    assert AdvantageConvention.DR is art_request.convention
    assert (0.1, 0.1, 0.99) == (
        art_request.update.max_grad_norm,
        art_request.update.optimizer.weight_decay,
        art_request.update.optimizer.beta2,
    )
    trl_request = train_request(
        {"loss_type": "cispo", "importance_sampling_level": "sequence", "optim": "sgd", "scale_rewards": "batch"}
    )
    assert LossType.CISPO is trl_request.update.loss.loss_type
    assert RatioLevel.SEQUENCE is trl_request.update.loss.importance_sampling_level
    assert (OptimizerName.SGD, AdvantageConvention.BATCH) == (
        trl_request.update.optimizer.optimizer,
        trl_request.convention,
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"learning_rat": 1e-5}, "did you mean learning_rate"),
        ({"loss_type": "dapo", "kl_penalty_coef": 0.1}, "TRL's options"),
        ({"beta": 0.1}, "ART's options"),
        ({"loss_type": "nonsense"}, "nonsense"),
        ({"loss_fn": "dro"}, "use cispo or ppo"),
        ({"kl_ref_adapter_path": "x"}, "not offered"),
        ({"loss_type": "dapo", "scale_rewards": "some"}, "use group, batch or none"),
    ],
)
def test_wrong_options_are_named(options, message):
    """Misspelt, mixed, unsupported and meaningless options are refused before anything is trained."""
    with pytest.raises(OptionError, match=message):
        train_request(options)


def test_backends_are_made_by_name():
    """Ours needs nothing; ART's own say what is missing here."""
    assert isinstance(make_backend("torch"), TorchBackend)
    with pytest.raises(BackendError, match="WANDB_API_KEY"):
        make_backend("art-serverless", environment={})
    with pytest.raises(BackendError, match="one of torch, art-local, art-serverless"):
        make_backend("megatron")


def test_art_local_needs_cuda():
    """Without a CUDA device ART's LocalBackend is refused with the remedy; with one, its packages are asked for."""
    expected = "needs" if torch.cuda.is_available() else "needs a CUDA device"
    with pytest.raises(BackendError, match=expected):
        make_backend("art-local")


def test_an_unregistered_model_is_named(base, tmp_path):
    """Training before registering says what to call."""
    with pytest.raises(BackendError, match="register"):
        run(TorchBackend(path=tmp_path).train(new_model(base), []))
