"""Timeouts and retries of every activity, each with the reason for it.

The four timeouts answer four questions. Schedule-to-start: is the work still wanted when it waited
this long for a worker? Start-to-close: when is a silent worker taken for dead? Heartbeat: the same
for work that takes long. Schedule-to-close: how long does somebody wait for it, all attempts
together? Start-to-close is set for every activity: without it a worker's death would not be
noticed.
"""

from __future__ import annotations

from datetime import timedelta

from temporalio.common import RetryPolicy
from temporalio.workflow import ActivityConfig, LocalActivityConfig

from fleet_orders import payments_api

_PROMPT = RetryPolicy(
    initial_interval=timedelta(milliseconds=200),
    maximum_interval=timedelta(seconds=5),
)
"""Steps that a customer waits for. They end by their schedule-to-close timeout, not by a number of
attempts: a worker that is drained or dies uses up attempts through no fault of the step."""

SCORE_FRAUD = ActivityConfig(
    # The only step that an order can do without: when the process pools are so busy that nobody
    # starts within a minute, the order goes on unscored instead of queueing behind its own backlog.
    schedule_to_start_timeout=timedelta(minutes=1),
    start_to_close_timeout=timedelta(seconds=20),
    # A score that fails twice fails because of the order's data; the order goes on without.
    retry_policy=RetryPolicy(maximum_attempts=2),
)

RESERVE_STOCK = ActivityConfig(
    # Longer than the lock timeout of the stock, so that the error names the lock.
    start_to_close_timeout=timedelta(seconds=15),
    schedule_to_close_timeout=timedelta(minutes=5),
    retry_policy=_PROMPT,
)

CHARGE = ActivityConfig(
    task_queue=payments_api.TASK_QUEUE,
    # Longer than the timeouts of the payments' database pool and locks.
    start_to_close_timeout=timedelta(seconds=15),
    # The customer waits in front of the shop's "pay" button: after this the order is given up,
    # whether payments was slow, overloaded or not there at all.
    schedule_to_close_timeout=timedelta(minutes=5),
    # The gateway's own delay comes before these intervals. A declined card is never retried:
    # payments marks it so.
    retry_policy=_PROMPT,
)

PACK_PARCEL = ActivityConfig(
    # Packing may take long, so its worker's death shows by missing heartbeats instead.
    start_to_close_timeout=timedelta(hours=1),
    heartbeat_timeout=timedelta(seconds=5),
    retry_policy=_PROMPT,
)

HAND_OVER = LocalActivityConfig(
    # Short and harmless to repeat, so it runs beside its workflow task: no trip through the server.
    start_to_close_timeout=timedelta(seconds=10),
    schedule_to_close_timeout=timedelta(minutes=30),
    retry_policy=_PROMPT,
)

FETCH_CARRIER_STATUS = ActivityConfig(
    start_to_close_timeout=timedelta(seconds=10),
    # The shipment asks again later by itself, so one question need not be answered forever.
    schedule_to_close_timeout=timedelta(minutes=1),
    retry_policy=_PROMPT,
)

NOTIFY_CUSTOMER = LocalActivityConfig(
    start_to_close_timeout=timedelta(seconds=10),
    # An order is final whether or not its customer could be told; the outcome says which.
    schedule_to_close_timeout=timedelta(minutes=2),
    retry_policy=_PROMPT,
)

COMPENSATION = ActivityConfig(
    start_to_close_timeout=timedelta(seconds=15),
    # No schedule-to-close timeout and no limit of attempts: money and goods must go back, however
    # long it takes. The interval is bounded, so that it goes on soon after the fault is mended.
    retry_policy=RetryPolicy(
        initial_interval=timedelta(milliseconds=200),
        maximum_interval=timedelta(seconds=30),
        maximum_attempts=0,
    ),
)

REFUND = COMPENSATION | ActivityConfig(task_queue=payments_api.TASK_QUEUE)

MENDING_PAUSE = timedelta(minutes=1)
"""How long a compensation waits after an error that is marked as not retryable, until it is tried
again: somebody has to mend something first."""

FIRST_POLL = timedelta(seconds=2)
"""How long after its expected arrival a parcel's carrier is asked for the first time."""

LONGEST_POLL = timedelta(hours=1)
"""Longest pause between two questions to the carrier; each is twice as long as the one before."""
