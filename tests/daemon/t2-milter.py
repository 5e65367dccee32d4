#!/usr/bin/python3
"""posttrace-milter: whatever the MTA's side does, the answer is to go on, and what it said is in the journal."""

import os
import signal
import struct
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from hook import Hook, wait_for  # noqa: E402
from peer import NOBODY, NR, RCPT_REJ, SKIP, Peer  # noqa: E402
from tap import run  # noqa: E402


def whole(peer, until=99):
    """A message of two recipients, one refused; stops before step number `until`."""
    steps = [peer.connect, peer.helo, lambda: peer.mail("<a@example.org>", "SIZE=1234"),
             lambda: peer.rcpt("<b@example.net>", "NOTIFY=NEVER"),
             lambda: peer.rcpt("<far@away.test>", mailer="error", host="5.7.1", address="Relay access denied", queue_id="8045F2AB23"),
             peer.data, lambda: peer.header("From", "A <a@example.org>"), lambda: peer.header("Message-ID", "<m1@example.org>"),
             lambda: peer.header("X-Other", "z"), lambda: peer.header("Subject", "secret"), peer.eoh, peer.eom]
    for step in steps[:until]:
        step()
    return len(steps)


TYPES = ["link-connect", "link-identify", "tx-mail", "tx-rcpt", "tx-rcpt", "tx-data", "tx-headers", "tx-commit"]


def ended(events):
    return events and events[-1].type == "link-disconnect"


def only_continue(peer):
    return peer.answers and all(reply == b"c" for _, reply in peer.answers)


def fields(event, *leave_out):
    return {n: v for n, v in event.pairs if n not in ("at_us", "connection") + leave_out}


def message(tap):
    with Hook("posttrace-milter") as hook:
        peer = Peer(hook)
        tap.same((peer.actions & 0xff, peer.steps & (RCPT_REJ | NOBODY)), (0, RCPT_REJ | NOBODY),
                 "no action is negotiated; refused recipients are asked for, the body is not")
        tap.same({c for c, bit in NR.items() if peer.steps & bit}, set("LNB"),
                 "on a unix socket headers and body need no answer; what a session may end behind does")
        tap.ok(peer.wanted.get(3) == ["{rcpt_mailer}", "{rcpt_host}", "{rcpt_addr}", "i"] and "{client_port}" in peer.wanted.get(0, [])
               and "{auth_authen}" in peer.wanted.get(2, []) and "{tls_version}" in peer.wanted.get(1, []) and
               peer.wanted.get(4) == ["i"] and peer.wanted.get(5) == ["i"], "the macros of each stage are asked for", peer.wanted)
        whole(peer)
        tap.same(peer.answers, [(c, b"c") for c in "CHMRRTE"], "every answer is to go on")
        peer.quit()
        e = hook.wait_events("the session's end", ended)
        tap.same([x.type for x in e], TYPES + ["link-disconnect"], "each step is an event")
        tap.same(fields(e[0]), {
            "client_address": "192.0.2.7", "client_port": "4242", "client_name": "mail.example.org", "client_ptr": "ptr.example.org",
            "client_resolve": "OK", "server_address": "198.51.100.9", "server_port": "25", "daemon_name": "mx.test",
            "host": "mx.host.test", "attribute.mail_version": "Postfix 3.7.11", "attribute.client_connections": "3"}, "connect")
        tap.same(fields(e[1]), {"helo": "helo.example.org"}, "helo")
        tap.same((e[2]["sender"], e[2]["has_sender"], e[2].all("arguments"), e[2]["size"]),
                 ("a@example.org", "yes", ["SIZE=1234"], "1234"), "mail")
        tap.same(fields(e[3]), {"recipient": "b@example.net", "outcome": "accepted", "transport": "smtp", "next_hop": "example.net",
                                "arguments": "NOTIFY=NEVER"}, "an accepted recipient")
        tap.same(fields(e[4]), {"recipient": "far@away.test", "outcome": "rejected", "dsn": "5.7.1", "text": "Relay access denied",
                                "queue_id": "8045F2AB23"}, "a refused recipient")
        tap.same(fields(e[5]), {"queue_id": "8045F2AB23"}, "data, without the last recipient's macros")
        tap.same(fields(e[6]), {"queue_id": "8045F2AB23", "message_id": "m1@example.org", "header_count": "4",
                                "header.From": "A <a@example.org>", "header.Message-ID": "<m1@example.org>"},
                 "headers: those of keep_headers, and no subject")
        tap.same(fields(e[7]), {"queue_id": "8045F2AB23"}, "commit")


def session(tap):
    with Hook("posttrace-milter", "record_subject=yes", "keep_headers=List-Id, Received") as hook:
        peer = Peer(hook)
        peer.connect()
        peer.helo("one")
        peer.helo("two", macros=Peer.TLS)
        peer.mail("<>", macros=dict(Peer.TLS, **Peer.AUTH))
        peer.rcpt("<U2@a.test>", mailer="local", host="a.test", address="u2@a.test")
        peer.rcpt("<x@b.test>", mailer="error", host="4.7.1", address="Relay access denied")
        peer.abort()
        peer.abort()
        peer.step("U", "FOO bar")
        peer.mail("j\u00fc@x.test", "size=77", "SMTPUTF8", macros=dict(Peer.TLS, **Peer.AUTH))
        peer.rcpt("bare@x.test")
        peer.data()
        peer.header("subject", "hello")
        peer.header("Message-id", " <id@x> ")
        peer.header("received", "from a\n\tby b")
        peer.eoh()
        peer.eom()
        peer.abort()  # Postfix sends one after each message
        peer.quit()
        e = hook.wait_events("the session's end", ended)
        tap.same([x.type for x in e], [
            "link-connect", "link-identify", "link-tls", "link-identify", "link-auth", "tx-mail", "tx-rcpt", "tx-rcpt", "tx-abort",
            "command", "tx-mail", "tx-rcpt", "tx-data", "tx-headers", "tx-commit", "link-disconnect"],
            "STARTTLS and AUTH show once, an abort once, and none after an end of message")
        tap.same(fields(e[2]), {"tls_protocol": "TLSv1.3", "tls_cipher": "AES", "tls_bits": "256"}, "tls")
        tap.same(fields(e[4]), {"sasl_method": "PLAIN", "sasl_username": "joe@a.test"}, "auth")
        tap.same((e[5]["sender"], e[5]["has_sender"], e[5]["tls_protocol"], e[5]["sasl_username"]),
                 (None, "yes", "TLSv1.3", "joe@a.test"), "the null sender is a sender")
        tap.same(e[6]["attribute.rcpt_addr"], "u2@a.test", "an address that Postfix rewrote is kept beside what was said")
        tap.same((e[7]["outcome"], e[7]["dsn"]), ("deferred", "4.7.1"), "a refusal of class 4 is a deferral")
        tap.same(e[9]["text"], "FOO bar", "an unknown command")
        tap.same((e[10]["sender"], e[10]["size"], e[11]["recipient"]), ("j\u00fc@x.test", "77", "bare@x.test"),
                 "SMTPUTF8; addresses without <>")
        tap.same(fields(e[13], "queue_id"), {"message_id": "id@x", "header_count": "3", "header.subject": "hello",
                                             "header.received": "from a\\n\\tby b"},
                 "record_subject, and a Message-ID that is not in keep_headers is still the message's")


def ends(tap):
    with Hook("posttrace-milter") as hook:
        bad = []
        for how in ("abort", "quit", "close"):
            for until in range(13):
                before = len(hook.events())
                peer = Peer(hook)
                n = whole(peer, until)
                if how == "abort":
                    peer.abort()
                peer.close() if how == "close" else peer.quit()
                if until > n:
                    continue
                e = hook.wait_events("the end", lambda all: len(all) > before and ended(all))[before:]
                types = [x.type for x in e]
                open_ = 3 <= until < n
                # headers need no answer, so libmilter may drop those that no end of message follows
                headers = [x for x in e if x.type == "tx-headers"]
                want = TYPES[:min(until, 6)]
                want += ["tx-headers"] * (len(headers) if 7 <= until < n else until == n)
                want += ["tx-commit"] * (until == n) + ["tx-abort"] * open_ + ["link-disconnect"]
                if types != want:
                    bad.append((how, until, types))
                if 7 <= until < 11 and any(x["truncated"] != "yes" for x in headers):
                    bad.append((how, until, "not flagged"))
                if len({x["connection"] for x in e}) != 1:
                    bad.append((how, until, "connection"))
        tap.same(bad, [], "abort, quit or a drop after each step: what was seen is there, in order")
        tap.ok(hook.stop() == 0, "and it stops in order")


def without_macros(tap):
    with Hook("posttrace-milter") as hook:
        for kind, peer in (("protocol 6, without macros", Peer(hook, macros=False)),
                           ("no optional step offered", Peer(hook, steps=0x3f, actions=0x3f, version=2)),
                           ("only what is needed", Peer(hook, steps=RCPT_REJ | SKIP))):
            before = len(hook.events())
            whole(peer)
            tap.ok(only_continue(peer), f"{kind}: every answer is to go on", peer.answers)
            peer.quit()
            e = hook.wait_events("the end", lambda all: len(all) > before and ended(all))[before:]
            tap.same([x.type for x in e], TYPES + ["link-disconnect"], f"{kind}: each step is an event")
            tap.same(e[-2]["body_bytes"], None if peer.steps & NOBODY else "6", "the body is counted if it comes")
            if not peer.macros:
                tap.same((e[0]["client_address"], e[0]["client_port"]), ("192.0.2.7", "4242"), "the address comes from the step itself")
                tap.same((e[3]["outcome"], e[4]["outcome"]), (None, None), "and no verdict on a recipient is made up")


def hostile(tap):
    with Hook("posttrace-milter") as hook:
        peer = Peer(hook)
        peer.connect()
        peer.helo(b"x" * 70000 + b"\x1b[31m\xff")
        peer.mail("<a@b>", *[f"X{i}=1" for i in range(200)])
        peer.rcpt("<b@c>")
        peer.data()
        peer.header("Received", b"y" * ((1 << 20) - 100))
        for i in range(3000):
            peer.header("Received", b"from \xff hop %d " % i + b"z" * 200)
        peer.header("Message-ID", "<late@x>")
        peer.eoh()
        peer.eom()
        tap.ok(only_continue(peer), "a header of 1 MiB and thousands more: go on")
        peer.quit()
        e = hook.wait_events("the end", ended)
        by = {x.type: x for x in e}
        tap.ok(by["link-identify"]["truncated"] == "yes" and len(by["link-identify"]["helo"]) == 4096, "a long HELO is cut and says so")
        tap.ok(by["tx-mail"]["truncated"] == "yes" and len(by["tx-mail"].all("arguments")) == 64, "so are too many parameters")
        h = by["tx-headers"]
        tap.same((h["header_count"], h["truncated"], len(h.all("header.Received")[0])), ("3002", "yes", 4096),
                 "headers are counted all, and cut at header_limit")
        tap.ok(len(h.all("header.Received")) <= 512, "and kept within bounds")
        bad = []
        for junk in (b"\xff\xff\xff\xff", b"\0\0\0\0", b"GET / HTTP/1.0\r\n\r\n", struct.pack("!I", 5) + b"O\0\0\0\0",
                     struct.pack("!I", 3) + b"C\0\0", struct.pack("!I", 1) + b"M"):
            with hook.connect() as s:
                s.sendall(junk)
                s.shutdown(1)
                try:
                    if s.recv(100):
                        bad.append(junk)
                except ConnectionResetError:
                    pass
        tap.same(bad, [], "garbage instead of a negotiation gets nothing")
        half = hook.connect()
        half.sendall(b"\0\0")
        peer = Peer(hook)
        whole(peer)
        tap.ok(only_continue(peer), "and the next session is served")
        half.close()
        peer.quit()


def local(tap):
    with Hook("posttrace-milter") as hook:
        peer = Peer(hook)
        macros = {"{client_addr}": "127.0.0.1", "{client_port}": "0", "{client_name}": "localhost", "{daemon_port}": "0", "i": "Q1"}
        peer.step("C", raw=b"localhost\x004\0\x00127.0.0.1\0", macros=macros)
        peer.mail("a@b.test", macros=macros)
        peer.rcpt("c@d.test", mailer="local", queue_id="Q1")
        peer.quit()
        e = hook.wait_events("the end", ended)
        tap.same((e[0]["client_address"], e[0]["client_name"], e[1]["client_address"], e[1]["queue_id"]), (None, "localhost", None, "Q1"),
                 "mail that Postfix feeds in itself has no client address")


def over_tcp(tap):
    import socket
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    with Hook("posttrace-milter", f"milter_listen=inet:127.0.0.1:{port}") as hook:
        hook.connect = lambda: socket.create_connection(("127.0.0.1", port), timeout=20)
        peer = Peer(hook)
        tap.ok(not any(peer.steps & bit for bit in NR.values()), "over TCP every step is answered")
        whole(peer)
        tap.ok(only_continue(peer) and len(peer.answers) == 12, "with: go on")
        peer.quit()


def signals(tap):
    import time
    with Hook("posttrace-milter") as hook:
        for number in (signal.SIGHUP, signal.SIGHUP, signal.SIGUSR1, signal.SIGPIPE):
            hook.kill(number)
        wait_for("the signals to be taken", lambda: hook.log_text().count("nothing to reload") >= 2)
        peer = Peer(hook)
        whole(peer, until=4)
        tap.ok(hook.process.poll() is None, "HUP, USR1 and PIPE stop nothing")
        hook.kill(signal.SIGTERM)
        for step in (peer.data, lambda: peer.header("From", "x"), peer.eoh, peer.eom):
            step()
        tap.ok(only_continue(peer), "TERM: the message under way is finished")
        began = time.monotonic()
        tap.same(hook.process.wait(20), 0, "then it ends")
        tap.ok(time.monotonic() - began < 1.5, "at once")
        e = hook.events(skip=())
        tap.same((e[0].type, e[-1].type, "tx-commit" in [x.type for x in e]), ("run-start", "run-stop", True), "everything is recorded")
        tap.ok(not os.path.exists(hook.path), "the socket is gone")
        hook.start()
        peer = Peer(hook)
        whole(peer, until=4)
        began = time.monotonic()
        tap.ok(hook.stop() == 0 and time.monotonic() - began < 4, "a message that does not end holds it up for two seconds at most")
        hook.start()
        peer = Peer(hook)
        whole(peer, until=4)
        hook.wait_events("the recipient", lambda e: e[-1].type == "tx-rcpt")
        hook.process.kill()
        hook.process.wait()
        n = len(hook.events())
        hook.start()
        peer = Peer(hook)
        whole(peer)
        peer.quit()
        e = hook.wait_events("the end", ended)
        tap.same([x.type for x in e[n - 4:]], TYPES[:4] + TYPES + ["link-disconnect"],
                 "after kill -9 it starts over its stale socket, and nothing is lost or doubled")
        try:
            second = None
            second = Hook("posttrace-milter", f"milter_listen=unix:{hook.path}")
        except RuntimeError as e:
            tap.ok("another process listens" in str(e), "a second one does not take the socket away")
        tap.ok(second is None, "but says so and ends")
        peer = Peer(hook)
        whole(peer)
        tap.ok(only_continue(peer), "the first one is still served")
        peer.quit()


def crowd(tap):
    with Hook("posttrace-milter") as hook:
        n = 200
        peers = [Peer(hook) for _ in range(n)]
        for i, peer in enumerate(peers):
            peer.connect()
            peer.helo(f"h{i}")
        for i, peer in enumerate(peers):
            peer.mail(f"<s{i}@x>")
            peer.rcpt(f"<r{i}@x>")
            peer.data()
            peer.header("Message-ID", f"<{i}@x>")
        for peer in peers:
            peer.eoh()
            peer.eom()
        tap.ok(all(map(only_continue, peers)), f"{n} sessions side by side")
        for peer in peers:
            peer.quit()
        e = hook.wait_events("all ends", lambda e: [x.type for x in e].count("link-disconnect") == n)
        sessions = {}
        for x in e:
            sessions.setdefault(x["connection"], []).append(x)
        got = {tuple(next(filter(None, (x[f] for x in s)), None) for f in ("helo", "sender", "recipient", "message_id"))
               for s in sessions.values()}
        tap.same(got, {(f"h{i}", f"s{i}@x", f"r{i}@x", f"{i}@x") for i in range(n)}, "none mixed up with another")


def main(tap):
    for part in (message, session, ends, without_macros, hostile, local, over_tcp, signals, crowd):
        part(tap)


run(main)
