"""How many CPU threads torch computes with: sums split over another number of threads round otherwise."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from trainer.config import RunConfig


def with_threads(config: RunConfig) -> RunConfig:
    """The configuration with the number of threads filled in, so that the run keeps it wherever it is resumed."""
    chosen = config.train.num_threads or torch.get_num_threads()
    return config.model_copy(update={"train": config.train.model_copy(update={"num_threads": chosen})})


@contextmanager
def torch_threads(num_threads: int | None) -> Iterator[None]:
    """Compute with so many threads within the block; `None` changes nothing (a run older than the setting)."""
    before = torch.get_num_threads()
    torch.set_num_threads(num_threads or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)
