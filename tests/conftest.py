"""What all tests need of the process that they run in."""

from __future__ import annotations

import signal

# Under nohup SIGHUP is ignored, and would be by every process that the tests start.
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)

# Whoever runs tests in the background of a shell has them ignore SIGINT, and so would every process that they
# start and interrupt.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
