from __future__ import annotations

import pickle
from datetime import timedelta
from enum import Enum
from pathlib import Path

import pytest
from pydantic import BaseModel, Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from temporal_fleet.errors import SettingsError
from temporal_fleet.settings import load_model


class Level(Enum):
    LOW = "low"
    HIGH = "high"


class DatabaseSettings(BaseModel):
    url: str
    pool_size: int = Field(default=5, ge=1, le=50)


class ShopSettings(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="SHOP_", frozen=True)

    database: DatabaseSettings
    gateway_timeout: timedelta = timedelta(seconds=3)
    token: SecretStr | None = None
    level: Level = Level.LOW
    countries: list[str] = []
    limits: dict[str, int] = {}
    region: str = Field(default="eu", validation_alias="CLOUD_REGION")

    @field_validator("countries")
    @classmethod
    def _two_letters(cls, countries: list[str]) -> list[str]:
        if any(len(country) != 2 for country in countries):
            raise ValueError("has a country that is not two letters")
        return countries


def problems_of(environ: dict[str, str]) -> list[str]:
    """Return the problems of a workload's settings, as a user sees them."""
    with pytest.raises(SettingsError) as caught:
        load_model(ShopSettings, environ)
    return [str(problem) for problem in caught.value.problems]


def test_load_model_with_all_kinds_of_sources_fills_the_workload_settings(tmp_path: Path) -> None:
    """A workload's own class is read by the same rules: files, secrets, seconds, lists."""
    (tmp_path / "url").write_text("sqlite://\n")
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets/shop_token").write_text("s3cret\n")
    settings = load_model(
        ShopSettings,
        {
            "SHOP_DATABASE_URL_FILE": str(tmp_path / "url"),
            "FLEET_SECRETS_DIR": str(tmp_path / "secrets"),
            "SHOP_DATABASE_POOL_SIZE": "9",
            "SHOP_GATEWAY_TIMEOUT_SECONDS": "1.5",
            "SHOP_LEVEL": "HIGH",
            "SHOP_COUNTRIES": "de, fr",
            "SHOP_LIMITS": '{"orders": 3}',
            "CLOUD_REGION": "us",
            "SHOP_SERVICE_HOST": "10.0.0.1",
        },
    )

    assert type(settings) is ShopSettings
    assert settings.database == DatabaseSettings(url="sqlite://", pool_size=9)
    assert settings.gateway_timeout == timedelta(seconds=1.5)
    assert settings.token == SecretStr("s3cret")
    assert settings.level is Level.HIGH
    assert settings.countries == ["de", "fr"]
    assert settings.limits == {"orders": 3}
    assert settings.region == "us"
    assert pickle.loads(pickle.dumps(settings)) == settings


def test_load_model_with_many_things_wrong_tells_all_at_once() -> None:
    """The problems of a workload's settings read like those of the worker's."""
    environ = {
        "SHOP_DATABASE_POOL_SIZE": "0",
        "SHOP_GATEWAY_TIMEOUT_SECONDS": "soon",
        "SHOP_LEVEL": "hihg",
        "SHOP_COUNTRIES": "Germany",
        "SHOP_LIMITS": "{orders",
        "SHOP_GATEWAY_TIMEOUT": "3",
    }

    assert problems_of(environ) == [
        "SHOP_DATABASE_URL: is required, but not set. Set it, or set SHOP_DATABASE_URL_FILE to the "
        "path of a file that holds it.",
        "SHOP_DATABASE_POOL_SIZE: '0' is too small (set in the environment). "
        "Use a whole number from 1 to 50.",
        "SHOP_GATEWAY_TIMEOUT_SECONDS: 'soon' is not a number of seconds (set in the environment). "
        "Use a number of seconds.",
        "SHOP_LEVEL: 'hihg' is not one of low, high (set in the environment). Did you mean high?",
        "SHOP_COUNTRIES: 'Germany' has a country that is not two letters (set in the environment). "
        "Use values separated by commas.",
        "SHOP_LIMITS: '{orders' is not JSON: Expecting property name enclosed in double quotes at "
        "column 2 (set in the environment). Use a JSON value.",
        "SHOP_GATEWAY_TIMEOUT: is not a setting (set in the environment). "
        "Did you mean SHOP_GATEWAY_TIMEOUT_SECONDS?",
    ]


def test_load_model_with_a_required_group_unset_names_its_variables() -> None:
    """The variable to set is named, not the group it belongs to."""
    assert problems_of({}) == [
        "SHOP_DATABASE_URL: is required, but not set. Set it, or set SHOP_DATABASE_URL_FILE to the "
        "path of a file that holds it."
    ]


def test_load_model_with_an_environment_given_ignores_that_of_the_process(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Only the environment that is given counts."""
    monkeypatch.setenv("SHOP_LEVEL", "high")
    settings = load_model(ShopSettings, {"SHOP_DATABASE_URL": "sqlite://"})

    assert settings.level is Level.LOW


def test_load_model_with_extra_ignored_accepts_unknown_names() -> None:
    """A workload that shares its prefix with other programs can say so."""

    class Shared(BaseSettings):
        model_config = SettingsConfigDict(env_prefix="SHARED_", extra="ignore")
        size: int = 1

    assert load_model(Shared, {"SHARED_OTHER": "x", "SHARED_SIZE": "2"}).size == 2
