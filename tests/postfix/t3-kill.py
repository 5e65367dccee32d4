#!/usr/bin/python3
"""kill -9 of each daemon in the middle of load: mail goes on, the store opens clean, nothing that was journalled is lost
or doubled, and what a dead hook could not see is said to be missing.

After each kill the daemon is started again at once, as systemd would.
"""

import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))

from hooks import HOOKS, Posttrace
from lab import Postfix
from tap import run
from truth import mail, same
from wait import wait_for

MESSAGES = int(os.environ.get("LAB_MESSAGES", "1500"))
RECIPIENTS = 3
KILLS = 3


def kill_under_load(tap, hook):
    name = f"{hook} killed {KILLS} times under load"
    with Postfix() as postfix, Posttrace(postfix) as posttrace:
        posttrace.attach(12)
        # it stops with an error at the first reply that is not what it wants
        source = postfix.smtp_source(MESSAGES, sessions=20, recipients=RECIPIENTS)
        for part in range(1, KILLS + 1):
            wait_for("a part of the load", lambda: postfix.read_log().count("(queue active)") > part * MESSAGES // (KILLS + 2), 120)
            posttrace.daemons[hook].restart(kill=True)
        said = source.communicate(timeout=180)[0].decode()
        tap.ok(source.returncode == 0 and not said, f"{name}: smtp-source sees no error", said)
        postfix.wait_idle()
        posttrace.wait_taken_in()
        posttrace.wait_settled()
        export = [t for t in mail(posttrace.export()) if t["sender"] == "source@from.test"]
        ids = {m.queue_id for m in postfix.oracle().clients()}
        tap.same(len(ids), MESSAGES, f"{name}: Postfix took every message")
        same(tap, (t["queue_id"] for t in export), ids, f"{name}: each message is in exactly one transaction")
        want = tuple(sorted(["ok.source@lab.test"] + [f"{n}ok.source@lab.test" for n in range(2, RECIPIENTS + 1)]))
        halves = [t for t in export if not t["sources"][hook.replace("policyd", "policy")]] if hook != "recorder" else []
        whole = [t for t in export if t not in halves]
        said = [tuple(sorted(r["address"] for r in t["recipients"])) for t in whole]
        wrong = [r for r in said if r != want]
        tap.ok(not wrong, f"{name}: each recipient of a transaction that was seen is there once ({len(whole)})", *wrong[:3])
        doubled = [t["id"] for t in halves if len({r["address"] for r in t["recipients"]}) != len(t["recipients"])]
        tap.ok(not doubled, f"{name}: no recipient is doubled in the others ({len(halves)})", *doubled[:3])
        tap.ok(len(halves) < MESSAGES // 2, f"{name}: not more than was sent while it was away is seen by half")
        posttrace.run("store", "verify")
        tap.ok(True, f"{name}: the store passes its own check")
        tap.same(set(posttrace.stop().values()), {0}, f"{name}: each daemon ends with 0")
        tap.same(posttrace.complaints(), [], f"{name}: no sanitizer complains")


def main(tap):
    for hook in HOOKS:
        kill_under_load(tap, hook)


run(main)
