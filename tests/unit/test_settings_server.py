from __future__ import annotations

import re
from pathlib import Path

import pytest
from pydantic import SecretStr

from temporal_fleet.errors import SettingsError
from temporal_fleet.settings import Settings, TemporalSettings, load_settings


def problems_of(environ: dict[str, str]) -> list[str]:
    """Return the problems of an environment, as a user sees them."""
    with pytest.raises(SettingsError) as caught:
        load_settings(environ)
    return [str(problem) for problem in caught.value.problems]


def temporal(environ: dict[str, str]) -> TemporalSettings:
    """Load the connection's settings."""
    return load_settings(environ).settings.temporal


@pytest.fixture
def pem(tmp_path: Path) -> Path:
    """A file that can be read."""
    file = tmp_path / "tls.pem"
    file.write_text("-----BEGIN CERTIFICATE-----")
    return file


@pytest.fixture
def toml(tmp_path: Path, pem: Path) -> Path:
    """A configuration file with a plain and a complete profile."""
    file = tmp_path / "temporal.toml"
    file.write_text(
        f"""
        [profile.default]
        address = "default:7233"

        [profile.cloud]
        address = "cloud:7233"
        namespace = "shop"
        api_key = "s3cret"

        [profile.cloud.tls]
        client_cert_path = "{pem}"
        client_key_path = "{pem}"
        server_name = "cloud.example"

        [profile.cloud.grpc_meta]
        tenant = "one"
        region = "eu"
        """
    )
    return file


VALUES = [
    ({}, "address", "localhost:7233"),
    ({"TEMPORAL_ADDRESS": "[::1]:7233"}, "address", "[::1]:7233"),
    ({"TEMPORAL_NAMESPACE": "shop.a1b2"}, "namespace", "shop.a1b2"),
    ({"TEMPORAL_TLS": "true"}, "tls", True),
    ({"TEMPORAL_TLS": "1"}, "tls", True),
    ({"TEMPORAL_TLS": "False"}, "tls", False),
    ({"TEMPORAL_TLS": "0"}, "tls", False),
    ({"TEMPORAL_TLS": ""}, "tls", None),
    ({"TEMPORAL_GRPC_META_MY_HEADER": "x"}, "grpc_meta", {"my-header": "x"}),
    ({"TEMPORAL_TLS_SERVER_CA_CERT_DATA": "pem"}, "tls_server_ca_cert_data", SecretStr("pem")),
]


@pytest.mark.parametrize(("environ", "name", "value"), VALUES)
def test_connection_with_a_variable_sets_the_field(
    environ: dict[str, str], name: str, value: object
) -> None:
    """Temporal's standard variables are read."""
    assert getattr(temporal(environ), name) == value


USES_TLS = [
    ({}, False),
    ({"TEMPORAL_API_KEY": "k"}, True),
    ({"TEMPORAL_API_KEY": "k", "TEMPORAL_TLS": "false"}, False),
    ({"TEMPORAL_TLS": "true"}, True),
    ({"TEMPORAL_TLS_SERVER_NAME": "x"}, True),
    ({"TEMPORAL_TLS_SERVER_CA_CERT_DATA": "pem"}, True),
]


@pytest.mark.parametrize(("environ", "encrypted"), USES_TLS)
def test_connection_without_tls_setting_is_encrypted_when_there_are_credentials(
    environ: dict[str, str], encrypted: bool
) -> None:
    """Credentials are never sent in clear unless somebody says so."""
    assert temporal(environ).uses_tls is encrypted


def test_api_key_in_a_file_keeps_its_path_for_watching(tmp_path: Path) -> None:
    """The key is read, and the file stays known so that a rotated key can be read again."""
    file = tmp_path / "key"
    file.write_text("s3cret\n")
    loaded = load_settings({"TEMPORAL_API_KEY_FILE": str(file)})

    assert loaded.settings.temporal.api_key == SecretStr("s3cret")
    assert loaded.settings.temporal.api_key_file == file
    assert loaded.provenance["temporal.api_key"] == f"file {file}"


def test_header_in_a_file_is_read(tmp_path: Path) -> None:
    """A header that is a secret can be mounted."""
    file = tmp_path / "header"
    file.write_text("Bearer s3cret\n")

    assert temporal({"TEMPORAL_GRPC_META_AUTHORIZATION_FILE": str(file)}).grpc_meta == {
        "authorization": "Bearer s3cret"
    }


ALLOWED = ["TEMPORAL_DEBUG", "TEMPORAL_UI_ADDRESS", "TEMPORAL_NAMESPACE_ID", "TEMPORAL_CLI_ENV"]


@pytest.mark.parametrize("name", ALLOWED)
def test_connection_with_a_name_of_somebody_else_ignores_it(name: str) -> None:
    """TEMPORAL_ is not our prefix alone: only what looks like a mistake is one."""
    assert load_settings({name: "1"}).settings.temporal == Settings().temporal


TLS_CURE = "Use true or false; other Temporal tools take any other word for true."
PROBLEMS = [
    *(
        (
            {"TEMPORAL_TLS": word},
            f"TEMPORAL_TLS: '{word}' is neither true nor false (set in the environment). "
            + TLS_CURE,
        )
        for word in ("no", "yes", "off", "on", "disabled")
    ),
    (
        {"TEMPORAL_ADDRESS": "https://shop.tmprl.cloud:7233/"},
        "TEMPORAL_ADDRESS: 'https://shop.tmprl.cloud:7233/' starts with https://, but it takes a "
        "host and a port only (set in the environment). Use shop.tmprl.cloud:7233 and "
        "TEMPORAL_TLS=true.",
    ),
    (
        {"TEMPORAL_ADDRESS": "localhost"},
        "TEMPORAL_ADDRESS: 'localhost' is not a host and a port (set in the environment). "
        "Use host:port, such as localhost:7233.",
    ),
    (
        {"TEMPORAL_ADDRESS": "localhost:99999"},
        "TEMPORAL_ADDRESS: 'localhost:99999' is not a host and a port (set in the environment). "
        "Use host:port, such as localhost:7233 or [::1]:7233.",
    ),
    (
        {"TEMPORAL_CONFIG_FILE": "/nonexistent/temporal.toml"},
        "TEMPORAL_CONFIG_FILE: '/nonexistent/temporal.toml' does not exist (set in the "
        "environment). Correct the file, or the path.",
    ),
    (
        {"TEMPORAL_PROFILE": "cloud"},
        "TEMPORAL_PROFILE: 'cloud' cannot be used: there is no configuration file (set in the "
        "environment). Create one, or set TEMPORAL_CONFIG_FILE to its path.",
    ),
    (
        {"TEMPORAL_TLS_SERVER_CA_CERT_PATH": "/nonexistent/ca.pem"},
        "TEMPORAL_TLS_SERVER_CA_CERT_PATH: '/nonexistent/ca.pem' cannot be read: No such file or "
        "directory (set in the environment). Mount the file, or correct the path.",
    ),
    (
        {"TEMPORAL_TLS_CLIENT_CERT_DATA": "pem"},
        "TEMPORAL_TLS_CLIENT_KEY_PATH: is not set, but the client certificate is. Set it to the "
        "file of the client private key, or remove the client certificate.",
    ),
    (
        {"TEMPORAL_TLS_CLIENT_KEY_DATA": "pem"},
        "TEMPORAL_TLS_CLIENT_CERT_PATH: is not set, but the client private key is. Set it to the "
        "file of the client certificate, or remove the client private key.",
    ),
    (
        {"TEMPORAL_TLS_DISABLE_HOST_VERIFICATION": "true"},
        "TEMPORAL_TLS_DISABLE_HOST_VERIFICATION: is ignored by the Python SDK (set in the "
        "environment). Remove it and set TEMPORAL_TLS_SERVER_CA_CERT_PATH, or "
        "TEMPORAL_TLS_SERVER_NAME when the certificate carries another name.",
    ),
    (
        {"TEMPORAL_CODEC_ENDPOINT": "http://codec"},
        "TEMPORAL_CODEC_ENDPOINT: is ignored by the Python SDK (set in the environment). "
        "Remove it: a worker encrypts payloads itself, with FLEET_CODEC_KEYS_DIRECTORY.",
    ),
]


@pytest.mark.parametrize(("environ", "text"), PROBLEMS)
def test_connection_with_something_wrong_says_what_and_what_to_do(
    environ: dict[str, str], text: str
) -> None:
    """What other tools pass over in silence is told before anything connects."""
    assert problems_of(environ) == [text]


RIGHT_NAMES = [
    ("TEMPORAL_TLS_CERT", "TEMPORAL_TLS_CLIENT_CERT_PATH"),
    ("TEMPORAL_TLS_KEY", "TEMPORAL_TLS_CLIENT_KEY_PATH"),
    ("TEMPORAL_TLS_CA", "TEMPORAL_TLS_SERVER_CA_CERT_PATH"),
    ("TEMPORAL_HOST_URL", "TEMPORAL_ADDRESS"),
    ("TEMPORAL_IDENTITY", "FLEET_CONNECTION_IDENTITY"),
    ("TEMPORAL_ADRESS", "TEMPORAL_ADDRESS"),
    ("TEMPORAL_NAMESPCE", "TEMPORAL_NAMESPACE"),
    ("TEMPORAL_APIKEY", "TEMPORAL_API_KEY"),
    ("TEMPORAL_APIKEY_FILE", "TEMPORAL_API_KEY_FILE"),
]


@pytest.mark.parametrize(("wrong", "right"), RIGHT_NAMES)
def test_connection_with_an_old_or_misspelt_name_tells_the_right_one(
    wrong: str, right: str
) -> None:
    """A name that nothing reads never leads to a connection somewhere else."""
    assert problems_of({wrong: "x"}) == [
        f"{wrong}: is not a setting (set in the environment). Use {right}."
    ]


def test_connection_with_path_and_data_keeps_secrets_out_of_the_problem(pem: Path) -> None:
    """Two sources for one certificate are an error that does not quote either."""
    environ = {
        "TEMPORAL_TLS_CLIENT_CERT_PATH": str(pem),
        "TEMPORAL_TLS_CLIENT_CERT_DATA": "s3cret",
        "TEMPORAL_TLS_CLIENT_KEY_PATH": str(pem),
    }

    assert problems_of(environ) == [
        "TEMPORAL_TLS_CLIENT_CERT_DATA: is set together with TEMPORAL_TLS_CLIENT_CERT_PATH (set in "
        "the environment). Keep one of the two; only a path is watched for rotation."
    ]


def test_profile_named_fills_what_variables_leave_open(toml: Path, pem: Path) -> None:
    """A profile is read as the `temporal` command reads it, and variables win."""
    loaded = load_settings(
        {
            "TEMPORAL_CONFIG_FILE": str(toml),
            "TEMPORAL_PROFILE": "cloud",
            "TEMPORAL_NAMESPACE": "mine",
            "TEMPORAL_GRPC_META_REGION": "",
            "TEMPORAL_GRPC_META_EXTRA": "yes",
        }
    )
    settings = loaded.settings.temporal

    assert (settings.address, settings.namespace) == ("cloud:7233", "mine")
    assert settings.api_key == SecretStr("s3cret")
    assert (settings.tls, settings.tls_server_name) == (True, "cloud.example")
    assert settings.tls_client_cert_path == pem
    assert settings.grpc_meta == {"tenant": "one", "extra": "yes"}
    assert loaded.provenance["temporal.address"] == f"{toml} [profile.cloud]"
    assert loaded.provenance["temporal.namespace"] == "TEMPORAL_NAMESPACE"


def test_profile_default_is_read_from_the_given_file(toml: Path) -> None:
    """Without a name it is the profile `default`."""
    assert temporal({"TEMPORAL_CONFIG_FILE": str(toml)}).address == "default:7233"


def test_profile_in_the_standard_place_is_found(toml: Path) -> None:
    """The file of the `temporal` command is found where it keeps it."""
    place = toml.parent / "config/temporalio/temporal.toml"
    place.parent.mkdir(parents=True)
    toml.rename(place)
    loaded = load_settings({"XDG_CONFIG_HOME": str(toml.parent / "config")})

    assert loaded.settings.temporal.address == "default:7233"
    assert loaded.settings.temporal.config_file == place


def test_profile_with_a_certificate_is_overridden_by_data(toml: Path) -> None:
    """A certificate given as data replaces the path of the profile instead of clashing with it."""
    settings = temporal(
        {
            "TEMPORAL_CONFIG_FILE": str(toml),
            "TEMPORAL_PROFILE": "cloud",
            "TEMPORAL_TLS_CLIENT_CERT_DATA": "pem",
        }
    )

    assert settings.tls_client_cert_path is None
    assert settings.tls_client_cert_data == SecretStr("pem")


def test_profile_missing_lists_those_that_are_there(toml: Path) -> None:
    """A wrong profile is told with the right ones."""
    assert problems_of({"TEMPORAL_CONFIG_FILE": str(toml), "TEMPORAL_PROFILE": "clod"}) == [
        f"TEMPORAL_PROFILE: 'clod' is not in {toml} (set in the environment). Use one that is "
        "there (cloud, default), or add it to the file."
    ]


BAD_FILES = {
    "unknown-key": (
        '[profile.default]\nadress = "x"',
        "TEMPORAL_CONFIG_FILE: {file}, line 2: unknown field 'adress', expected one of 'address', "
        "'namespace', 'api_key', 'tls', 'codec', 'grpc_meta' (set in the environment). "
        "Correct the file, or the path.",
    ),
    "syntax-on-a-line-with-a-secret": (
        '[profile.default]\napi_key = "s3cret',
        "TEMPORAL_CONFIG_FILE: {file}, line 2: invalid basic string, expected '\"' (set in the "
        "environment). Correct the file, or the path.",
    ),
    "path-and-data": (
        '[profile.default.tls]\nclient_cert_path = "a"\nclient_cert_data = "b"',
        "TEMPORAL_CONFIG_FILE: {file}: Cannot specify both client_cert_path and client_cert_data "
        "(set in the environment). Correct the file, or the path.",
    ),
    "codec": (
        '[profile.default.codec]\nendpoint = "http://codec"',
        "profile.default.codec: is ignored by the Python SDK (set in {file}). "
        "Remove it: a worker encrypts payloads itself, with FLEET_CODEC_KEYS_DIRECTORY.",
    ),
    "host-verification": (
        "[profile.default.tls]\ndisable_host_verification = true",
        "profile.default.tls.disable_host_verification: is ignored by the Python SDK (set in "
        "{file}). Remove it and set TEMPORAL_TLS_SERVER_CA_CERT_PATH, or TEMPORAL_TLS_SERVER_NAME "
        "when the certificate carries another name.",
    ),
    "unreadable-certificate": (
        '[profile.default.tls]\nserver_ca_cert_path = "/nonexistent/ca.pem"',
        "TEMPORAL_TLS_SERVER_CA_CERT_PATH: '/nonexistent/ca.pem' cannot be read: No such file or "
        "directory (set in {file} [profile.default]). Mount the file, or correct the path.",
    ),
    "bad-address": (
        '[profile.default]\naddress = "http://x:1"',
        "TEMPORAL_ADDRESS: 'http://x:1' starts with http://, but it takes a host and a port only "
        "(set in {file} [profile.default]). Use x:1.",
    ),
}


@pytest.mark.parametrize(("content", "text"), BAD_FILES.values(), ids=BAD_FILES.keys())
def test_profile_with_something_wrong_is_told_with_file_and_place(
    tmp_path: Path, content: str, text: str
) -> None:
    """A mistake in the configuration file is told with its place and without quoting secrets."""
    file = tmp_path / "temporal.toml"
    file.write_text(content)

    assert problems_of({"TEMPORAL_CONFIG_FILE": str(file)}) == [text.replace("{file}", str(file))]


def test_profile_file_that_is_a_directory_is_told(tmp_path: Path) -> None:
    """A mount that is not what it should be is named."""
    assert problems_of({"TEMPORAL_CONFIG_FILE": str(tmp_path)}) == [
        f"TEMPORAL_CONFIG_FILE: '{tmp_path}' cannot be read: Is a directory (set in the "
        "environment). Correct the file, or the path."
    ]


def test_profile_file_that_is_empty_keeps_all_defaults() -> None:
    """An empty file shuts out the profiles of the user, as `fleet dev` needs it."""
    assert temporal({"TEMPORAL_CONFIG_FILE": "/dev/null"}).address == "localhost:7233"


@pytest.mark.parametrize(
    ("address", "meant"),
    [
        ("dns:///frontend:7233", "frontend:7233"),
        ("dns://10.0.0.2/frontend:7234", "frontend:7234"),
        ("http://frontend", "frontend:7233"),
        ("https://shop.tmprl.cloud:7233/path/", "shop.tmprl.cloud:7233"),
        ("http://me@frontend:80", "frontend:80"),
        ("grpc://", "localhost:7233"),
        ("frontend", "frontend:7233"),
    ],
)
def test_cure_of_an_address_is_an_address(address: str, meant: str) -> None:
    """What the error says to use is accepted, and is the server that was meant."""
    [problem] = problems_of({"TEMPORAL_ADDRESS": address})
    words = re.findall(r"\S+:\d+", problem.partition("Use ")[2])

    assert words[0].rstrip(".") == meant
    assert temporal({"TEMPORAL_ADDRESS": meant}).address == meant


@pytest.mark.parametrize("name", ["TEMPORAL_NAMESPACE", "FLEET_WORKER_TASK_QUEUE"])
def test_name_with_a_line_break_inside_is_refused(name: str) -> None:
    """The server would take it for another name, which nobody uses."""
    [problem] = problems_of({name: "shop\nup"})

    assert problem.startswith(f"{name}: ")
    assert "line break" in problem
    assert "Use 'shopup'" in problem


def test_name_in_a_profile_with_a_line_end_is_refused(tmp_path: Path) -> None:
    """What a file of profiles holds is taken as it is, so it has to be right."""
    file = tmp_path / "temporal.toml"
    file.write_text('[profile.default]\nnamespace = "shop\\n"\n')
    [problem] = problems_of({"TEMPORAL_CONFIG_FILE": str(file)})

    assert "Use 'shop'" in problem


def test_values_are_read_without_the_line_end_of_a_secret() -> None:
    """A Secret made with `echo` ends in a line break that belongs to no name and no address."""
    settings = load_settings(
        {
            "TEMPORAL_ADDRESS": "frontend:7233\n",
            "TEMPORAL_NAMESPACE": "shop\n",
            "FLEET_WORKER_TASK_QUEUE": "orders\r\n",
            "FLEET_DEPLOYMENT_NAME": " orders\n",
            "TEMPORAL_WORKER_BUILD_ID": "b1\n",
        }
    ).settings

    assert (settings.temporal.address, settings.temporal.namespace) == ("frontend:7233", "shop")
    assert settings.worker.task_queue == "orders"
    assert (settings.deployment.name, settings.deployment.build_id) == ("orders", "b1")
