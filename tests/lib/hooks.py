"""posttrace's three daemons and its command beside a private Postfix.

The programs come from the build directory: $POSTTRACE_BUILD (or $top_builddir, which make sets), else ./build.
Logs of the daemons go to files of their names in the lab's directory.
"""

import atexit
import glob
import hashlib
import json
import os
import shutil
import signal
import socket
import subprocess

from lab import PROBE, die_with_parent
from smtp import Smtp
from wait import wait_for

SOURCE_DIR = os.path.abspath(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", ".."))
HOOKS = ("milter", "policyd", "recorder")
WITNESS = {"milter": "milter", "policyd": "policy"}
SANITIZED = ("ERROR: AddressSanitizer", "ERROR: LeakSanitizer", "runtime error:", "WARNING: ThreadSanitizer")


MILTER = "{ unix:%s/milter.sock, connect_timeout=%s, command_timeout=%s, content_timeout=%s, default_action=accept }"
POLICY = "check_policy_service { unix:%s/policy.sock, policy_context=%s, timeout=%s, try_limit=%d, default_action=DUNNO }"
# restriction list: what stands in it already (as lab.py has it), each step with a tracepoint in front, and one behind
LISTS = {
    "client": ["check_client_access texthash:{conf}/client_access"],
    "helo": ["check_helo_access texthash:{conf}/helo_access"],
    "sender": ["check_sender_access texthash:{conf}/sender_access", "reject_non_fqdn_sender"],
    "relay": ["permit_mynetworks", "permit_sasl_authenticated", "check_recipient_access texthash:{conf}/relay_access",
              "reject_unauth_destination"],
}


def milter_setting(timeouts=("1s", "1s", "1s"), sockets="posttrace"):
    return MILTER % (sockets, *timeouts)


def tracepoint_settings(postfix, tracepoints, timeout="1s", tries=1, sockets="posttrace"):
    """The restriction lists with 1 tracepoint (in front of the relay list), or 12 of them."""
    settings = {}
    for name, steps in LISTS.items():
        steps = [step.format(conf=postfix.conf) for step in steps]
        digest = hashlib.sha256("".join(step + "\n" for step in steps).encode()).hexdigest()[:16]
        points = [POLICY % (sockets, f"pt:main:{name}:{n + 1}:{digest}", timeout, tries) for n in range(len(steps) + 1)]
        if tracepoints == 1:
            points = points[:1] if name == "relay" else []
        woven = [x for pair in zip(points, steps) for x in pair] + points[len(steps):] if points[1:] else points + steps
        settings[f"smtpd_{name}_restrictions"] = ", ".join(woven)
    return settings


def attach_by_hand(postfix, tracepoints):
    """The hooks with the braces that README.md gives."""
    settings = {"smtpd_milters": milter_setting(), "non_smtpd_milters": milter_setting(),
                **tracepoint_settings(postfix, tracepoints)}
    postfix.postconf("-e", *(f"{name}={value}" for name, value in settings.items()))


def build_dir():
    path = os.environ.get("POSTTRACE_BUILD") or os.environ.get("top_builddir") or os.path.join(SOURCE_DIR, "build")
    path = os.path.abspath(path)
    if not os.path.exists(os.path.join(path, "posttrace")):
        raise SystemExit(f"no posttrace in {path}: build there, or set POSTTRACE_BUILD")
    return path


class Daemon:
    """One daemon process. It is ready when it says so (sd_notify), gone when it has been waited for."""

    def __init__(self, name, argv, directory, wrapper=()):
        self.name, self.argv, self.wrapper = name, argv, list(wrapper)
        self.log = os.path.join(directory, f"{name}.log")
        self.notify = os.path.join(directory, f"{name}.notify")
        self.process = None
        self.starts = 0

    def start(self, wait=True, timeout=30):
        assert not self.running, f"{self.name} runs already"
        if os.path.exists(self.notify):
            os.unlink(self.notify)
        self.states = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.states.bind(self.notify)
        os.chmod(self.notify, 0o666)
        self.states.setblocking(False)
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(self.wrapper + self.argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                            env=dict(os.environ, NOTIFY_SOCKET=self.notify), preexec_fn=die_with_parent)
        self.starts += 1
        atexit.register(self.kill)
        if wait:
            wait_for(f"posttrace-{self.name} to be ready", self._ready, timeout)
        return self

    def _ready(self):
        if self.process.poll() is not None:
            raise RuntimeError(f"posttrace-{self.name} ended with {self.process.returncode}:\n{self.read_log()}")
        try:
            return b"READY=1" in self.states.recv(4096)
        except BlockingIOError:
            return False

    @property
    def running(self):
        return self.process is not None and self.process.poll() is None

    @property
    def pid(self):
        return self.process.pid

    def signal(self, number):
        self.process.send_signal(number)

    def stop(self, timeout=30):
        """TERM, and its exit status."""
        self.signal(signal.SIGTERM)
        return self._wait(timeout)

    def kill(self):
        if self.running:
            self.signal(signal.SIGKILL)
        if self.process:
            self._wait(10)

    def _wait(self, timeout):
        status = self.process.wait(timeout)
        self.states.close()
        atexit.unregister(self.kill)
        return status

    def restart(self, kill=False):
        self.kill() if kill else self.stop()
        return self.start()

    def read_log(self):
        with open(self.log, encoding="utf-8", errors="replace") as file:
            return file.read()


class Posttrace:
    """The daemons of one Postfix instance; hooks names those that are to run."""

    def __init__(self, postfix, hooks=HOOKS, settings=None, wrapper=()):
        self.postfix = postfix
        self.directory = os.path.join(postfix.root, "posttrace")
        self.build = build_dir()
        self.marks = 0
        os.mkdir(self.directory)
        sockets = os.path.join(postfix.queue, "posttrace")
        os.mkdir(sockets, 0o755)
        shutil.chown(sockets, "postfix")
        os.chmod(sockets, 0o755)
        state = os.path.join(self.directory, "state")
        os.mkdir(state)
        shutil.chown(state, "postfix")
        self.settings = {
            "store_directory": f"{state}/store", "journal_directory": f"{state}/journal", "store_size": "256M",
            "milter_listen": f"unix:{sockets}/milter.sock", "policy_listen": f"unix:{sockets}/policy.sock",
            "maillog_source": f"file:{postfix.log}", "config_directory": postfix.conf, "user": "postfix", "group": "postfix",
        }
        self.settings.update(settings or {})
        os.environ.setdefault("POSTTRACE_DATADIR", os.path.join(SOURCE_DIR, "postfix-snippets"))
        self.config = os.path.join(self.directory, "posttrace.cf")
        with open(self.config, "w", encoding="utf-8") as file:
            file.writelines(f"{name} = {value}\n" for name, value in self.settings.items())
        self.daemons = {name: Daemon(name, [f"{self.build}/posttrace-{name}", "-C", self.config], self.directory, wrapper)
                        for name in hooks}

    def __getattr__(self, name):
        try:
            return self.__dict__["daemons"][name]
        except KeyError:
            raise AttributeError(name) from None

    def start(self):
        for daemon in self.daemons.values():
            daemon.start()
        return self

    def stop(self):
        """The recorder last, so that it takes in what the others wrote. Exit statuses by name."""
        return {name: daemon.stop() for name, daemon in self.daemons.items() if daemon.running}

    def __enter__(self):
        return self.start()

    def __exit__(self, *_):
        self.stop()

    # The command

    def command(self, *args):
        return [f"{self.build}/posttrace", "-C", self.config, "-c", self.postfix.conf, *args]

    def attach(self, tracepoints=None):
        """Postfix knows of the hooks: by "posttrace attach", or by hand with so many tracepoints. A reload would let an
        idle smtpd take one more session as before."""
        if tracepoints is None:
            self.run("attach")
        else:
            attach_by_hand(self.postfix, tracepoints)
        self.postfix.stop()
        self.postfix.start()

    def run(self, *args, check=(0,), **kwargs):
        """posttrace with these arguments: its standard output. Any other exit status than those in check raises."""
        done = subprocess.run(self.command(*args),
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **kwargs)
        if done.returncode not in check:
            raise RuntimeError(f"posttrace {' '.join(args)} ended with {done.returncode}:\n{done.stderr.decode()}")
        return done.stdout.decode()

    def json(self, *args):
        """The objects that a command prints, one a line; exit 1 is an empty answer."""
        return [json.loads(line) for line in self.run(*args, check=(0, 1)).splitlines()]

    def export(self):
        """Everything, but for the sessions that only asked if Postfix is up."""
        return [t for t in self.json("export") if t["client"]["address"] != PROBE]

    def wait_taken_in(self, timeout=60):
        """Until the recorder has caught up. Each input is taken in in order, so once one last message is whole in the store,
        everything that was seen before it is there as well."""
        self.marks += 1
        sender = f"mark{self.marks}@from.test"
        client = Smtp(self.postfix.smtp, source=PROBE)
        client.reply()
        for command in ("EHLO mark.test", f"MAIL FROM:<{sender}>", "RCPT TO:<ok.mark@lab.test>", "DATA"):
            client.cmd(command)
        client.send("Subject: mark", b"\r\n.\r\n")
        client.reply()
        client.quit()
        witnesses = {WITNESS[name] for name in self.daemons if name in WITNESS}
        if self.settings["maillog_source"] != "file:/dev/null":
            witnesses.add("maillog")

        def whole():
            found = self.json("list", "--from", sender, "-j")
            return found and found[0]["state"] == "done" and all(found[0]["sources"][name] for name in witnesses)

        wait_for(f"the last message to be whole in the store, seen by {sorted(witnesses)}", whole, timeout, pause=0.05)

    def wait_settled(self, timeout=60):
        """Until nothing more can be joined: each session is past the time in which late lines are waited for."""
        wait_for("each session to be over", lambda: self.json("store", "stat", "-j")[0]["open_sessions"] == 0, timeout, pause=0.2)

    def complaints(self):
        """What no daemon may ever say: a sanitizer's report, in any of their logs."""
        found = []
        for path in glob.glob(os.path.join(self.directory, "*.log")):
            with open(path, encoding="utf-8", errors="replace") as file:
                found += [f"{os.path.basename(path)}: {line.strip()}" for line in file
                          if any(word in line for word in SANITIZED)]
        return found
