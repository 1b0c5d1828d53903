"""The files of an ingest log's directory: its lock, its identity, its segments."""

from __future__ import annotations

import fcntl
import os
import uuid
from pathlib import Path

from otel_receiver.errors import ConfigError, LogLocked


def own_directory(directory: Path) -> int:
    """Lock the directory for this process; raises LogLocked naming the holder."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
        fd = os.open(directory / "lock", os.O_CREAT | os.O_RDWR, 0o600)
    except OSError as error:
        raise ConfigError(f"log directory {directory}: {error.strerror}; choose another with --log-dir") from error
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        holder = os.read(fd, 32).decode(errors="replace").strip() or "unknown"
        os.close(fd)
        raise LogLocked(
            f"ingest log {directory}: in use by process {holder}; stop it, or send the data to it over OTLP, "
            "or choose another directory with --log-dir"
        ) from error
    os.ftruncate(fd, 0)
    os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
    return fd


def read_identity(directory: Path, *, read_only: bool) -> str:
    """The log's random name; made at its first use."""
    path = directory / "identity"
    try:
        return path.read_text(encoding="ascii").strip()
    except FileNotFoundError:
        if read_only:
            raise ConfigError(f"log directory {directory}: holds no ingest log; check --log-dir") from None
    name = uuid.uuid4().hex
    temporary = path.with_suffix(".new")
    temporary.write_text(name + "\n", encoding="ascii")
    temporary.replace(path)
    sync_directory(directory)
    return name


def segment_path(directory: Path, start: int) -> Path:
    """Where the segment that begins at a position is."""
    return directory / f"{start:020d}.log"


def segment_starts(directory: Path) -> list[int]:
    """The positions at which segments begin, in order."""
    return sorted(int(path.stem) for path in directory.glob("*.log") if path.stem.isdigit())


def sync_directory(directory: Path) -> None:
    """Make a new or renamed file's name durable."""
    fd = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
