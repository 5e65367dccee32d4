#!/usr/bin/python3
"""follow prints an event within 200 ms of its happening, filtered or not; says what it did not show; ends in order."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))

from hooks import Posttrace
from lab import Postfix, die_with_parent
from load import Recipient, Session, Transaction, play
from tap import run
from wait import wait_for

LIMIT = 0.200
MESSAGES = 40


class Follower:
    """`posttrace follow -j` and when each of its lines came."""

    def __init__(self, posttrace, *filters):
        self.lines = []
        self.process = subprocess.Popen(posttrace.command("follow", "-j", *filters), stdin=subprocess.DEVNULL,
                                        stdout=subprocess.PIPE, stderr=subprocess.PIPE, preexec_fn=die_with_parent)
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self):
        for line in self.process.stdout:
            self.lines.append((time.time(), json.loads(line)))

    def first(self, event, sender):
        """When the first event of that type about that sender was printed."""
        return next((at for at, line in self.lines if line["event"]["type"] == event and line["sender"] == sender), None)

    def stop(self, number=signal.SIGTERM):
        """Its exit status and what it said on stderr."""
        self.process.send_signal(number)
        status = self.process.wait(10)
        self.reader.join(10)
        return status, self.process.stderr.read()


def send(postfix, nth, recipients=None):
    """One message; (sender, when it began, when the client was told that it was taken)."""
    tag = f"f{nth}"
    session = Session(nth, "127.0.0.2", "follow.test", transactions=[
        Transaction(tag, f"{tag}@from.test", recipients or [Recipient("ok", f"ok.{tag}@lab.test"),
                                                            Recipient("denied", f"ok.{tag}@far.test")], "data")])
    play(session, postfix)
    transaction = session.transactions[0]
    return transaction.sender, transaction.sent_at, transaction.sent_at + transaction.seconds


def drops(tap, postfix, posttrace):
    """A follower that stands still while more comes than the recorder keeps for it."""
    process = subprocess.Popen(posttrace.command("follow"), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                               preexec_fn=die_with_parent)
    lines = []

    def read():
        for line in process.stdout:
            lines.append(line.decode())

    threading.Thread(target=read, daemon=True).start()
    send(postfix, "awake")
    wait_for("the slow follower to follow", lambda: any("fawake@" in line for line in lines))
    process.send_signal(signal.SIGSTOP)
    for nth in range(4):
        send(postfix, f"many{nth}", [Recipient("ok", f"ok.{n}.many{nth}@lab.test") for n in range(60)])
    posttrace.wait_taken_in()
    before = len(lines)
    process.send_signal(signal.SIGCONT)
    said = wait_for("the drops to be said", lambda: [line for line in lines[before:] if "were not shown" in line], 20)
    tap.ok(re.search(r"\b[1-9][0-9]* events were not shown", said[0]), "a follower that was too slow is told how many it missed",
           said)
    send(postfix, "after")
    wait_for("the event after the drops", lambda: any("fafter@" in line for line in lines), 10)
    tap.ok(True, "and goes on with what comes next")
    process.send_signal(signal.SIGINT)
    tap.same(process.wait(10), 0, "INT ends it in order as well")


def main(tap):
    with Postfix() as postfix, Posttrace(postfix) as posttrace:
        posttrace.attach()
        every, some = Follower(posttrace), Follower(posttrace, "--from", "f7@from.test")
        none = Follower(posttrace, "--from", "nobody@nowhere.test")
        send(postfix, "warm")
        wait_for("the follower to follow", lambda: every.first("tx-commit", "fwarm@from.test"))
        sent = [send(postfix, nth) for nth in range(MESSAGES)]
        wait_for("the last event", lambda: every.first("tx-commit", sent[-1][0]), 10)
        waits = sorted(every.first("tx-commit", sender) - told for sender, _, told in sent)
        tap.note(f"end of message to printed line, ms: p50 {waits[MESSAGES // 2] * 1000:.0f}, max {waits[-1] * 1000:.0f}")
        tap.ok(waits[-1] < LIMIT, f"each of {MESSAGES} messages is printed within {LIMIT * 1000:.0f} ms", f"{waits[-1]:.3f} s")
        tap.ok(wait_for("the filtered event", lambda: some.first("tx-commit", "f7@from.test"), 10) - sent[7][2] < LIMIT,
               "and by a filtered follow")
        tap.same({line["sender"] for _, line in some.lines}, {"f7@from.test"}, "which prints nothing else")
        tap.same([every.stop(), some.stop(), none.stop()], [(0, b"")] * 3, "follow ends in order when told to")
        drops(tap, postfix, posttrace)


run(main)
