"""What a worker tells about itself: logs, traces and metrics.

Nothing here decides anything; a worker without telemetry does the same work.
"""
