#!/usr/bin/python3
"""The lab proves itself: what the clients saw is what Postfix's log says, in both directions, without posttrace."""

import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))

from lab import Postfix
from load import make_plan, run_plan
from maillog import Log
from tap import run


def main(tap):
    messages = int(os.environ.get("LAB_MESSAGES", "1000"))
    with Postfix() as postfix:
        sessions = run_plan(make_plan(messages, seed=7), postfix)
        postfix.wait_idle()
        log = Log(postfix.read_log())
        transactions = [t for s in sessions for t in s.transactions]
        tap.note(f"{len(sessions)} sessions, {len(transactions)} transactions, {log.lines} log lines")
        tap.same([s.error for s in sessions if s.error], [], "no session met anything unexpected")
        tap.same({t.queue_id for t in transactions if t.queue_id},
                 {m.queue_id for m in log.clients() if m.active}, "each queue id a client was told is in the log, and no other")
        tap.same({(t.queue_id, t.sender, len(t.accepted)) for t in transactions if t.queue_id},
                 {(m.queue_id, m.sender, m.nrcpt) for m in log.clients() if m.active}, "sender and number of recipients agree")
        tap.same({(t.queue_id, f"<{t.tag}@load.test>") for t in transactions if t.queue_id},
                 {(m.queue_id, m.message_id) for m in log.clients() if m.active}, "message-ids agree")
        told = sorted((s.client, s.helo, t.sender, r.address, r.reply.text) for s in sessions for t in s.transactions
                      for r in t.refused)
        logged = sorted((j["session"].address, j["helo"], j["sender"], j["recipient"], f"{j['dsn']} {j['text']}")
                        for j in log.rejects if j["stage"] == "RCPT")
        tap.same(logged, told, f"each of {len(told)} refusals is one line of the log, word by word")
        begun = sum(1 for s in log.sessions)
        tap.same(begun, len(sessions) + 1, "as many sessions in the log as were begun, and the one that asked if Postfix is up")
        tap.note(f"lines the oracle has no use for: {len(log.other)}")
        kinds = {}
        for line in log.other:
            kinds.setdefault(" ".join(line.split()[4:8]), line)
        tap.note("\n".join(sorted(kinds.values())[:12]))
        seconds = sorted(t.seconds for t in transactions if t.seconds)
        tap.note(f"seconds a transaction: median {seconds[len(seconds) // 2]:.4f}, worst {seconds[-1]:.4f}")


run(main)
