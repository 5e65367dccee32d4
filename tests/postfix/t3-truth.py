#!/usr/bin/python3
"""posttrace's export against Postfix's log and against what the clients saw: none missing, none invented, none misjoined.

With all three witnesses; with each left out; with each restarted half way, in order and by kill -9. Arguments name the
scenes to run; without any, all of them.
"""

import os
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))

from hooks import HOOKS, Posttrace
from lab import Postfix
from load import make_plan, run_plan
from tap import run
from truth import check_log, check_whole, check_without_log, check_without_milter

MESSAGES = int(os.environ.get("LAB_MESSAGES", "3000"))
BESIDE = 50


def scene(tap, label, messages, check, hooks=HOOKS, settings=None, half_way=None):
    """Load, then what check makes of (sessions, log, export)."""
    if sys.argv[1:] and label not in sys.argv[1:]:
        return
    with Postfix() as postfix, Posttrace(postfix, hooks=hooks, settings=settings) as posttrace:
        posttrace.attach(12)
        gap = []

        def sabotage():
            gap.append(time.time())
            half_way(posttrace)
            gap.append(time.time())

        sessions = run_plan(make_plan(messages, seed=11), postfix, half_way=half_way and sabotage)
        tap.same([s.error for s in sessions if s.error], [], f"{label}: no session met anything unexpected")
        postfix.wait_idle()
        posttrace.wait_taken_in()
        posttrace.wait_settled()
        if gap:
            check(tap, label, sessions, postfix.oracle(), posttrace.export(), gap)
        else:
            check(tap, label, sessions, postfix.oracle(), posttrace.export())
        tap.same(set(posttrace.stop().values()), {0}, f"{label}: each daemon ends with 0")
        tap.same(posttrace.complaints(), [], f"{label}: no sanitizer complains")


def check_around(tap, label, sessions, log, export, gap):
    """A hook was away for a moment. The log's two sentences hold all the same, and sessions that did not meet the gap are
    whole."""
    check_log(tap, label, log, export)
    touched = {s.port for s in sessions if s.began_at < gap[1] + 0.1 and s.began_at + s.seconds > gap[0] - 0.1}
    tap.note(f"{label}: {len(touched)} of {len(sessions)} sessions were open while it was away, {gap[1] - gap[0]:.2f} s")
    tap.ok(touched and len(sessions) - len(touched) >= BESIDE, f"{label}: the gap hit some sessions, and {BESIDE} were beside it")
    check_whole(tap, f"{label}, sessions beside it", [s for s in sessions if s.port not in touched], None,
                [t for t in export if t["client"]["port"] and t["client"]["port"] not in touched])


def main(tap):
    some = MESSAGES // 3
    scene(tap, "all witnesses", MESSAGES, check_whole)
    scene(tap, "no policy service", some, check_whole, hooks=("milter", "recorder"))
    scene(tap, "no milter", some, check_without_milter, hooks=("policyd", "recorder"))
    scene(tap, "no log", some, check_without_log, settings={"maillog_source": "file:/dev/null"})
    scene(tap, "recorder restarted", some, lambda *a: check_whole(*a[:-1]), half_way=lambda p: p.recorder.restart())
    scene(tap, "recorder killed", some, lambda *a: check_whole(*a[:-1]), half_way=lambda p: p.recorder.restart(kill=True))
    for hook in ("milter", "policyd"):
        scene(tap, f"{hook} restarted", max(some, 900), check_around, half_way=lambda p: p.daemons[hook].restart())
        scene(tap, f"{hook} killed", max(some, 900), check_around, half_way=lambda p: p.daemons[hook].restart(kill=True))


run(main)
