#!/usr/bin/python3
"""The answers that let mail pass stand in one place each, and nothing in the hooks could say anything else."""

import glob
import os
import re
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))

from tap import run  # noqa: E402

TOP = os.environ.get("top_srcdir", ".")


def code(folder):
    """{file: text} of a folder's C, without comments."""
    files = glob.glob(os.path.join(TOP, folder, "*.[ch]"))
    return {os.path.basename(f): re.sub(r"/\*.*?\*/", "", open(f).read(), flags=re.S) for f in files}


def uses(files, pattern):
    return sorted((name, m.group()) for name, text in files.items() for m in re.finditer(pattern, text))


def main(tap):
    milter, policyd = code("milter"), code("policyd")
    tap.ok(len(milter) >= 4 and len(policyd) >= 4, "the sources are there to be read")
    tap.same(uses(milter, r"\bSMFIS_\w+"), [("callbacks.c", "SMFIS_CONTINUE"), ("callbacks.c", "SMFIS_NOREPLY")],
             "the milter's two answers are written down once")
    tap.same([name for name, _ in uses(milter, r"\bSMFIF_(?!NONE\b|SETSYMLIST\b)\w+")], [], "no action on mail is ever named")
    tap.same([m for _, m in uses(milter, r"\bsmfi_(add|chg|ins|del|rcpt|replace|quarantine|setreply|setmlreply|progress)\w*")], [],
             "no function that changes mail or words a reply is called")
    body = re.findall(r"^static sfsistat (on_\w+)\([^)]*\)\n\{(.*?)^\}", milter["callbacks.c"], re.S | re.M)
    tap.ok(len(body) == 13, "all 13 callbacks are looked at", [name for name, _ in body])
    tap.same([(name, r) for name, text in body for r in re.findall(r"\breturn ([^;]*);", text)
              if r != "VERDICT" and not re.fullmatch(r"answer\(session, SMFIP_NR_\w+\)", r)], [], "each returns the verdict")
    tap.same(uses(policyd, r"\baction=\w*[^\"]*"), [("reply.c", "action=DUNNO\\n\\n")], "the policy service's answer is written down once")
    tap.same([f for f, _ in uses(policyd, r"\b(send|sendto|sendmsg|write|writev|bufferevent_write|evbuffer_write|dprintf)\(")],
             ["reply.c"], "and one line of code writes to clients")
    tap.same(uses({**milter, **policyd}, r"\"(lmdb\.h|shared/store/[^\"]*)\""), [], "no hook can touch the store")


run(main)
