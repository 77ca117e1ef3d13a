from __future__ import annotations

import pytest
from pydantic import SecretStr

from fleet_orders.settings import OrderSettings
from fleet_orders.stock_database import parse_database_url
from temporal_fleet.errors import SettingsError
from temporal_fleet.settings import load_model


def test_settings_without_environment_are_a_developers() -> None:
    """Without any variable the stock is a file in the working directory."""
    settings = load_model(OrderSettings, {})

    assert settings.database_url.get_secret_value() == "sqlite:///.fleet/stock.db"


@pytest.mark.parametrize("scheme", ["postgres", "postgresql"])
def test_settings_postgresql_url_is_understood_however_it_is_spelt(scheme: str) -> None:
    """Both customary spellings of a PostgreSQL URL lead to the driver of the stock."""
    settings = load_model(OrderSettings, {"ORDERS_DATABASE_URL": f"{scheme}://app:x@db/shop"})

    assert parse_database_url(settings.database_url).drivername == "postgresql+psycopg"


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("mysql://app:geheim@db/shop", "'mysql' is not supported"),
        ("postgresql+asyncpg://app:geheim@db/shop", "'postgresql+asyncpg' is not supported"),
        ("geheim", "it is not a database URL"),
        ("sqlite:///:memory:", "all orders workers must see one stock, so it must be a file"),
    ],
    ids=["mysql", "other-driver", "no-url", "in-memory"],
)
def test_settings_unusable_database_url_is_refused_without_the_secret(url: str, text: str) -> None:
    """A wrong URL is refused with its variable and the cure, and never shows the password."""
    with pytest.raises(SettingsError) as caught:
        load_model(OrderSettings, {"ORDERS_DATABASE_URL": url})

    assert "ORDERS_DATABASE_URL" in str(caught.value)
    assert f"{text}. Use sqlite:///PATH or postgresql://" in str(caught.value)
    assert "geheim" not in str(caught.value)


def test_parse_database_url_keeps_what_the_server_needs() -> None:
    """Host, name and options of a URL reach the driver as they are."""
    url = parse_database_url(SecretStr("postgresql://app@db:6432/shop?sslmode=verify-full"))

    assert url.render_as_string() == "postgresql+psycopg://app@db:6432/shop?sslmode=verify-full"
