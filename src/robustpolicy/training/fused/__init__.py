"""Fused training: many small networks of a grid train as one, for a GPU that one alone leaves idle.

Each member keeps its own seed, penalties, stage, learning rate and run folder; its result is that
of :func:`robustpolicy.training.train` to float tolerance, whoever else is in the pack. On a CPU
this is slower than one process a core (benchmarks/fused.py).
"""

from robustpolicy.training.fused.train import train_fused

__all__ = ["train_fused"]
