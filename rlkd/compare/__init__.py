"""Algorithms side by side: a grid of runs, what each came to, one table, one page of plots."""
