"""The tables and views of a new store, in memory."""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import files

import duckdb


@contextmanager
def open_schema() -> Iterator[duckdb.DuckDBPyConnection]:
    """A database made by schema.sql and views.sql."""
    with duckdb.connect(":memory:") as connection:
        for name in ("schema.sql", "views.sql"):
            connection.execute(files("spanloop").joinpath(name).read_text(encoding="utf-8")).fetchall()
        yield connection
