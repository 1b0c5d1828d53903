"""The command line of the receiver: arguments in, a function called, its result printed.

Data go to stdout, logs and progress to stderr. Exit code 0: ok, 1: failed, 2: wrong usage. Nothing heavy is imported
before a command runs.
"""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from otel_receiver.config import ReceiverConfig

STORE = click.Path(dir_okay=False, path_type=Path)
DIRECTORY = click.Path(file_okay=False, path_type=Path)
CONFIG = click.option(
    "--config", "config_file", type=click.Path(dir_okay=False, path_type=Path), help="TOML file; see config.py."
)
JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON for machines.")


class _Group(click.Group):
    """Turns the receiver's own errors into one line and exit code 1."""

    def invoke(self, ctx: click.Context) -> object:
        """The command's result."""
        # Not at the top: `--help` needs none of it.
        from otel_receiver.errors import ReceiverError

        try:
            return super().invoke(ctx)
        except ReceiverError as error:
            raise click.ClickException(str(error)) from error


@click.group(
    cls=_Group,
    epilog="Example: otel-receiver serve --store episodes.duckdb",
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.version_option(package_name="spanloop")
@click.option("--log-level", default="info", type=click.Choice(["debug", "info", "warning", "error"]))
def main(log_level: str) -> None:
    """Turn the OpenTelemetry spans of agents into episodes in a DuckDB file."""
    form = "time=%(asctime)s level=%(levelname)s logger=%(name)s %(message)s"
    logging.basicConfig(level=log_level.upper(), format=form, stream=sys.stderr, force=True)


@main.command(epilog="Example: otel-receiver serve --store episodes.duckdb --grpc 127.0.0.1:4317 --http 127.0.0.1:4318")
@CONFIG
@click.option("--store", type=STORE, default=Path("episodes.duckdb"), show_default=True, help="DuckDB file to write.")
@click.option("--log-dir", type=DIRECTORY, help="Ingest log; default: STORE.log, beside the store.")
@click.option("--grpc", "grpc_address", help="OTLP/gRPC address, default 127.0.0.1:4317; port 0 takes a free one.")
@click.option("--http", "http_address", help="OTLP/HTTP address, default 127.0.0.1:4318; port 0 takes a free one.")
@click.option("--ready-file", type=STORE, help="Write the bound addresses here as JSON once requests are answered.")
def serve(
    config_file: Path | None,
    store: Path,
    log_dir: Path | None,
    grpc_address: str | None,
    http_address: str | None,
    ready_file: Path | None,
) -> None:
    """Receive spans and log records over OTLP until stopped.

    A request is acknowledged when it is on disk. The store is opened for each batch and closed again, so that
    `duckdb episodes.duckdb` and the trainer can read it meanwhile. Metrics are counted, not stored. SIGTERM or Ctrl-C
    stops gracefully.
    """
    from otel_receiver.serve import run

    config = _config(config_file, {"grpc": grpc_address, "http": http_address})
    run(config, store, log_dir or default_log_dir(store), ready_file)


@main.command(
    name="import", epilog="Example: otel-receiver import --store episodes.duckdb traces.pb logs.pb spans.jsonl.gz"
)
@CONFIG
@click.option("--store", type=STORE, required=True, help="DuckDB file to write; made if missing.")
@click.option("--log-dir", type=DIRECTORY, help="Ingest log; default: STORE.log, beside the store.")
@JSON
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
def import_files(
    config_file: Path | None, store: Path, log_dir: Path | None, *, as_json: bool, files: tuple[Path, ...]
) -> None:
    """Put the spans and log records of FILES into the store, and return when every episode is there.

    FILES are OTLP protobuf requests (.pb), OTLP JSON, or what the Collector's file exporter writes (JSON lines or
    length-prefixed protobuf), gzipped or not. A bad file or line does not keep the others out; the exit code is 1 then.
    """
    from otel_receiver.importing import import_into

    report = import_into(_config(config_file), store, log_dir or default_log_dir(store), files)
    click.echo(json.dumps(report.as_dict(), indent=2) if as_json else report.as_text())
    for problem in report.problems():
        click.echo(f"Error: {problem}", err=True)
    if report.problems():
        sys.exit(1)


@main.command(epilog="Example: otel-receiver status --store episodes.duckdb --json")
@click.option("--store", type=STORE, default=Path("episodes.duckdb"), show_default=True, help="DuckDB file to read.")
@click.option("--log-dir", type=DIRECTORY, help="Ingest log; default: STORE.log, beside the store.")
@JSON
def status(store: Path, log_dir: Path | None, *, as_json: bool) -> None:
    """Show what arrived, from which dialects, what is flagged and how to fix the sender."""
    from otel_receiver.status import read_status

    report = read_status(store, log_dir or default_log_dir(store))
    click.echo(json.dumps(report.as_dict(), indent=2) if as_json else report.as_text())


@main.command(epilog="Example: otel-receiver replay --log-dir episodes.duckdb.log --store again.duckdb")
@CONFIG
@click.option("--log-dir", type=DIRECTORY, required=True, help="Ingest log to read; it is not changed.")
@click.option("--store", type=STORE, required=True, help="New DuckDB file to write; must not exist.")
@JSON
def replay(config_file: Path | None, log_dir: Path, store: Path, *, as_json: bool) -> None:
    """Derive every episode again from an ingest log, into a new store."""
    from otel_receiver.importing import replay_into

    report = replay_into(_config(config_file), log_dir, store)
    click.echo(json.dumps(report.as_dict(), indent=2) if as_json else report.as_text())


def default_log_dir(store: Path) -> Path:
    """The ingest log beside a store, the same for `serve` and `import`."""
    return store.with_name(store.name + ".log")


def _config(path: Path | None, server: dict[str, str | None] | None = None) -> ReceiverConfig:
    """Defaults, under the file, under the flags."""
    from otel_receiver.config import load_config

    config = load_config(path)
    given = {key: value for key, value in (server or {}).items() if value is not None}
    return config.model_copy(update={"server": config.server.model_copy(update=given)})


if __name__ == "__main__":
    main()
