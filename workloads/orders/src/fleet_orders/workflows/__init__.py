"""Workflows of the orders task queue, one per module: the sandbox imports a module for each run."""
