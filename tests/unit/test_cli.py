"""The command as a user meets it: real processes, their output and exit codes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from pathlib import Path

import click
import pytest
from missing_module import output_without
from written_workload import WrittenWorkload, fleet_environment, write_workload

from temporal_fleet import __version__
from temporal_fleet.cli import fleet
from temporal_fleet.errors import ExitCode
from temporal_fleet.stop_signals import INTERRUPTED

Done = subprocess.CompletedProcess[str]


@pytest.fixture
def greeting(tmp_path: Path) -> WrittenWorkload:
    """An installed workload."""
    return write_workload(tmp_path / "site", "greeting")


def run(
    *arguments: str, site: Path | None = None, stdin: str | None = None, **variables: str
) -> Done:
    """Run ``fleet`` to its end."""
    return subprocess.run(
        [sys.executable, "-m", "temporal_fleet", *arguments],
        env=fleet_environment(site or Path("/nonexistent"), **variables),
        input=stdin,
        capture_output=True,
        text=True,
        check=False,
        timeout=50,
    )


def commands(
    command: click.Command, path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Yield every command with the words that lead to it."""
    yield path, command
    if isinstance(command, click.Group):
        for name, each in command.commands.items():
            yield from commands(each, (*path, name))


@pytest.mark.parametrize(("path", "command"), list(commands(fleet)), ids=str)
def test_help_of_every_command_ends_in_examples(
    path: Sequence[str], command: click.Command
) -> None:
    """Every command shows how it is used, beginning with its own name."""
    lines = command.get_help(
        click.Context(command, help_option_names=["-h", "--help"])
    ).splitlines()
    examples = lines[lines.index("Examples:") + 1 :]

    assert any(f"fleet {' '.join(path)}".strip() in line for line in examples)


@pytest.mark.parametrize(
    ("code", "forbidden"),
    [
        ("from temporal_fleet.cli import run; run(['--help'])", "asyncio pydantic rich temporalio"),
        (
            "import temporal_fleet.cli, temporal_fleet.telemetry.logs, temporal_fleet.worker.process",
            "rich watchfiles opentelemetry",
        ),
    ],
    ids=["help", "worker"],
)
def test_command_loads_only_what_it_needs(code: str, forbidden: str) -> None:
    """Help answers without the SDK, and a worker carries nothing that only people look at."""
    check = f"{code}; import sys; print(*sys.modules, file=sys.stderr)"
    done = subprocess.run(
        [sys.executable, "-c", check], capture_output=True, text=True, check=True, timeout=50
    )

    assert not set(forbidden.split()) & set(done.stderr.split())


def test_version_names_package_sdk_and_python() -> None:
    """A bug report needs one line."""
    done = run("--version")

    python = ".".join(str(part) for part in sys.version_info[:3])
    assert done.stdout == (
        f"temporal-fleet {__version__} (temporalio {version('temporalio')}, Python {python})\n"
    )


@pytest.mark.parametrize(
    "arguments",
    [
        ("bogus",),
        ("worker",),
        ("start", "greeting", "/nonexistent.jsonl"),
        ("start", "greeting", "-", "--rate", "0"),
        ("start", "greeting", "-", "--timeout", "1"),
        ("queue", "--watch", "--output", "json"),
        ("dev", "--server", "localhost:1", "--headless"),
    ],
    ids=" ".join,
)
def test_command_line_that_is_wrong_ends_with_2(arguments: tuple[str, ...]) -> None:
    """Mistakes in the command line are told on standard error, with their own exit code."""
    done = run(*arguments)

    assert done.returncode == ExitCode.USAGE
    assert "Error: " in done.stderr


def test_list_with_a_broken_workload_shows_the_others_and_the_cause(
    greeting: WrittenWorkload,
) -> None:
    """A workload that cannot be imported hides no other, and its cause is shown."""
    broken = write_workload(greeting.site, "broken")
    broken.write("models.py", "import no_such_module")
    done = run("list", site=greeting.site)

    assert done.returncode == ExitCode.STARTUP
    assert "greeting  task queue greeting" in done.stdout
    assert "Greet" in done.stdout
    assert "broken cannot be loaded" in done.stdout
    assert "No module named 'no_such_module'" in done.stdout


def test_list_as_json_describes_workflows_and_handlers(greeting: WrittenWorkload) -> None:
    """Programs get everything that people see."""
    done = run("list", "--output", "json", site=greeting.site)
    found = {each["name"]: each for each in json.loads(done.stdout)["workloads"]}

    assert done.returncode == ExitCode.OK
    assert found["greeting"]["task_queue"] == "greeting"
    assert found["greeting"]["workflows"][0]["type"] == "Greet"
    assert found["greeting"]["workflows"][0]["signals"] == ["nudge"]


def test_settings_show_names_value_and_source_and_masks_secrets() -> None:
    """Each value is shown with where it was set; a secret is not shown."""
    done = run(
        *("settings", "show", "--changed", "--output", "json"),
        FLEET_DRAIN_TIMEOUT_SECONDS="77",
        TEMPORAL_API_KEY="hush",
    )
    rows = {row["path"]: row for row in json.loads(done.stdout)}

    assert rows["drain.timeout"]["value_masked"] == "77"
    assert rows["drain.timeout"]["source"] == "FLEET_DRAIN_TIMEOUT_SECONDS"
    assert rows["temporal.api_key"]["value_masked"] == "****"
    assert "hush" not in done.stdout
    assert "health.port" not in rows


def test_settings_show_of_a_workload_tells_what_a_mounted_secret_sets(tmp_path: Path) -> None:
    """A workload's setting has the same origins as one of the runtime, and counts as changed."""
    (tmp_path / "orders-database-url").write_text("postgresql://me:hush@db/orders\n")
    done = run(
        *("settings", "show", "orders", "--changed", "--output", "json"),
        FLEET_SECRETS_DIR=str(tmp_path),
    )
    [row] = [row for row in json.loads(done.stdout) if row["env"] == "ORDERS_DATABASE_URL"]

    assert row["source"] == f"file {tmp_path / 'orders-database-url'}"
    assert "hush" not in done.stdout


def test_settings_show_with_mistakes_reports_all_and_ends_with_3() -> None:
    """Every wrong setting is named at once, unknown ones with what was meant."""
    done = run("settings", "show", FLEET_DRAIN_TIMEOUT_SECONDS="soon", FLEET_HEALTH_PROT="1")

    assert done.returncode == ExitCode.STARTUP
    assert "FLEET_DRAIN_TIMEOUT_SECONDS: 'soon'" in done.stderr
    assert "FLEET_HEALTH_PORT" in done.stderr
    assert "Traceback" not in done.stderr


def test_debug_with_an_error_shows_the_traceback() -> None:
    """Whoever asks for it sees where an error comes from."""
    done = run("--debug", "start", "nothing", "-")

    assert done.returncode == ExitCode.STARTUP
    assert "Traceback" in done.stderr
    assert "no installed distribution offers a workload named 'nothing'" in done.stderr


def test_settings_docs_prints_the_reference() -> None:
    """The reference can be printed where no repository is."""
    done = run("settings", "docs")

    assert done.stdout.startswith("# Settings")
    assert "FLEET_DRAIN_TIMEOUT_SECONDS" in done.stdout


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_prints_a_script_for_the_shell(shell: str) -> None:
    """Each shell gets a script that asks fleet for completions."""
    done = run("completion", shell)

    assert done.returncode == ExitCode.OK
    assert f"_FLEET_COMPLETE={shell}_complete" in done.stdout


def test_completion_of_a_workload_offers_installed_names(greeting: WrittenWorkload) -> None:
    """Names of installed workloads are completed."""
    done = run(
        *(),
        site=greeting.site,
        _FLEET_COMPLETE="bash_complete",
        COMP_WORDS="fleet worker gr",
        COMP_CWORD="2",
    )

    assert done.stdout.splitlines() == ["plain,greeting"]


def test_queue_without_a_server_says_what_to_check() -> None:
    """A server that is away is told with its address and the setting, exit code 3."""
    done = run(
        *("queue", "orders"),
        TEMPORAL_ADDRESS="127.0.0.1:1",
        FLEET_CONNECTION_DEADLINE_SECONDS="0.5",
        FLEET_CONNECTION_ATTEMPT_TIMEOUT_SECONDS="0.5",
    )

    assert done.returncode == ExitCode.STARTUP
    assert "127.0.0.1:1" in done.stderr
    assert "TEMPORAL_ADDRESS" in done.stderr
    assert done.stdout == ""


WITH_JSON = {
    "list": (),
    "start": ("greeting", "-"),
    "queue": ("orders",),
    "settings show": (),
    "rollout status": ("orders",),
    "rollout plan": ("--routing", "-"),
    "rollout recover": ("orders", "--from", "b2", "--auto-upgrade", "--yes"),
}
"""Arguments of every command that prints JSON."""

ROUTING = {
    "apiVersion": "temporal-fleet/v1",
    "release": "fleet",
    "queues": {
        "orders": {
            "deployment": "orders",
            "builds": {"b2": {"buildId": "b2", "versioned": True}},
            "routing": {"current": "b2"},
            "rollout": {"mode": "manual"},
        }
    },
}


def test_commands_with_json_are_all_known_here() -> None:
    """A new command is tried without a server, too."""
    found = {
        " ".join(path)
        for path, each in commands(fleet)
        if any(parameter.name == "output" for parameter in each.params)
    }

    assert found == set(WITH_JSON)


@pytest.mark.parametrize("command", WITH_JSON)
def test_output_as_json_without_a_server_is_nothing_else(
    command: str, greeting: WrittenWorkload
) -> None:
    """Standard output holds JSON, or nothing when the server is away; people are told elsewhere."""
    done = run(
        *(*command.split(), *WITH_JSON[command], "--output", "json"),
        site=greeting.site,
        stdin=json.dumps(ROUTING),
        TEMPORAL_ADDRESS="127.0.0.1:1",
        FLEET_CONNECTION_DEADLINE_SECONDS="0.5",
        FLEET_CONNECTION_ATTEMPT_TIMEOUT_SECONDS="0.5",
    )

    assert done.stdout == "" or json.loads(done.stdout)
    assert done.stdout or "127.0.0.1:1" in done.stderr


def test_command_interrupted_ends_with_130() -> None:
    """Ctrl-C ends a command that waits for a server as shells expect."""
    environment = fleet_environment(
        Path("/nonexistent"),
        TEMPORAL_ADDRESS="127.0.0.1:1",
        FLEET_LOG_FORMAT="json",
    )
    with subprocess.Popen(
        [sys.executable, "-m", "temporal_fleet", "queue", "orders"],
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr
        process.stderr.readline()  # the first attempt has failed, it waits for the second
        process.send_signal(signal.SIGINT)
        code = process.wait(30)

    assert code == INTERRUPTED


def test_dev_without_its_extra_starts_nothing_and_says_how_to_install_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who has installed the package alone is told what else it takes, before anything runs."""
    monkeypatch.chdir(tmp_path)
    code = "import sys; sys.stderr = sys.stdout; from temporal_fleet.cli import run; print(run(['dev']))"
    said, status = output_without("watchfiles", code).splitlines()

    assert "pip install 'temporal-fleet[dev]'" in said
    assert int(status) == ExitCode.STARTUP
    assert list(tmp_path.iterdir()) == []


def test_output_into_a_closed_pipe_is_no_traceback(greeting: WrittenWorkload) -> None:
    """Whoever reads only the first lines sees no error."""
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = subprocess.run(
            [sys.executable, "-m", "temporal_fleet", "list", "--output", "json"],
            env=fleet_environment(greeting.site),
            stdout=writing,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
            timeout=50,
        )
    finally:
        os.close(writing)

    assert done.stderr == ""
