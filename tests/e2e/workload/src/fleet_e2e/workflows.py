"""The same workflow twice: once pinned to the build that started it, once moving on to newer builds."""

from __future__ import annotations

from datetime import timedelta

from temporalio import workflow
from temporalio.common import RetryPolicy, VersioningBehavior

from fleet_e2e.models import StepReport, Work, WorkReport

MOST_SECONDS_OF_AN_ATTEMPT = 120
FIRST_RETRY_SECONDS = 0.2


class _Steps:
    """Runs the steps of a piece of work and notes who ran them."""

    def __init__(self) -> None:
        self._proceeds = 0
        self._stopped = False
        self._report = WorkReport(workflow_builds=[], steps=[])

    async def do(self, work: Work) -> WorkReport:
        for number in range(work.steps):
            if work.waits and number:
                await self._allowed(number)
            if self._stopped:
                break
            self._report.workflow_builds.append(workflow.info().get_current_build_id())
            self._report.steps.append(await self._step(work))
        return self._report

    async def _allowed(self, number: int) -> None:
        await workflow.wait_condition(lambda: self._proceeds >= number)

    async def _step(self, work: Work) -> StepReport:
        report: StepReport = await workflow.execute_activity(
            work.activity,
            work.seconds,
            result_type=StepReport,
            start_to_close_timeout=timedelta(seconds=MOST_SECONDS_OF_AN_ATTEMPT),
            heartbeat_timeout=timedelta(seconds=work.heartbeat_timeout),
            retry_policy=RetryPolicy(
                initial_interval=timedelta(seconds=FIRST_RETRY_SECONDS),
                maximum_attempts=work.attempts,
            ),
        )
        return report

    def proceed(self) -> None:
        self._proceeds += 1

    def stop(self) -> None:
        self._stopped = True

    @property
    def report(self) -> WorkReport:
        return self._report


@workflow.defn(versioning_behavior=VersioningBehavior.PINNED)
class PinnedSteps:
    """Steps that all run on the build that the workflow was started on."""

    def __init__(self) -> None:
        self._steps = _Steps()

    @workflow.run
    async def run(self, work: Work) -> WorkReport:
        """Do the work and report which builds did it."""
        return await self._steps.do(work)

    @workflow.signal
    def proceed(self) -> None:
        """Allow one more step."""
        self._steps.proceed()

    @workflow.signal
    def stop(self) -> None:
        """Begin no further step."""
        self._steps.stop()

    @workflow.query
    def report(self) -> WorkReport:
        """Return the report so far."""
        return self._steps.report


@workflow.defn(versioning_behavior=VersioningBehavior.AUTO_UPGRADE)
class AutoUpgradeSteps:
    """Steps that run on whichever build is current when they begin."""

    def __init__(self) -> None:
        self._steps = _Steps()

    @workflow.run
    async def run(self, work: Work) -> WorkReport:
        """Do the work and report which builds did it."""
        return await self._steps.do(work)

    @workflow.signal
    def proceed(self) -> None:
        """Allow one more step."""
        self._steps.proceed()

    @workflow.signal
    def stop(self) -> None:
        """Begin no further step."""
        self._steps.stop()

    @workflow.query
    def report(self) -> WorkReport:
        """Return the report so far."""
        return self._steps.report
