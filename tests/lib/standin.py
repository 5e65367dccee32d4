"""Servers that stand where a hook of ours should, and misbehave.

Each takes connections on a unix-domain socket and treats them as its mode says, until stop():

    silent   reads, never answers: what a stopped process looks like
    deaf     never even accepts; the backlog is full
    close    closes at once
    half     reads something, sends the first byte of an answer, closes
    noise    answers everything with random bytes
    http     answers everything like a web server
    endless  answers with bytes that never end a packet or a line

and, for a policy service,

    word     answers with an action that Postfix does not know: the only one of these that costs mail
"""

import os
import random
import socket
import threading

MODES = ("silent", "deaf", "close", "half", "noise", "http", "endless")
WORD = "word"


class StandIn:
    def __init__(self, path, mode):
        assert mode in MODES + (WORD,)
        self.path, self.mode = path, mode
        self.connections = 0
        self.open = []
        self.stopped = False
        if os.path.exists(path):
            os.unlink(path)
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.listener.bind(path)
        os.chmod(path, 0o666)
        self.listener.listen(0 if mode == "deaf" else 200)
        if mode == "deaf":
            # one connection that nobody takes fills a backlog of none
            filler = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            filler.setblocking(False)
            filler.connect(path)
            self.open.append(filler)
        else:
            threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                sock, _ = self.listener.accept()
            except OSError:
                return
            if self.stopped:
                sock.close()
                return
            self.connections += 1
            self.open.append(sock)
            threading.Thread(target=self._serve, args=(sock,), daemon=True).start()

    def _serve(self, sock):
        rng = random.Random(self.connections)
        try:
            if self.mode == "close":
                sock.close()
                return
            while sock.recv(65536):
                if self.mode == "half":
                    sock.sendall(b"\0")
                    sock.close()
                    return
                if self.mode == "noise":
                    sock.sendall(rng.randbytes(rng.randint(1, 400)))
                elif self.mode == "http":
                    sock.sendall(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
                elif self.mode == "endless":
                    sock.sendall(b"\x7f" * 4096)
                elif self.mode == WORD:
                    sock.sendall(b"action=WHATEVER\n\n")
        except OSError:
            pass

    def stop(self):
        self.stopped = True
        try:
            # wakes accept(); closing a socket under it does not
            self.listener.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self.listener.close()
        for sock in self.open:
            try:
                sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            sock.close()
        if os.path.exists(self.path):
            os.unlink(self.path)
