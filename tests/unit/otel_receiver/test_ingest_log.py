"""The ingest log: what was acknowledged is there after any stop, whatever the end of the file looks like."""

import os
import resource
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from otel_receiver.config import LogConfig
from otel_receiver.errors import LogEntryMissing, LogLocked, LogMismatch, LogWriteFailed
from otel_receiver.ingest_log import HEADER, IngestLog, Signal


def open_log(directory: Path, segment_bytes: int = 1 << 20, *, read_only: bool = False, **limits) -> IngestLog:
    """A log with small segments."""
    return IngestLog(directory, LogConfig(segment_bytes=segment_bytes, **limits), read_only=read_only)


def payloads(log: IngestLog, position: int = 0) -> list[bytes]:
    """What is readable from a position on."""
    return [entry.payload for entry in log.read(position)]


def test_an_entry_is_read_back_whole_from_its_position(tmp_path):
    """Signal, payload and time of arrival survive; the next entry begins where this one ends."""
    log = open_log(tmp_path)
    first = log.append(Signal.TRACES, b"one", 11)
    second = log.append(Signal.LOGS, b"", 12)
    entry = log.entry(first)
    assert (b"one", Signal.TRACES, 11) == (entry.payload, entry.signal, entry.received_at)
    assert second == entry.next_position == HEADER.size + 3
    assert Signal.LOGS is log.entry(second).signal
    log.close()


def test_positions_go_on_over_segments_and_restarts(tmp_path):
    """Small segments and a reopened log give one sequence, readable from its middle."""
    log = open_log(tmp_path, segment_bytes=100)
    positions = [log.append(Signal.TRACES, bytes([index]) * 40, index) for index in range(5)]
    log.close()
    log = open_log(tmp_path, segment_bytes=100)
    positions.append(log.append(Signal.TRACES, b"\x05" * 40, 5))
    assert [61 * index for index in range(6)] == positions
    assert [bytes([index]) * 40 for index in range(2, 6)] == payloads(log, positions[2])
    assert 3 == log.size.segments == len(list(tmp_path.glob("*.log")))
    log.close()


@pytest.mark.parametrize("cut", [1, 5, 20, 21, 24])
def test_a_torn_tail_is_cut_and_the_rest_kept(tmp_path, cut):
    """Whatever byte a crash stopped at in the last entry, the entries before it stay and new ones follow them."""
    log = open_log(tmp_path)
    log.append(Signal.TRACES, b"kept", 1)
    torn = log.append(Signal.TRACES, b"torn!", 2)
    log.close()
    os.truncate(tmp_path / f"{0:020d}.log", torn + cut)
    log = open_log(tmp_path)
    assert torn == log.end
    log.append(Signal.TRACES, b"after", 3)
    assert [b"kept", b"after"] == payloads(log)
    log.close()


def test_damage_in_the_middle_costs_only_the_damaged_entry(tmp_path):
    """A flipped byte in one payload hides that entry; its neighbours are read, and it is missing by position."""
    log = open_log(tmp_path)
    log.append(Signal.TRACES, b"first", 1)
    damaged = log.append(Signal.TRACES, b"second", 2)
    log.append(Signal.TRACES, b"third", 3)
    log.close()
    path = tmp_path / f"{0:020d}.log"
    data = bytearray(path.read_bytes())
    data[damaged + HEADER.size] ^= 0xFF
    path.write_bytes(data)
    log = open_log(tmp_path)
    assert [b"first", b"third"] == payloads(log)
    with pytest.raises(LogEntryMissing, match=f"position {damaged}"):
        log.entry(damaged)
    log.close()


def test_concurrent_appenders_share_syncs_and_lose_nothing(tmp_path, monkeypatch):
    """Eight threads append 50 entries each: all are there once, with fewer syncs than entries."""
    log = open_log(tmp_path, segment_bytes=4096)
    syncs = []
    real = os.fdatasync
    monkeypatch.setattr(os, "fdatasync", lambda fd: (syncs.append(fd), real(fd)))

    def work(worker: int) -> None:
        for index in range(50):
            log.append(Signal.TRACES, f"{worker}-{index}".encode() * 5, index)

    threads = [threading.Thread(target=work, args=(worker,)) for worker in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(f"{w}-{i}".encode() * 5 for w in range(8) for i in range(50)) == sorted(payloads(log))
    assert len(syncs) < 400
    log.close()


def test_nothing_is_readable_before_it_is_durable(tmp_path, monkeypatch):
    """While a sync is under way the entry is neither acknowledged nor readable."""
    log = open_log(tmp_path)
    log.append(Signal.TRACES, b"a", 1)
    release, reached = threading.Event(), threading.Event()
    real = os.fdatasync
    monkeypatch.setattr(os, "fdatasync", lambda fd: (reached.set(), release.wait(10), real(fd)))
    thread = threading.Thread(target=log.append, args=(Signal.TRACES, b"b", 2))
    thread.start()
    assert reached.wait(10)
    assert [b"a"] == payloads(log)
    release.set()
    thread.join()
    assert [b"a", b"b"] == payloads(log)
    log.close()


def test_a_failed_sync_acknowledges_nothing_and_the_log_goes_on(tmp_path, monkeypatch):
    """After an I/O error in fdatasync the entry is gone, the error is retryable, and the next entry is kept."""
    log = open_log(tmp_path)
    log.append(Signal.TRACES, b"before", 1)

    def fail(fd: int) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fdatasync", fail)
        with pytest.raises(LogWriteFailed, match="nothing was acknowledged"):
            log.append(Signal.TRACES, b"lost", 2)
    log.append(Signal.TRACES, b"after", 3)
    log.close()
    log = open_log(tmp_path)
    assert [b"before", b"after"] == payloads(log)
    log.close()


def test_a_full_disk_is_a_retryable_error_and_leaves_no_half_entry(tmp_path):
    """With a file size limit of the kernel reached, append raises; with room again the log goes on."""
    code = """
import resource, signal, sys
from pathlib import Path
from otel_receiver.config import LogConfig
from otel_receiver.errors import LogWriteFailed
from otel_receiver.ingest_log import IngestLog, Signal
log = IngestLog(Path(sys.argv[1]), LogConfig())
log.append(Signal.TRACES, b"x" * 600, 1)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
try:
    log.append(Signal.TRACES, b"y" * 600, 2)
except LogWriteFailed as error:
    print(error)
log.append(Signal.TRACES, b"z" * 60, 3)
log.close()
"""
    command = [sys.executable, "-c", code, str(tmp_path)]
    result = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60)
    assert "" == result.stderr
    assert "free disk space" in result.stdout
    log = open_log(tmp_path)
    assert [b"x" * 600, b"z" * 60] == payloads(log)
    log.close()
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] in (resource.RLIM_INFINITY, -1)


def test_a_second_owner_is_told_who_holds_the_log(tmp_path):
    """The error names the directory, the process and the way out; a reader is let in."""
    log = open_log(tmp_path)
    log.append(Signal.TRACES, b"a", 1)
    with pytest.raises(LogLocked, match=f"process {os.getpid()}; .*--log-dir"):
        open_log(tmp_path)
    reader = open_log(tmp_path, read_only=True)
    assert [b"a"] == payloads(reader)
    assert log.identity == reader.identity
    reader.close()
    log.close()


def test_retiring_deletes_whole_old_segments_below_the_position_only(tmp_path):
    """Over the byte limit, processed segments go, oldest first; the one that holds the position stays."""
    log = open_log(tmp_path, segment_bytes=50, retain_bytes_max=1)
    positions = [log.append(Signal.TRACES, b"p" * 40, index) for index in range(4)]
    assert 2 == log.retire(positions[2] + 5)
    assert [positions[2], positions[3]] == [entry.position for entry in log.read(0)]
    with pytest.raises(LogEntryMissing, match="retain_hours"):
        log.entry(positions[0])
    log.close()


def test_retiring_by_age_keeps_young_segments(tmp_path):
    """A processed segment stays until it is `retain_hours` old."""
    log = open_log(tmp_path, segment_bytes=50, retain_hours=1)
    for index in range(3):
        log.append(Signal.TRACES, b"p" * 40, index)
    assert 0 == log.retire(log.end)
    oldest = tmp_path / f"{0:020d}.log"
    os.utime(oldest, (0, 0))
    assert 1 == log.retire(log.end)
    assert not oldest.exists()
    log.close()


def test_a_position_of_another_log_is_refused(tmp_path):
    """Reading beyond the end says that the store belongs to another log, instead of reading nothing for ever."""
    log = open_log(tmp_path)
    with pytest.raises(LogMismatch, match="another log"):
        next(log.read(10_000))
    log.close()


def test_a_closed_log_takes_nothing(tmp_path):
    """A request that outlives the shutdown is refused; another process may own the directory by then."""
    log = open_log(tmp_path)
    log.append(Signal.TRACES, b"a", 1)
    log.close()
    with pytest.raises(LogWriteFailed, match="nothing was acknowledged"):
        log.append(Signal.TRACES, b"b", 2)
    owner = open_log(tmp_path)
    assert [b"a"] == payloads(owner)
    owner.close()
