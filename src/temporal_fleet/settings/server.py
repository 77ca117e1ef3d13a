"""Where the Temporal server is and how to authenticate: ``TEMPORAL_*`` variables and TOML.

Their names are Temporal's own, shared by the ``temporal`` command and all SDKs, so they carry no
``FLEET_`` prefix. Reading them is the work of ``server_sources``; this module says what is valid.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, ClassVar

from pydantic import AfterValidator, Field, SecretStr
from pydantic_core import PydanticCustomError
from typing_extensions import override

from temporal_fleet.settings.rules import BrokenRule, Group, Name

_ADDRESS = re.compile(r"(?P<host>\[[0-9A-Fa-f:.%]+\]|[^\s:/\[\]]+):(?P<port>\d{1,5})")


def _check_address(address: str) -> str:
    if _is_address(address):
        return address
    scheme, separator, rest = address.partition("://")
    if separator:
        tls = " and TEMPORAL_TLS=true" if scheme == "https" else ""
        raise PydanticCustomError(
            "address",
            "starts with {scheme}://, but it takes a host and a port only",
            {"scheme": scheme, "cure": f"Use {_bare(scheme, rest)}{tls}."},
        )
    with_port = f"{address}:7233"
    example = with_port if _is_address(with_port) else "localhost:7233 or [::1]:7233"
    raise PydanticCustomError(
        "address", "is not a host and a port", {"cure": f"Use host:port, such as {example}."}
    )


def _is_address(text: str) -> bool:
    match = _ADDRESS.fullmatch(text)
    return match is not None and 1 <= int(match["port"]) <= 65535


def _bare(scheme: str, rest: str) -> str:
    """Return the host and port that a URL means, with Temporal's port where it has none."""
    # In `dns://resolver/host:port` and `dns:///host:port` the server comes last.
    parts = [part for part in rest.split("/") if part] or [""]
    server = (parts[-1] if scheme == "dns" else parts[0]).rpartition("@")[2]
    candidates = (server, f"{server}:7233", "localhost:7233")
    return next(each for each in candidates if _is_address(each))


Address = Annotated[str, AfterValidator(_check_address)]


class TemporalSettings(Group):
    """Server, namespace and credentials, under the names that Temporal's own tools use."""

    env_prefix: ClassVar[str] = "TEMPORAL_"

    address: Address = "localhost:7233"
    """Host and port of the Temporal frontend, without a scheme."""
    namespace: Name = "default"
    """Namespace that the task queue belongs to; it must exist on the server."""
    api_key: SecretStr | None = Field(default=None, repr=False)
    """API key sent as a bearer token; None = no API key. Turns TLS on unless `tls` is set."""
    api_key_file: Path | None = None
    """File that holds the API key; it is watched and a changed key is used without a restart.
    When it is set, `api_key` holds what it contained when settings were loaded. None = not from
    a file."""
    tls: bool | None = None
    """Whether to encrypt the connection; None = yes when an API key or any other TLS setting is
    given, no otherwise."""
    tls_client_cert_path: Path | None = None
    """PEM file with the client certificate (mTLS); watched. None = no client certificate."""
    tls_client_key_path: Path | None = None
    """PEM file with the private key of the client certificate; watched. None = no client key."""
    tls_server_ca_cert_path: Path | None = None
    """PEM file with the certificate authority to trust; watched. None = the system's
    authorities."""
    tls_client_cert_data: SecretStr | None = Field(default=None, repr=False)
    """The client certificate itself (PEM), instead of its path; cannot be rotated without a
    restart."""
    tls_client_key_data: SecretStr | None = Field(default=None, repr=False)
    """The private key itself (PEM), instead of its path; cannot be rotated without a restart."""
    tls_server_ca_cert_data: SecretStr | None = Field(default=None, repr=False)
    """The certificate authority itself (PEM), instead of its path."""
    tls_server_name: str | None = None
    """Name to expect in the server's certificate and to send as SNI; None = the host of
    `address`."""
    grpc_meta: dict[str, str] = Field(
        default_factory=dict, repr=False, json_schema_extra={"secret": True, "default": "none"}
    )
    """Headers sent with every call. `TEMPORAL_GRPC_META_MY_HEADER=x` sends `my-header: x`; an empty
    value removes a header of the profile."""
    profile: str | None = None
    """Profile to read from the TOML file; None = the profile `default`, if there is one."""
    config_file: Path | None = None
    """TOML file with connection profiles; None = `temporalio/temporal.toml` in the user's
    configuration directory (`$XDG_CONFIG_HOME`, else `~/.config`), if there is one."""

    @property
    def uses_tls(self) -> bool:
        """Whether the connection is encrypted, with `tls=None` resolved."""
        if self.tls is not None:
            return self.tls
        return any(
            value is not None for name, value in self if name.startswith(("tls_", "api_key"))
        )

    @override
    def broken_rules(self) -> Iterator[BrokenRule]:
        """Yield the contradictions among the TLS settings."""
        for item in ("client_cert", "client_key", "server_ca_cert"):
            if getattr(self, f"tls_{item}_path") and getattr(self, f"tls_{item}_data"):
                yield BrokenRule(
                    f"temporal.tls_{item}_data",
                    f"is set together with <temporal.tls_{item}_path>",
                    "Keep one of the two; only a path is watched for rotation.",
                )
        has_cert = self.tls_client_cert_path or self.tls_client_cert_data
        has_key = self.tls_client_key_path or self.tls_client_key_data
        if has_cert and not has_key:
            yield _other_half_missing("cert", "key", "certificate", "private key")
        if has_key and not has_cert:
            yield _other_half_missing("key", "cert", "private key", "certificate")


def _other_half_missing(given: str, missing: str, given_word: str, missing_word: str) -> BrokenRule:
    return BrokenRule(
        f"temporal.tls_client_{missing}_path",
        f"is not set, but the client {given_word} is",
        f"Set it to the file of the client {missing_word}, or remove the client {given_word}.",
    )
