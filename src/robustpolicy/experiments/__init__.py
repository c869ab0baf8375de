"""Experiments: the paper's tables as data, and the sweep that runs their cells."""
