"""Waiting for a state instead of for a time."""

import time


class Timeout(Exception):
    pass


def wait_for(what, probe, timeout=20.0, pause=0.005):
    """Calls probe() until it answers something true and returns that; says what was awaited if it never does."""
    end = time.monotonic() + timeout
    while True:
        answer = probe()
        if answer:
            return answer
        if time.monotonic() > end:
            raise Timeout(f"waited {timeout:g} s in vain for {what}")
        time.sleep(pause)
        pause = min(pause * 1.5, 0.05)
