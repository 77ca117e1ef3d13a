"""How the server is reached: patience, intervals and an HTTP proxy."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Annotated

from pydantic import AfterValidator, Field, SecretStr
from pydantic_core import PydanticCustomError
from typing_extensions import override

from temporal_fleet.settings.proxy import Proxy, goes_direct, parse_proxy
from temporal_fleet.settings.rules import BrokenRule, Group, PositiveDuration, exceeds


def _attempt_timeout_default(values: dict[str, timedelta]) -> timedelta:
    return min(timedelta(seconds=10), values.get("deadline", timedelta.max))


def _check_proxy(url: SecretStr) -> SecretStr:
    try:
        parse_proxy(url.get_secret_value())
    except ValueError as error:
        raise PydanticCustomError(
            "proxy",
            "{reason}",
            {
                "reason": str(error),
                "cure": "Use http://host:port or http://user:password@host:port, with the signs :/?#@% "
                "of a password written as in URLs, such as %40 for @.",
            },
        ) from None
    return url


class ConnectionSettings(Group):
    """How hard to try to reach the server, and how often to look after credentials and pollers."""

    identity: str | None = None
    """Name of this worker in Temporal; None = `<hostname>:<pid>:<workload>`, which names the
    pod."""
    deadline: PositiveDuration = timedelta(seconds=60)
    """How long a start may retry the first connection and then the workload's resources before giving
    up with exit code 3. A pod that starts before a server is ready should wait; one with wrong
    credentials should say so soon."""
    attempt_timeout: PositiveDuration = Field(
        default_factory=_attempt_timeout_default,
        json_schema_extra={"default": "10, at most the deadline"},
    )
    """Longest time one connection attempt may take; a silent firewall would block it for
    minutes."""
    backoff_initial: PositiveDuration = timedelta(seconds=0.2)
    """Wait before the second attempt; doubled each time, with jitter."""
    backoff_maximum: PositiveDuration = timedelta(seconds=5)
    """Longest wait between two attempts."""
    credentials_poll_interval: PositiveDuration = timedelta(seconds=10)
    """How often the API key file and the certificate files are looked at. Polling, since Kubernetes
    replaces mounted secrets by renaming a symlink, which file notifications miss."""
    probe_interval: PositiveDuration = timedelta(seconds=10)
    """How often the server is asked whether it accepts us and sees our pollers; decides
    readiness."""
    https_proxy: Annotated[SecretStr, AfterValidator(_check_proxy)] | None = Field(
        default=None, repr=False, json_schema_extra={"empty": "none"}
    )
    """HTTP proxy through which Temporal is reached, with TLS and without, such as
    `http://user:password@proxy:3128`; None = no proxy. HTTPS_PROXY or https_proxy is read when this
    is not set; set to nothing, there is no proxy."""
    no_proxy: str | None = Field(default=None, json_schema_extra={"empty": "none"})
    """Servers that are reached without the proxy, separated by commas: domains (with all names under
    them), IP addresses, networks such as `10.0.0.0/8`, or `*`; a port may follow. This machine
    itself always is. NO_PROXY or no_proxy is read when this is not set; None = no others."""

    def proxy_for(self, address: str) -> Proxy | None:
        """Return the proxy through which *address* is reached; None = without any."""
        if self.https_proxy is None or goes_direct(address, self.no_proxy):
            return None
        return parse_proxy(self.https_proxy.get_secret_value())

    @override
    def broken_rules(self) -> Iterator[BrokenRule]:
        """Yield waits that exceed what contains them."""
        if self.attempt_timeout > self.deadline:
            yield exceeds(
                "connection.attempt_timeout", self.attempt_timeout, "deadline", self.deadline
            )
        if self.backoff_initial > self.backoff_maximum:
            yield exceeds(
                "connection.backoff_initial",
                self.backoff_initial,
                "backoff_maximum",
                self.backoff_maximum,
            )
