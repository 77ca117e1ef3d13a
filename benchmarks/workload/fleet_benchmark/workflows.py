"""One workflow with one activity, alone in its module so that the sandbox copies little."""

from __future__ import annotations

from datetime import timedelta

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from .activities import weigh
    from .models import Parcel


@workflow.defn
class SendParcel:
    """Weigh one parcel."""

    @workflow.run
    async def run(self, parcel: Parcel) -> Parcel:
        """Return the parcel that the activity returns."""
        return await workflow.execute_activity(
            weigh, parcel, start_to_close_timeout=timedelta(seconds=30)
        )
