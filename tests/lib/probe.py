#!/usr/bin/python3
"""A process that asks both hooks over and over, as Postfix would, and tells how long the replies took.

usage: probe.py MILTER_SOCKET POLICY_SOCKET; prints one JSON object when its standard input ends: seconds by kind of reply.
"""

import json
import os
import select
import socket
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from peer import Peer

POLICY = b"request=smtpd_access_policy\nprotocol_state=RCPT\nclient_address=127.0.0.254\nsender=probe@from.test\n\n"
ANSWER = b"action=DUNNO\n\n"


def dial(path):
    s = socket.socket(socket.AF_UNIX)
    s.connect(path)
    s.settimeout(30)
    return s


class Milter:
    def __init__(self, path):
        self.path = path

    def connect(self):
        return dial(self.path)

    def ask(self, timed):
        peer = timed("connect and negotiate", lambda: Peer(self))
        timed("command", peer.connect)
        timed("command", peer.helo)
        timed("command", lambda: peer.mail("<probe@from.test>"))
        timed("command", lambda: peer.rcpt("<ok.probe@lab.test>"))
        timed("command", peer.data)
        peer.header("Message-ID", "<probe@from.test>")
        peer.eoh()
        timed("end of message", peer.eom)
        peer.quit()


class Policy:
    def __init__(self, path):
        self.s = dial(path)

    def ask(self, timed):
        def once():
            self.s.sendall(POLICY)
            got = b""
            while len(got) < len(ANSWER) and (chunk := self.s.recv(100)):
                got += chunk
            assert got == ANSWER, got
        timed("policy", once)


def main(milter, policy):
    took = {}

    def timed(kind, ask):
        began = time.monotonic()
        result = ask()
        took.setdefault(kind, []).append(time.monotonic() - began)
        return result

    peers = [Milter(milter), Policy(policy)]
    while not select.select([sys.stdin], [], [], 0.002)[0]:
        for peer in peers:
            peer.ask(timed)
    print(json.dumps(took))


if __name__ == "__main__":
    main(*sys.argv[1:])
