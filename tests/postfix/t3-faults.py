#!/usr/bin/python3
"""Hooks that are down, hung, killed in the middle of a message, or replaced by something that answers garbage: all mail is
accepted, after a bounded delay, which is measured here for README.md, with one tracepoint and with twelve.

A delay is counted for the first message of an smtpd process and for its later ones, as Postfix keeps its connections to a
policy service. So each case has an smtpd service of its own, and cases that only wait do so side by side.
"""

import os
import random
import signal
import sys
import threading
import time
from dataclasses import dataclass, field

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))

from hooks import HOOKS, Posttrace, attach_by_hand, milter_setting, tracepoint_settings
from lab import Postfix, free_port
from smtp import Gone, Smtp
from standin import MODES, WORD, StandIn
from tap import run
from wait import wait_for

TRACEPOINTS = (1, 12)
CLIENT = "127.0.0.2"
TIMEOUT = 1  # seconds; what the braces say
SLACK = 2    # a busy machine's
WITNESSES = ("milter", "policy", "maillog")
POINTS = ("2nd recipient", "DATA", "end of data")


@dataclass
class Mail:
    seconds: float
    replies: list
    sender: str

    @property
    def taken(self):
        return all(reply.code in (250, 354) for reply in self.replies)


class Services:
    """Several smtpd services of one Postfix, one process each unless crowded; settings_of: {name: function of the Postfix
    that gives their settings, or of None that gives the names of these}."""

    def __init__(self, settings_of, crowded=()):
        host = f"127.{random.randint(10, 250)}.{random.randint(1, 250)}.{random.randint(1, 250)}"
        self.server, master = {}, ""
        for name in settings_of:
            port = free_port(host, [server[1] for server in self.server.values()])
            self.server[name] = (host, port)
            master += f"{host}:{port} inet n - n - {'-' if name in crowded else 1} smtpd\n  -o syslog_name=postfix/{name}\n"
            master += "".join(f"  -o {option}=${name}_{option}\n" for option in settings_of[name](None))
        self.postfix = Postfix(host=host, master=master)
        settings = [f"{name}_{option}={value}" for name, of in settings_of.items() for option, value in of(self.postfix).items()]
        if settings:
            self.postfix.postconf("-e", *settings)


class Client:
    """A session, step by step. The first message's time begins with the connection."""

    sent = 0
    lock = threading.Lock()

    def __init__(self, server):
        self.began = time.monotonic()
        self.smtp = Smtp(server, source=CLIENT)
        self.smtp.reply()
        self.smtp.cmd("EHLO client.test")
        self.mails = []

    def message(self, at=None, pause=None):
        """One message of two recipients; pause() is called just before the point called at."""
        began, self.began = self.began or time.monotonic(), None
        with Client.lock:
            Client.sent += 1
            tag = f"m{Client.sent}"
        waited = 0
        replies = []

        def reach(point):
            nonlocal waited
            if point == at:
                before = time.monotonic()
                pause()
                waited += time.monotonic() - before

        replies.append(self.smtp.cmd(f"MAIL FROM:<{tag}@from.test>"))
        replies.append(self.smtp.cmd(f"RCPT TO:<ok.{tag}.1@lab.test>"))
        reach("2nd recipient")
        replies.append(self.smtp.cmd(f"RCPT TO:<ok.{tag}.2@lab.test>"))
        reach("DATA")
        replies.append(self.smtp.cmd("DATA"))
        if replies[-1].code == 354:
            self.smtp.send(f"Subject: {tag}", f"Message-ID: <{tag}@client.test>", "", "half")
            reach("end of data")
            self.smtp.send("and half", b".\r\n")
            replies.append(self.smtp.reply())
        mail = Mail(time.monotonic() - began - waited, replies, f"{tag}@from.test")
        self.mails.append(mail)
        return mail


def session(server, messages=2):
    client = Client(server)
    for _ in range(messages):
        client.message()
    client.smtp.quit()
    return client.mails


@dataclass
class Measured:
    """What one case gave, in this order: the first message of an smtpd process, and all that followed in that process."""
    mails: list = field(default_factory=list)
    error: str | None = None

    @property
    def refused(self):
        return [f"{mail.sender}: {mail.replies}" for mail in self.mails if not mail.taken] + ([self.error] if self.error else [])

    @property
    def first(self):
        return self.mails[0].seconds if self.mails else float("nan")

    @property
    def later(self):
        return max((mail.seconds for mail in self.mails[1:]), default=float("nan"))


def side_by_side(jobs):
    """{key: function that gives mails} -> {key: Measured}"""
    results = {}

    def work(key, job):
        results[key] = Measured()
        try:
            results[key].mails = job()
        except (Gone, OSError, AssertionError, ValueError) as error:
            results[key].error = f"{type(error).__name__}: {error}"

    threads = [threading.Thread(target=work, args=item) for item in jobs.items()]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def judge(tap, name, measured, first, later):
    tap.ok(measured.mails and not measured.refused, f"{name}: all mail is accepted", *measured.refused)
    tap.ok(measured.first < first + SLACK and not measured.later >= later + SLACK,
           f"{name}: no message waits longer than {first} s, later ones {later} s, and what a busy machine adds",
           [f"{mail.seconds:.2f}" for mail in measured.mails])
    tap.note(f"{name}: {' '.join(f'{mail.seconds:.2f}' for mail in measured.mails)} s")


def costs(hook, hung, tracepoints):
    """What the first message of an smtpd process may wait for, and the later ones. The milter is asked anew in each
    session, and given up for the rest of it at the first timeout."""
    if not hung or hook == "recorder":
        return 0, 0
    if hook == "milter":
        return TIMEOUT, TIMEOUT
    return TIMEOUT * tracepoints, 0


def stand_ins(tap, tracepoints):
    """Each stand-in alone with its smtpd."""
    cases = [(hook, mode) for hook in ("milter", "policy") for mode in ("down",) + MODES] + [("policy", WORD)]

    def settings_of(hook, name):
        if hook == "milter":
            return lambda postfix: {"smtpd_milters": milter_setting(sockets=f"posttrace/{name}")}
        return lambda postfix: postfix and tracepoint_settings(postfix, tracepoints, sockets=f"posttrace/{name}") or {
            f"smtpd_{stage}_restrictions": None for stage in ("client", "helo", "sender", "relay")}

    services = Services({f"{hook}_{mode}": settings_of(hook, f"{hook}_{mode}") for hook, mode in cases})
    servers = {}
    try:
        os.mkdir(f"{services.postfix.queue}/posttrace", 0o755)
        for hook, mode in cases:
            directory = f"{services.postfix.queue}/posttrace/{hook}_{mode}"
            os.mkdir(directory, 0o755)
            if mode != "down":
                servers[hook, mode] = StandIn(f"{directory}/{hook}.sock", mode)
        with services.postfix:
            def twice(name):
                return lambda: session(services.server[name]) + session(services.server[name])

            results = side_by_side({(hook, mode): twice(f"{hook}_{mode}") for hook, mode in cases})
            for (hook, mode), measured in results.items():
                name = f"{tracepoints} tracepoint{'s' if tracepoints > 1 else ''}, {hook} {mode}"
                if mode == WORD:
                    # the one reply that Postfix does not pass over: why ours is a constant
                    tap.ok(measured.mails and all(mail.replies[1].code == 451 for mail in measured.mails),
                           f"{name}: an unknown action word is a 451 whatever the braces say", *measured.refused)
                    continue
                judge(tap, name, measured, *costs(hook, mode != "down", tracepoints))
                if mode not in ("down", "deaf"):
                    tap.ok(servers[hook, mode].connections > 0, f"{name}: it was asked")
    finally:
        for server in servers.values():
            server.stop()


class OurOwn:
    """Our three daemons at a Postfix with smtpd services enough for each fault to meet processes that never ran before."""

    def __init__(self, tap, tracepoints):
        self.tap, self.tracepoints = tap, tracepoints
        names = ["warm"] + [f"cold{n}" for n in range(3 * len(HOOKS))] + [f"mid{n}" for n in range(6)]
        self.cold = iter([name for name in names if name.startswith("cold")])
        self.mid = iter([name for name in names if name.startswith("mid")])

        self.services = Services({name: lambda _: {} for name in names}, [name for name in names if "mid" in name])
        self.postfix = self.services.postfix
        attach_by_hand(self.postfix, tracepoints)

    def judge(self, name, measured, first=0, later=0):
        judge(self.tap, f"{self.tracepoints} tracepoint{'s' if self.tracepoints > 1 else ''}, {name}", measured, first, later)

    def fault(self, name, hook, act, undo, hung):
        """Mail to an smtpd that knows the hooks from before, to a new one, and in sessions that the fault meets half-way."""
        server = self.services.server
        self.judge(f"before {name}", side_by_side({0: lambda: session(server["warm"], 1)})[0])
        jobs, reached, acted = {}, threading.Semaphore(0), threading.Event()

        def pause():
            reached.release()
            acted.wait()

        def half_way(where, at):
            client = Client(server[where])
            client.message(at=at, pause=pause)
            client.message()
            client.smtp.quit()
            return client.mails

        if hook != "recorder" and hung is not None:
            where = next(self.mid)
            jobs = {f"{name} before {at}": (lambda at=at: half_way(where, at)) for at in POINTS}

        def begin():
            for _ in POINTS if jobs else ():
                assert reached.acquire(timeout=30), "no session came to where the fault was to meet it"
            act()
            acted.set()

        saboteur = threading.Thread(target=begin)
        saboteur.start()
        where_cold = next(self.cold)

        def after(where):
            acted.wait()
            return session(server[where]) + session(server[where])

        jobs[f"{name}, an smtpd at work"] = lambda: after("warm")
        jobs[f"{name}, a new smtpd"] = lambda: after(where_cold)
        results = side_by_side(jobs)
        saboteur.join()
        first, later = costs(hook, hung, self.tracepoints)
        for key, measured in results.items():
            if " before " in key:
                # the connections of the message before the fault are there, so its second message can be the one that waits
                self.judge(key, measured, first, first)
            else:
                self.judge(key, measured, first, later)
        if hook == "milter" and hung:
            self.local()
        undo()
        if hook == "policyd" and hung:
            for where in ("warm", where_cold):
                wait_for(f"{where} to ask policyd again", lambda where=where: self.asks_again(where), 30)
        mails = {key: measured.mails for key, measured in side_by_side(
            {where: (lambda where=where: session(server[where])) for where in ("warm", where_cold)}).items()}
        for key, sent in mails.items():
            self.judge(f"after {name}, {key.rstrip('0123456789')}", Measured(sent))
        self.back += [(name, mail.sender) for sent in mails.values() for mail in sent]

    def asks_again(self, where):
        """Postfix keeps the connection whose reply it gave up, and each request on it fails at once, until that reply comes:
        policyd has to be scheduled first, and smtpd to be idle."""
        complaints = lambda: self.postfix.read_log().count("problem talking to server")
        before = complaints()
        sender = session(self.services.server[where], 1)[0].sender
        self.postfix.wait_log(lambda text: f"from=<{sender}>" in text, "a message to be queued")
        return complaints() == before

    def local(self):
        before = self.postfix.read_log().count("(queue active)")
        began = time.monotonic()
        self.postfix.sendmail("-f", "local@from.test", "ok.local@lab.test")
        self.postfix.wait_log(lambda text: text.count("(queue active)") > before, "mail by sendmail to be queued")
        self.tap.ok(time.monotonic() - began < TIMEOUT + SLACK, "mail by sendmail(1) passes a hung milter too")

    def play(self):
        self.back = []
        with self.postfix, Posttrace(self.postfix) as posttrace:
            try:
                for hook in HOOKS:
                    daemon = posttrace.daemons[hook]
                    self.fault(f"{hook} stopped by TERM", hook, daemon.stop, daemon.start, hung=None)
                    self.fault(f"{hook} killed", hook, daemon.kill, daemon.start, hung=False)
                    self.fault(f"{hook} hung", hook, lambda: daemon.signal(signal.SIGSTOP),
                               lambda: daemon.signal(signal.SIGCONT), hung=True)
            finally:
                for daemon in posttrace.daemons.values():
                    if daemon.running:
                        daemon.signal(signal.SIGCONT)
            self.postfix.wait_idle()
            posttrace.wait_taken_in()
            seen = {t["sender"]: t["sources"] for t in posttrace.export()}
            blind = [(name, sender, seen.get(sender)) for name, sender in self.back
                     if not (seen.get(sender) and all(seen[sender][witness] for witness in WITNESSES))]
            self.tap.same(blind, [], f"{self.tracepoints}: once a daemon is back, each message ({len(self.back)}) is seen by all three")
            self.tap.same(set(posttrace.stop().values()), {0}, f"{self.tracepoints}: each daemon ends with 0")
            self.tap.same(posttrace.complaints(), [], f"{self.tracepoints}: no sanitizer complains")


def main(tap):
    for tracepoints in TRACEPOINTS:
        stand_ins(tap, tracepoints)
        OurOwn(tap, tracepoints).play()


run(main)
