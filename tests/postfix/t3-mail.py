#!/usr/bin/python3
"""The mails of quickstart, one of each kind, each traced by all three witnesses with the right end."""

import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))

from hooks import Posttrace
from lab import Postfix
from quickstart import send_mix
from tap import run


def main(tap):
    with Postfix() as postfix, Posttrace(postfix) as posttrace:
        posttrace.attach()
        send_mix(postfix)
        postfix.wait_idle()
        posttrace.wait_taken_in()
        seen = sorted((t["sender"], t["outcome"], sorted((r["address"], r["outcome"], r["code"]) for r in t["recipients"]))
                      for t in posttrace.export())
        want = sorted([
            ("alice@example.org", "accepted", [("ok.bob@lab.test", "accepted", None)]),
            ("alice@example.org", "accepted", [("ok.bob@lab.test", "accepted", None), ("ok.carol@far.test", "rejected", 554)]),
            ("spammer@example.net", "deferred", [("ok.x@far.test", "rejected", 554), ("ok.y@later.test", "deferred", 454)]),
            ("alice@example.org", "rejected", [("nobody.here@lab.test", "rejected", 550)]),
            ("dave@example.org", "aborted", [("ok.bob@lab.test", "accepted", None)]),
            ("joe@lab.test", "accepted", [("ok.carol@far.test", "accepted", None)]),
            ("root@lab.test", "accepted", [("ok.bob@lab.test", "accepted", None)]),
        ])
        tap.same(seen, want, "each mail is there once, with its recipients and their replies")
        smtp = [t for t in posttrace.export() if t["client"]["port"]]
        tap.same([t["sender"] for t in smtp if not t["sources"]["milter"] or not t["sources"]["maillog"]], [],
                 "milter and log saw each that came by SMTP")
        tap.same(set(posttrace.stop().values()), {0}, "each daemon ends with 0")


run(main)
