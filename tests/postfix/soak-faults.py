#!/usr/bin/python3
"""Hooks that are down, hung or answer garbage: all mail is accepted, after a bounded delay, which is measured here.

The braces' values that `posttrace attach` writes were chosen by these figures; README.md quotes them.
"""

import os
import signal
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))

from hooks import Posttrace, attach_by_hand
from lab import Postfix
from load import Recipient, Session, Transaction, play
from standin import MODES, StandIn
from tap import run

SESSIONS = 4
MESSAGES = 2
TRACEPOINTS = 12


def deliver(postfix, tag):
    """A few sessions, one after the other. Seconds of each message (the first has its session's beginning), and faults."""
    times, faults = [], []
    for nth in range(SESSIONS):
        session = Session(nth, "127.0.0.2", "client.test")
        for message in range(MESSAGES):
            name = f"{tag}.s{nth}.m{message}"
            session.transactions.append(Transaction(name, f"{name}@from.test", [
                Recipient("ok", f"ok.{name}.1@lab.test"), Recipient("ok", f"ok.{name}.2@lab.test")], "data"))
        play(session, postfix)
        later = [t.seconds or 0 for t in session.transactions[1:]]
        times += [session.seconds - sum(later)] + later
        faults += [session.error] if session.error else []
        faults += [f"{t.tag}: {t.mail} {[r.reply for r in t.recipients]} {t.data} {t.final}" for t in session.transactions
                   if not t.queue_id]
    return times, faults


def judge(tap, postfix, tracepoints, fault, limit):
    times, faults = deliver(postfix, fault.replace(" ", "."))
    name = f"{fault}, {tracepoints} tracepoint{'s' if tracepoints > 1 else ''}"
    tap.ok(not faults, f"{name}: all mail is accepted", *faults)
    tap.ok(max(times) < limit, f"{name}: no message waits {limit} s", times)
    tap.note(f"{name}: seconds a message: {' '.join(f'{s:.2f}' for s in times)}")


def limits(hook, tracepoints):
    """One timeout of 1 s a session for the milter, and one a tracepoint for the policy service; and a slow machine's second
    or two."""
    return 4 if hook == "milter" else tracepoints + 3


def stand_ins(tap, tracepoints):
    with Postfix() as postfix:
        os.mkdir(f"{postfix.queue}/posttrace", 0o755)
        attach_by_hand(postfix, tracepoints)
        # not a reload: Postfix waits two seconds before it reads a file that has just been written
        postfix.stop()
        postfix.start()
        for hook in ("milter", "policy"):
            for mode in ("down",) + MODES:
                postfix.reload()
                path = f"{postfix.queue}/posttrace/{hook}.sock"
                server = StandIn(path, mode) if mode != "down" else None
                judge(tap, postfix, tracepoints, f"{hook} {mode}", limits(hook, tracepoints))
                if server:
                    server.stop()


def our_own(tap, tracepoints):
    """Our daemons, stopped in their tracks, killed, and back."""
    with Postfix() as postfix, Posttrace(postfix, hooks=("milter", "policyd")) as posttrace:
        attach_by_hand(postfix, tracepoints)
        postfix.stop()
        postfix.start()
        judge(tap, postfix, tracepoints, "both at work", 2)
        for hook in ("milter", "policyd"):
            daemon = posttrace.daemons[hook]
            daemon.signal(signal.SIGSTOP)
            judge(tap, postfix, tracepoints, f"{hook} stopped by SIGSTOP", limits(hook, tracepoints))
            daemon.signal(signal.SIGCONT)
            judge(tap, postfix, tracepoints, f"{hook} continued", 2)
            daemon.kill()
            judge(tap, postfix, tracepoints, f"{hook} killed", 2)
            daemon.start()
            judge(tap, postfix, tracepoints, f"{hook} back", 2)
        tap.same(set(posttrace.stop().values()), {0}, f"{tracepoints} tracepoints: each daemon ends with 0")
        tap.same(posttrace.complaints(), [], f"{tracepoints} tracepoints: no sanitizer complains")


def main(tap):
    for tracepoints in (1, TRACEPOINTS):
        stand_ins(tap, tracepoints)
        our_own(tap, tracepoints)


run(main)
