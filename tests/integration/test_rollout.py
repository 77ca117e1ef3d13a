"""Rollouts on a real server with real workers: what is observed, planned, changed and refused."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest
import pytest_asyncio
from rollout_workers import (
    build,
    fast_server,
    fleet,
    in_terminal,
    observed_until,
    start_fleet,
    start_orders,
    until,
    write_routing,
)
from temporalio.api.workflowservice.v1 import (
    SetWorkerDeploymentManagerRequest,
    SetWorkerDeploymentRampingVersionRequest,
)
from temporalio.client import Client
from temporalio.common import PinnedVersioningOverride, WorkerDeploymentVersion

from temporal_fleet.errors import ConnectionFailedError, RolloutError
from temporal_fleet.rollout import Planner, Rollout, Server, observe
from temporal_fleet.versioning import (
    UNVERSIONED,
    BuildStatus,
    DeleteBuild,
    ObservedDeployment,
    Pause,
    Plan,
    Routing,
    SetRamping,
    plan_promote,
    plan_ramp,
    plan_retire,
    plan_rollback,
)

pytestmark = [
    pytest.mark.integration,
    pytest.mark.asyncio(loop_scope="module"),
    # Workers, commands and server share the processors, with other tests beside them.
    pytest.mark.timeout(150),
]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client() -> AsyncIterator[Client]:
    """A client of a server that drains quickly; each test has a Worker Deployment of its own."""
    async with fast_server() as connected:
        yield connected


class Told(list[str]):
    """The lines that a rollout told."""

    def rollout(self, client: Client, deployment: str, *, seconds: float = 20) -> Rollout:
        """Return a rollout that tells them here."""
        return Rollout(
            Server(client),
            deployment,
            poller_timeout=timedelta(seconds=seconds),
            progress=self.append,
        )

    async def until(self, text: str) -> None:
        """Wait until a text is told."""

        async def read() -> str:
            return self.text

        await until(read, lambda told: text in told)

    @property
    def text(self) -> str:
        """All lines."""
        return "\n".join(self)


def promote(build_id: str | None = None) -> Planner:
    """Return a planner that makes a build current."""
    return lambda observed, identity: plan_promote(observed, build_id, identity=identity)


async def carry(client: Client, deployment: str, planner: Planner) -> Plan:
    """Carry out what a planner plans."""
    return await Told().rollout(client, deployment).carry_out(planner)


async def test_observe_of_an_unknown_deployment_says_that_it_does_not_exist(
    client: Client,
) -> None:
    """A Worker Deployment that no worker has ever registered is no error."""
    seen = await observe(Server(client), "nobody")

    assert not seen.exists
    assert seen.routing == Routing(None)
    assert not seen.builds[UNVERSIONED].has_pollers


async def test_observe_counts_pollers_of_builds_and_of_unversioned_workers_apart(
    client: Client,
) -> None:
    """A worker without versioning that shows a build ID counts as unversioned, not as that build."""
    async with build(client, "apart", "v1"), build(client, "apart", UNVERSIONED):
        seen = await observe(Server(client), "apart")

    assert set(seen.builds) == {"v1", UNVERSIONED}
    assert seen.builds["v1"].is_polled
    for each in seen.builds.values():
        assert {(one.name, one.type, one.pollers) for one in each.task_queues} == {
            ("apart", "activity", 1),
            ("apart", "workflow", 1),
        }


async def test_apply_on_first_install_waits_for_the_build_and_makes_it_current(
    client: Client, tmp_path: Path
) -> None:
    """The hook of a release may start before any worker: it waits, then routes, and can be repeated."""
    routing = write_routing(tmp_path / "routing.json", "first", {"blue": "v1"}, "blue")
    arguments = ("rollout", "apply", "--routing", routing, "--hook", "--yes")

    hook = await start_fleet(client, *arguments, "--poller-timeout", "40")
    waits = await hook.printed("  first: wait until build ID 'v1' is polled")
    async with build(client, "first", "v1"):
        applied = await hook.ended()
        again = await fleet(client, *arguments)
    seen = await observe(Server(client), "first")

    assert "has not seen any worker" in waits
    assert applied.code == 0, applied.text
    assert "make build ID 'v1' current" in applied.out
    assert "\x1b" not in applied.text
    assert seen.routing == Routing("v1")
    assert (again.code, "nothing to do" in again.out) == (0, True)


async def test_apply_of_a_build_that_never_polls_changes_nothing_and_names_it(
    client: Client, tmp_path: Path
) -> None:
    """After the poller timeout it says which build is not polled, and where to look."""
    routing = write_routing(tmp_path / "routing.json", "never", {"blue": "v9"}, "blue")

    applied = await fleet(
        client, "rollout", "apply", "--routing", routing, "--yes", "--poller-timeout", "1s"
    )

    assert applied.code == 1
    assert "with build ID 'v9', after 1 s (poller timeout)" in applied.err
    assert "temporal.io/build-id=v9" in applied.err


async def test_apply_of_a_build_without_activity_pollers_names_the_task_queue_and_type(
    client: Client,
) -> None:
    """A build of which only some processes run gets no work; the missing part is named."""
    async with build(client, "partly", "v1"):
        pass
    async with build(client, "partly", "v1", with_activities=False):
        await observed_until(
            client, "partly", lambda seen: len(seen.builds["v1"].missing_pollers) == 1
        )
        with pytest.raises(RolloutError, match="activity tasks of task queue 'partly'"):
            await (
                Told()
                .rollout(client, "partly", seconds=0.5)
                .carry_out(lambda observed, _identity: plan_promote(observed, "v1"))
            )

    assert (await observe(Server(client), "partly")).routing == Routing(None)


async def test_ramp_promote_rollback_and_retire_lead_from_one_build_to_another(
    client: Client,
) -> None:
    """The life of two builds: ramp, end of the ramp, promotion, way back, and the end of one."""
    name = "life"
    async with build(client, name, "v1"):
        await carry(client, name, promote("v1"))
        async with build(client, name, "v2"):
            await carry(client, name, lambda seen, _identity: plan_ramp(seen, "v2", 25))
            ramped = await observe(Server(client), name)
            await carry(client, name, lambda seen, _identity: plan_rollback(seen))
            ended = await observe(Server(client), name)
            await carry(client, name, lambda seen, _identity: plan_ramp(seen, "v2", 50))
            await carry(client, name, promote())
            promoted = await observe(Server(client), name)
            await carry(client, name, lambda seen, _identity: plan_rollback(seen))
            back = await observe(Server(client), name)
            with pytest.raises(RolloutError) as blocked:
                await carry(client, name, lambda seen, _identity: plan_retire(seen, "v2"))
        gone = await observed_until(
            client,
            name,
            lambda seen: (
                seen.builds["v2"].status is BuildStatus.DRAINED
                and not seen.builds["v2"].has_pollers
            ),
        )
        await carry(client, name, lambda seen, _identity: plan_retire(seen, "v2"))
        left = await observe(Server(client), name)

    assert ramped.routing == Routing("v1", "v2", 25)
    assert ramped.builds["v2"].status is BuildStatus.RAMPING
    assert ended.routing == Routing("v1")
    assert promoted.routing == Routing("v2")
    assert promoted.builds["v1"].last_current is not None
    assert back.routing == Routing("v1")
    assert "still poll" in str(blocked.value)
    assert gone.builds["v2"].drainage_changed is not None
    assert set(left.builds) == {"v1", UNVERSIONED}


async def test_retire_of_a_build_with_open_pinned_runs_names_them(client: Client) -> None:
    """A build that workflows still need stays, and one is told which."""
    name = "needed"
    async with build(client, name, "v1"), build(client, name, "v2"):
        await carry(client, name, promote("v1"))
        (order,) = await start_orders(client, name)
        await observed_until(client, name, lambda seen: seen.builds["v1"].open_pinned.count == 1)
        await carry(client, name, promote("v2"))

        refused = await fleet(client, "rollout", "retire", name, "v1", "--yes")
        await order.signal("finish")

    assert refused.code == 1
    assert f"needed-order-0 (run {order.first_execution_run_id})" in refused.err


async def test_apply_to_a_build_that_lacks_a_task_queue_is_refused_unless_that_is_allowed(
    client: Client, tmp_path: Path
) -> None:
    """What a build registers only after the plan was made is judged, too; by an option it may go ahead."""
    name = "lacks"
    routing = write_routing(tmp_path / "r.json", name, {"blue": "v1", "green": "v2"}, "green")
    apply = ("rollout", "apply", "--routing", routing, "--yes")
    async with build(client, name, "v1"):
        await carry(client, name, promote("v1"))
        early = await start_fleet(client, *apply)
        await early.printed("  lacks: wait until build ID 'v2' is polled")
        async with build(client, name, "v2", with_activities=False):
            refused = await early.ended()
            between = await observe(Server(client), name)
            allowed = await fleet(client, *apply, "--allow-missing-task-queues")
            seen = await observe(Server(client), name)

    assert refused.code == 1
    assert "build ID 'v2' has no worker for task queue 'lacks' (activity)" in refused.err
    assert between.routing == Routing("v1")
    assert allowed.code == 0, allowed.text
    assert seen.routing == Routing("v2")


async def test_promote_beside_another_worker_deployment_at_the_task_queue_is_refused(
    client: Client,
) -> None:
    """The two would take new runs from each other; one that routes nothing is in nobody's way."""
    name, other = "shared", "shared-too"
    async with build(client, name, "v1"), build(client, other, "w1", task_queue=name):
        before = plan_promote(await observe(Server(client), name), "v1")
        await carry(client, other, promote("w1"))
        refused = await fleet(client, "rollout", "promote", name, "v1", "--yes")
        allowed = await fleet(
            client, "rollout", "promote", name, "v1", "--yes", "--allow-shared-task-queues"
        )
        seen = await observe(Server(client), name)

    assert isinstance(before, Plan)
    assert refused.code == 1
    assert "Worker Deployment 'shared-too' routes new work, too" in refused.err
    assert allowed.code == 0, allowed.text
    assert seen.routing == Routing("v1")


async def test_retire_of_a_drained_build_that_was_sent_a_run_since_deletes_nothing(
    client: Client,
) -> None:
    """A drained build may be sent a run by name after the plan was made; it is looked at once more."""
    name = "revived"
    planned = Plan(name, (DeleteBuild("v1", "it was drained"),))
    async with build(client, name, "v2"):
        async with build(client, name, "v1"):
            await carry(client, name, promote("v1"))
            await carry(client, name, promote("v2"))
        await observed_until(
            client,
            name,
            lambda seen: (
                seen.builds["v1"].status is BuildStatus.DRAINED
                and not seen.builds["v1"].has_pollers
            ),
        )
        order = await client.start_workflow(
            "Order",
            id="sent-by-name",
            task_queue=name,
            versioning_override=PinnedVersioningOverride(WorkerDeploymentVersion(name, "v1")),
        )
        with pytest.raises(RolloutError, match=r"1 open pinned run would.*sent-by-name"):
            await carry(client, name, lambda _observed, _identity: planned)
        await order.terminate()
        seen = await observe(Server(client), name)

    assert "v1" in seen.builds


async def test_carry_out_when_another_changes_the_routing_leaves_theirs_and_names_them(
    client: Client,
) -> None:
    """A change between plan and call is noticed by the conflict token; it stays, and the rollout ends."""
    name = "raced"
    told = Told()
    async with build(client, name, "v1"), build(client, name, "v2"):
        await carry(client, name, promote("v1"))
        task = asyncio.create_task(told.rollout(client, name).carry_out(ramp_after_a_pause))
        await told.until("pause")
        await ramp_as_another_person(client, name, "v2", 77)
        with pytest.raises(RolloutError) as failed:
            await task
        seen = await observe(Server(client), name)

    assert "changed by 'another-person' meanwhile" in str(failed.value)
    assert "v2' is ramping at 77 %" in str(failed.value)
    assert seen.routing == Routing("v1", "v2", 77)


async def test_carry_out_after_a_change_that_was_taken_back_goes_on(client: Client) -> None:
    """Only another routing ends a rollout: where it is again as it was shown, the change is made."""
    name = "taken-back"
    told = Told()
    async with build(client, name, "v1"), build(client, name, "v2"):
        await carry(client, name, promote("v1"))
        task = asyncio.create_task(told.rollout(client, name).carry_out(ramp_after_a_pause))
        await told.until("pause")
        await ramp_as_another_person(client, name, "v2", 77)
        await ramp_as_another_person(client, name, "", 0)
        await task
        seen = await observe(Server(client), name)

    assert seen.routing == Routing("v1", "v2", 80)


async def test_carry_out_of_another_plan_than_was_shown_changes_nothing(client: Client) -> None:
    """What people agreed to is done or nothing: a rollback of a ramp that is gone is no other rollback."""
    name = "shown"
    async with build(client, name, "v1"), build(client, name, "v2"), build(client, name, "v3"):
        for build_id in ("v1", "v2"):
            await carry(client, name, promote(build_id))
        await ramp_as_another_person(client, name, "v3", 40)
        shown = plan_rollback(await observe(Server(client), name))
        await ramp_as_another_person(client, name, "", 0)
        with pytest.raises(RolloutError, match=r"'another-person' meanwhile.*another one now"):
            await (
                Told()
                .rollout(client, name)
                .carry_out(
                    lambda observed, identity: plan_rollback(observed, identity=identity),
                    shown=shown,
                )
            )
        seen = await observe(Server(client), name)

    assert seen.routing == Routing("v2")


def ramp_after_a_pause(observed: ObservedDeployment, _identity: str) -> Plan:
    """Plan to ramp build v2 after a while, in which others can be quicker."""
    found = plan_ramp(observed, "v2", 80)
    assert isinstance(found, Plan)
    return Plan(observed.deployment, (Pause(timedelta(seconds=1), "test"), *found.steps))


async def ramp_as_another_person(
    client: Client, deployment: str, build_id: str, percentage: float
) -> None:
    """Change the ramp as somebody else would; an empty build ID ends it."""
    await client.workflow_service.set_worker_deployment_ramping_version(
        SetWorkerDeploymentRampingVersionRequest(
            namespace=client.namespace,
            deployment_name=deployment,
            build_id=build_id,
            percentage=percentage,
            identity="another-person",
        )
    )


async def test_apply_that_was_killed_in_the_middle_goes_on_where_it_stopped(
    client: Client, tmp_path: Path
) -> None:
    """Killed during the pause after the first step, the same command ends in the desired routing."""
    name = "killed"
    builds = {"blue": "v1", "green": "v2"}
    routing = write_routing(tmp_path / "routing.json", name, builds, "green")
    arguments = ("rollout", "apply", "--routing", routing, "--yes", "--steps", "30,60,100")
    async with build(client, name, "v1"), build(client, name, "v2"):
        await carry(client, name, promote("v1"))
        first = await start_fleet(client, *arguments, "--pause", "1h")
        await first.printed("  killed: pause for 60 min")
        first.process.kill()
        await first.ended()
        between = await observe(Server(client), name)

        second = await fleet(client, *arguments, "--pause", "100ms")
        seen = await observe(Server(client), name)

    assert between.routing == Routing("v1", "v2", 30)
    assert second.code == 0, second.text
    assert "30 % of new work" not in second.out
    assert second.out.index("send 60 %") < second.out.index("make build ID 'v2' current")
    assert seen.routing == Routing("v2")


async def test_apply_interrupted_in_a_pause_says_how_to_go_on(
    client: Client, tmp_path: Path
) -> None:
    """Ctrl-C leaves the routing as it is, and tells what the two ways from there are."""
    name = "paused"
    builds = {"blue": "v1", "green": "v2"}
    routing = write_routing(tmp_path / "routing.json", name, builds, "green")
    async with build(client, name, "v1"), build(client, name, "v2"):
        await carry(client, name, promote("v1"))
        command = await start_fleet(
            client,
            *("rollout", "apply", "--routing", routing, "--yes", "--steps", "30,100"),
            *("--pause", "1h"),
        )
        await command.printed("  paused: pause for 60 min")
        command.process.send_signal(signal.SIGINT)
        ended = await command.ended()

    assert ended.code == 130
    assert "The same command continues from there" in ended.out
    assert "Traceback" not in ended.text


async def test_step_for_a_build_that_lost_its_pollers_is_not_done(client: Client) -> None:
    """Workers that were there when it was planned and are gone by then get no new work."""
    name = "left"
    planned = Plan(name, (SetRamping("v2", 10, "it was polled"),))
    async with build(client, name, "v1"):
        await carry(client, name, promote("v1"))
        async with build(client, name, "v2"):
            pass
        await observed_until(client, name, lambda seen: not seen.builds["v2"].has_pollers)
        with pytest.raises(RolloutError, match="its workers were there and are gone"):
            await carry(client, name, lambda _observed, _identity: planned)
        seen = await observe(Server(client), name)

    assert seen.routing == Routing("v1")


async def test_status_shows_a_row_for_each_build(client: Client) -> None:
    """Routing, drainage, pollers and open runs of each build are seen at one glance."""
    name = "shown"
    async with build(client, name, "v1"), build(client, name, "v2"):
        await carry(client, name, promote("v1"))
        (order,) = await start_orders(client, name)
        await observed_until(client, name, lambda seen: seen.builds["v1"].open_pinned.count == 1)
        await carry(client, name, lambda seen, _identity: plan_ramp(seen, "v2", 10))
        text = await fleet(client, "rollout", "status", name)
        data = await fleet(client, "rollout", "status", name, "--output", "json")
        await order.signal("finish")

    rows = [line.split() for line in text.out.splitlines()]
    assert rows[0][:3] == ["DEPLOYMENT", "BUILD", "ID"]
    shown = {row[1]: row for row in rows[1:]}
    assert shown["v1"][2:5] == ["current", "90", "%"]
    assert shown["v2"][2:5] == ["ramping", "10", "%"]
    assert shown["v1"][6:10] == ["1", "0", "1", "1"]
    (found,) = json.loads(data.out)
    (old,) = (each for each in found["builds"] if each["build_id"] == "v1")
    (sample,) = old["open_pinned"]["sample"]
    assert sample["workflow_id"] == "shown-order-0"


async def test_plan_of_several_task_queues_shows_every_refusal_and_changes_nothing(
    client: Client, tmp_path: Path
) -> None:
    """One task queue that cannot be routed as desired keeps all others from being changed."""
    good = json.loads(
        Path(write_routing(tmp_path / "a.json", "good", {"blue": "v1"}, "blue")).read_text()
    )
    bad = json.loads(
        Path(
            write_routing(
                tmp_path / "b.json",
                "bad",
                {"blue": "v1", "green": "v2"},
                "blue",
                ramping="green",
                percentage=5,
            )
        ).read_text()
    )
    both = tmp_path / "both.json"
    both.write_text(json.dumps(good | {"queues": good["queues"] | bad["queues"]}))
    async with (
        build(client, "good", "v1"),
        build(client, "bad", "v1"),
        build(client, "bad", "v2"),
    ):
        await carry(client, "bad", promote("v1"))
        await carry(client, "bad", lambda seen, _identity: plan_ramp(seen, "v2", 50))
        applied = await fleet(client, "rollout", "apply", "--routing", str(both), "--yes")
        untouched = await observe(Server(client), "good")
        only = await fleet(
            client, "rollout", "apply", "--routing", str(both), "--yes", "--queue", "good"
        )
        touched = await observe(Server(client), "good")

    assert applied.code == 1
    assert "refused: build ID 'v2' is ramping at 50 %" in applied.err
    assert "nothing was changed" in applied.err
    assert untouched.routing == Routing(None)
    assert only.code == 0, only.text
    assert touched.routing == Routing("v1")


async def test_apply_as_a_hook_in_manual_mode_waits_for_pollers_and_changes_nothing(
    client: Client, tmp_path: Path
) -> None:
    """A release in manual mode shows its plan; a person who runs the same file carries it out."""
    routing = write_routing(
        tmp_path / "routing.json", "byhand", {"blue": "v1"}, "blue", mode="manual"
    )
    async with build(client, "byhand", "v1"):
        hook = await fleet(client, "rollout", "apply", "--routing", routing, "--hook", "--yes")
        between = await observe(Server(client), "byhand")
        person = await fleet(client, "rollout", "apply", "--routing", routing, "--yes")
        after = await observe(Server(client), "byhand")

    assert hook.code == 0, hook.text
    assert "build ID 'v1' is polled" in hook.out
    assert "step 1: make build ID 'v1' current" in hook.out
    assert "mode is manual" in hook.out
    assert between.routing == Routing(None)
    assert person.code == 0
    assert after.routing == Routing("v1")


async def test_wait_for_pollers_that_are_not_there_ends_with_their_names(
    client: Client, tmp_path: Path
) -> None:
    """When the time is up one is told which build is missing, and the exit code is 1."""
    builds = {"blue": "v1", "green": "v2"}
    routing = write_routing(tmp_path / "routing.json", "awaited", builds, "blue")
    async with build(client, "awaited", "v1"):
        waited = await fleet(
            client, "rollout", "wait", "--routing", routing, "--for", "pollers", "--timeout", "1"
        )

    assert waited.code == 1
    assert "awaited/v1: polled" in waited.out
    assert "timed out after 1 s (--timeout)" in waited.err
    assert "with build ID 'v2'" in waited.err


async def test_change_without_a_terminal_and_without_yes_is_a_usage_error(client: Client) -> None:
    """Nobody can be asked in a pipeline, so it must say that it means it."""
    ended = await fleet(client, "rollout", "promote", "any")

    assert ended.code == 2
    assert "pass --yes" in ended.err


async def test_change_in_a_terminal_asks_and_does_nothing_without_a_yes(client: Client) -> None:
    """People see the plan and are asked; whoever does not agree has changed nothing."""
    name = "asked"
    async with build(client, name, "v1"):
        refused = await fleet(client, "rollout", "promote", name, "v1", answer="n\n")
        between = await observe(Server(client), name)
        agreed = await fleet(client, "rollout", "promote", name, "v1", answer="y\n")
        after = await observe(Server(client), name)

    assert refused.code == 1
    assert "Continue? [y/N]" in refused.out
    assert "nothing was changed" in refused.err
    assert between.routing == Routing(None)
    assert agreed.code == 0, agreed.text
    assert after.routing == Routing("v1")


async def test_interrupt_at_the_question_ends_the_command_at_once(client: Client) -> None:
    """Ctrl-C where an answer is awaited is an answer: nothing is changed."""
    name = "interrupted"
    async with (
        build(client, name, "v1"),
        in_terminal(client, "rollout", "promote", name, "v1") as (command, _terminal),
    ):
        assert command.process.stdout
        async with asyncio.timeout(40):
            await command.process.stdout.readuntil(b"Continue?")
        await until(lambda: state_of(command.process.pid), lambda state: state == "S")
        command.process.send_signal(signal.SIGINT)
        ended = await command.ended()
        after = await observe(Server(client), name)

    assert ended.code == 130
    assert "nothing was changed" in ended.err
    assert after.routing == Routing(None)


async def state_of(pid: int) -> str:
    """Return the state of a process' main thread: ``S`` while it waits, as for a key."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


async def test_change_of_a_deployment_that_somebody_else_manages_is_refused_with_the_name(
    client: Client,
) -> None:
    """Where one identity alone may change the routing, others are told which."""
    name = "managed"
    async with build(client, name, "v1"):
        await client.workflow_service.set_worker_deployment_manager(
            SetWorkerDeploymentManagerRequest(
                namespace=client.namespace,
                deployment_name=name,
                manager_identity="the-controller",
                identity="test",
            )
        )
        with pytest.raises(RolloutError, match="'the-controller' manages the routing"):
            await carry(client, name, promote("v1"))
        seen = await observe(Server(client), name)

    assert seen.manager_identity == "the-controller"
    assert seen.routing == Routing(None)


async def test_status_in_a_missing_namespace_fails_instead_of_showing_nothing(
    client: Client,
) -> None:
    """A wrong namespace would look like one without Worker Deployments, and let every build go."""
    ended = await fleet(client, "rollout", "status", TEMPORAL_NAMESPACE="defualt")

    assert ended.code == 3
    assert "namespace 'defualt' does not exist" in ended.err


async def test_call_to_a_server_that_is_gone_is_repeated_until_patience_ends() -> None:
    """A server that is away for a moment fails nothing; for longer, one is told how long was tried."""
    async with fast_server() as gone:
        pass

    with pytest.raises(ConnectionFailedError, match=r"Tried again for \d s"):
        await Server(gone, patience=timedelta(seconds=1)).check_namespace()
