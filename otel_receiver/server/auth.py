"""Who may send, and over what: bearer tokens, TLS, and no open door by accident."""

from __future__ import annotations

import hmac
import ipaddress
import ssl
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from otel_receiver.config import ServerConfig, TlsConfig
from otel_receiver.errors import ConfigError, InsecureBind


class Address(NamedTuple):
    """Where to listen."""

    host: str
    port: int

    def __str__(self) -> str:
        """`host:port`, IPv6 in brackets."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach it."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False


def parse_address(text: str) -> Address:
    """An address written as `host:port`; raises ConfigError."""
    host, separator, port = text.rpartition(":")
    if not separator or not host or not port.isdecimal() or int(port) > 65535:
        raise ConfigError(
            f"address {text!r}: not host:port; write for example 127.0.0.1:4317, or port 0 for a free one"
        )
    return Address(host.removeprefix("[").removesuffix("]"), int(port))


def check_exposure(address: Address, config: ServerConfig) -> None:
    """Raise InsecureBind for an address others can reach without encryption and without knowing who they are."""
    if address.is_loopback:
        return
    has_tls = config.tls.cert_file is not None
    has_auth = config.auth.token_file is not None or config.tls.client_ca_file is not None
    if not (has_tls and has_auth):
        raise InsecureBind(
            f"address {address}: others can reach it, and TLS is {'on' if has_tls else 'off'}, authentication is "
            f"{'on' if has_auth else 'off'}; set server.tls.cert_file and key_file, and server.auth.token_file or "
            "server.tls.client_ca_file, or listen on 127.0.0.1 behind a Collector"
        )


class Tokens:
    """The bearer tokens that are let in; none means that no token is asked for."""

    def __init__(self, tokens: Sequence[str]) -> None:
        self._tokens = tuple(token.encode() for token in tokens)

    @classmethod
    def from_file(cls, path: Path | None) -> Tokens:
        """The tokens of a file, one a line; raises ConfigError."""
        if path is None:
            return cls(())
        lines = [line.strip() for line in read_secret(path, "server.auth.token_file").decode().splitlines()]
        tokens = [line for line in lines if line]
        if not tokens:
            raise ConfigError(f"server.auth.token_file {path}: holds no token; write one a line")
        return cls(tokens)

    def allow(self, authorization: str | None) -> bool:
        """Whether an `authorization` header carries one of the tokens; takes equally long for every wrong one."""
        if not self._tokens:
            return True
        scheme, _, token = (authorization or "").partition(" ")
        given = token.strip().encode()
        matches = [hmac.compare_digest(given, known) for known in self._tokens]
        return scheme.lower() == "bearer" and any(matches)


def read_secret(path: Path, name: str) -> bytes:
    """The content of a key, certificate or token file; raises ConfigError."""
    try:
        return path.expanduser().read_bytes()
    except OSError as error:
        raise ConfigError(
            f"{name} {path}: cannot be read ({error.strerror}); check the path and permissions"
        ) from error


def ssl_context(config: TlsConfig) -> ssl.SSLContext | None:
    """The TLS side of a plain socket server, or None; raises ConfigError."""
    check_tls(config)
    if config.cert_file is None:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        context.load_cert_chain(config.cert_file, config.key_file)
        if config.client_ca_file is not None:
            context.load_verify_locations(config.client_ca_file)
            context.verify_mode = ssl.CERT_REQUIRED
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(
            f"server.tls: cannot be used ({error}); check that cert_file, key_file and client_ca_file are PEM files "
            "that belong together"
        ) from error
    return context


def check_tls(config: TlsConfig) -> None:
    """Raise ConfigError for a half-given TLS section."""
    if (config.cert_file is None) != (config.key_file is None):
        raise ConfigError("server.tls: cert_file and key_file belong together; set both or neither")
    if config.client_ca_file is not None and config.cert_file is None:
        raise ConfigError("server.tls.client_ca_file: needs cert_file and key_file; set them too")
