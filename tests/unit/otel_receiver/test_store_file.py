"""The file itself: who holds it, what a crash leaves, which files are refused."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb
import pytest

from otel_receiver.batch import WriteBatch
from otel_receiver.config import StoreConfig
from otel_receiver.errors import StoreBusy, StoreTooNew, StoreUnusable
from otel_receiver.store import Store
from otel_receiver.store_file import MIGRATIONS, Migration, StoreFile, holder_of, migrate, schema_version
from spanloop.records import SCHEMA_VERSION
from tests.unit.spanloop.factories import weather_episode

CONFIG = StoreConfig()

HOLD = """
import sys, duckdb
connection = duckdb.connect(sys.argv[1], read_only=sys.argv[2] == "ro")
print("held", flush=True)
sys.stdin.read()
"""

WRITE_FOREVER = """
import sys
from pathlib import Path
from otel_receiver.batch import WriteBatch
from otel_receiver.config import StoreConfig
from otel_receiver.store import Store
from tests.unit.spanloop.factories import weather_episode

store = Store(Path(sys.argv[1]), StoreConfig())
number = store.committed_position()
while True:
    number += 1
    episodes = tuple(weather_episode(episode_id=f"{number}-{index}", user_id="u" * 1000) for index in range(20))
    store.write(WriteBatch(committed_position=number, episodes=episodes))
    print(number, flush=True)
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where a store may be."""
    return tmp_path / "episodes.duckdb"


@contextmanager
def held(path: Path, mode: str) -> Iterator[subprocess.Popen]:
    """The file, open in another process until the block ends."""
    command = [sys.executable, "-c", HOLD, str(path), mode]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline().strip() == b"held"
        try:
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize("mode", ["ro", "rw"])
def test_who_holds_the_file_is_named(path: Path, mode: str):
    """Beyond the wait, the error names the process, and nothing is written."""
    store = Store(path, StoreConfig(lock_wait_s=0.2))
    store.write(WriteBatch(committed_position=1))
    with held(path, mode) as process, pytest.raises(StoreBusy, match=rf"process {process.pid} \(.*python"):
        store.write(WriteBatch(committed_position=2))
    assert 1 == store.committed_position()


def test_a_reader_only_delays_a_write(path: Path):
    """A write waits for a session that ends within the wait, and says how long."""
    store = Store(path, CONFIG)
    store.write(WriteBatch(committed_position=1))
    with held(path, "ro") as process:
        threading.Timer(0.5, process.kill).start()
        outcome = store.write(WriteBatch(committed_position=2, episodes=(weather_episode(),)))
    assert outcome.lock_wait_s >= 0.3
    assert 2 == store.committed_position()


def test_readers_share_the_file_with_reads_of_the_store(path: Path):
    """The receiver's own queries work while others read."""
    store = Store(path, StoreConfig(lock_wait_s=0.2))
    store.write(WriteBatch(committed_position=5))
    with held(path, "ro"):
        assert 5 == store.committed_position()


def test_anybody_can_open_the_file_between_two_writes(path: Path):
    """The store keeps no lock: another process opens the file for reading and for writing."""
    store = Store(path, CONFIG)
    for position, mode in ((1, "ro"), (2, "rw")):
        store.write(WriteBatch(committed_position=position))
        with held(path, mode):
            pass
    assert [] == list(path.parent.glob("*.wal"))


def test_views_work_when_the_file_is_attached(path: Path):
    """The public views do not depend on the name under which the file is open."""
    Store(path, CONFIG).write(WriteBatch(committed_position=1, episodes=(weather_episode(),)))
    with duckdb.connect(":memory:") as connection:
        connection.execute(f"ATTACH '{path}' AS source (READ_ONLY)")
        counts = [
            connection.execute(f"SELECT count(*) FROM source.{view}").fetchall()[0][0]
            for view in ("episodes", "decision_points", "tool_calls", "feedback", "transcript")
        ]
    assert [1, 2, 2, 0, 6] == counts


def test_threads_take_turns(path: Path):
    """Concurrent writes of two stores on one file all arrive."""
    stores = [Store(path, CONFIG), Store(path, CONFIG)]

    def write(index: int) -> None:
        stores[index % 2].write(
            WriteBatch(committed_position=index, episodes=(weather_episode(episode_id=f"e{index}"),))
        )

    threads = [threading.Thread(target=write, args=(index,)) for index in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert 8 == len(stores[0].newest_episodes(0, 100))


@pytest.mark.parametrize("wait_lines", [1, 2, 4])
def test_a_kill_leaves_whole_batches(path: Path, wait_lines: int):
    """After kill -9 in the middle of writing, the file has the rows of as many batches as its position says."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", WRITE_FOREVER, str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment) as process:
        assert process.stdout is not None
        seen = [int(process.stdout.readline()) for _ in range(wait_lines)]
        process.send_signal(signal.SIGKILL)
    store = Store(path, CONFIG)
    position = store.committed_position()
    assert position >= seen[-1]
    status = store.status()
    assert status is not None
    assert (20 * position, 40 * position) == (status.num_episodes, status.num_steps)
    assert 1 == store.write(WriteBatch(committed_position=position + 1, episodes=(weather_episode(),))).new_episodes


def test_a_failing_batch_leaves_nothing(path: Path):
    """An error in the middle of a batch rolls its rows back, and the next batch works."""
    store = Store(path, CONFIG)
    store.write(WriteBatch(committed_position=1))
    broken = WriteBatch(committed_position=2**70, episodes=(weather_episode(),))
    with pytest.raises(duckdb.Error):
        store.write(broken)
    assert 1 == store.committed_position()
    assert () == store.newest_episodes(0, 1)
    assert 1 == store.write(WriteBatch(committed_position=2, episodes=(weather_episode(),))).new_episodes


def test_nothing_is_in_a_store_that_does_not_exist(path: Path):
    """Reading makes no file."""
    store = Store(path, CONFIG)
    assert (0, None, {}, frozenset()) == (
        store.committed_position(),
        store.status(),
        store.positions_of(["0" * 32]),
        store.linked_traces([]),
    )
    assert not path.exists()


def test_a_newer_store_is_refused(path: Path):
    """A store of a newer schema names both versions and the remedy, for reading and for writing."""
    store = Store(path, CONFIG)
    store.prepare()
    with duckdb.connect(str(path)) as connection:
        connection.execute("INSERT INTO store.migrations VALUES (?, 'from the future', now())", [SCHEMA_VERSION + 1])
    complaint = rf"schema version {SCHEMA_VERSION + 1}.*up to {SCHEMA_VERSION}; upgrade spanloop"
    with pytest.raises(StoreTooNew, match=complaint):
        store.write(WriteBatch(committed_position=1))
    with pytest.raises(StoreTooNew, match=complaint):
        store.status()


def test_an_older_store_is_migrated(path: Path):
    """Pending migrations run in order, once, each with its record; the views are made again."""
    file = StoreFile(path, CONFIG)
    with file.open() as opened:
        migrate(opened.connection, path)
        opened.connection.execute("DROP VIEW transcript")
    newer = (*MIGRATIONS, Migration(version=2, name="notes", sql="CREATE TABLE store.notes (text VARCHAR);"))
    for expected_before in (1, 2):
        with file.open() as opened:
            assert expected_before == migrate(opened.connection, path, migrations=newer, newest=2)
            assert 2 == schema_version(opened.connection)
            assert [] == opened.connection.execute("SELECT text FROM store.notes").fetchall()
            assert [] == opened.connection.execute("SELECT text FROM transcript").fetchall()


def test_a_failing_migration_changes_nothing(path: Path):
    """A migration that fails leaves the version and the tables as they were."""
    file = StoreFile(path, CONFIG)
    with file.open() as opened:
        migrate(opened.connection, path)
    broken = Migration(version=2, name="broken", sql="CREATE TABLE store.notes (text VARCHAR); SELECT nonsense;")
    with pytest.raises(duckdb.Error, match="nonsense"), file.open() as opened:
        migrate(opened.connection, path, migrations=(*MIGRATIONS, broken), newest=2)
    with file.open() as opened:
        assert 1 == schema_version(opened.connection)
        assert [] == opened.connection.execute("SELECT 1 FROM duckdb_tables() WHERE table_name = 'notes'").fetchall()


def test_migrations_end_at_the_schema_version():
    """There is one migration per schema version."""
    assert list(range(1, SCHEMA_VERSION + 1)) == [migration.version for migration in MIGRATIONS]


@pytest.mark.parametrize("name", ["notes.duckdb", "notes.json"])
def test_a_file_that_is_no_database_is_refused(tmp_path: Path, name: str):
    """A text file is left as it is, whatever its name ends with."""
    path = tmp_path / name
    path.write_text("dear diary " * 1000)
    with pytest.raises(StoreUnusable, match="not a valid DuckDB database"):
        Store(path, CONFIG).write(WriteBatch(committed_position=1))
    assert path.read_text().startswith("dear diary")


def test_a_database_of_another_program_is_refused(path: Path):
    """Tables of others are neither read nor added to."""
    with duckdb.connect(str(path)) as connection:
        connection.execute("CREATE TABLE recipes (name VARCHAR)")
    with pytest.raises(StoreUnusable, match="tables of another program"):
        Store(path, CONFIG).prepare()
    with duckdb.connect(str(path)) as connection:
        assert [("recipes",)] == connection.execute("SELECT table_name FROM duckdb_tables()").fetchall()


def test_a_missing_directory_is_refused(tmp_path: Path):
    """The error names the path and the option."""
    with pytest.raises(StoreUnusable, match=r"nowhere.*--store"):
        Store(tmp_path / "nowhere" / "episodes.duckdb", CONFIG).prepare()


def test_quotes_in_a_path_are_harmless(tmp_path: Path):
    """A path is a value, not SQL."""
    store = Store(tmp_path / "it's; DROP.duckdb", CONFIG)
    store.write(WriteBatch(committed_position=3))
    assert 3 == store.committed_position()


def test_the_file_is_in_the_format_of_the_command_line(path: Path):
    """DuckDB's 1.5 command line opens the file: its format is that version's."""
    Store(path, CONFIG).prepare()
    with duckdb.connect(str(path), read_only=True) as connection:
        rows = connection.execute(
            "SELECT tags['storage_version'] FROM duckdb_databases() WHERE NOT internal"
        ).fetchall()
    assert rows[0][0].startswith("v1.5")


def test_the_holder_is_read_from_the_error_text():
    """Program and process are found; without them the text stays honest."""
    text = 'Could not set lock on file "x": Conflicting lock is held in /opt/my tools/duckdb (PID 17). However'
    assert holder_of(text) == "process 17 (/opt/my tools/duckdb)"
    assert holder_of("Could not set lock") == "another process"
