"""What the service does for ART's LocalBackend, which cannot run without CUDA: told to a backend that notes it down."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from trainer.art_service import ArtService, _internal_config, check_service
from trainer.backends.background import Background
from trainer.config import LoraConfig, RunConfig
from trainer.errors import RunError


class Noting:
    """The calls LocalBackend would get, at step 3."""

    def __init__(self) -> None:
        self.registered: list[tuple[int, str]] = []
        self.kept: list[int] = []

    async def _get_step(self, model):
        return 3

    async def _get_service(self, model):
        return self

    async def register_lora_for_step(self, step, directory):
        """As ART's own service has it."""
        self.registered.append((step, directory))

    async def _delete_checkpoint_files(self, model, steps_to_keep):
        self.kept = steps_to_keep


@pytest.fixture
def service(tmp_path):
    """An open service over such a backend."""
    background = Background("test")
    model = SimpleNamespace(base_path=str(tmp_path), name="run1", get_inference_name=lambda step: f"run1@{step}")
    yield ArtService(
        backend=Noting(), model=model, background=background, tokenizer=None, options={}, endpoint=None
    )  # fmt: skip
    background.close()


def test_an_evaluation_loads_the_adapter_of_a_version_before_it_asks(service, tmp_path):
    """LocalBackend serves the newest one by itself; the base's lies where ART put it."""
    service.offer(3)
    service.offer(0)
    directory = tmp_path / "spanloop" / "models" / "run1" / "checkpoints" / "0000"
    assert [(0, str(directory))] == service.backend.registered
    assert "run1@0" == service.location(0), "a service's name where there is no directory"
    directory.mkdir(parents=True)
    assert str(directory) == service.location(0)


def test_the_base_the_promoted_and_the_newest_versions_are_kept(service):
    """Everything else goes."""
    service.prune(2, protected=[1])
    assert [0, 1, 2, 3] == service.backend.kept
    service.prune(1)
    assert [0, 3] == service.backend.kept


def test_the_run_files_adapter_is_the_one_local_backend_trains():
    """Rank, scale and modules under ART's names; without the section ART's own defaults stand."""
    lora = LoraConfig(r=4, lora_alpha=8, target_modules=("q_proj", "v_proj"))
    assert {"peft_args": {"r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "v_proj"]}} == _internal_config(lora)
    assert {"peft_args": {"r": 16, "lora_alpha": 32}} == _internal_config(LoraConfig())
    assert _internal_config(None) is None


@pytest.mark.parametrize(
    ("backend", "told"), [("art_local", "needs a CUDA device"), ("art_serverless", "WANDB_API_KEY")]
)
def test_what_a_backend_lacks_is_named(monkeypatch, backend, told):
    """The setting, the missing thing and the way out."""
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    config = RunConfig.model_validate({"train": {"backend": backend}})
    with pytest.raises(RunError, match=rf'train\.backend = "{backend}": .*{told}.*use torch'):
        check_service(config)


def test_a_missing_package_is_named(monkeypatch):
    """ServerlessBackend imports wandb while it trains; that is said beforehand."""
    monkeypatch.setenv("WANDB_API_KEY", "k")
    monkeypatch.setattr("trainer.backends.factory.importlib.util.find_spec", lambda name: None)
    with pytest.raises(RunError, match="needs wandb; `pip install wandb`, or use torch"):
        check_service(RunConfig.model_validate({"train": {"backend": "art_serverless"}}))
