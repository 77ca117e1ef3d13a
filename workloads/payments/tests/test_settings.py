from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from fleet_payments.settings import PaymentSettings
from temporal_fleet.errors import SettingsError
from temporal_fleet.settings import load_model


def test_settings_without_environment_are_a_developers() -> None:
    """Without any variable the ledger is a file in the working directory."""
    settings = load_model(PaymentSettings, {})

    assert settings.database_url.get_secret_value() == "sqlite:///.fleet/payments.db"
    assert (settings.currency, settings.pool_size) == ("EUR", None)


def test_settings_database_url_comes_from_a_file(tmp_path: Path) -> None:
    """A URL with a password can be mounted as a file."""
    secret = tmp_path / "url"
    secret.write_text("postgresql://app:geheim@db/ledger\n")
    settings = load_model(
        PaymentSettings,
        {"PAYMENTS_DATABASE_URL_FILE": str(secret), "PAYMENTS_LOCK_TIMEOUT_SECONDS": "2.5"},
    )

    assert settings.database_url.get_secret_value() == "postgresql://app:geheim@db/ledger"
    assert settings.lock_timeout == timedelta(seconds=2.5)


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("mysql://app:geheim@db/ledger", "'mysql' is not supported. Use sqlite:///PATH or"),
        ("geheim", "it is not a database URL. Use sqlite:///PATH or"),
        ("sqlite://", "the ledger must be a file, to survive a crash"),
    ],
    ids=["mysql", "no-url", "in-memory"],
)
def test_settings_unusable_database_url_is_refused_without_the_secret(url: str, text: str) -> None:
    """A wrong URL is refused with its variable and the cure, and never shows the password."""
    with pytest.raises(SettingsError) as caught:
        load_model(PaymentSettings, {"PAYMENTS_DATABASE_URL": url})

    assert "PAYMENTS_DATABASE_URL" in str(caught.value)
    assert text in str(caught.value)
    assert "geheim" not in str(caught.value)
