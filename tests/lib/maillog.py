"""Postfix's log, read with regular expressions: the oracle that posttrace's answers are held against.

It shares nothing with the C parser on purpose. It knows the lines that Postfix 3.7 writes for the way in and for
deliveries; a line it does not know is kept in Log.other, so that a test can look at what was overlooked.
"""

import re
from dataclasses import dataclass, field

LINE = re.compile(r"^(?P<time>\w{3} [ \d]\d \d\d:\d\d:\d\d) (?P<host>\S+) (?P<tag>[^\[]+)\[(?P<pid>\d+)\]: (?P<text>.*)$")
PEER = r"(?P<name>[^\[\s]+)\[(?P<address>[^\]]+)\](?::(?P<port>\d+))?"
CLIENT = re.compile(rf"^(?P<queue_id>\w+): client={PEER}(?P<rest>.*)$")
REJECT = re.compile(rf"^(?P<queue_id>\w+): (?P<action>reject|reject_warning|milter-reject): (?P<stage>[A-Z-]+) from {PEER}: "
                    r"(?P<code>\d{3}) (?:(?P<dsn>[245]\.\d{1,3}\.\d{1,3}) )?(?P<text>.*?);"
                    r"(?: from=<(?P<sender>.*?)>)?(?: to=<(?P<recipient>.*?)>)?(?: proto=(?P<proto>\S+))?"
                    r"(?: helo=<(?P<helo>.*?)>)?(?: sasl_username=<?(?P<login>.*?)>?)?$")
HEADER_REJECT = re.compile(rf"^(?P<queue_id>\w+): reject: (?P<where>header|body) (?P<what>.*?) from {PEER}; from=<(?P<sender>.*?)> "
                           r"to=<(?P<recipient>.*?)> proto=(?P<proto>\S+) helo=<(?P<helo>.*?)>: (?P<dsn>\S+) (?P<text>.*)$")
CONNECT = re.compile(rf"^connect from {PEER}$")
DISCONNECT = re.compile(rf"^disconnect from {PEER}(?P<counts>(?: \w+=\d+(?:/\d+)?)*)$")
LOST = re.compile(rf"^(?P<what>lost connection|timeout|too many errors) after (?P<stage>.+?)(?: \((?P<bytes>(?:approximately )?\d+) bytes\))? from {PEER}$")
MESSAGE_ID = re.compile(r"^(?P<queue_id>\w+): (?:resent-)?message-id=(?P<id>.*)$")
ACTIVE = re.compile(r"^(?P<queue_id>\w+): from=<(?P<sender>.*?)>, size=(?P<size>\d+), nrcpt=(?P<nrcpt>\d+) \(queue active\)$")
DELIVERY = re.compile(r"^(?P<queue_id>\w+): to=<(?P<recipient>.*?)>,(?: orig_to=<(?P<orig_to>.*?)>,)? relay=(?P<relay>.*?), "
                      r"(?:conn_use=\d+, )?delay=(?P<delay>[\d.]+), delays=(?P<delays>[\d./]+), dsn=(?P<dsn>[\d.]+), "
                      r"status=(?P<status>\w+) \((?P<text>.*)\)$")
REMOVED = re.compile(r"^(?P<queue_id>\w+): removed$")
UID = re.compile(r"^(?P<queue_id>\w+): uid=(?P<uid>\d+) from=<(?P<sender>.*?)>")


@dataclass
class Session:
    """What one smtpd process wrote from connect to disconnect."""
    service: str
    pid: int
    address: str
    port: int | None
    queue_ids: list = field(default_factory=list)
    rejects: list = field(default_factory=list)
    lost: dict | None = None
    counts: dict = field(default_factory=dict)
    ended: bool = False


@dataclass
class Message:
    """What was written about one queue id."""
    queue_id: str
    address: str | None = None
    session: Session | None = None
    login: str | None = None
    sender: str | None = None
    message_id: str | None = None
    size: int | None = None
    nrcpt: int | None = None
    active: int = 0
    removed: bool = False
    deliveries: list = field(default_factory=list)
    header_reject: dict | None = None


class Log:
    def __init__(self, text, ignore=()):
        """ignore: client addresses whose sessions and messages are left out."""
        self.sessions = []
        self.messages = {}  # the last of each queue id
        self.earlier = []   # those whose queue id was used again: Postfix's short ones come back within seconds
        self.rejects = []
        self.other = []
        self.lines = 0
        self._open = {}
        for line in text.splitlines():
            match = LINE.match(line)
            if not match:
                self.other.append(line)
                continue
            self.lines += 1
            tag, _, program = match["tag"].rpartition("/")
            read = getattr(self, "_" + program.replace("-", "_"), None)
            if not (read and read(tag, int(match["pid"]), match["text"])) and not self._any(match["text"]):
                self.other.append(line)
        self.sessions = [s for s in self.sessions if s.address not in ignore]
        self.rejects = [r for r in self.rejects if r["session"].address not in ignore]
        self.messages = {i: m for i, m in self.messages.items() if m.address not in ignore}
        self.earlier = [m for m in self.earlier if m.address not in ignore]

    def message(self, queue_id):
        return self.messages.setdefault(queue_id, Message(queue_id))

    def clients(self):
        """Every message that came in over SMTP."""
        return [message for message in [*self.messages.values(), *self.earlier] if message.address is not None]

    def _smtpd(self, tag, pid, text):
        if match := CONNECT.match(text):
            session = Session(tag, pid, match["address"], match["port"] and int(match["port"]))
            self.sessions.append(session)
            self._open[pid] = session
        elif match := CLIENT.match(text):
            session = self._open[pid]
            if before := self.messages.pop(match["queue_id"], None):
                self.earlier.append(before)
            message = self.message(match["queue_id"])
            message.address, message.session = match["address"], session
            if login := re.search(r", sasl_username=([^,]*)", match["rest"]):
                message.login = login[1]
            session.queue_ids.append(match["queue_id"])
        elif match := REJECT.match(text):
            reject = match.groupdict()
            reject["session"] = self._open[pid]
            self.rejects.append(reject)
            self._open[pid].rejects.append(reject)
        elif match := LOST.match(text):
            self._open[pid].lost = match.groupdict()
        elif match := DISCONNECT.match(text):
            session = self._open.pop(pid)
            session.ended = True
            for word in match["counts"].split():
                name, count = word.split("=")
                good, _, total = count.partition("/")
                session.counts[name] = (int(good), int(total or good))
        else:
            return False
        return True

    def _cleanup(self, tag, pid, text):
        if match := MESSAGE_ID.match(text):
            self.message(match["queue_id"]).message_id = match["id"]
        elif match := HEADER_REJECT.match(text):
            self.message(match["queue_id"]).header_reject = match.groupdict()
        elif match := REJECT.match(text):
            reject = match.groupdict()
            reject["session"] = self.message(match["queue_id"]).session
            self.rejects.append(reject)
        else:
            return False
        return True

    def _qmgr(self, tag, pid, text):
        if match := ACTIVE.match(text):
            message = self.message(match["queue_id"])
            message.sender, message.size, message.nrcpt = match["sender"], int(match["size"]), int(match["nrcpt"])
            message.active += 1
        elif match := REMOVED.match(text):
            self.message(match["queue_id"]).removed = True
        else:
            return False
        return True

    def _pickup(self, tag, pid, text):
        match = UID.match(text)
        if match:
            self.message(match["queue_id"]).sender = match["sender"]
        return bool(match)

    def _any(self, text):
        match = DELIVERY.match(text)
        if match:
            self.message(match["queue_id"]).deliveries.append(match.groupdict())
        return bool(match)
