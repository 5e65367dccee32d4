"""Mixed mail in parallel sessions, and the truth about it.

A plan is made from a seed before anything is sent: sessions, their transactions, their recipients. Every transaction has
its own sender and recipients (tag sN.tN, see Transaction.sender), so that a line of Postfix's log or a record of
posttrace belongs to exactly one of them, whatever else runs beside. Sending fills in every reply and the queue id.
"""

import random
import re
import threading
import time
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue

from lab import LOGIN
from smtp import Gone, Reply, Smtp

# how a recipient's address is made; who takes or refuses it stands in lab.py
RECIPIENTS = {
    "ok": "ok.{tag}@lab.test", "relay-ok": "ok.{tag}@relay.test", "unknown": "nobody.{tag}@lab.test",
    "relay-unknown": "nobody.{tag}@relay.test", "denied": "ok.{tag}@far.test", "later": "ok.{tag}@later.test",
    "trap": "trap.{tag}@lab.test", "grey": "grey.{tag}@lab.test", "full": "full.{tag}@lab.test",
    "short": "ok.{tag}", "bye": "bye.{tag}@lab.test", "utf8": "ok.{tag}.büro@lab.test", "plus": "ok.{tag}+Ext=x/y@LAB.test", "quoted": '"ok.{tag} with space"@lab.test',
}
TAKEN = ("ok", "ok", "ok", "relay-ok", "plus")
REFUSED = ("unknown", "relay-unknown", "denied", "later", "trap", "grey", "full", "short")
# how a transaction ends
ENDS = {"data": 60, "bdat": 4, "rset": 5, "drop-rcpt": 4, "drop-data": 4, "quit-rcpt": 3, "header-reject": 2, "too-big": 1,
        "drop-mail": 1, "mail-rset": 2}
CLIENTS = ("127.0.0.1", "127.0.0.2", "127.0.0.3", "127.0.0.4")


@dataclass
class Recipient:
    kind: str
    address: str
    reply: Reply | None = None


@dataclass
class Transaction:
    tag: str
    sender: str
    recipients: list
    end: str
    pipelined: bool = False
    utf8: bool = False
    mail: Reply | None = None
    data: Reply | None = None
    final: Reply | None = None
    queue_id: str | None = None
    sent_at: float | None = None
    seconds: float | None = None
    hung_up: bool = False

    @property
    def accepted(self):
        return [r for r in self.recipients if r.reply and r.reply.code == 250]

    @property
    def refused(self):
        return [r for r in self.recipients if r.reply and r.reply.code != 250]


@dataclass
class Session:
    number: int
    client: str
    helo: str
    kind: str = "mail"
    tls: bool = False
    login: bool = False
    end: str = "quit"
    transactions: list = field(default_factory=list)
    port: int | None = None
    server: tuple | None = None
    began_at: float | None = None
    seconds: float | None = None
    error: str | None = None


def make_plan(messages=2000, seed=1, prefix="", extras=True):
    """Sessions with that many transactions in all; prefix tells runs on the same Postfix apart."""
    rng = random.Random(seed)
    sessions = []
    count = 0
    while count < messages:
        number = len(sessions)
        session = Session(number, rng.choice(CLIENTS), f"c{number}.helo.test")
        sessions.append(session)
        dice = rng.random()
        if extras and dice < 0.06:
            session.kind = rng.choice(("silent", "greet", "helo", "noop", "bad-login", "vrfy"))
            session.end = rng.choice(("quit", "drop"))
            continue
        if dice < 0.09:
            session.helo = "bad.helo.test"
        elif dice < 0.12:
            session.client = "127.0.0.9"
        elif dice < 0.20:
            session.tls = True
        elif dice < 0.26:
            session.tls = session.login = True
        for nth in range(rng.choice((1, 1, 1, 2, 3, 5))):
            session.transactions.append(make_transaction(rng, f"{prefix}s{number}.t{nth}", session))
            count += 1
        last = session.transactions[-1]
        if last.end in ("drop-rcpt", "drop-data", "drop-mail"):
            session.end = "drop"
        # a client that drops does so once, at its end
        for early in session.transactions[:-1]:
            if early.end.startswith("drop"):
                early.end = "rset"
            elif early.end == "quit-rcpt":
                early.end = "rset"
        # Postfix hangs up after a 421: the last thing in a session
        if last.recipients and rng.random() < 0.02:
            last.recipients.append(Recipient("bye", RECIPIENTS["bye"].format(tag=f"{last.tag}.bye")))
    return sessions


def make_transaction(rng, tag, session):
    end = rng.choices(list(ENDS), ENDS.values())[0]
    sender = f"{tag}@from.test"
    dice = rng.random()
    if dice < 0.04:
        sender = f"{tag}@badsender.test"
    elif dice < 0.06:
        sender = tag
    total = rng.choice((1, 1, 1, 1, 2, 2, 3, 4, 5, rng.randint(6, 20)))
    shape = rng.random()
    kinds = []
    for _ in range(total):
        refused = shape < 0.15 or (shape < 0.6 and rng.random() < 0.4)
        kinds.append(rng.choice(REFUSED if refused else TAKEN))
    if rng.random() < 0.02:
        kinds.append("quoted")
    if dice > 0.95:
        # the null sender: its recipients alone tell it apart
        sender = ""
        kinds = kinds[:1]
    recipients = [Recipient(kind, RECIPIENTS[kind].format(tag=f"{tag}.r{n}")) for n, kind in enumerate(kinds)]
    if end in ("drop-mail", "mail-rset"):
        recipients = []
    transaction = Transaction(tag, sender, recipients, end, pipelined=rng.random() < 0.4)
    if recipients and sender and rng.random() < 0.02:
        transaction.utf8 = True
        transaction.sender = "ü." + sender
        recipients.append(Recipient("utf8", RECIPIENTS["utf8"].format(tag=f"{tag}.u")))
    return transaction


def message_text(transaction, size=300):
    headers = [f"From: <{transaction.sender or 'null'}>", "To: undisclosed-recipients:;",
               f"Message-ID: <{transaction.tag}@load.test>", f"Subject: {transaction.tag}"]
    if transaction.end == "header-reject":
        headers.append("X-Refuse-Me: yes")
    body = ("x" * 70 + "\r\n") * (size // 72)
    if transaction.end == "too-big":
        body = ("x" * 998 + "\r\n") * 1100
    return ("\r\n".join(headers) + "\r\n\r\n" + body).encode()


def play(session, postfix):
    """One session, from connect to its end. A server that behaves unexpectedly ends it, with session.error set."""
    session.began_at = time.time()
    start = time.monotonic()
    play_whole(session, postfix)
    session.seconds = time.monotonic() - start


def play_whole(session, postfix):
    session.server = postfix.submission if session.login else postfix.smtp
    try:
        client = Smtp(session.server, source=session.client)
    except OSError as error:
        session.error = f"connect: {error}"
        return
    session.port = client.port
    try:
        play_open(session, client)
    except (Gone, OSError, AssertionError) as error:
        session.error = f"{type(error).__name__}: {error}"
        client.sock.close()
        return
    if session.end == "quit":
        client.quit()
    else:
        client.drop()


def play_open(session, client):
    if session.kind == "silent":
        return
    client.reply()
    if session.kind == "greet":
        return
    client.cmd(f"EHLO {session.helo}")
    if session.kind == "noop":
        client.cmd("NOOP")
    elif session.kind == "vrfy":
        client.cmd("VRFY ok.x@lab.test")
    elif session.kind == "bad-login":
        client.auth("joe@lab.test", "wrong")
    if session.tls:
        client.starttls()
        client.cmd(f"EHLO {session.helo}")
    if session.login:
        reply = client.auth(*LOGIN)
        assert reply.code == 235, reply
    for transaction in session.transactions:
        transaction.sent_at = time.time()
        start = time.monotonic()
        go_on = play_transaction(transaction, client)
        transaction.seconds = time.monotonic() - start
        if not go_on:
            return


def play_transaction(transaction, client):
    commands = [f"MAIL FROM:<{transaction.sender}>{' SMTPUTF8' if transaction.utf8 else ''}"] + [f"RCPT TO:<{r.address}>" for r in transaction.recipients]
    if transaction.pipelined:
        client.send(*commands)
    else:
        client.send(commands[0])
    transaction.mail = client.reply()
    for command, recipient in zip(commands[1:], transaction.recipients):
        if not transaction.pipelined:
            client.send(command)
        recipient.reply = client.reply()
        if recipient.reply.code == 421:
            transaction.hung_up = True
            return False
    end = transaction.end
    if end in ("drop-mail", "drop-rcpt"):
        return False
    if end == "quit-rcpt":
        return True
    if end in ("rset", "mail-rset"):
        client.cmd("RSET")
        return True
    text = message_text(transaction)
    if end == "bdat":
        half = len(text) // 2
        client.send(f"BDAT {half}", text[:half])
        transaction.data = client.reply()
        if transaction.data.code == 250:
            client.send(f"BDAT {len(text) - half} LAST", text[half:])
            transaction.final = client.reply()
        else:
            client.cmd("RSET")
    else:
        transaction.data = client.cmd("DATA")
        if transaction.data.code != 354:
            client.cmd("RSET")
        elif end == "drop-data":
            client.send(text[:len(text) // 2])
            return False
        else:
            client.send(text, b"\r\n.\r\n")
            transaction.final = client.reply()
    if transaction.final and (match := re.search(r"queued as (\w+)", transaction.final.text)):
        transaction.queue_id = match[1]
    return True


def run_plan(sessions, postfix, parallel=50, half_way=None):
    """Plays all sessions, that many at a time. half_way() is called beside them when half of them have begun."""
    todo = SimpleQueue()
    for nth, session in enumerate(sessions):
        todo.put((nth, session))
    faults = []
    half = threading.Event()

    def beside():
        half.wait()
        try:
            half_way()
        except Exception as error:
            faults.append(error)

    def work():
        while True:
            try:
                nth, session = todo.get_nowait()
            except Empty:
                return
            try:
                if nth == len(sessions) // 2:
                    half.set()
                play(session, postfix)
            except Exception as error:
                faults.append(error)
                return

    threads = [threading.Thread(target=work) for _ in range(parallel)]
    saboteur = threading.Thread(target=beside)
    for thread in threads + ([saboteur] if half_way else []):
        thread.start()
    for thread in threads:
        thread.join()
    half.set()
    if half_way:
        saboteur.join()
    if faults:
        raise faults[0]
    return sessions
