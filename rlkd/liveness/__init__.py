"""A run that cannot go on ends, on every rank, and says why: heartbeats, stacks, first failures.

Everything is told through small files in the run's folder, `heartbeats/`, from a thread of each
rank: the main thread may be inside a collective that never returns.
"""
