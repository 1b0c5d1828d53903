"""Every error the trainer raises on purpose: one base class, so that the CLI knows what to print without a traceback.

To add one, subclass `TrainerError`; its message names the thing, the value and the remedy.
"""

from __future__ import annotations


class TrainerError(Exception):
    """What went wrong, in words for the person who runs the trainer."""


class ConfigError(TrainerError):
    """The run file, or a flag, says something that cannot be done."""


class SourceError(TrainerError):
    """The place episodes are pulled from cannot be read."""


class WorkspaceError(TrainerError):
    """The trainer's own database cannot be used, or does not hold what was asked for."""


class DatasetError(TrainerError):
    """The decision points at hand do not allow what was asked."""


class RewardSpecError(TrainerError):
    """A reward specification is wrong; the message names the file and the key."""


class RunError(TrainerError):
    """A run cannot start, continue or be evaluated."""


class PromotionError(TrainerError):
    """The registry refuses a promotion or a rollback, and says why."""
