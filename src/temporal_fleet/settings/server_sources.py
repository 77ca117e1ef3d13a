"""Finds the connection's settings in ``TEMPORAL_*`` variables and in a TOML profile.

The profile is read by the SDK, so it means here what it means to the ``temporal`` command. What
the SDK lets pass in silence is an error here: a configuration file that does not exist, names it
does not know, ``TEMPORAL_TLS=no`` (which turns TLS on), and settings that its Python edition
drops.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from temporal_fleet.errors import Problem
from temporal_fleet.settings.fields import GRPC_META_PREFIX, SettingField, setting_fields
from temporal_fleet.settings.model import Settings
from temporal_fleet.settings.sources import ENVIRONMENT, Found, Sources, Unreadable, closest_name

if TYPE_CHECKING:
    from temporalio.envconfig import ClientConfigProfile

PREFIX = "TEMPORAL_"

_BOOLEANS = {"true": True, "1": True, "false": False, "0": False}

_OTHER_NAMES = {
    "TEMPORAL_DEBUG",
    "TEMPORAL_DEPLOYMENT_NAME",
    "TEMPORAL_WORKER_BUILD_ID",
}
"""Names that are none of the connection's settings, but read by the SDK or as other settings."""

_OLD_NAMES = {
    "TEMPORAL_HOST_URL": "TEMPORAL_ADDRESS",
    "TEMPORAL_HOST_PORT": "TEMPORAL_ADDRESS",
    "TEMPORAL_HOSTPORT": "TEMPORAL_ADDRESS",
    "TEMPORAL_CLI_ADDRESS": "TEMPORAL_ADDRESS",
    "TEMPORAL_CLI_NAMESPACE": "TEMPORAL_NAMESPACE",
    "TEMPORAL_IDENTITY": "FLEET_CONNECTION_IDENTITY",
    "TEMPORAL_TLS_CERT": "TEMPORAL_TLS_CLIENT_CERT_PATH",
    "TEMPORAL_TLS_CERT_PATH": "TEMPORAL_TLS_CLIENT_CERT_PATH",
    "TEMPORAL_TLS_CERT_DATA": "TEMPORAL_TLS_CLIENT_CERT_DATA",
    "TEMPORAL_TLS_KEY": "TEMPORAL_TLS_CLIENT_KEY_PATH",
    "TEMPORAL_TLS_KEY_PATH": "TEMPORAL_TLS_CLIENT_KEY_PATH",
    "TEMPORAL_TLS_KEY_DATA": "TEMPORAL_TLS_CLIENT_KEY_DATA",
    "TEMPORAL_TLS_CA": "TEMPORAL_TLS_SERVER_CA_CERT_PATH",
    "TEMPORAL_TLS_CA_PATH": "TEMPORAL_TLS_SERVER_CA_CERT_PATH",
    "TEMPORAL_TLS_CA_DATA": "TEMPORAL_TLS_SERVER_CA_CERT_DATA",
}
"""Names of older tools, which the SDK ignores: the worker would connect somewhere else, or in
clear."""

_DROPPED = {
    "TEMPORAL_TLS_DISABLE_HOST_VERIFICATION": (
        "Remove it and set TEMPORAL_TLS_SERVER_CA_CERT_PATH, or TEMPORAL_TLS_SERVER_NAME when the "
        "certificate carries another name."
    ),
    "TEMPORAL_CODEC_ENDPOINT": "Remove it: a worker encrypts payloads itself, with FLEET_CODEC_KEYS_DIRECTORY.",
    "TEMPORAL_CODEC_AUTH": "Remove it: a worker encrypts payloads itself, with FLEET_CODEC_KEYS_DIRECTORY.",
}
"""Standard names that the SDK accepts and its Python edition drops without a word."""

# Below this likeness an unknown TEMPORAL_* name is somebody else's, such as TEMPORAL_UI_ADDRESS.
_LIKENESS = 0.86


def find_server_settings(sources: Sources) -> dict[str, Found]:
    """Find every setting of the group ``temporal``.

    Args:
        sources: Where to look; problems are added to it.

    Returns:
        What was found, by path such as ``temporal.address``.
    """
    fields = {
        path: field
        for path, field in setting_fields(Settings).items()
        if field.path.startswith("temporal.")
    }
    _report_names(sources, fields)
    found: dict[str, Found] = {}
    for path, field in fields.items():
        if path not in {"temporal.api_key_file", "temporal.grpc_meta"}:
            hit = sources.find(field.env)
            if hit is not None:
                found[path] = hit
    if "temporal.tls" in found:
        found["temporal.tls"] = _strict_boolean(found["temporal.tls"], sources)
    headers = _find_headers(sources)
    for path, hit in _find_in_profile(sources, found, headers).items():
        found.setdefault(path, hit)
    key = found.get("temporal.api_key")
    if key is not None and key.file is not None:
        # The path is kept so that a changed key can be used without a restart.
        found["temporal.api_key_file"] = Found(key.file, key.source, key.file)
    _report_unreadable_certificates(sources, fields, found)
    return found


def _report_names(sources: Sources, fields: Mapping[str, SettingField]) -> None:
    known = {field.env for field in fields.values()}
    for name, where in sources.names(PREFIX).items():
        if not sources.environ.get(name, name).strip():
            continue
        base = name.removesuffix("_FILE")
        if {name, base} & (known | _OTHER_NAMES) or name.startswith(GRPC_META_PREFIX):
            continue
        if name in _DROPPED:
            if sources.environ.get(name, "").lower() not in {"false", "0"}:
                message = "is ignored by the Python SDK"
                sources.problems.append(Problem(name, message, where, _DROPPED[name]))
            continue
        meant = _OLD_NAMES.get(base) or closest_name(name.upper(), known, PREFIX, _LIKENESS)
        if meant or name.startswith("TEMPORAL_TLS_"):
            cure = f"Use {meant}." if meant else "Remove it, or correct its name."
            sources.problems.append(Problem(name, "is not a setting", where, cure))


def _strict_boolean(found: Found, sources: Sources) -> Found:
    text = found.value
    if isinstance(text, Unreadable):
        return found
    value = _BOOLEANS.get(str(text).strip().lower())
    if value is None:
        message = f"'{text}' is neither true nor false"
        cure = "Use true or false; other Temporal tools take any other word for true."
        sources.problems.append(Problem("TEMPORAL_TLS", message, found.where(found.source), cure))
        return Found(Unreadable(), found.source)
    return Found(value, found.source)


def _find_headers(sources: Sources) -> dict[str, Found]:
    """Return the headers set by variables; an empty variable is there with an empty value."""
    names = {
        name.removesuffix("_FILE") if sources.environ.get(name, "").strip() else name
        for name in sources.names(GRPC_META_PREFIX)
    }
    headers: dict[str, Found] = {}
    for name in sorted(names):
        header = name.removeprefix(GRPC_META_PREFIX).lower().replace("_", "-")
        headers[header] = sources.find(name) or Found("", name)
    return headers


def _find_in_profile(
    sources: Sources, found: Mapping[str, Found], headers: Mapping[str, Found]
) -> dict[str, Found]:
    """Return what the TOML profile says, with the headers set by variables merged into its own."""
    file, explicit = _config_file(sources, found)
    name = found.get("temporal.profile")
    in_profile: dict[str, Found] = {}
    merged: dict[str, str] = {}
    if file is not None and file.exists():
        profile = _load_profile(file, name, sources)
        if profile is not None:
            source = f"{file} [profile.{name.value if name else 'default'}]"
            merged.update(profile.grpc_meta)
            in_profile = {
                path: Found(value, source)
                for path, value in _profile_values(profile)
                if not _overridden(path, found)
            }
            if in_profile or merged:
                in_profile["temporal.config_file"] = Found(file, "default location")
            if merged:
                in_profile["temporal.grpc_meta"] = Found(merged, source)
    elif explicit:
        _report_file(sources, f"'{file}' does not exist", "TEMPORAL_CONFIG_FILE")
    elif name is not None and not isinstance(name.value, Unreadable):
        message = f"'{name.value}' cannot be used: there is no configuration file"
        cure = f"Create {file or 'one'}, or set TEMPORAL_CONFIG_FILE to its path."
        sources.problems.append(Problem("TEMPORAL_PROFILE", message, name.where(name.source), cure))
    if headers:
        for header, hit in headers.items():
            merged.pop(header, None)
            if hit.value:
                merged[header] = str(hit.value)
        names = ", ".join(hit.source for hit in headers.values())
        in_profile["temporal.grpc_meta"] = Found(merged, names)
    return in_profile


def _config_file(sources: Sources, found: Mapping[str, Found]) -> tuple[Path | None, bool]:
    """Return the TOML file to read, and whether somebody asked for this one."""
    asked = found.get("temporal.config_file")
    if asked is not None:
        usable = not isinstance(asked.value, Unreadable)
        return (Path(str(asked.value)), True) if usable else (None, False)
    environ = sources.environ
    home, chosen = environ.get("HOME"), environ.get("XDG_CONFIG_HOME")
    if chosen and sys.platform != "darwin":
        return Path(chosen, "temporalio/temporal.toml"), False
    if home:
        standard = "Library/Application Support" if sys.platform == "darwin" else ".config"
        return Path(home, standard, "temporalio/temporal.toml"), False
    return None, False


def _load_profile(file: Path, name: Found | None, sources: Sources) -> ClientConfigProfile | None:
    # Only who has a configuration file pays for importing the SDK here.
    from temporalio.envconfig import ClientConfigProfile

    if name is not None and isinstance(name.value, Unreadable):
        return None
    profile_name = str(name.value) if name else None
    try:
        _report_dropped(file, profile_name or "default", sources)
        return ClientConfigProfile.load(
            profile_name, config_source=file, disable_env=True, config_file_strict=True
        )
    except (OSError, UnicodeDecodeError) as exc:
        reason = getattr(exc, "strerror", None) or "it is not UTF-8 text"
        _report_file(sources, f"'{file}' cannot be read: {reason}", "TEMPORAL_CONFIG_FILE")
    except RuntimeError as exc:
        # The SDK's ConfigError is a RuntimeError that has no public name.
        _report_config_error(file, profile_name, str(exc), sources)
    return None


def _report_config_error(file: Path, name: str | None, text: str, sources: Sources) -> None:
    if name is not None and text.startswith("Profile "):
        import tomllib

        profiles = tomllib.loads(file.read_text(encoding="utf-8")).get("profile", {})
        there = ", ".join(sorted(profiles)) or "none"
        cure = f"Use one that is there ({there}), or add it to the file."
        problem = Problem("TEMPORAL_PROFILE", f"'{name}' is not in {file}", ENVIRONMENT, cure)
        sources.problems.append(problem)
        return
    # The SDK quotes the line at fault, which may hold a secret: only the place and reason are told.
    place = re.search(r"at line (\d+)", text)
    reason = text.strip().splitlines()[-1].removeprefix("Invalid configuration: ")
    line = f", line {place[1]}" if place else ""
    reason = reason.replace("`", "'")
    _report_file(sources, f"{file}{line}: {reason}", "TEMPORAL_CONFIG_FILE")


def _report_dropped(file: Path, profile: str, sources: Sources) -> None:
    """Report what the SDK reads from the profile and its Python edition drops."""
    import tomllib

    try:
        content = tomllib.loads(file.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError:
        return  # the SDK reports it with its place
    section = _table(_table(content, "profile"), profile)
    dropped = {
        "codec": (section.get("codec"), _DROPPED["TEMPORAL_CODEC_ENDPOINT"]),
        "tls.disable_host_verification": (
            _table(section, "tls").get("disable_host_verification"),
            _DROPPED["TEMPORAL_TLS_DISABLE_HOST_VERIFICATION"],
        ),
    }
    for key, (value, cure) in dropped.items():
        if value:
            message = "is ignored by the Python SDK"
            sources.problems.append(Problem(f"profile.{profile}.{key}", message, f"{file}", cure))


def _table(section: Any, key: str) -> dict[str, Any]:
    value = section.get(key) if isinstance(section, dict) else None
    return value if isinstance(value, dict) else {}


def _profile_values(profile: ClientConfigProfile) -> Iterator[tuple[str, object]]:
    for name in ("address", "namespace", "api_key"):
        if (value := getattr(profile, name)) is not None:
            yield f"temporal.{name}", value
    tls = profile.tls
    if tls is None:
        return
    # A [tls] table turns TLS on even when it is empty, in all SDKs.
    yield "temporal.tls", not tls.disabled
    if tls.server_name is not None:
        yield "temporal.tls_server_name", tls.server_name
    items = {
        "client_cert": tls.client_cert,
        "client_key": tls.client_private_key,
        "server_ca_cert": tls.server_root_ca_cert,
    }
    for item, given in items.items():
        if isinstance(given, Path):
            yield f"temporal.tls_{item}_path", given
        elif given is not None:
            text = given.decode() if isinstance(given, bytes) else given
            yield f"temporal.tls_{item}_data", text


def _overridden(path: str, found: Mapping[str, Found]) -> bool:
    """Tell whether a variable replaces a value of the profile; a path replaces data, too."""
    item = path.removesuffix("_path").removesuffix("_data")
    return any(candidate in found for candidate in (path, f"{item}_path", f"{item}_data"))


def _report_unreadable_certificates(
    sources: Sources, fields: Mapping[str, SettingField], found: Mapping[str, Found]
) -> None:
    for path, hit in found.items():
        if not path.endswith(("cert_path", "key_path")) or isinstance(hit.value, Unreadable):
            continue
        try:
            with Path(str(hit.value)).open("rb") as file:
                file.read(1)
        except OSError as exc:
            message = f"'{hit.value}' cannot be read: {exc.strerror}"
            cure = "Mount the file, or correct the path."
            sources.problems.append(
                Problem(fields[path].env, message, hit.where(fields[path].env), cure)
            )


def _report_file(sources: Sources, message: str, subject: str) -> None:
    where = ENVIRONMENT if sources.environ.get(subject, "").strip() else None
    cure = "Correct the file, or the path."
    sources.problems.append(Problem(subject, message, where, cure))
