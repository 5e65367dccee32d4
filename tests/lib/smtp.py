"""An SMTP client that does exactly what it is told, wrong things too, and keeps every reply word by word."""

import base64
import socket
import ssl


class Gone(Exception):
    """The server hung up."""


class Reply:
    def __init__(self, lines):
        self.lines = lines
        self.code = int(lines[0][:3])

    @property
    def text(self):
        """What stands after the code, the dsn included."""
        return "\n".join(line[4:] for line in self.lines)

    def __repr__(self):
        return f"{self.code} {self.text}"


class Smtp:
    def __init__(self, server, source="127.0.0.1", timeout=60.0, wrapped=False):
        self.sock = socket.create_connection(server, timeout=timeout, source_address=(source, 0))
        self.port = self.sock.getsockname()[1]
        self.buffer = b""
        if wrapped:
            self._wrap()

    def _wrap(self):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        self.sock = context.wrap_socket(self.sock)

    def reply(self):
        lines = []
        while True:
            while b"\r\n" not in self.buffer:
                try:
                    data = self.sock.recv(65536)
                except ConnectionResetError:
                    data = b""
                if not data:
                    raise Gone(lines)
                self.buffer += data
            line, _, self.buffer = self.buffer.partition(b"\r\n")
            lines.append(line.decode("utf-8", "surrogateescape"))
            if line[3:4] != b"-":
                return Reply(lines)

    def send(self, *commands):
        """All in one write: pipelined, if there are several."""
        self.sock.sendall(b"".join(c.encode("utf-8", "surrogateescape") if isinstance(c, str) else c for c in
                                   (x if isinstance(x, bytes) else x + "\r\n" for x in commands)))

    def cmd(self, command):
        self.send(command)
        return self.reply()

    def starttls(self):
        reply = self.cmd("STARTTLS")
        assert reply.code == 220, reply
        self._wrap()

    def auth(self, user, password):
        token = base64.b64encode(f"\0{user}\0{password}".encode()).decode()
        return self.cmd(f"AUTH PLAIN {token}")

    def drop(self):
        """Gone without a word. Everything the server said was read, so it sees an end and no reset."""
        self.sock.close()

    def quit(self):
        try:
            self.cmd("QUIT")
        except (Gone, OSError):
            pass
        self.sock.close()
