"""The receiver's configuration: defaults, a file over them, and errors that name key, value and remedy."""

import pytest

from otel_receiver.config import ReceiverConfig, Section, load_config
from otel_receiver.errors import ConfigError


def write(directory, text: str):
    """A configuration file."""
    path = directory / "receiver.toml"
    path.write_text(text)
    return path


def test_a_file_changes_what_it_names_and_nothing_else(tmp_path):
    """Other values of the same table keep their defaults."""
    config = load_config(write(tmp_path, "[buffer]\nquiet_s = 0.5\n[server.tls]\ncert_file = 'c.pem'\n"))
    default = ReceiverConfig()
    assert (0.5, default.buffer.idle_s) == (config.buffer.quiet_s, config.buffer.idle_s)
    assert "c.pem" == str(config.server.tls.cert_file)
    assert default == load_config(None)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[buffer]\nquite_s = 1\n", ["'buffer.quite_s'", "did you mean 'quiet_s'"]),
        ("[bufer]\n", ["'bufer'", "did you mean 'buffer'"]),
        ("[server.auth]\npassword = 'x'\n", ["'server.auth.password'", "token_file"]),
        ("[limits]\nrequest_bytes_max = 0\n", ["limits.request_bytes_max = 0", "greater than 0"]),
        ("[limits]\nrequest_bytes_max = 'lots'\n", ["limits.request_bytes_max = 'lots'"]),
        ("quiet_s = \n", ["is not TOML"]),
    ],
)
def test_a_wrong_file_is_told_by_key_value_and_remedy(tmp_path, text, words):
    """The error also names the file."""
    path = write(tmp_path, text)
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    assert [] == [word for word in [str(path), *words] if word not in str(caught.value)]


def test_a_missing_file_is_a_clear_error(tmp_path):
    """Not found, with the path."""
    with pytest.raises(ConfigError, match=r"none\.toml: not found"):
        load_config(tmp_path / "none.toml")


def test_every_number_has_a_bound():
    """A limit that may be zero, negative or infinite is none."""
    unbounded = []

    def visit(section: type[Section], path: str) -> None:
        for name, field in section.model_fields.items():
            if isinstance(field.annotation, type) and issubclass(field.annotation, Section):
                visit(field.annotation, f"{path}{name}.")
            elif field.annotation in (int, float) and not field.metadata:
                unbounded.append(path + name)

    visit(ReceiverConfig, "")
    assert [] == unbounded
