"""The gate of a promotion, on comparisons written by hand; the link; rollbacks."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, replace

import pytest

from trainer.config import PromotionConfig, RunConfig
from trainer.errors import PromotionError
from trainer.registry import current_checkpoint, promote, promoted_paths, rollback
from trainer.rows import CheckpointRow, ComparisonRow, RunRow, now
from trainer.runs import Run, load_run
from trainer.workspace import Workspace

SPEC = '{"name": "r", "criteria": [], "gates": [{"criterion": "correct", "threshold": 1.0, "cap": 0.0}]}'


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """An aspect's gain and lower bound on held-out points."""

    aspect: str
    temperature: float
    low: float | None


GOOD = (
    Found(aspect="reward", temperature=1.0, low=0.05),
    Found(aspect="reward", temperature=0.0, low=0.01),
    Found(aspect="correct", temperature=1.0, low=-0.02),
    Found(aspect="correct", temperature=0.0, low=0.0),
    Found(aspect="style", temperature=1.0, low=-0.5),
)
"""A proven gain; a gated criterion at the edge of the margin; an ungated one that fell."""


@pytest.fixture
def workspace(tmp_path):
    """A fresh workspace."""
    return Workspace.open(tmp_path / "ws", create=True)


def add_run(workspace: Workspace, run_id: str = "run1", *, found=GOOD, control=None, pool="heldout") -> Run:
    """A run with a checkpoint of step 2 and these comparisons."""
    path = workspace.folder / "checkpoints" / run_id
    path.mkdir(parents=True)
    run = RunRow(
        run_id=run_id, created_at=now(), control=control, seed=1, config=RunConfig().model_dump_json(), base="base",
        reward_name="r", spec_hash="h", reward_spec=SPEC, max_steps=2, left_out="{}",
    )  # fmt: skip
    checkpoint = CheckpointRow(
        checkpoint_id=f"{run_id}:2", run_id=run_id, step=2, policy_version=2, path=f"checkpoints/{run_id}",
        saved_at=now(),
    )  # fmt: skip
    workspace.insert([run, checkpoint, *(comparison(run_id, item, pool) for item in found)])
    return load_run(workspace, run_id)


def comparison(run_id: str, item: Found, pool: str = "heldout") -> ComparisonRow:
    """A comparison of base and tuned over all step indices."""
    return ComparisonRow(
        comparison_id=uuid.uuid4().hex, run_id=run_id, pool=pool, baseline="base", candidate="tuned",
        temperature=item.temperature, aspect=item.aspect, step_index=None, policy_version=2, baseline_mean=0.5,
        candidate_mean=0.6, gain=0.1, gain_low=item.low, gain_high=0.2, relative_gain=0.2, relative_low=0.1,
        relative_high=0.4, num_points=100, num_clusters=20, num_unscored=0, confidence=0.95, num_bootstrap=2000,
        compared_at=now(),
    )  # fmt: skip


def with_low(aspect: str, temperature: float, low: float | None) -> tuple[Found, ...]:
    """GOOD with one lower bound changed."""
    return tuple(
        replace(item, low=low) if (item.aspect, item.temperature) == (aspect, temperature) else item for item in GOOD
    )


def test_a_proven_gain_is_promoted(workspace):
    """The lower bounds are above zero, the gated criterion within the margin; an ungated one may fall."""
    row = promote(workspace, add_run(workspace), PromotionConfig())
    assert ("promoted", "run1:2", None) == (row.action, row.checkpoint_id, row.previous_checkpoint_id)
    assert "run1:2" == current_checkpoint(workspace)
    assert (workspace.folder / "current").resolve() == workspace.folder / "checkpoints/run1"


@pytest.mark.parametrize(
    ("found", "told"),
    [
        (with_low("reward", 1.0, 0.0), "reward at temperature 1: the gain's lower bound +0.0000 is not above 0"),
        (with_low("reward", 0.0, -0.01), "reward at temperature 0: the gain's lower bound -0.0100 is not above 0"),
        (with_low("reward", 0.0, None), "reward at temperature 0: too few conversations for an interval"),
        (with_low("correct", 1.0, -0.0201), "correct at temperature 1: may have fallen"),
        (GOOD[:1], "no comparison at temperature 0"),
        ((), "it has not been compared on held-out conversations"),
    ],
)
def test_what_is_not_proven_is_refused_and_the_refusal_recorded(workspace, found, told):
    """Each condition of the gate on its own."""
    with pytest.raises(PromotionError) as error:
        promote(workspace, add_run(workspace, found=found), PromotionConfig())
    assert told in str(error.value)
    ((action, reason),) = workspace.query("SELECT action, reason FROM promotions")
    assert action == "refused"
    assert told in reason
    assert current_checkpoint(workspace) is None
    assert not (workspace.folder / "current").exists()


def test_validation_points_are_no_evidence(workspace):
    """Settings are chosen on them."""
    with pytest.raises(PromotionError, match="has not been compared on held-out"):
        promote(workspace, add_run(workspace, pool="validation"), PromotionConfig())


def test_a_control_run_is_refused_whatever_it_shows(workspace):
    """Shuffled rewards teach nothing, so a gain is a wrong measurement."""
    with pytest.raises(PromotionError, match=r"is a control run \(shuffled rewards\)"):
        promote(workspace, add_run(workspace, control="shuffled"), PromotionConfig())


def test_the_newest_comparison_counts(workspace):
    """A later look that found less refuses."""
    run = add_run(workspace)
    workspace.insert([comparison("run1", Found(aspect="reward", temperature=1.0, low=-0.1))])
    with pytest.raises(PromotionError, match=r"lower bound -0\.1000"):
        promote(workspace, run, PromotionConfig())


def test_a_larger_gain_can_be_demanded(workspace):
    """`promotion.min_gain` moves the bar."""
    with pytest.raises(PromotionError, match=r"is not above 0\.03"):
        promote(workspace, add_run(workspace), PromotionConfig(min_gain=0.03))


def test_a_checkpoint_whose_directory_is_gone_is_refused(workspace):
    """The link never leads nowhere."""
    run = add_run(workspace)
    (workspace.folder / "checkpoints/run1").rmdir()
    with pytest.raises(PromotionError, match="its directory checkpoints/run1 is gone"):
        promote(workspace, run, PromotionConfig())


def test_rollbacks_go_back_one_promotion_at_a_time(workspace):
    """Two promotions, two rollbacks, then the base, then nothing to take back."""
    for run_id in ("run1", "run2"):
        promote(workspace, add_run(workspace, run_id), PromotionConfig())
    assert {"run1", "run2"} == {path.name for path in promoted_paths(workspace)}
    assert "run1:2" == rollback(workspace).checkpoint_id
    assert (workspace.folder / "current").resolve().name == "run1"
    assert rollback(workspace).checkpoint_id is None
    assert not (workspace.folder / "current").exists()
    with pytest.raises(PromotionError, match="nothing is promoted"):
        rollback(workspace)
