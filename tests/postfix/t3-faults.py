#!/usr/bin/python3
"""Hooks that are down, hung or answer garbage: all mail is accepted, after a bounded delay, which is measured here."""

import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))

from hooks import attach_by_hand
from lab import Postfix
from load import Recipient, Session, Transaction, play
from standin import MODES, StandIn
from tap import run

SESSIONS = 3
MESSAGES = 2


def deliver(postfix, tag):
    """A few sessions, one after the other; seconds of each, and what was not accepted."""
    times, faults = [], []
    for nth in range(SESSIONS):
        session = Session(nth, "127.0.0.2", "client.test")
        for message in range(MESSAGES):
            name = f"{tag}.s{nth}.m{message}"
            session.transactions.append(Transaction(name, f"{name}@from.test", [
                Recipient("ok", f"ok.{name}.1@lab.test"), Recipient("ok", f"ok.{name}.2@lab.test")], "data"))
        play(session, postfix)
        times.append(session.seconds)
        faults += [session.error] if session.error else []
        faults += [f"{t.tag}: {t.mail} {[r.reply for r in t.recipients]} {t.data} {t.final}" for t in session.transactions
                   if not t.queue_id]
    return times, faults


def main(tap):
    for tracepoints in (1, 12):
        with Postfix() as postfix:
            os.mkdir(f"{postfix.queue}/posttrace", 0o755)
            attach_by_hand(postfix, tracepoints)
            for hook in ("milter", "policy"):
                for mode in ("down",) + MODES:
                    postfix.reload()
                    path = f"{postfix.queue}/posttrace/{hook}.sock"
                    server = StandIn(path, mode) if mode != "down" else None
                    times, faults = deliver(postfix, f"{hook}.{mode}")
                    if server:
                        server.stop()
                    tap.ok(not faults, f"{tracepoints} tracepoints, {hook} {mode}: all mail is accepted", *faults)
                    tap.note(f"{tracepoints} tracepoints, {hook} {mode}: seconds of {SESSIONS} sessions with {MESSAGES} messages "
                             f"of 2 recipients: {' '.join(f'{s:.2f}' for s in times)}")


run(main)
