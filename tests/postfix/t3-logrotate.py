#!/usr/bin/python3
"""Postfix's log is rotated under load in every usual way, with the recorder there, away and killed: every line counts once.

The log is all that the recorder has here, so a line that is lost or read twice shows: each transaction, each refusal and
each Message-ID comes from one line. The log is Postfix's own maillog_file: after the first rotation only root may read it.
"""

import glob
import gzip
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections import Counter

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))

from hooks import Posttrace
from lab import PROBE, Postfix
from load import make_plan, run_plan
from tap import run
from wait import wait_for


class RotatedPostfix(Postfix):
    """Its log is all of the log's files, oldest first."""

    rotation = 0

    def read_log(self):
        """No matter in which state compression left them: a file that is there twice is read once."""
        numbered = {}
        for path in glob.glob(f"{self.log}.[0-9]*"):
            numbered.setdefault(int(re.search(r"-(\d+)(?:\.gz)?$", path)[1]), path)
        text = ""
        for path in [numbered[n] for n in sorted(numbered)] + [self.log]:
            try:
                with (gzip.open if path.endswith(".gz") else open)(path, "rt", encoding="utf-8", errors="surrogateescape") as file:
                    text += file.read()
            except FileNotFoundError:
                pass
        return text

    def live_lines(self):
        try:
            with open(self.log, "rb") as file:
                return file.read().count(b"\n")
        except FileNotFoundError:
            return 0

    def wait_live(self, lines=800):
        wait_for(f"{lines} new lines in the log", lambda: self.live_lines() >= lines, timeout=120)

    def writers(self):
        """pid and state of postlogd; more than one while a reload replaces it."""
        found = []
        for path in glob.glob("/proc/[0-9]*/stat"):
            try:
                with open(path, encoding="utf-8") as file:
                    pid, comm, state, ppid = re.match(r"(\d+) \((.*)\) (\S) (\d+)", file.read()).groups()
            except OSError:
                continue
            if comm == "postlogd" and int(ppid) == self.master.pid:
                found.append((int(pid), state))
        return found

    # rotated files get higher numbers the younger they are: then none needs a second name

    def next_name(self):
        RotatedPostfix.rotation += 1
        return f"{self.log}.20261124-{RotatedPostfix.rotation:06}"

    def rename(self):
        """As "postfix logrotate" does: the writer goes on in the renamed file until it is told."""
        name = self.next_name()
        os.rename(self.log, name)
        before = os.path.getsize(name)
        wait_for("a line behind the rename", lambda: os.path.getsize(name) > before, timeout=60)
        self.master.send_signal(signal.SIGHUP)
        wait_for("the new log", lambda: os.path.exists(self.log), timeout=60)
        return name

    def copytruncate(self):
        """What is written between its two steps is lost by design; that is not what is tested, so nobody writes then."""
        name = self.next_name()
        stopped = []

        def all_stand_still():
            """The master starts no other while one is there."""
            writers = self.writers()
            for pid, state in writers:
                if state != "T":
                    os.kill(pid, signal.SIGSTOP)
                    stopped.append(pid)
            return writers and all(state == "T" for _, state in writers)

        try:
            wait_for("postlogd to stand still", all_stand_still)
            shutil.copy2(self.log, name)
            os.truncate(self.log, 0)
        finally:
            for pid in stopped:
                os.kill(pid, signal.SIGCONT)
        return name


def compress(*names):
    subprocess.run(["gzip", *names], check=True)


class Load:
    """Mixed mail and smtp-source's, again and again until it is told to stop."""

    def __init__(self, postfix):
        self.postfix, self.enough, self.sessions, self.faults = postfix, threading.Event(), [], []
        self.threads = [threading.Thread(target=self.guard, args=(work,)) for work in (self.mixed, self.source)]

    def guard(self, work):
        try:
            work()
        except Exception as error:
            self.faults.append(repr(error))

    def mixed(self):
        nth = 0
        while not self.enough.is_set():
            nth += 1
            self.sessions += run_plan(make_plan(100, seed=nth, prefix=f"n{nth}."), self.postfix, parallel=8)

    def source(self):
        nth = 0
        while not self.enough.is_set():
            nth += 1
            done = self.postfix.smtp_source(200, sessions=8, tag=f"q{nth}")
            said, _ = done.communicate()
            if done.returncode:
                self.faults.append(said.decode())
                return

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *exc):
        self.enough.set()
        for thread in self.threads:
            thread.join()
        if exc[0]:
            print(f"# faults of the load: {self.faults}", flush=True)


def rotate(tap, postfix, posttrace):
    recorder = posttrace.recorder
    for _ in range(3):
        postfix.wait_live()
        postfix.rename()
    tap.ok(os.stat(postfix.log).st_mode & 0o777 == 0o600, "the log's new file is for root alone")
    for _ in range(3):
        postfix.wait_live()
        postfix.copytruncate()
    # the one that was read to its end is compressed, as delaycompress does
    postfix.wait_live()
    compress(postfix.rename())

    postfix.wait_live()
    recorder.stop()
    postfix.wait_live(postfix.live_lines() + 500)
    names = [postfix.rename()]
    postfix.wait_live()
    names.append(postfix.rename())
    compress(*names)
    postfix.wait_live()
    recorder.start()
    tap.note(f"away for 2 rotations by rename, both compressed; {len(postfix.read_log().splitlines())} lines so far")

    postfix.wait_live()
    recorder.kill()
    postfix.wait_live(postfix.live_lines() + 500)
    compress(postfix.copytruncate())
    postfix.wait_live()
    recorder.start()
    postfix.wait_live()
    recorder.restart(kill=True)
    postfix.rename()
    postfix.wait_live()


def capabilities(pid):
    with open(f"/proc/{pid}/status", encoding="utf-8") as file:
        return {name: int(value, 16) for name, value in re.findall(r"^(Cap(?:Prm|Eff|Inh|Amb)):\s+(\w+)$", file.read(), re.M)}


def check_rights(tap, postfix, posttrace):
    """The log is root's alone by now."""
    read_any_file = 1 << 2  # CAP_DAC_READ_SEARCH
    tap.same(capabilities(posttrace.recorder.pid), {"CapPrm": read_any_file, "CapEff": read_any_file, "CapInh": 0, "CapAmb": 0},
             "of root's rights the recorder has one")
    refused = subprocess.run(["setpriv", "--reuid=postfix", "--regid=postfix", "--clear-groups",
                              *posttrace.recorder.argv, "-o", f"maillog_source=file:{postfix.log}", "-o", f"store_directory={posttrace.directory}/state/other"],
                             stdin=subprocess.DEVNULL, capture_output=True, timeout=30)
    tap.ok(refused.returncode == 3, "without it the recorder does not start", refused.stderr)
    words = refused.stderr.decode()
    tap.note(words.strip())
    tap.ok(f"can't read {postfix.log}: " in words and "Start posttrace-recorder as root" in words, "and says what to do")


def main(tap):
    with RotatedPostfix() as postfix, Posttrace(postfix, hooks=("recorder",), settings={"maillog_source": "auto"}) as posttrace:
        with Load(postfix) as load:
            rotate(tap, postfix, posttrace)
        check_rights(tap, postfix, posttrace)
        tap.same(load.faults, [], "no client met anything unexpected")
        # a message that came in while the queue manager was reloaded would wait for its next look
        postfix.run("/usr/sbin/postqueue", "-c", postfix.conf, "-f")
        postfix.wait_idle(timeout=120)
        posttrace.wait_taken_in(timeout=120)
        posttrace.wait_settled(timeout=120)
        tap.ok(f"Postfix's log: file:{postfix.log} (Postfix's maillog_file says so)" in posttrace.recorder.read_log(),
               "the recorder says which log it chose, and why")
        tap.ok("may be missing" not in posttrace.recorder.read_log(), "it does not believe that it missed a line", posttrace.recorder.read_log())
        check(tap, postfix.oracle(), posttrace.export())
        tap.same(posttrace.json("store", "stat", "-j")[0]["gaps"], [], "no gap is recorded")
        tap.same(set(posttrace.stop().values()), {0}, "the recorder ends with 0")
        tap.same(posttrace.complaints(), [], "no sanitizer complains")


def check(tap, log, traces):
    came = Counter(t["queue_id"] for t in traces if t["queue_id"])
    wanted = Counter(m.queue_id for m in log.clients())
    tap.note(f"{len(wanted)} queue ids, {len(log.rejects)} refusals, {RotatedPostfix.rotation} rotations")
    tap.ok(len(wanted) > 1000 and len(log.rejects) > 200, "there was enough to lose")
    tap.same(came, wanted, "each queue id is in the store exactly once")
    tap.same(Counter((t["queue_id"], t["message_id"]) for t in traces if t["queue_id"] and t["message_id"]),
             Counter((m.queue_id, m.message_id.strip("<>")) for m in log.clients() if m.message_id),
             "with its Message-ID")
    tap.same(Counter((t["sender"], r["address"], r["code"]) for t in traces for r in t["recipients"] if r["outcome"] != "accepted"),
             Counter((r["sender"], r["recipient"], int(r["code"])) for r in log.rejects if r["stage"] == "RCPT"),
             "each refused recipient is there exactly once")


run(main)
