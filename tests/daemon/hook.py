"""Starts a hook with a journal of its own, and reads that journal back."""

import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))

from wait import wait_for  # noqa: E402

SANITIZED = ("ERROR: AddressSanitizer", "ERROR: LeakSanitizer", "runtime error:", "WARNING: ThreadSanitizer")
BUILD = os.environ.get("top_builddir", ".")


class Event:
    """One line of journal-dump: .type, ["name"] (None when not set), .all("name")."""

    def __init__(self, line):
        self.type, *pairs = line.split("\t")
        self.pairs = [pair.split("=", 1) for pair in pairs]

    def all(self, name):
        return [value for n, value in self.pairs if n == name]

    def __getitem__(self, name):
        return next(iter(self.all(name)), None)

    def __repr__(self):
        return f"{self.type} {self.pairs}"


class Hook:
    def __init__(self, name, *settings, files=None):
        self.name = name
        self.source = {"posttrace-milter": "milter", "posttrace-policyd": "policy"}[name]
        self.directory = tempfile.mkdtemp(prefix="posttrace-test.")
        self.path = os.path.join(self.directory, "sock", "hook.sock")
        self.journal = os.path.join(self.directory, "journal")
        self.settings = settings
        self.files = files
        self.start()

    def start(self):
        me = pwd.getpwuid(os.getuid()).pw_name
        settings = (f"store_directory={self.directory}", f"journal_directory={self.journal}", f"user={me}",
                    "group=root" if os.getuid() == 0 else "group=nogroup",
                    f"{self.source}_listen=unix:{self.path}") + self.settings
        command = [os.path.join(BUILD, self.name)]
        if self.files:
            command = ["prlimit", f"--nofile={self.files}:{self.files}"] + command
        self.log = open(os.path.join(self.directory, "log"), "w")
        self.process = subprocess.Popen(command + [w for s in settings for w in ("-o", s)], stderr=self.log)
        wait_for(f"{self.name} to listen", lambda: "listening on" in self.log_text() or self.process.poll() is not None)
        if self.process.poll() is not None:
            raise RuntimeError(self.log_text())

    def log_text(self):
        with open(os.path.join(self.directory, "log"), errors="replace") as f:
            return f.read()

    def connect(self):
        s = socket.socket(socket.AF_UNIX)
        s.connect(self.path)  # blocking: with a timeout, a full backlog would be an error
        s.settimeout(20)
        return s

    def events(self, skip=("run-start", "run-stop")):
        out = subprocess.run([os.path.join(BUILD, "tests/daemon/journal-dump"), self.journal, self.source],
                             capture_output=True, text=True, errors="surrogateescape")
        if out.returncode:
            raise RuntimeError(out.stderr)
        # not splitlines(): Unicode's line separators may be in a value
        return [e for e in map(Event, filter(None, out.stdout.split("\n"))) if e.type not in skip]

    def wait_events(self, what, probe):
        """The events, as soon as probe(events) is true."""
        def look():
            events = self.events()
            return events if probe(events) else None
        return wait_for(what, look)

    def kill(self, number):
        self.process.send_signal(number)

    def stop(self, number=signal.SIGTERM):
        """The exit status."""
        if self.process.poll() is None:
            self.kill(number)
        return self.process.wait(timeout=20)

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            try:
                self.stop()  # in order, so that a sanitizer looks for leaks
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        complaints = [line for line in self.log_text().splitlines() if any(word in line for word in SANITIZED)]
        if complaints:
            print(f"# a sanitizer complains about {self.name}", flush=True)
        if exc[0] or complaints:
            for line in self.log_text().splitlines():
                print("# log:", line)
        self.log.close()
        shutil.rmtree(self.directory)
        if complaints and not exc[0]:
            raise AssertionError(complaints[0])
