"""A Kubernetes cluster as tests see it: kubectl, helm, pods that are watched, ports that are reached."""

from __future__ import annotations

import asyncio
import json
import re
from codecs import getincrementaldecoder
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from e2e_commands import COMMAND_TIMEOUT, Completed, output_of, run

CHART = Path(__file__).parents[2] / "deploy" / "helm" / "temporal-fleet"

WAIT_TIMEOUT = timedelta(seconds=120)
HELM_TIMEOUT = timedelta(seconds=180)
HELM_MARGIN = timedelta(seconds=60)
"""How much longer than helm's own timeout the program may take: its hooks before the wait have their own."""

JsonObject = dict[str, Any]


class Namespace:
    """One Kubernetes namespace."""

    def __init__(self, name: str) -> None:
        self.name = name

    async def kubectl(
        self,
        *arguments: str,
        stdin: str = "",
        check: bool = True,
        timeout: timedelta = COMMAND_TIMEOUT,
    ) -> Completed:
        """Run kubectl in this namespace."""
        command = ("kubectl", "--namespace", self.name, *arguments)
        return await run(*command, stdin=stdin, check=check, timeout=timeout)

    async def apply(self, *objects: Mapping[str, Any]) -> None:
        """Create or change objects."""
        items = {"apiVersion": "v1", "kind": "List", "items": objects}
        await self.kubectl("apply", "--filename", "-", stdin=json.dumps(items))

    async def get(self, kind: str, name: str) -> JsonObject:
        """Return one object."""
        completed = await self.kubectl("get", kind, name, "--output", "json")
        found: JsonObject = json.loads(completed.stdout)
        return found

    async def objects(self, kinds: str, selector: str = "") -> list[JsonObject]:
        """Return the objects of some kinds."""
        arguments = ("--selector", selector) if selector else ()
        completed = await self.kubectl("get", kinds, "--output", "json", *arguments)
        found: list[JsonObject] = json.loads(completed.stdout)["items"]
        return found

    async def pods(self, selector: str = "") -> list[JsonObject]:
        """Return the pods that are not being deleted, the oldest first."""
        found = [p for p in await self.objects("pods", selector) if is_staying(p)]
        return sorted(found, key=lambda pod: str(pod["metadata"]["creationTimestamp"]))

    async def wait(self, what: str, condition: str, *, timeout: timedelta = WAIT_TIMEOUT) -> None:
        """Wait until an object satisfies a condition of ``kubectl wait --for``."""
        await self.kubectl(
            *("wait", what, f"--for={condition}", f"--timeout={timeout.total_seconds():.0f}s"),
            timeout=timeout + COMMAND_TIMEOUT,
        )

    async def rolled_out(self, deployment: str, *, timeout: timedelta = WAIT_TIMEOUT) -> None:
        """Wait until all pods of a Deployment are up to date and ready."""
        await self.kubectl(
            *("rollout", "status", f"deployment/{deployment}"),
            f"--timeout={timeout.total_seconds():.0f}s",
            timeout=timeout + COMMAND_TIMEOUT,
        )

    async def logs(self, pod: str, *arguments: str) -> str:
        """Return what a pod has written so far."""
        return (await self.kubectl("logs", pod, *arguments)).stdout

    async def logged(
        self, target: str, text: str, *arguments: str, timeout: timedelta = WAIT_TIMEOUT
    ) -> str:
        """Wait until a pod (or ``job/NAME``) has written *text*, and return the line."""
        command = ("kubectl", "--namespace", self.name, "logs", "--follow", target, *arguments)
        seen: list[str] = []
        try:
            async with asyncio.timeout(timeout.total_seconds()), output_of(*command) as output:
                async for raw in output:
                    seen.append(raw.decode())
                    if text in seen[-1]:
                        return seen[-1]
        except TimeoutError:
            pass
        raise AssertionError(f"{target} did not write {text!r}, but:\n{''.join(seen)}")

    async def evict(self, pod: str) -> None:
        """Evict a pod, as the drain of a node does."""
        path = f"/api/v1/namespaces/{self.name}/pods/{pod}/eviction"
        eviction = {
            "apiVersion": "policy/v1",
            "kind": "Eviction",
            "metadata": {"name": pod, "namespace": self.name},
        }
        await self.kubectl("create", "--raw", path, "--filename", "-", stdin=json.dumps(eviction))

    @asynccontextmanager
    async def forwarded(self, target: str, port: int) -> AsyncIterator[int]:
        """Yield a port of this machine that leads to *port* of a pod or service."""
        command = ("kubectl", "--namespace", self.name, "port-forward", target, f":{port}")
        async with output_of(*command) as output:
            first = (await output.readline()).decode()
            match = re.search(r"127\.0\.0\.1:(\d+)", first)
            assert match, f"no port was forwarded to {target} in {self.name}: {first}"
            draining = asyncio.create_task(_read_away(output))
            try:
                yield int(match[1])
            finally:
                draining.cancel()
                await asyncio.gather(draining, return_exceptions=True)

    async def snapshot(self) -> str:
        """Return what explains a failure: objects, events, logs."""
        kinds = "pods,deployments,jobs,hpa,configmaps"
        parts = [
            await self.kubectl("get", kinds, "--output", "wide", check=False),
            await self.kubectl("get", "events", "--sort-by=.lastTimestamp", check=False),
            await self.kubectl("describe", "pods,jobs", check=False),
        ]
        for pod in await self.objects("pods"):
            name, tail = str(pod["metadata"]["name"]), "--tail=60"
            parts.append(await self.kubectl("logs", name, "--all-containers", tail, check=False))
            if any(s["restartCount"] for s in pod["status"].get("containerStatuses", [])):
                parts.append(await self.kubectl("logs", name, "--previous", tail, check=False))
        return "\n".join(map(str, parts))


class Release:
    """A release of the chart."""

    def __init__(self, namespace: Namespace, name: str = "fleet") -> None:
        self.namespace = namespace
        self.name = name

    async def install(self, values: Mapping[str, Any], **options: Any) -> Completed:
        """Install the chart; options as for :meth:`upgrade`."""
        return await self._apply("install", values, **options)

    async def upgrade(self, values: Mapping[str, Any], **options: Any) -> Completed:
        """Upgrade to other values.

        Options: *check* (True), *wait* for all workers to be ready before the routing is applied (True), and
        *timeout* in seconds.
        """
        return await self._apply("upgrade", values, **options)

    async def _apply(
        self,
        verb: str,
        values: Mapping[str, Any],
        *,
        check: bool = True,
        wait: bool = True,
        timeout: float = HELM_TIMEOUT.total_seconds(),
    ) -> Completed:
        arguments = [verb, self.name, str(CHART), "--values", "-", *(["--wait"] if wait else [])]
        limit = timedelta(seconds=timeout)
        return await self._helm(*arguments, stdin=json.dumps(values), check=check, timeout=limit)

    async def rollback(self, revision: int, *, check: bool = True) -> Completed:
        """Go back to an earlier revision."""
        return await self._helm("rollback", self.name, str(revision), "--wait", check=check)

    async def uninstall(self, *arguments: str, check: bool = True) -> Completed:
        """Remove the release."""
        return await self._helm("uninstall", self.name, *arguments, check=check)

    async def test(self, *, check: bool = True) -> Completed:
        """Run ``helm test``."""
        return await self._helm("test", self.name, "--logs", check=check)

    async def manifest(self) -> set[tuple[str, str]]:
        """Return kind and name of every object that the release consists of."""
        text = (await self._helm("get", "manifest", self.name)).stdout
        as_json = await self.namespace.kubectl(
            *("create", "--dry-run=client", "--output", "json", "--filename", "-"), stdin=text
        )
        return {(o["kind"], o["metadata"]["name"]) for o in each_object(as_json.stdout)}

    async def _helm(
        self,
        *arguments: str,
        stdin: str = "",
        check: bool = True,
        timeout: timedelta = HELM_TIMEOUT,
    ) -> Completed:
        limit = () if arguments[0] == "get" else ("--timeout", seconds_text(timeout))
        command = ("helm", "--namespace", self.namespace.name, *arguments, *limit)
        return await run(*command, stdin=stdin, check=check, timeout=timeout + HELM_MARGIN)


class PodWatch:
    """The last that was seen of each pod of a namespace; made by :func:`watched_pods`."""

    def __init__(self) -> None:
        self.pods: dict[str, JsonObject] = {}
        self.gone: set[str] = set()
        self.deadlines: dict[str, datetime] = {}
        """When the grace period of each deleted pod is over. Kubernetes moves it at the very end."""
        self._changed = asyncio.Condition()

    async def follow(self, output: asyncio.StreamReader) -> None:
        """Read the events that kubectl writes, one JSON object after another."""
        decoder, characters, text = json.JSONDecoder(), getincrementaldecoder("utf-8")(), ""
        while chunk := await output.read(2**16):
            text = (text + characters.decode(chunk)).lstrip()
            while text.startswith("{"):
                try:
                    event, end = decoder.raw_decode(text)
                except json.JSONDecodeError:
                    break  # the rest of the object is still to come
                text = text[end:].lstrip()
                await self._note(event)

    async def _note(self, event: JsonObject) -> None:
        name = str(event["object"]["metadata"]["name"])
        async with self._changed:
            self.pods[name] = event["object"]
            if deadline := event["object"]["metadata"].get("deletionTimestamp"):
                self.deadlines.setdefault(name, datetime.fromisoformat(deadline))
            if event["type"] == "DELETED":
                self.gone.add(name)
            self._changed.notify_all()

    async def until(
        self, condition: Callable[[], object], what: str, timeout: timedelta = WAIT_TIMEOUT
    ) -> None:
        """Wait for something to become true of the pods."""
        try:
            async with asyncio.timeout(timeout.total_seconds()), self._changed:
                await self._changed.wait_for(lambda: bool(condition()))
        except TimeoutError:
            raise AssertionError(f"not within {timeout.total_seconds():.0f} s: {what}") from None

    async def until_gone(self, *names: str) -> None:
        """Wait until pods are deleted."""
        await self.until(lambda: self.gone.issuperset(names), f"pods gone: {', '.join(names)}")

    def ends(self, name: str, container: str = "worker") -> JsonObject:
        """Return how a container ended: ``exitCode``, ``reason``, ``startedAt``, ``finishedAt``."""
        for status in self.pods[name]["status"]["containerStatuses"]:
            if status["name"] == container:
                assert "terminated" in status["state"], f"{name} has not ended: {status}"
                end: JsonObject = status["state"]["terminated"]
                return end
        raise AssertionError(f"pod {name} has no container {container}")


@asynccontextmanager
async def watched_pods(namespace: Namespace, selector: str = "") -> AsyncIterator[PodWatch]:
    """Watch the pods of a namespace for as long as the block lasts."""
    watch = PodWatch()
    command = ["kubectl", "--namespace", namespace.name, "get", "pods", "--selector", selector]
    async with output_of(*command, "--watch", "--output-watch-events", "--output=json") as output:
        following = asyncio.create_task(watch.follow(output))
        try:
            yield watch
        finally:
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)


def is_staying(pod: Mapping[str, Any]) -> bool:
    """Whether nobody has asked for the deletion of a pod."""
    return "deletionTimestamp" not in pod["metadata"]


def names(objects: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return the names of objects."""
    return [str(each["metadata"]["name"]) for each in objects]


def each_object(text: str) -> list[JsonObject]:
    """Return the objects that kubectl has written: one, several in a row, or lists of them."""
    decoder = json.JSONDecoder()
    found: list[JsonObject] = []
    while text := text.lstrip():
        value, end = decoder.raw_decode(text)
        text = text[end:]
        found.extend(value["items"] if value["kind"] == "List" else [value])
    return found


def seconds_text(duration: timedelta) -> str:
    """Write a duration as helm and kubectl want it."""
    return f"{duration.total_seconds():.0f}s"


async def _read_away(output: asyncio.StreamReader) -> None:
    while await output.read(2**16):
        pass
