#!/usr/bin/env python3
"""Garbage in each page of a store, one page at a time: the command says a sentence and ends with 3, or never reads that
page; it never crashes and never hangs."""
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))

from tap import run

BUILD = os.environ.get("top_builddir", ".")
PAGE = 4096
COMMANDS = (["store", "verify"], ["list", "-j", "-n0"], ["export"], ["why", "-j", "example.com"])
SHAPES = {"all of a page": 0, "a page behind its header": 16, "the second half of a page": PAGE // 2}


def main(tap):
    work = tempfile.mkdtemp(prefix="posttrace-cli.")
    store, data = f"{work}/store", f"{work}/store/data.mdb"
    env = {**os.environ, "TZ": "UTC", "HOME": work}

    def posttrace(*args):
        return subprocess.run([f"{BUILD}/posttrace", "-C", "/dev/null", "-o", f"store_directory={store}", *args],
                              capture_output=True, env=env, timeout=60)

    def write(at, content):
        with open(data, "r+b") as file:
            file.seek(at)
            file.write(content)

    try:
        os.mkdir(store)
        subprocess.run([f"{BUILD}/tests/cli/cli_tool", "fill", store], check=True, env=env)
        with open(data, "rb") as file:
            whole = file.read()
        good = [posttrace(*command).stdout for command in COMMANDS]
        rng = random.Random(7)
        for name, start in SHAPES.items():
            bad, noticed, pages = [], 0, range(0, len(whole), PAGE)
            for at in pages:
                write(at + start, rng.randbytes(PAGE - start))
                ends = [posttrace(*command) for command in COMMANDS]
                for command, end in zip(COMMANDS, ends):
                    said = end.stderr.decode(errors="replace")
                    if end.returncode not in (0, 1, 3) or end.returncode == 3 and not (
                            re.search("^posttrace: fatal: ", said, re.M) and store in said or b"fault" in end.stdout):
                        bad.append(f"page {at // PAGE}, {' '.join(command)}: {end.returncode} {said[-300:]}")
                noticed += any(end.returncode == 3 for end in ends)
                write(at, whole[at:at + PAGE])
            tap.ok(not bad, f"garbage in {name}: a sentence and exit 3, never a crash", *bad[:5])
            # free pages and empty ends of pages are never read
            tap.ok(noticed * 4 > len(pages), f"garbage in {name}: it is noticed ({noticed} of {len(pages)} pages)")
        tap.same([posttrace(*command).stdout for command in COMMANDS], good, "with its pages put back the store reads as before")
        os.truncate(data, 0)
        end = posttrace("list")
        tap.ok(end.returncode == 3 and b"there is no store" in end.stderr, "an empty file is no store", end)
    finally:
        shutil.rmtree(work)


run(main)
