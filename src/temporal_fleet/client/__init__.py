"""Talking to a Temporal server: connecting, credentials, patience with calls, and what it knows of pollers.

Nothing here changes anything on the server, and nothing here knows a workload.
"""
