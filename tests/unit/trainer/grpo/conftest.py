"""Tests marked `gpu` run where there is one."""

import pytest
import torch


def pytest_collection_modifyitems(config, items):
    """Deselect what needs CUDA on machines without it."""
    if torch.cuda.is_available():
        return
    needing = [item for item in items if item.get_closest_marker("gpu")]
    config.hook.pytest_deselected(items=needing)
    items[:] = [item for item in items if item not in needing]


@pytest.fixture(autouse=True)
def _one_thread():
    """Small tensors gain nothing from threads; the tests after these get theirs back, since sums depend on them."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
