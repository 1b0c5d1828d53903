"""The two sides of the update benchmark, each run as a worker process that obeys lines on its standard input."""

from __future__ import annotations

import gc
import json
import os
import random
import sys
import tempfile
import time
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any, Protocol, cast

import torch
from peft import LoraConfig
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile
from transformers import PreTrainedModel, Qwen3Config, Qwen3ForCausalLM

from trainer.grpo.learner import ComputeSettings
from trainer.grpo.optimizer import OptimizerSettings
from trainer.grpo.policy import LoraSettings, Policy, with_adapter
from trainer.grpo.samples import Sample, Segment
from trainer.grpo.update import Updater, UpdateSettings

LEARNING_RATE = 1e-6
MAX_GRAD_NORM = 1.0
EPSILON = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """The shape of the samples of one update."""

    name: str
    prompt: int
    """Tokens of the first decision point's prompt."""
    answer: int
    group: int
    points: int = 1
    step_tokens: int = 0
    """Tokens each further decision point of the same episode adds to the prompt."""
    shared: bool = True
    """Whether decision points belong to one episode."""
    target_speed: float | None = None
    """Least ratio of logical tokens per second to TRL's."""

    def samples(self, vocab: int, seed: int = 0) -> list[list[Sample]]:
        """The samples of each decision point."""
        draw = random.Random(seed)
        trunk = _tokens(draw, vocab, self.prompt)
        points = []
        for _ in range(self.points):
            points.append([self._sample(draw, vocab, trunk) for _ in range(self.group)])
            fresh = _tokens(draw, vocab, self.step_tokens)
            trunk = trunk + fresh if self.shared else _tokens(draw, vocab, self.prompt)
        return points

    def _sample(self, draw: random.Random, vocab: int, prompt: tuple[int, ...]) -> Sample:
        segment = Segment(prompt_ids=prompt, token_ids=_tokens(draw, vocab, self.answer))
        return Sample(segments=(segment,), advantage=draw.gauss(0, 1))


def _tokens(draw: random.Random, vocab: int, count: int) -> tuple[int, ...]:
    return tuple(draw.randrange(vocab) for _ in range(count))


CASES = (
    Case(name="star", prompt=1024, answer=128, group=8, target_speed=3.0),
    Case(name="tree", prompt=1024, answer=128, group=8, points=8, step_tokens=192, target_speed=6.0),
    Case(name="nothing-shared", prompt=512, answer=512, group=1, points=8, shared=False, target_speed=0.95),
    Case(name="short", prompt=256, answer=64, group=4),
    Case(name="long", prompt=4096, answer=256, group=8),
)
SHAPES: dict[str, dict[str, int]] = {
    "small": {
        "hidden_size": 256,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 64,
        "intermediate_size": 512,
    },
    "qwen3-14b": {
        "hidden_size": 5120,
        "num_hidden_layers": 40,
        "num_attention_heads": 40,
        "num_key_value_heads": 8,
        "head_dim": 128,
        "intermediate_size": 17408,
    },
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """What both sides are given."""

    case: str
    shape: str
    vocab: int
    device: str
    lora: int
    """Rank; 0 trains all weights."""
    threads: int
    gradient_checkpointing: bool
    liger: bool = False
    """TRL's fused loss, where liger-kernel is installed."""

    @property
    def dtype(self) -> torch.dtype:
        """bfloat16 on CUDA."""
        return torch.bfloat16 if self.device == "cuda" else torch.float32


def build_model(setup: Setup) -> PreTrainedModel:
    """Random weights from a fixed seed, made on the device."""
    config = Qwen3Config(
        vocab_size=setup.vocab, max_position_embeddings=32768, tie_word_embeddings=False, **SHAPES[setup.shape]
    )
    torch.manual_seed(0)
    with torch.device("meta"):
        model = Qwen3ForCausalLM(config).to(setup.dtype)
    model.to_empty(device=setup.device)
    model.init_weights()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" not in name:
                parameter.normal_(0, 0.02)
    model.model.rotary_emb = type(model.model.rotary_emb)(config).to(setup.device)
    return model.eval()


def samples_of(setup: Setup) -> list[list[Sample]]:
    """The samples of the setup's case, by decision point."""
    case = next(case for case in CASES if case.name == setup.case)
    return case.samples(setup.vocab)


class Side(Protocol):
    """One of the two."""

    module: nn.Module
    optimizer: torch.optim.Optimizer

    def gradients(self) -> dict[str, Tensor]:
        """Of the loss, before clipping; no step is taken."""

    def step(self) -> dict[str, float | str]:
        """One update; whatever is worth reporting of it."""


class Engine:
    """The update of this project."""

    def __init__(self, setup: Setup) -> None:
        model = build_model(setup)
        module = with_adapter(model, LoraSettings(rank=setup.lora, alpha=2 * setup.lora)) if setup.lora else model
        self.module = module
        self.policy = Policy(module=module, tokenizer=cast("Any", None), device=torch.device(setup.device))
        compute = ComputeSettings(gradient_checkpointing=setup.gradient_checkpointing)
        optimizer = OptimizerSettings(learning_rate=LEARNING_RATE)
        self.settings = UpdateSettings(optimizer=optimizer, compute=compute, max_grad_norm=MAX_GRAD_NORM)
        self.samples = [sample for point in samples_of(setup) for sample in point]
        self.updater = Updater(self.policy, optimizer)
        self.optimizer = self.updater.optimizer

    def gradients(self) -> dict[str, Tensor]:
        """See `Side`."""
        self.updater.accumulate(self.samples, self.settings)
        found = _gradients(self.module)
        self.updater.optimizer.zero_grad(set_to_none=True)
        return found

    def step(self) -> dict[str, float | str]:
        """See `Side`."""
        report = self.updater.update(self.samples, self.settings)
        assert report.attention is not None, "there are samples"
        return {"computed": report.metrics["data/tokens_computed"], "attention": str(report.attention.kind)}


class Trl:
    """TRL's GRPOTrainer on the same samples, one decision point per forward."""

    def __init__(self, setup: Setup) -> None:
        warnings.simplefilter("ignore")
        self.device = torch.device(setup.device)
        self.trainer = _grpo_trainer(setup)
        self.trainer.current_gradient_accumulation_steps = 1
        self.module = self.trainer.model.to(self.device)
        self.module.train()
        self.parameters = [p for p in self.module.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(self.parameters, lr=LEARNING_RATE, weight_decay=0.0, fused=True)
        points = samples_of(setup)
        total = sum(sample.num_tokens for point in points for sample in point)
        self.inputs = [self._inputs(point, total) for point in points]

    def _inputs(self, point: Sequence[Sample], total: int) -> dict[str, Tensor]:
        segments = [sample.segments[0] for sample in point]
        prompts = torch.tensor([segment.prompt_ids for segment in segments])
        answers = torch.tensor([segment.token_ids for segment in segments])
        inputs = {
            "prompt_ids": prompts,
            "prompt_mask": torch.ones_like(prompts),
            "completion_ids": answers,
            "completion_mask": torch.ones_like(answers),
            "advantages": torch.tensor([sample.advantage for sample in point]),
            "num_items_in_batch": torch.tensor(float(total)),
        }
        return {name: tensor.to(self.device) for name, tensor in inputs.items()}

    def _accumulate(self) -> None:
        for inputs in self.inputs:
            loss = self.trainer.compute_loss(self.module, inputs)
            self.trainer.accelerator.backward(loss)

    def gradients(self) -> dict[str, Tensor]:
        """See `Side`."""
        self._accumulate()
        found = _gradients(self.module)
        self.optimizer.zero_grad(set_to_none=True)
        return found

    def step(self) -> dict[str, float | str]:
        """See `Side`."""
        self._accumulate()
        nn.utils.clip_grad_norm_(self.parameters, MAX_GRAD_NORM)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return {}


def _grpo_trainer(setup: Setup) -> Any:  # noqa: ANN401  # TRL is untyped
    from datasets import Dataset
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast
    from trl import GRPOConfig, GRPOTrainer

    core = Tokenizer(models.WordLevel({"<pad>": 0, "<eos>": 1}, unk_token="<pad>"))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, pad_token="<pad>", eos_token="<eos>")
    group = len(samples_of(setup)[0])
    size = max(2, group)
    config = GRPOConfig(
        output_dir=tempfile.mkdtemp(),
        use_cpu=setup.device == "cpu",
        bf16=setup.device == "cuda",
        report_to=[],
        per_device_train_batch_size=size,
        num_generations=size,
        gradient_accumulation_steps=1,
        gradient_checkpointing=setup.gradient_checkpointing,
        loss_type="dapo",
        beta=0.0,
        epsilon=EPSILON,
        use_liger_kernel=setup.liger,
    )
    linear = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    lora = LoraConfig(r=setup.lora, lora_alpha=2 * setup.lora, target_modules=linear, task_type="CAUSAL_LM")
    model = build_model(setup)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(LoraSettings().seed)
        return GRPOTrainer(
            model=model,
            reward_funcs=_no_reward,
            args=config,
            train_dataset=Dataset.from_dict({"prompt": ["a"] * size}),
            processing_class=tokenizer,
            peft_config=lora if setup.lora else None,
        )


def _no_reward(completions: list[str], **_: object) -> list[float]:
    return [0.0] * len(completions)


def _gradients(module: nn.Module) -> dict[str, Tensor]:
    """By parameter name, adapters' wrappers left out."""
    named = {name: p.grad for name, p in module.named_parameters() if p.grad is not None}
    return {name.replace("module.", ""): grad.detach().float().cpu().clone() for name, grad in named.items()}


class Memory:
    """The process's peak above what it held when this was made."""

    def __init__(self, device: str) -> None:
        gc.collect()
        self.cuda = device == "cuda"
        if self.cuda:
            torch.cuda.empty_cache()
        self.before = torch.cuda.memory_allocated() if self.cuda else _status_bytes("VmRSS")
        self.reset()

    def reset(self) -> None:
        """Forget the peak so far."""
        if self.cuda:
            torch.cuda.reset_peak_memory_stats()
        else:
            Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # resets the peak the kernel keeps

    def peak(self) -> int:
        """Bytes."""
        return (torch.cuda.max_memory_allocated() if self.cuda else _status_bytes("VmHWM")) - self.before


def _status_bytes(name: str) -> int:
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:"))


def tensor_peak(side: Side, setup: Setup) -> int:
    """Bytes of tensors at the fullest moment of a step, the optimizer's state among them, the weights not.

    On a CPU they are counted one by one as torch allocates and frees them, as CUDA's allocator counts; what the C
    library keeps of freed memory, and the code of libraries, is no part of it.
    """
    state = sum(t.nbytes for held in side.optimizer.state.values() for t in held.values() if isinstance(t, Tensor))
    if setup.device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        side.step()
        return torch.cuda.max_memory_allocated() - before + state
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        side.step()
    events = cast("Any", profiler.profiler).kineto_results.events()
    changes = sorted((event for event in events if event.name() == "[memory]"), key=lambda event: event.start_ns())
    return max(accumulate((event.nbytes() for event in changes), initial=0)) + state


def load_libraries(module: nn.Module, device: str) -> None:
    """One short forward and backward, so that code and buffers of libraries count as held before, on both sides."""
    module(input_ids=torch.zeros(1, 8, dtype=torch.long, device=device)).logits.sum().backward()
    module.zero_grad(set_to_none=True)


def work(kind: str, setup: Setup) -> None:
    """Obey `gradients <path>`, `step`, `tensors` and `quit`; answer each with a line of JSON."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever a library prints must not mix with the answers
    torch.set_num_threads(setup.threads)
    side: Side = Engine(setup) if kind == "engine" else Trl(setup)
    load_libraries(side.module, setup.device)
    memory = Memory(setup.device)
    for line in sys.stdin:
        command, _, argument = line.strip().partition(" ")
        if command == "quit":
            return
        answer: dict[str, float | str] = {}
        if command == "gradients":
            save_file(side.gradients(), argument)
            memory.reset()
        elif command == "tensors":
            answer = {"tensors": tensor_peak(side, setup)}
        else:
            answer = _timed(side, setup) | {"peak": memory.peak()}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


def _timed(side: Side, setup: Setup) -> dict[str, float | str]:
    """One step, by the clock and by what the threads of the process were given of the processors."""
    started, spent = time.perf_counter(), time.process_time()
    answer = side.step()
    if setup.device == "cuda":
        torch.cuda.synchronize()
    return answer | {"seconds": time.perf_counter() - started, "cpu_seconds": time.process_time() - spent}


def dump(setup: Setup) -> str:
    """As a command-line argument."""
    return json.dumps(asdict(setup))


def load(text: str) -> Setup:
    """Back from `dump`."""
    return Setup(**json.loads(text))
