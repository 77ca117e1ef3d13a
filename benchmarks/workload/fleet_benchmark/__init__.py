"""Workloads of the benchmarks, found through the dist-info folder beside this package."""
