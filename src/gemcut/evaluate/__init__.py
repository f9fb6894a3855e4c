"""Benchmarks: tasks, what a model answers to them, scores with their errors, and reports."""
