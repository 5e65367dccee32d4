#!/usr/bin/python3
"""The recorder is away for a while under load: the journals wait, and nothing is missing once it is back.

POSTTRACE_AWAY_SECONDS says for how long (10).
"""

import os
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))

from hooks import Posttrace
from lab import Postfix
from load import make_plan, run_plan
from tap import run
from truth import check_whole

SECONDS = float(os.environ.get("POSTTRACE_AWAY_SECONDS", "10"))


def main(tap):
    with Postfix() as postfix, Posttrace(postfix) as posttrace:
        posttrace.attach(12)
        sessions = run_plan(make_plan(300, seed=20, prefix="a."), postfix)
        posttrace.recorder.stop()
        left = time.monotonic()
        rounds = 0
        # load for all of that time, whatever the machine makes of it
        while time.monotonic() - left < SECONDS:
            rounds += 1
            sessions += run_plan(make_plan(300, seed=20 + rounds, prefix=f"b{rounds}."), postfix)
        away = time.monotonic() - left
        posttrace.recorder.start()
        sessions += run_plan(make_plan(300, seed=19, prefix="c."), postfix)
        tap.same([s.error for s in sessions if s.error], [], "no session met anything unexpected")
        postfix.wait_idle()
        back = time.monotonic()
        posttrace.wait_taken_in()
        posttrace.wait_settled()
        tap.note(f"away for {away:.1f} s and {rounds * 300} transactions; caught up {time.monotonic() - back:.2f} s after the last")
        check_whole(tap, "after it is back", sessions, postfix.oracle(), posttrace.export())
        tap.same(set(posttrace.stop().values()), {0}, "each daemon ends with 0")
        tap.same(posttrace.complaints(), [], "no sanitizer complains")


run(main)
