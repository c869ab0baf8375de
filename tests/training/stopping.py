"""Leaving a training at a chosen step."""

import os

from robustpolicy.training import Monitor


class Stop(Exception):
    pass


class StopAt(Monitor):
    """Leaves training at a step: abruptly, as a kill would, or by a signal."""

    def __init__(self, step, signum=None):
        self.left, self.signum = step, signum

    def step(self):
        self.left -= 1
        if self.left == 0 and self.signum:
            os.kill(os.getpid(), self.signum)
        elif self.left == 0:
            raise Stop
