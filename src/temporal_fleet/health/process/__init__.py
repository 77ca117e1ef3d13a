"""The process that answers ``/livez``, ``/readyz``, ``/startupz`` and ``/metrics`` of a worker.

It is a process of its own because a worker may hold Python's GIL for seconds, or be stopped, just
when somebody must be told so. It imports nothing but the standard library, and of that only what is
cheap: it runs with ``python -I -S``, takes about 12 MB, and does nothing while nobody asks. All it
says about the worker comes from a shared memory page; only metrics are asked from the worker.
"""
