#!/usr/bin/python3
"""Postfix logs to a real systemd journal, and the recorder reads it there: restarts, a vacuumed place, suppressed lines.

A journald of our own runs in a mount namespace of our own, where /run/systemd, /run/log and /dev are not the machine's.
"""

import ctypes
import os
import subprocess
import sys
from collections import Counter

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))

from hooks import Posttrace
from lab import Postfix, die_with_parent
from load import make_plan, run_plan
from tap import run
from wait import wait_for

JOURNALD = "/lib/systemd/systemd-journald"
INSIDE = "POSTTRACE_TEST_NAMESPACE"


def enter_namespace():
    """Start again with mounts of our own; a machine that does not allow it can't run this test, and that is a failure."""
    if INSIDE not in os.environ:
        os.execvpe("unshare", ["unshare", "--mount", "--propagation", "private", sys.executable, *sys.argv],
                   dict(os.environ, **{INSIDE: "1"}))


def mount(*args):
    subprocess.run(["mount", *args], check=True)


class Journald:
    def __init__(self):
        for path in ("/run/systemd", "/run/log"):
            os.makedirs(path, exist_ok=True)
            mount("-t", "tmpfs", "-o", "mode=755", "tmpfs", path)
        for path in ("/run/systemd/journal", "/run/systemd/journald.conf.d", "/run/log/journal"):
            os.makedirs(path)
        self.private_dev()
        self.process = None

    @staticmethod
    def private_dev():
        """The machine's devices, but a /dev/log of our own."""
        new = "/run/log/dev"
        os.mkdir(new)
        mount("-t", "tmpfs", "-o", "mode=755", "tmpfs", new)
        for name in ("null", "zero", "full", "random", "urandom", "tty", "kmsg"):
            if os.path.exists(f"/dev/{name}"):
                open(f"{new}/{name}", "x").close()
                mount("--bind", f"/dev/{name}", f"{new}/{name}")
        os.symlink("/proc/self/fd", f"{new}/fd")
        os.symlink("/run/systemd/journal/dev-log", f"{new}/log")
        mount("--move", new, "/dev")

    def start(self):
        with open("/run/systemd/journald.conf.d/test.conf", "w", encoding="utf-8") as file:
            file.write("[Journal]\nStorage=volatile\nReadKMsg=no\nAudit=no\nForwardToSyslog=no\nForwardToWall=no\nRuntimeMaxUse=1G\n"
                       "RuntimeKeepFree=1M\nRateLimitIntervalSec=0\n")
        self.process = subprocess.Popen([JOURNALD], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                        stderr=subprocess.DEVNULL, preexec_fn=die_with_parent)
        wait_for("journald's socket", lambda: os.path.exists("/run/systemd/journal/dev-log"))
        wait_for("journald to answer", lambda: self.ctl("--sync", check=False) is not None)

    def stop(self):
        self.process.terminate()
        self.process.wait(20)

    def ctl(self, *args, check=True):
        done = subprocess.run(["journalctl", "-D", "/run/log/journal", "--no-pager", "-q", *args] if args[0] != "--sync" else
                              ["journalctl", *args], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        if done.returncode and not check:
            return None
        return done.stdout.decode("utf-8", "surrogateescape")

    def forget(self):
        """What was written up to now goes, as when the journal is vacuumed."""
        subprocess.run(["journalctl", "--rotate"], check=True, capture_output=True)
        subprocess.run(["journalctl", "-D", "/run/log/journal", "--vacuum-files=1"], check=True, capture_output=True)


class JournalPostfix(Postfix):
    """Its log is what journalctl prints, and what it printed before it was vacuumed."""

    def __init__(self, journald, **kwargs):
        self.journald, self.before = journald, ""
        super().__init__(**kwargs)
        self.postconf("-e", "maillog_file=")
        os.unlink(self.log)

    def read_log(self):
        return self.before + self.journald.ctl("-o", "short", "--facility=mail")

    def forget(self):
        self.before = self.read_log()
        self.journald.forget()


def check(tap, name, log, traces):
    came = Counter(t["queue_id"] for t in traces if t["queue_id"])
    wanted = Counter(m.queue_id for m in log.clients())
    tap.ok(len(wanted) > 100, f"{name}: there was mail", wanted)
    tap.same(came, wanted, f"{name}: each of {len(wanted)} queue ids is in the store exactly once")
    tap.same(Counter((t["sender"], r["address"], r["code"]) for t in traces for r in t["recipients"] if r["outcome"] != "accepted"),
             Counter((r["sender"], r["recipient"], int(r["code"])) for r in log.rejects if r["stage"] == "RCPT"),
             f"{name}: each of {len(log.rejects)} refusals as well")


def load(postfix, prefix, messages=150):
    sessions = run_plan(make_plan(messages, seed=len(prefix), prefix=prefix), postfix, parallel=10)
    postfix.wait_idle()
    return [s.error for s in sessions if s.error]


def main(tap):
    journald = Journald()
    journald.start()
    with JournalPostfix(journald) as postfix:
        with Posttrace(postfix, hooks=("recorder",), settings={"maillog_source": "journal:/run/log/journal"}) as posttrace:
            story(tap, journald, postfix, posttrace)
    journald.stop()


def story(tap, journald, postfix, posttrace):
    recorder = posttrace.recorder
    faults = load(postfix, "a.")
    recorder.stop()
    faults += load(postfix, "b.")
    recorder.start()
    faults += load(postfix, "c.")
    recorder.kill()
    subprocess.run(["journalctl", "--rotate"], check=True, capture_output=True)
    faults += load(postfix, "d.")
    recorder.start()
    posttrace.wait_taken_in()
    posttrace.wait_settled()
    check(tap, "restarted, killed, and a rotated journal", postfix.oracle(), posttrace.export())
    tap.same(posttrace.json("store", "stat", "-j")[0]["gaps"], [], "no gap up to here")

    # while it is there it has all of them already
    postfix.forget()
    faults += load(postfix, "e.")
    posttrace.wait_taken_in()
    posttrace.wait_settled()
    check(tap, "vacuumed under its feet", postfix.oracle(), posttrace.export())
    tap.same(posttrace.json("store", "stat", "-j")[0]["gaps"], [], "and still no gap")

    recorder.stop()
    postfix.forget()
    faults += load(postfix, "f.")
    recorder.start()
    posttrace.wait_taken_in()
    posttrace.wait_settled()
    check(tap, "vacuumed while it was away", postfix.oracle(), posttrace.export())
    gaps = posttrace.json("store", "stat", "-j")[0]["gaps"]
    tap.same([(g["source"], "vacuumed" in g["reason"]) for g in gaps], [("maillog", True)], "that its place is gone is recorded as a gap")
    tap.same(faults, [], "no client met anything unexpected")

    # journald limits the rate of a service only, and there is none here: its words, by the way that they come
    for service in ("postfix@-.service", "cron.service"):
        subprocess.run(["logger", "--journald"], check=True, input=(
            f"MESSAGE_ID=a596d6fe7bfa4994828e72309e95d61e\nMESSAGE=Suppressed 1234 messages from {service}\n"
            "SYSLOG_IDENTIFIER=systemd-journald\n").encode())
    load(postfix, "gg.", 10)
    posttrace.wait_taken_in()
    posttrace.wait_settled()
    gaps = posttrace.json("store", "stat", "-j")[0]["gaps"]
    tap.same([g["lost"] for g in gaps if "suppressed" in g["reason"]], [1234], "lines that journald suppressed are recorded as lost")
    tap.same(set(posttrace.stop().values()), {0}, "the recorder ends with 0")
    tap.same(posttrace.complaints(), [], "no sanitizer complains")


enter_namespace()
run(main)
