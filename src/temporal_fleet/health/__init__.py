"""Whether a worker is started, alive and ready, and who answers that.

Nothing here decides what follows from it: a worker that is not ready goes on polling, and Kubernetes
restarts one that is not alive.
"""
