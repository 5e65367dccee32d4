#!/usr/bin/python3
"""posttrace-policyd: whatever a client sends, the only bytes it gets are DUNNO, and what it asked is in the journal."""

import os
import random
import select
import signal
import socket
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from hook import Hook, wait_for  # noqa: E402
from tap import run  # noqa: E402

ANSWER = b"action=DUNNO\n\n"

FULL = (b"request=smtpd_access_policy\nprotocol_state=RCPT\nprotocol_name=ESMTP\nclient_address=192.0.2.7\n"
        b"client_name=mail.example.org\nclient_port=4242\nreverse_client_name=ptr.example.org\n"
        b"server_address=198.51.100.9\nserver_port=25\nhelo_name=helo.example.org\nsender=a@example.org\n"
        b"recipient=b@example.net\nrecipient_count=0\nqueue_id=8045F2AB23\ninstance=44c0.6b04bd63.c7744.0\nsize=12345\n"
        b"etrn_domain=\nstress=\nsasl_method=plain\nsasl_username=joe\nsasl_sender=\nccert_subject=sub\n"
        b"ccert_issuer=iss\nccert_fingerprint=AB:CD\nccert_pubkey_fingerprint=EF:01\nencryption_protocol=TLSv1.3\n"
        b"encryption_cipher=AES\nencryption_keysize=256\npolicy_context=pt:main:relay:3:0123456789abcdef\n\n")
WANT = {
    "stage": "RCPT", "protocol": "ESMTP", "client_address": "192.0.2.7", "client_name": "mail.example.org",
    "client_port": "4242", "client_ptr": "ptr.example.org", "server_address": "198.51.100.9", "server_port": "25",
    "helo": "helo.example.org", "sender": "a@example.org", "has_sender": "yes", "recipient": "b@example.net",
    "queue_id": "8045F2AB23", "instance": "44c0.6b04bd63.c7744.0", "size": "12345", "pid": str(0x44c0),
    "sasl_method": "plain", "sasl_username": "joe", "ccert_subject": "sub", "ccert_issuer": "iss",
    "ccert_fingerprint": "AB:CD", "ccert_pubkey_fingerprint": "EF:01", "tls_protocol": "TLSv1.3", "tls_cipher": "AES",
    "tls_bits": "256", "policy_context": "pt:main:relay:3:0123456789abcdef",
}


def small(name):
    return f"request=smtpd_access_policy\nprotocol_state=RCPT\nrecipient={name}\n\n".encode()


def read_all(s):
    """Until the server closes; a reset counts as a close."""
    got = b""
    try:
        while chunk := s.recv(65536):
            got += chunk
    except ConnectionResetError:
        pass
    return got


def read_exactly(s, n):
    got = b""
    while len(got) < n:
        chunk = s.recv(n - len(got))
        if not chunk:
            break
        got += chunk
    return got


def ask(hook, data):
    """Send, close our side, and give all that comes back."""
    with hook.connect() as s:
        try:
            s.sendall(data)
            s.shutdown(socket.SHUT_WR)
        except (BrokenPipeError, ConnectionResetError):
            pass  # closed on us, which is an answer too
        return read_all(s)


def only_answers(got):
    return got == ANSWER * (len(got) // len(ANSWER))


def recipients(hook):
    return [e["recipient"] for e in hook.events()]


def attributes(tap):
    with Hook("posttrace-policyd") as hook:
        tap.same(ask(hook, FULL), ANSWER, "a full request is answered DUNNO")
        event = hook.events()[0]
        got = {name: value for name, value in event.pairs if name not in ("at_us", "connection")}
        tap.same(got, WANT, "each attribute of Postfix 3.x is in its member, empty ones are not there")
        ask(hook, b"protocol_state=EHLO\nsender=\ninstance=\nnew_in_4_0=x=y\nmail\xfcadr=\xff\n\n")
        event = hook.events()[-1]
        tap.same((event["attribute.new_in_4_0"], event["attribute.mail\\xfcadr"], event["has_sender"], event["truncated"]),
                 ("x=y", "\\xff", None, None), "unknown and 8-bit attributes are kept; before MAIL there is no sender")
        tap.same(event["pid"], str(os.getpid()), "without instance the process id is that of the socket's peer")
        ask(hook, b"protocol_state=RCPT\nsender=\n\n")
        event = hook.events()[-1]
        tap.same((event["sender"], event["has_sender"]), (None, "yes"), "the null sender is a sender")


def torn(tap):
    with Hook("posttrace-policyd") as hook:
        bad = []
        for cut in range(1, len(FULL)):
            with hook.connect() as s:
                s.sendall(FULL[:cut])
                # one answer is proof that the first piece was read alone
                with hook.connect() as other:
                    other.sendall(small("sync"))
                    read_exactly(other, len(ANSWER))
                s.sendall(FULL[cut:])
                if read_exactly(s, len(ANSWER)) != ANSWER:
                    bad.append(cut)
        events = [e for e in hook.events() if e["recipient"] != "sync"]
        tap.same(bad, [], "a request in two pieces, torn at each byte, is answered")
        tap.ok(len(events) == len(FULL) - 1 and
               all({n: v for n, v in e.pairs if n not in ("at_us", "connection")} == WANT for e in events),
               f"each of the {len(FULL) - 1} is one event, whole")
        with hook.connect() as s:
            for byte in FULL:
                s.sendall(bytes([byte]))
            tap.same(read_exactly(s, len(ANSWER)), ANSWER, "a request byte by byte is answered")


def pipelined(tap):
    with Hook("posttrace-policyd") as hook:
        n = 500
        got = ask(hook, b"".join(small(f"r{i}") for i in range(n)))
        tap.same(got, ANSWER * n, f"{n} requests at once, then half a close, get {n} answers")
        tap.same(recipients(hook), [f"r{i}" for i in range(n)], "and are events in the same order")
    with Hook("posttrace-policyd") as hook:
        n = 40000
        with hook.connect() as s:
            s.settimeout(0.3)
            sent, data = 0, b"".join(small(f"r{i}") for i in range(n))
            try:
                while sent < len(data):
                    sent += s.send(data[sent:sent + 65536])
            except TimeoutError:
                pass
            tap.ok(sent < len(data), "a client that reads no answer is made to wait")
            tap.same(ask(hook, small("other")), ANSWER, "while another one is served")
            got = b""
            while len(got) < n * len(ANSWER):
                readable, writable, _ = select.select([s], [s] if sent < len(data) else [], [], 20)
                if readable:
                    got += s.recv(1 << 20)
                if writable:
                    sent += s.send(data[sent:sent + 4096])
                if not readable and not writable:
                    break
            tap.ok(got == ANSWER * n, "and gets every answer once it reads")
        tap.same(len(recipients(hook)), n + 1, "every request was recorded")


def hostile(tap):
    with Hook("posttrace-policyd") as hook:
        tap.same(ask(hook, b"recipient=" + b"x" * 9000), b"", "a line over 8 KB closes the connection")
        tap.same(ask(hook, b"".join(b"a%d=%s\n" % (i, b"y" * 1000) for i in range(80))), b"",
                 "a request over 64 KB closes the connection")
        tap.same(ask(hook, b"a=b\nrecipient=half"), b"", "half a request is no request")
        tap.same(hook.events(), [], "none of these is an event")
        tap.same(ask(hook, b"x" * 100 + b"\n\n"), ANSWER, "no attribute at all: answered")
        for data, what in ((b"recipient=a\nrecipient=b\n\n", "an attribute twice"), (b"recipient=a\nwords\n\n", "no ="),
                           (b"recipient=a\n=x\n\n", "an empty name"), (b"recipient=a\nx=\0\n\n", "a NUL"),
                           (b"recipient=a\nsize=12x\n\n", "a size that is none"),
                           (b"recipient=a\nclient_port=99999999999\n\n", "a port that is none")):
            got = ask(hook, data)
            event = hook.events()[-1]
            tap.same((got, event["recipient"], event["truncated"]), (ANSWER, "a", "yes"), f"{what}: answered, kept, flagged")
        ask(hook, b"recipient=crlf\r\n\r\n")
        tap.same(hook.events()[-1]["recipient"], "crlf", "CR LF ends a line as well")
        ask(hook, b"recipient=a\naction=REJECT\n\naction=REJECT\n\n")
        rng, strange = random.Random(4), []
        for i in range(300):
            junk = bytes(rng.choice(b"\n\n\n=\0\r\xffabaction=REJECT") for _ in range(rng.randrange(1, 3000)))
            got = ask(hook, junk)
            if not only_answers(got):
                strange.append(got)
        tap.same(strange, [], "garbage never gets any bytes but whole answers")
        tap.same(ask(hook, FULL), ANSWER, "and the service lives on")


def many(tap):
    with Hook("posttrace-policyd") as hook:
        n = 2000
        clients = [hook.connect() for _ in range(n)]
        rounds = 3
        for r in range(rounds):
            for i, s in enumerate(clients):
                s.sendall(small(f"c{i}.{r}"))
            answers = [read_exactly(s, len(ANSWER)) for s in clients]
            if answers != [ANSWER] * n:
                break
        tap.ok(answers == [ANSWER] * n, f"{n} connections are served, {rounds} requests each")
        tap.same(sorted(recipients(hook)), sorted(f"c{i}.{r}" for i in range(n) for r in range(rounds)),
                 "each of their requests is one event")
        serials = {}
        for e in hook.events():
            serials.setdefault(e["connection"], set()).add(e["recipient"].split(".")[0])
        tap.ok(len(serials) == n and all(len(v) == 1 for v in serials.values()), "with the number of its connection")
        for s in clients:
            s.close()
        tap.same(ask(hook, FULL), ANSWER, "after they all left, the next one is served")


def few_descriptors(tap):
    with Hook("posttrace-policyd", files=40) as hook:
        clients = [hook.connect() for _ in range(60)]
        wait_for("the limit to be noticed", lambda: "can't accept" in hook.log_text())
        with open(f"/proc/{hook.process.pid}/stat") as f:
            before = sum(map(int, f.read().split()[13:15]))
        clients[0].sendall(small("first"))
        tap.same(read_exactly(clients[0], len(ANSWER)), ANSWER, "out of descriptors: clients that are in are served")
        for s in clients[:40]:
            s.close()
        clients[-1].sendall(small("last"))
        tap.same(read_exactly(clients[-1], len(ANSWER)), ANSWER, "those who waited are served when there is room")
        with open(f"/proc/{hook.process.pid}/stat") as f:
            used = sum(map(int, f.read().split()[13:15])) - before
        tap.ok(used < 30, f"without spinning meanwhile ({used} ticks)")
        for s in clients[40:]:
            s.close()


def signals(tap):
    with Hook("posttrace-policyd") as hook:
        hook.kill(signal.SIGHUP)
        hook.kill(signal.SIGUSR1)
        tap.same(ask(hook, FULL), ANSWER, "HUP and USR1 stop nothing")
        idle, busy, half = hook.connect(), hook.connect(), hook.connect()
        busy.sendall(b"".join(small(f"t{i}") for i in range(50)))
        half.sendall(small("h")[:20])
        hook.kill(signal.SIGTERM)
        half.sendall(small("h")[20:])
        got = read_all(busy), read_all(half), read_all(idle)
        tap.same((hook.process.wait(20), got), (0, (ANSWER * 50, ANSWER, b"")), "TERM: what was sent is answered, then it ends")
        tap.same(recipients(hook)[1:].count(None), 0, "and everything is recorded")
        tap.same(sorted(recipients(hook)[1:]), sorted([f"t{i}" for i in range(50)] + ["h"]), "once each")
        tap.same([hook.events(skip=())[i].type for i in (0, -1)], ["run-start", "run-stop"], "the run's start and end are events")
        tap.ok(not os.path.exists(hook.path), "the socket is gone")
        hook.start()
        ask(hook, small("k"))
        hook.process.kill()
        hook.process.wait()
        hook.start()
        tap.same(ask(hook, small("again")), ANSWER, "after kill -9 it starts over its stale socket")
        tap.same(recipients(hook)[-2:], ["k", "again"], "and nothing is lost or doubled")


def main(tap):
    for part in (attributes, torn, pipelined, hostile, many, few_descriptors, signals):
        part(tap)


run(main)
