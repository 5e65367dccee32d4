#!/usr/bin/python3
"""The lab proves itself: what the clients saw is what Postfix's log says, in both directions, without posttrace. And the
judge that posttrace will meet passes a perfect answer, and fails one with any single fault."""

import copy
import os
import random
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))

from lab import Postfix
from load import make_plan, run_plan
from tap import run
from truth import check_whole, expected_outcome, mail, recipients_told


class Silent:
    """Counts what a Tap would print."""

    def __init__(self):
        self.failed = 0

    def ok(self, good, name, *details):
        self.failed += not good


def perfect_export(sessions):
    """What posttrace should say of these sessions, made from what the clients know."""
    export = []
    for s in sessions:
        base = {"state": "done", "client": {"address": s.client, "port": s.port, "helo": s.helo},
                "tls": {"protocol": "TLSv1.3"} if s.tls else None, "sasl": {"username": "joe@lab.test"} if s.login else None}
        begun = [t for t in s.transactions if t.mail and t.mail.code == 250]
        for t in begun:
            export.append(copy.deepcopy(base) | {
                "id": t.tag, "sender": t.sender, "queue_id": t.queue_id, "outcome": expected_outcome(t),
                "message_id": f"{t.tag}@load.test" if t.queue_id else None,
                "recipients": [dict(zip(("address", "outcome", "code", "dsn", "text"), r)) for r in recipients_told(t)]})
        if not begun:
            export.append(copy.deepcopy(base) | {"id": str(s.number), "sender": None, "queue_id": None, "outcome": "no-mail",
                                                 "recipients": []})
    return export


def faults(export, rng):
    """Exports with one fault each, and its name."""
    def one(change, wanted):
        broken = copy.deepcopy(export)
        candidates = [t for t in broken if wanted(t)]
        change(broken, rng.choice(candidates))
        return broken

    def refused(t):
        return [r for r in t["recipients"] if r["outcome"] in ("rejected", "deferred")]

    def swap_session(broken, t):
        other = rng.choice([o for o in mail(broken) if o["client"]["port"] != t["client"]["port"]])
        t["client"], other["client"] = other["client"], t["client"]

    accepted = (lambda t: t["outcome"] == "accepted")
    yield "a transaction missing", one(lambda all, t: all.remove(t), accepted)
    yield "a transaction doubled", one(lambda all, t: all.append(t), accepted)
    yield "a session without mail missing", one(lambda all, t: all.remove(t), lambda t: t["outcome"] == "no-mail")
    yield "a recipient missing", one(lambda all, t: t["recipients"].pop(), lambda t: len(t["recipients"]) > 1)
    yield "a recipient doubled", one(lambda all, t: t["recipients"].append(t["recipients"][0]), accepted)
    yield "a queue id lost", one(lambda all, t: t.update(queue_id=None), accepted)
    yield "another queue id", one(lambda all, t: t.update(queue_id="ABCDEF"), accepted)
    yield "another code", one(lambda all, t: refused(t)[0].update(code=599), refused)
    yield "another text", one(lambda all, t: refused(t)[0].update(text="no"), refused)
    yield "another dsn", one(lambda all, t: refused(t)[0].update(dsn="5.9.9"), refused)
    yield "another helo", one(lambda all, t: t["client"].update(helo="else"), mail_like)
    yield "two transactions with each other's session", one(swap_session, accepted)
    yield "a refused recipient said to be accepted", one(lambda all, t: refused(t)[0].update(outcome="accepted"), refused)
    yield "another outcome", one(lambda all, t: t.update(outcome="aborted"), accepted)
    yield "one left open", one(lambda all, t: t.update(state="open"), accepted)


def mail_like(trace):
    return trace["outcome"] != "no-mail"


def main(tap):
    messages = int(os.environ.get("LAB_MESSAGES", "1000"))
    with Postfix() as postfix:
        sessions = run_plan(make_plan(messages, seed=7), postfix)
        postfix.wait_idle()
        log = postfix.oracle()
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
        tap.same(len(log.sessions), len(sessions), "as many sessions in the log as were begun")
        tap.note(f"lines the oracle has no use for: {len(log.other)}")
        kinds = {}
        for line in log.other:
            kinds.setdefault(" ".join(line.split()[4:8]), line)
        tap.note("\n".join(sorted(kinds.values())[:12]))
        judge(tap, sessions, log)
        seconds = sorted(t.seconds for t in transactions if t.seconds)
        tap.note(f"seconds a transaction: median {seconds[len(seconds) // 2]:.4f}, worst {seconds[-1]:.4f}")


def judge(tap, sessions, log):
    silent = Silent()
    # queue ids that no client was told, because the message went nowhere, are only in the log
    told = {t.queue_id for s in sessions for t in s.transactions}
    log.messages = {i: m for i, m in log.messages.items() if i in told}
    export = perfect_export(sessions)
    check_whole(silent, "perfect", sessions, log, export)
    tap.ok(silent.failed == 0, "the judge passes a perfect answer", silent.failed)
    for name, broken in faults(export, random.Random(3)):
        silent = Silent()
        check_whole(silent, name, sessions, log, broken)
        tap.ok(silent.failed > 0, f"the judge sees {name}")


run(main)
