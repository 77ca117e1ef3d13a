"""Which proxy leads to Temporal, and when there is none."""

from __future__ import annotations

import pytest

from temporal_fleet.errors import SettingsError
from temporal_fleet.settings import load_settings
from temporal_fleet.settings.proxy import Proxy
from temporal_fleet.settings.reference import rows

SERVER = "frontend.temporal.svc.cluster.local:7233"


def proxy(environ: dict[str, str], address: str = SERVER) -> Proxy | None:
    """Return the proxy that an environment means for an address."""
    return load_settings(environ).settings.connection.proxy_for(address)


@pytest.mark.parametrize("name", ["HTTPS_PROXY", "https_proxy", "FLEET_CONNECTION_HTTPS_PROXY"])
def test_proxy_is_read_from_each_usual_name(name: str) -> None:
    """The variable that curl and others read, in either case, or one for Temporal alone."""
    assert proxy({name: "http://proxy.example:3128"}) == Proxy("proxy.example:3128")


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("proxy.example:3128", Proxy("proxy.example:3128")),
        ("http://proxy.example/", Proxy("proxy.example:80")),
        ("http://[::1]:3128", Proxy("[::1]:3128")),
        ("http://me:p%40ss%3A@proxy:1", Proxy("proxy:1", ("me", "p@ss:"))),
        ("http://me@proxy:1", Proxy("proxy:1", ("me", ""))),
    ],
)
def test_proxy_url_gives_address_and_credentials(url: str, expected: Proxy) -> None:
    """User and password are decoded as in any URL."""
    assert proxy({"HTTPS_PROXY": url}) == expected


@pytest.mark.parametrize(
    "no_proxy",
    [
        "*",
        "frontend.temporal.svc.cluster.local",
        "svc.cluster.local",
        ".svc.cluster.local",
        "*.Cluster.Local",
        "a.example, cluster.local:7233",
    ],
)
def test_no_proxy_names_servers_by_domain(no_proxy: str) -> None:
    """A domain stands for itself and all names under it, with the port or without."""
    assert proxy({"HTTPS_PROXY": "proxy:1", "no_proxy": no_proxy}) is None


@pytest.mark.parametrize(
    "no_proxy", ["", "local:80", "uster.local", "temporal", "10.0.0.0/8", "10.0.0.0/99", "[::1]"]
)
def test_no_proxy_of_others_leaves_the_proxy(no_proxy: str) -> None:
    """Another port, the end of a word, or another host are no reason to go without the proxy."""
    assert proxy({"HTTPS_PROXY": "proxy:1", "NO_PROXY": no_proxy}) == Proxy("proxy:1")


@pytest.mark.parametrize(
    ("address", "no_proxy"),
    [
        ("10.1.2.3:7233", "10.0.0.0/8"),
        ("10.1.2.3:7233", "10.1.2.3"),
        ("[fd00::1]:7233", "fd00::/8"),
        ("[fd00::1]:7233", "fd00::1"),
        ("[fd00::1]:7233", "[fd00::1]:7233"),
        ("localhost:7233", ""),
        ("127.0.0.2:7233", ""),
        ("[::1]:7233", ""),
    ],
)
def test_no_proxy_names_servers_by_ip(address: str, no_proxy: str) -> None:
    """Addresses and networks of both kinds count; this machine itself needs no entry."""
    assert proxy({"HTTPS_PROXY": "proxy:1", "NO_PROXY": no_proxy}, address) is None


def test_empty_proxy_of_ours_turns_the_common_one_off() -> None:
    """A pod may need a proxy for everything but Temporal."""
    assert proxy({"HTTPS_PROXY": "proxy:1", "FLEET_CONNECTION_HTTPS_PROXY": ""}) is None


@pytest.mark.parametrize(
    "url", ["socks5://me:hunter2@proxy:1", "http://me:hunter2@", "http://me:hunter#2@proxy:1"]
)
def test_bad_proxy_is_reported_without_its_password(url: str) -> None:
    """A URL that means no HTTP proxy stops the start, named by the variable that holds it."""
    with pytest.raises(SettingsError) as caught:
        load_settings({"https_proxy": url})

    [problem] = caught.value.problems
    assert "https_proxy" in str(problem)
    assert "hunter" not in str(problem)
    assert "http://user:password@host:port" in str(problem)


def test_settings_show_masks_the_proxy() -> None:
    """Its password may stand in it, so it is shown as a secret, with where it was set."""
    loaded = load_settings({"HTTPS_PROXY": "http://me:hunter2@proxy:1"})
    [row] = [row for row in rows(loaded) if row.path == "connection.https_proxy"]

    assert (row.value_masked, row.source) == ("****", "HTTPS_PROXY")
    assert "hunter2" not in repr(loaded)
