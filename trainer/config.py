"""The run file: what `trainer` reads from TOML, with a default and a unit for every setting.

Options have the names of TRL's `GRPOConfig` wherever they mean the same. Unknown keys fail, with the nearest valid key
in the message. Defaults < TOML < flags; the resolved configuration is saved with each run. Nothing here imports torch.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from trainer.errors import ConfigError
from trainer.explain import explain

Scalar = str | int | float | bool
TomlValue = Scalar | list["TomlValue"] | dict[str, "TomlValue"]
TomlTable = dict[str, TomlValue]


class Section(BaseModel):
    """A frozen part of the run file; unknown keys fail."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, validate_default=True)


class LoraConfig(Section):
    """Low-rank adapters instead of full weights; the section's presence turns them on."""

    r: int = Field(default=16, ge=1)
    """Rank of the adapters (the name peft has for it)."""
    lora_alpha: int = Field(default=32, ge=1)
    """Scale of the adapters: the update is multiplied by `lora_alpha / r`. There is no dropout: with it the learner
    would not compute the log-probabilities the sampler saw."""
    target_modules: str | tuple[str, ...] = "all-linear"
    """Modules that get adapters: `all-linear` or a list of module names."""


class PolicyConfig(Section):
    """The model that is trained."""

    base: str | None = None
    """Directory of a transformers model with its tokenizer (safetensors). Relative to the run file's folder."""
    lora: LoraConfig | None = None
    """Absent: all weights are trained."""
    device: str = "auto"
    """`auto` (a GPU when there is one), `cpu`, `cuda`, `cuda:1`."""
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """`auto`: bfloat16 on a GPU, float32 on a CPU."""


class DataConfig(Section):
    """Which decision points are used, and how conversations are split."""

    agents: tuple[str, ...] = ()
    """Only these agents; empty: all."""
    dialects: tuple[str, ...] = ()
    """Only episodes reported in these dialects; empty: all."""
    since: str | None = None
    """Only steps that started at or after this time (ISO 8601, UTC when it names no zone)."""
    until: str | None = None
    """Only steps that started before this time."""
    steps: tuple[int, ...] = ()
    """Only these step indices; empty: all."""
    validation: float = Field(default=0.1, ge=0, lt=1)
    """Share of conversations on which settings are chosen and runs are watched."""
    heldout: float = Field(default=0.2, ge=0, lt=1)
    """Share of conversations that nothing is chosen on; `eval` opens it and the workspace notes each opening."""
    seed: int = 0
    """Of the split. A conversation keeps its pool for one seed, however many arrive later."""
    max_prompt_chars: int = Field(default=200_000, ge=1)
    """Points whose messages and tools are longer, in characters of JSON, are left out and counted."""

    @model_validator(mode="after")
    def _leave_something_to_train_on(self) -> DataConfig:
        if self.validation + self.heldout >= 1:
            raise ValueError(f"validation {self.validation} + heldout {self.heldout} leave nothing to train on")
        return self


class RolloutsConfig(Section):
    """Where answers come from."""

    sampler: Literal["in_process", "vllm"] = "in_process"
    """`in_process`: the very module that is trained answers, batched, with a KV cache. `vllm`: servers (`[vllm]`). With
    one of ART's own backends neither: its endpoint answers (`[art]`)."""
    rows_max: int = Field(default=512, ge=1)
    """Answers sampled at a time."""
    kv_bytes_max: int = Field(default=2**30, ge=1)
    """Bytes of keys and values held at a time; raise it to a good part of a GPU's free memory."""


class VllmConfig(Section):
    """vLLM servers, for `rollouts.sampler = "vllm"`: one that is started for the run, or running ones."""

    python: str | None = None
    """The interpreter of the environment vLLM is installed in; a server is started with it. Relative to the run file's
    folder."""
    urls: tuple[str, ...] = ()
    """Servers that run already, instead of one to start; they must accept adapters at run time."""
    model_name: str = "policy"
    """What the servers call the base policy."""
    port: int | None = Field(default=None, ge=1, le=65535)
    """Of the server to start; absent: a free one."""
    dtype: Literal["bfloat16", "float16", "float32"] = "bfloat16"
    """Precision of the server to start."""
    max_model_len: int | None = Field(default=None, ge=1)
    """Tokens of prompt and answer together; absent: what the model was made for."""
    on_cpu: bool | None = None
    """Whether the server to start computes on the CPU; absent: where there is no CUDA device."""
    share_gpu: bool = False
    """The servers give their memory back while the policy is updated: for a GPU both use."""
    start_timeout_s: float = Field(default=600.0, gt=0)
    """Seconds a server may take to start."""
    stop_timeout_s: float = Field(default=20.0, gt=0)
    """Seconds a server may take to end before it is killed."""
    request_timeout_s: float = Field(default=600.0, gt=0)
    """Seconds one group of answers may take."""
    recover_timeout_s: float = Field(default=120.0, gt=0)
    """Seconds a server may be unwell: then ours is started again, and one of `urls` is given up."""
    restarts_max: int = Field(default=10, ge=0)
    """Crashes of the server a run survives."""
    concurrent_requests_max: int = Field(default=64, ge=1)
    """Groups asked for at a time, over all servers."""
    extra_arguments: tuple[str, ...] = ()
    """Further arguments of the server to start, such as `--gpu-memory-utilization=0.5`."""

    @model_validator(mode="after")
    def _one_kind_of_server(self) -> VllmConfig:
        if self.urls and self.python is not None:
            raise ValueError("vllm.urls and vllm.python: give running servers or an environment to start one in")
        return self


class ArtConfig(Section):
    """ART's own backends, for `train.backend = "art_local"` or `"art_serverless"`."""

    base_model: str | None = None
    """What the backend calls the base policy, such as a name on a model hub; absent: `policy.base`, whose tokenizer the
    trainer needs in any case."""
    base_url: str | None = None
    """Where `art_serverless` is asked; absent: the service ART names."""
    options: dict[str, Scalar] = Field(default_factory=dict)
    """Further options of the backend's `train`, under ART's names, such as `precalculate_logprobs`."""
    request_timeout_s: float = Field(default=600.0, gt=0)
    """Seconds one group of answers may take."""
    concurrent_requests_max: int = Field(default=64, ge=1)
    """Groups asked for at a time."""


class RewardConfig(Section):
    """How answers are scored."""

    spec: str | None = None
    """Path of the reward specification (TOML). Relative to the run file's folder."""
    cache_entries_max: int = Field(default=100_000, ge=0)
    """Rewards remembered per run, by state, answer and specification."""


class TrainConfig(Section):
    """The update: how many answers, which loss, which optimizer. Names as in TRL's `GRPOConfig` where equal."""

    backend: Literal["torch", "art_local", "art_serverless"] = "torch"
    """What computes the update: this project's own engine, or one of ART's backends."""
    max_steps: int = Field(default=4, ge=1)
    """GRPO steps (one sampling of fresh answers each)."""
    points_per_step: int = Field(default=64, ge=1)
    """Decision points answered in a step."""
    num_generations: int = Field(default=8, ge=2)
    """Answers per decision point (the group size)."""
    temperature: float = Field(default=1.0, gt=0)
    """Of sampling."""
    top_p: float = Field(default=1.0, gt=0, le=1)
    """Of sampling; below 1 the sampled distribution is no longer the trained one."""
    max_completion_length: int = Field(default=512, ge=1)
    """Tokens an answer may have."""
    loss_type: Literal["grpo", "bnpo", "dr_grpo", "dapo", "cispo"] = "dapo"
    """How token losses are averaged."""
    epsilon: float = Field(default=0.2, gt=0)
    """Lower clip range of the importance ratio."""
    epsilon_high: float | None = Field(default=None, gt=0)
    """Upper clip range; absent: `epsilon`."""
    delta: float | None = Field(default=None, gt=1)
    """Cap of the ratio for negative advantages (two-sided clipping); absent: none."""
    beta: float = Field(default=0.0, ge=0)
    """Weight of the KL divergence from the base policy; 0 needs no reference policy."""
    scale_rewards: Literal["group", "batch", "none"] = "group"
    """What the advantages are divided by: the group's standard deviation, the batch's, or nothing."""
    importance_sampling_level: Literal["token", "sequence"] = "token"
    """Whether the ratio is of each token or of the answer (GSPO)."""
    learning_rate: float = Field(default=1e-5, gt=0)
    """Of the optimizer."""
    optim: Literal["adamw", "sgd"] = "adamw"
    """The optimizer."""
    adam_beta1: float = Field(default=0.9, ge=0, lt=1)
    """AdamW's first moment decay."""
    adam_beta2: float = Field(default=0.999, ge=0, lt=1)
    """AdamW's second moment decay."""
    momentum: float = Field(default=0.9, ge=0, lt=1)
    """SGD's momentum."""
    weight_decay: float = Field(default=0.0, ge=0)
    """Decoupled weight decay."""
    max_grad_norm: float = Field(default=1.0, gt=0)
    """The gradient is scaled down to this norm."""
    num_iterations: int = Field(default=1, ge=1)
    """Passes over the answers of one step."""
    num_minibatches: int = Field(default=1, ge=1)
    """Optimizer updates per pass."""
    lr_scheduler_type: Literal["constant", "linear", "cosine"] = "constant"
    """How the learning rate falls until the last step."""
    warmup_steps: int = Field(default=0, ge=0)
    """Optimizer updates over which the learning rate rises."""
    kl_budget: float | None = Field(default=None, gt=0)
    """The run stops before the policy is further than this from its base, in nats per token; absent: no limit."""
    micro_batch_tokens: int = Field(default=8192, ge=1)
    """Tokens computed at once in the update, at most; lower it when memory runs out."""
    micro_batch_enough: int | None = Field(default=None, ge=1)
    """Tokens from which such a batch ends where the next answer shares little with it; absent: 512 on a CPU, 4096 on a
    GPU."""
    gradient_checkpointing: bool = False
    """Recompute each layer in the backward pass: less memory, more time."""
    seed: int = 42
    """Of batches, sampling and training."""
    num_threads: int | None = Field(default=None, ge=1)
    """CPU threads torch computes with; equal runs need equally many, so a run keeps those it started with. Absent: what
    torch chooses then."""
    save_total_limit: int = Field(default=4, ge=1)
    """Checkpoints kept on disk, newest first; a promoted one stays."""
    eval_every: int = Field(default=0, ge=0)
    """Steps between evaluations on the validation pool during a run; 0: only before and after."""


class EvalConfig(Section):
    """How policies are compared."""

    num_samples: int = Field(default=4, ge=1)
    """Answers per point at temperatures above 0; greedy takes one."""
    temperatures: tuple[float, ...] = (1.0, 0.0)
    """Temperatures at which base and tuned policy are compared; 0 is greedy."""
    base_temperatures: tuple[float, ...] = (0.3, 0.6)
    """Further temperatures for the base alone, so that a gain is not mere sharpening."""
    max_points: int = Field(default=1000, ge=1)
    """Points evaluated, drawn evenly over steps."""
    validation_points: int = Field(default=64, ge=0)
    """Points of the validation pool evaluated during a run; 0: none."""
    bootstrap_samples: int = Field(default=2000, ge=100)
    """Resamplings behind each interval."""
    confidence: float = Field(default=0.95, gt=0.5, lt=1)
    """Coverage of each interval."""
    seed: int = 7
    """Of point choice, sampling and bootstrap."""


class MetricsConfig(Section):
    """Where else the figures of every update go; the workspace has them in any case."""

    tensorboard: str | None = None
    """Directory of TensorBoard event files. Relative to the run file's folder."""
    mlflow: str | None = None
    """Tracking URI of an MLflow server or store."""
    wandb: str | None = None
    """Project of Weights & Biases."""


class PromotionConfig(Section):
    """What a checkpoint must show before it becomes the current policy."""

    min_gain: float = Field(default=0.0, ge=0)
    """The lower bound of the paired gain must be above this, at each temperature."""
    max_regression: float = Field(default=0.02, ge=0)
    """How far the lower bound of a gated criterion's change may lie below 0 (a non-inferiority margin)."""


class WatchConfig(Section):
    """When `trainer watch` pulls and trains."""

    poll_s: float = Field(default=30.0, gt=0)
    """Seconds between two looks at the source."""
    train_after_points: int = Field(default=256, ge=1)
    """New decision points that start a run."""
    max_runs: int = Field(default=100, ge=1)
    """Runs after which watching ends."""
    max_failures: int = Field(default=10, ge=1)
    """Failed looks in a row after which watching ends."""


class RunConfig(Section):
    """The whole run file."""

    policy: PolicyConfig = PolicyConfig()
    data: DataConfig = DataConfig()
    rollouts: RolloutsConfig = RolloutsConfig()
    vllm: VllmConfig = VllmConfig()
    art: ArtConfig = ArtConfig()
    reward: RewardConfig = RewardConfig()
    train: TrainConfig = TrainConfig()
    eval: EvalConfig = EvalConfig()
    metrics: MetricsConfig = MetricsConfig()
    promotion: PromotionConfig = PromotionConfig()
    watch: WatchConfig = WatchConfig()


_PATHS = (("policy", "base"), ("reward", "spec"), ("vllm", "python"), ("metrics", "tensorboard"))
_LINKS_KEPT = frozenset({("vllm", "python")})
"""Not followed: an environment's interpreter is a link to another, and finds its packages by where the link lies."""


def load_config(path: Path | None, overrides: Mapping[str, str] | None = None) -> RunConfig:
    """The run file with the flags on top (`overrides` maps `section.key` to TOML text); relative paths made absolute.

    Raises `ConfigError` naming the file, the key and what would be valid.
    """
    tables = _read(path) if path is not None else {}
    _make_absolute(tables, path.parent if path is not None else Path())
    given = _override_tables(overrides or {})
    _make_absolute(given, Path())
    origin = str(path) if path is not None else "the flags"
    return _validate(_merge(tables, given), origin)


def load_resolved(text: str) -> RunConfig:
    """The configuration saved with a run."""
    return RunConfig.model_validate_json(text)


def _read(path: Path) -> TomlTable:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"run file {path}: not found; name an existing TOML file with --config") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"run file {path}: not valid TOML: {error}") from None
    except OSError as error:
        raise ConfigError(f"run file {path}: cannot be read: {error.strerror}") from None


def _make_absolute(tables: TomlTable, folder: Path) -> None:
    for section, key in _PATHS:
        table = tables.get(section)
        if isinstance(table, dict) and isinstance(value := table.get(key), str):
            path = (folder / Path(value).expanduser()).absolute()
            table[key] = str(path if (section, key) in _LINKS_KEPT else path.resolve())


def _override_tables(overrides: Mapping[str, str]) -> TomlTable:
    tables: TomlTable = {}
    for dotted, text in overrides.items():
        *sections, key = dotted.split(".")
        table = tables
        for section in sections:
            nested = table.setdefault(section, {})
            if not isinstance(nested, dict):
                raise ConfigError(f"flag {dotted}: {section} is a value, not a section")
            table = nested
        table[key] = _toml_value(text)
    return tables


def _toml_value(text: str) -> TomlValue:
    """What TOML makes of the text; text that is no TOML value is a string."""
    try:
        value: TomlValue = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text
    return value


def _merge(below: TomlTable, above: TomlTable) -> TomlTable:
    merged = dict(below)
    for key, value in above.items():
        old = merged.get(key)
        merged[key] = _merge(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return merged


def _validate(tables: TomlTable, origin: str) -> RunConfig:
    try:
        return RunConfig.model_validate(tables)
    except ValidationError as error:
        raise ConfigError(f"{origin}: {explain(error, option_names())}") from None


def option_names() -> tuple[str, ...]:
    """Every key of the run file, dotted, in the order of the file."""
    return tuple(_names_of(RunConfig, ""))


def _names_of(section: type[Section], prefix: str) -> list[str]:
    names: list[str] = []
    for key, field in section.model_fields.items():
        names.append(prefix + key)
        nested = LoraConfig if key == "lora" else field.annotation
        if isinstance(nested, type) and issubclass(nested, Section):
            names += _names_of(nested, f"{prefix}{key}.")
    return names
