#!/usr/bin/python3
"""The values in the braces, compared: what a hang costs with each, and what margin each leaves to daemons that are well,
on a machine with more and more to do. README.md's values were chosen by this. By hand; takes some minutes.
"""

import json
import os
import re
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))

from hooks import Posttrace, die_with_parent
from lab import Postfix
from tap import run

MESSAGES = int(os.environ.get("LAB_MESSAGES", "3000"))
PROBE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib", "probe.py")


def healthy(tap, burners):
    """50 sessions side by side, and processes that only burn time beside them."""
    with Postfix() as postfix, Posttrace(postfix) as posttrace:
        posttrace.attach()
        others = [subprocess.Popen([sys.executable, "-c", "while True: pass"], preexec_fn=die_with_parent) for _ in range(burners)]
        try:
            probe = subprocess.Popen([PROBE, f"{postfix.queue}/posttrace/milter.sock", f"{postfix.queue}/posttrace/policy.sock"],
                                     stdin=subprocess.PIPE, stdout=subprocess.PIPE, preexec_fn=die_with_parent)
            source = postfix.smtp_source(MESSAGES, sessions=50, recipients=3)
            said = source.communicate(timeout=500)[0].decode()
            took = json.loads(probe.communicate(timeout=60)[0])
        finally:
            for other in others:
                other.kill()
                other.wait()
        tap.ok(source.returncode == 0 and not said, f"{burners} busy processes beside: smtp-source sees no error", said)
        skipped = re.findall(r"warning: .*(?:milter|policy)\.sock.*", postfix.read_log())
        tap.ok(not skipped, f"{burners} busy processes beside: Postfix never gave up on a hook", *skipped[:5])
        for kind, times in took.items():
            times.sort()
            tap.note(f"{burners} busy, {kind}: {len(times)} replies, median {times[len(times) // 2] * 1e3:.2f} ms, "
                     f"p99 {times[len(times) * 99 // 100] * 1e3:.1f} ms, worst {times[-1] * 1e3:.1f} ms")


def main(tap):
    for burners in (0, 2, 8, 32):
        healthy(tap, burners)


run(main)
