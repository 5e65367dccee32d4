#!/usr/bin/python3
"""follow prints an event within 200 ms of its happening: measured from the client's clock, with and without a filter."""

import json
import os
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
                                        stdout=subprocess.PIPE, preexec_fn=die_with_parent)
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        for line in self.process.stdout:
            self.lines.append((time.time(), json.loads(line)))

    def first(self, event, sender):
        """When the first event of that type about that sender was printed."""
        return next((at for at, line in self.lines if line["event"]["type"] == event and line["sender"] == sender), None)

    def stop(self):
        self.process.terminate()
        return self.process.wait(10)


def send(postfix, nth):
    """One message; (sender, when the client was told that it was taken)."""
    tag = f"f{nth}"
    session = Session(nth, "127.0.0.2", "follow.test", transactions=[
        Transaction(tag, f"{tag}@from.test", [Recipient("ok", f"ok.{tag}@lab.test"), Recipient("denied", f"ok.{tag}@far.test")],
                    "data")])
    play(session, postfix)
    transaction = session.transactions[0]
    return transaction.sender, transaction.sent_at, transaction.sent_at + transaction.seconds


def main(tap):
    with Postfix() as postfix, Posttrace(postfix) as posttrace:
        posttrace.attach()
        every, some = Follower(posttrace), Follower(posttrace, "--from", "f7@from.test")
        send(postfix, "warm")
        wait_for("the follower to follow", lambda: every.first("tx-commit", "fwarm@from.test"))
        sent = [send(postfix, nth) for nth in range(MESSAGES)]
        wait_for("the last event", lambda: every.first("tx-commit", sent[-1][0]), 10)
        waits = [every.first("tx-commit", sender) - told for sender, _, told in sent]
        tap.note(f"end of message to printed line, ms: median {sorted(waits)[MESSAGES // 2] * 1000:.0f}, worst {max(waits) * 1000:.0f}")
        tap.ok(max(waits) < LIMIT, f"each of {MESSAGES} messages is printed within {LIMIT * 1000:.0f} ms", f"{max(waits):.3f} s")
        tap.ok(wait_for("the filtered event", lambda: some.first("tx-commit", "f7@from.test"), 10) - sent[7][2] < LIMIT,
               "and by a filtered follow")
        tap.same({line["sender"] for _, line in some.lines}, {"f7@from.test"}, "which prints nothing else")
        tap.same((every.stop(), some.stop()), (0, 0), "follow ends in order when told to")


run(main)
