"""The MTA's side of the milter protocol, done by hand: right, wrong, or in part."""

import struct

# protocol bits of mfdef.h
RCPT_REJ, NOBODY, SKIP = 0x800, 0x10, 0x400
# by command: C connect, H helo, M mail, R rcpt, T data, U unknown, L header, N end of headers, B body
NR = {"L": 0x80, "C": 0x1000, "H": 0x2000, "M": 0x4000, "R": 0x8000, "T": 0x10000, "U": 0x20000, "N": 0x40000, "B": 0x80000}
ALL = 0x1fffff


class Peer:
    """The MTA's side of one milter connection. Every answer is kept in .answers, as (step, reply) pairs."""

    def __init__(self, hook, steps=ALL, actions=0x1ff, version=6, macros=True):
        """hook.connect() gives a connected socket."""
        self.s = hook.connect()
        self.answers = []
        self.macros = macros
        self.send("O", struct.pack("!III", version, actions, steps))
        reply = self.read()
        self.version, self.actions, self.steps = struct.unpack("!III", reply[1:13])
        self.wanted = {}
        rest = reply[13:]
        while rest:
            stage, = struct.unpack("!I", rest[:4])
            text, _, rest = rest[4:].partition(b"\0")
            self.wanted[stage] = text.decode().split()

    def send(self, command, data=b""):
        self.s.sendall(struct.pack("!I", len(data) + 1) + command.encode() + data)

    def read(self):
        def exactly(n):
            got = b""
            while len(got) < n:
                chunk = self.s.recv(n - len(got))
                if not chunk:
                    raise EOFError("the milter closed the connection")
                got += chunk
            return got
        return exactly(*struct.unpack("!I", exactly(4)))

    def step(self, command, *words, macros=None, raw=None):
        if macros and self.macros:
            self.send("D", command.encode() + b"".join(k.encode() + b"\0" + v.encode() + b"\0" for k, v in macros.items()))
        data = raw if raw is not None else b"".join(
            (w if isinstance(w, bytes) else w.encode(errors="surrogateescape")) + b"\0" for w in words)
        self.send(command, data)
        if not self.steps & NR.get(command, 0):
            self.answers.append((command, self.read()))

    CONNECT = {"{client_addr}": "192.0.2.7", "{client_port}": "4242", "{client_name}": "mail.example.org",
               "{client_ptr}": "ptr.example.org", "{client_resolve}": "OK", "{daemon_addr}": "198.51.100.9",
               "{daemon_port}": "25", "{daemon_name}": "mx.test", "j": "mx.host.test", "v": "Postfix 3.7.11",
               "{client_connections}": "3"}
    TLS = {"{tls_version}": "TLSv1.3", "{cipher}": "AES", "{cipher_bits}": "256"}
    AUTH = {"{auth_type}": "PLAIN", "{auth_authen}": "joe@a.test"}

    def connect(self):
        self.step("C", raw=b"mail.example.org\x004" + struct.pack("!H", 4242) + b"192.0.2.7\0", macros=self.CONNECT)

    def helo(self, name="helo.example.org", macros=None):
        self.step("H", name, macros=macros)

    def mail(self, *words, macros=None):
        self.step("M", *words, macros=macros)

    def rcpt(self, *words, mailer="smtp", host="example.net", address=None, queue_id=None):
        macros = {"{rcpt_mailer}": mailer, "{rcpt_host}": host, "{rcpt_addr}": address or words[0].strip("<>")}
        self.step("R", *words, macros=dict(macros, **({"i": queue_id} if queue_id else {})))

    def data(self, queue_id="8045F2AB23"):
        # stale, as Postfix has them there
        self.step("T", macros={"i": queue_id, "{rcpt_mailer}": "error", "{rcpt_host}": "5.7.1", "{rcpt_addr}": "no"})

    def header(self, name, value):
        self.step("L", name, value)

    def eoh(self):
        self.step("N", macros={"i": "8045F2AB23"})

    def eom(self):
        if not self.steps & NOBODY:
            self.step("B", raw=b"body\r\n")
        self.step("E", macros={"i": "8045F2AB23"})

    def abort(self):
        self.send("A")

    def quit(self):
        self.send("Q")
        self.s.close()

    def close(self):
        self.s.close()
