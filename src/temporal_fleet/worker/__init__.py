"""The life of one worker process: from settings to polling to drained.

What a worker is made of (health, connection, metrics, execution) lives in the wings below; here it is put
together, watched and ended. Nothing here knows the command line or a rollout.
"""
