#!/usr/bin/env python3
"""The posttrace command on a prepared store: output, JSON, exit codes, filters, times, escaping."""
import base64, json, os, pty, re, shutil, subprocess, sys, tempfile

build = os.environ.get("top_builddir", ".")
POSTTRACE, TOOL = build + "/posttrace", build + "/tests/cli/cli_tool"
work = tempfile.mkdtemp(prefix="posttrace-cli.")
store = work + "/store"
open(work + "/posttrace.cf", "w").write("store_directory = %s\n" % store)
env = {"PATH": os.environ["PATH"], "TZ": "UTC", "LC_ALL": "C.UTF-8", "HOME": work}
for name in ("ASAN_OPTIONS", "UBSAN_OPTIONS", "LSAN_OPTIONS", "TSAN_OPTIONS", "LD_LIBRARY_PATH"):
    if name in os.environ:
        env[name] = os.environ[name]
count = failed = 0


def ok(good, name, *notes):
    global count, failed
    count += 1
    failed += not good
    print("%sok %d - %s" % ("" if good else "not ", count, name), flush=True)
    if not good:
        for note in notes:
            print("# " + repr(note)[:600])


def is_(got, want, name):
    ok(got == want, name, got, want)


class Run:
    def __init__(self, *args, stdin=b"", extra=None):
        p = subprocess.run([POSTTRACE, "-C", work + "/posttrace.cf", *args], input=stdin, capture_output=True,
                           env={**env, **(extra or {})}, timeout=30)
        self.code, self.raw, self.err = p.returncode, p.stdout, p.stderr.decode("utf-8", "replace")
        self.out = p.stdout.decode("utf-8", "strict")

    def objects(self):
        return [json.loads(line) for line in self.out.splitlines()]


# --- before there is a store ---
r = Run("list")
is_(r.code, 3, "no store is trouble: exit 3")
ok(r.err.startswith("posttrace: fatal: ") and store in r.err, "and the sentence names it", r.err)
is_(r.out, "", "nothing of it on stdout")

os.mkdir(store)
subprocess.run([TOOL, "fill", store], check=True, env=env)

# --- JSON ---
r = Run("list", "-j")
is_(r.code, 0, "list -j finds")
objs = r.objects()
is_(len(objs), 5, "a line for each transaction")
is_([o["started"] for o in objs], ["2026-11-24T%02d:00:00.000000Z" % h for h in (14, 13, 12, 11, 10)], "newest first")
promised = ["id", "host", "service", "started", "ended", "state", "client", "server", "protocol", "tls", "sasl",
            "queue_id", "message_id", "sender", "size", "outcome", "cause", "certainty", "recipients", "loop",
            "sources", "lost_events"]
ok(all(list(o) == promised or list(k for k in o if not k.endswith("_b64")) == promised for o in objs),
   "every promised member, always", [list(o) for o in objs])
mixed, hostile, aborted, nomail, opened = objs[4], objs[3], objs[2], objs[1], objs[0]
is_(mixed["client"], {"address": "192.0.2.10", "port": 40001, "name": "mail.example.net", "reverse_name": None,
                      "helo": "mail.example.net"}, "client")
is_(mixed["server"], {"address": None, "port": 25, "daemon": None}, "absent is null")
is_(mixed["tls"], {"protocol": "TLSv1.3", "cipher": "TLS_AES_256_GCM_SHA384", "bits": 256}, "tls")
is_(mixed["recipients"][0], {"address": "bob@example.com", "outcome": "accepted", "code": None, "dsn": None,
                             "text": None, "cause": None, "certainty": None, "refused_by": None,
                             "next_hop": {"transport": "smtp", "host": "mx.example.com"}, "deliveries": []},
    "an accepted recipient")
is_((mixed["recipients"][1]["code"], mixed["recipients"][1]["dsn"], mixed["recipients"][1]["text"]),
    (554, "5.7.1", "<eve@elsewhere.example>: Relay access denied"), "a refused one")
is_((mixed["host"], mixed["queue_id"], mixed["message_id"], mixed["size"], mixed["outcome"], mixed["ended"]),
    ("mx1.example.com", "4XyZQ10abcz1", "one@example.net", 1234, "accepted", "2026-11-24T10:00:01.600000Z"), "the rest")
is_(hostile["sender"], "", "the null sender is empty")
is_(nomail["sender"], None, "no sender is null")
is_(base64.b64decode(hostile["client"]["helo_b64"]), b"\x1b]0;pwn\x07\x9b31m\0nul", "raw bytes come back by _b64")
ok("\ufffd" in hostile["client"]["helo"], "and U+FFFD stands in the text")
is_(hostile["client"]["address"], "2001:db8::5", "IPv6")
is_(hostile["recipients"][0]["text"], "try\r\nagain \u202e later", "escapes in JSON mean the same")
is_(hostile["sources"], {"milter": True, "policy": False, "maillog": False, "cut": ["policy"]}, "who saw it")
is_(hostile["lost_events"], 7, "losses are stated")
is_(aborted["sasl"], {"method": "PLAIN", "username": "carol", "sender": None}, "login")
is_((opened["outcome"], opened["state"], opened["ended"], opened["recipients"][0]["outcome"]),
    ("open", "open", None, None), "what is open and undecided")
is_(nomail["outcome"], "no-mail", "a session without mail")


def tame(raw):
    """No control byte but the newline, no C1, no bidi."""
    text = raw.decode("utf-8", "strict")
    return not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", text)


commands = [["list"], ["list", "-j"], ["show", hostile["id"]], ["show", "-j", hostile["id"]], ["export"],
            ["why", "2001:db8::5"], ["why", "-j", "2001:db8::5"], ["store", "stat"], ["store", "stat", "-j"], [], ["-j"]]
for args in commands:
    r = Run(*args)
    ok(r.code == 0 and tame(r.raw), "hostile bytes are harmless in: posttrace " + " ".join(args), r.code, r.raw, r.err)
ok(not tame(b"\x1b"), "(that check can fail)")
r = Run("list", "-t", "x\x1b[31m@y")
ok(r.code == 1 and tame(r.raw), "a hostile argument too")
ok(tame(Run("why", "no\x1b[31msuch").raw), "and where it is quoted")

# --- show ---
r = Run("show", "-j", "4XyZQ10abcz1")
is_((r.code, len(r.objects())), (0, 1), "show by queue id")
o = r.objects()[0]
is_(o["id"], mixed["id"], "is that transaction")
is_([e["type"] for e in o["events"]],
    ["link-connect", "tx-mail", "tracepoint", "tx-rcpt", "tracepoint", "tracepoint", "tx-rcpt", "tx-commit", "queue"],
    "events in order")
is_((o["events"][0]["elapsed_ms"], o["events"][3]["recipient"]), (-20.0, "bob@example.com"), "elapsed, recipient")
is_([(x["list"], x["position"], x["restriction"], x["reached"], x["elapsed_ms"], x["recipient"])
     for x in o["restrictions"]],
    [("relay", 1, "permit_mynetworks", True, 1000.0, "bob@example.com"),
     ("relay", 2, "reject_unauth_destination", True, None, "bob@example.com"),
     ("relay", 1, "permit_mynetworks", True, None, "eve@elsewhere.example")],
    "restrictions and what each one cost")
is_(o["headers"], [{"name": "Subject", "value": " hello\n\tfolded"}], "headers")
text = Run("show", mixed["id"]).out
for words in ("accepted for 1 of 2 recipients", "bob@example.com  via smtp:mx.example.com", "554 5.7.1", "Timeline",
              "permit_mynetworks", "Subject: hello\\n\\tfolded", "seen by milter, policy, maillog", "Next"):
    ok(words in text, "show says: " + words, text)
ok("not seen by policy, maillog; cut off: policy; 7 events lost" in Run("show", hostile["id"]).out, "show says who is missing")
is_(Run("show", "<one@example.net>", "-j").objects()[0]["id"], mixed["id"], "show by Message-ID in angles")
is_(len(Run("show", "-j", "-", stdin=(mixed["id"] + "\n" + hostile["id"].upper() + "\n").encode()).objects()), 2,
    "ids from stdin, in capitals too")
is_(Run("show", "zzznosuch").code, 1, "nothing matched: exit 1")
is_(Run("show", mixed["id"], "zzznosuch").code, 1, "one of two missing: exit 1")
is_(Run("show").code, 2, "no id: exit 2")

# --- list as a table ---
rows = Run("list", "-n0").out.splitlines()
is_(rows[0].split(), "TIME ID CLIENT FROM TO SMTP DELIVERY QUEUE WHY".split(), "the table's head")
is_(len(rows), 7, "a row for each recipient")
ok(any("eve@elsewhere.example" in x and "rejected" in x and "554 5.7.1" in x for x in rows), "the refused one, and why", rows)
ok(any("bob@example.com" in x and "queued" in x for x in rows), "SMTP and delivery apart", rows)
ok(any("undecided" in x for x in rows), "undecided", rows)
is_(len(Run("list", "-t", "bob@example.com").out.splitlines()), 2, "only the rows that were asked for")

# --- filters: each alone ---
M, H, A, N, O = (x["id"] for x in (mixed, hostile, aborted, nomail, opened))
filters = [
    (["-f", "alice@example.net"], [M]), (["-f", "ALICE@Example.NET"], [M]), (["-f", "@example.net"], [M]),
    (["-f", "example.com"], [A]), (["-f", "*@example.*"], [A, M]), (["-f", "<>"], [H]), (["-f", "root"], [O]),
    (["-f", "alice@example.net", "-f", "root"], [O, M]), (["-f", "<alice@example.net>"], [M]),
    (["-t", "eve@elsewhere.example"], [M]), (["-t", "@example.com"], [O, A, M]), (["-t", "carol@example.com"], [O, A]),
    (["-t", "nobody@example.com"], []), (["--client", "192.0.2.10"], [M]), (["--client", "198.51.100.0/24"], [O, N, A]),
    (["--client", "2001:db8::/32"], [H]), (["--client", "0.0.0.0/0"], [O, N, A, M]), (["--client", "::/0"], [O, N, A, H, M]),
    (["--client", "mail.example.net"], [M]), (["--client", ".example.org"], [O, N, A]), (["--client", "*.dyn.*"], [O, N, A]),
    (["-q", "4XyZQ10abcz1"], [M]), (["-q", "4xyzq10ABCZ1"], []), (["-m", "one@example.net"], [M]),
    (["-m", "<one@example.net>"], [M]), (["--login", "carol"], [A]), (["--service", "submission"], [A]),
    (["--service", "postfix/smtpd"], [O, N, H, M]), (["--outcome", "rejected"], [M]), (["--outcome", "accepted"], [M]),
    (["--outcome", "deferred"], [H]), (["--outcome", "no-mail"], [N]), (["--outcome", "open"], [O]),
    (["--outcome", "rejected", "--outcome", "deferred"], [H, M]), (["-x", "relay ACCESS"], [M]), (["-x", "lost connection"], [N]),
    (["-x", "folded"], [M]), (["--slower", "1s"], [A, M]), (["--slower", "1600ms"], [A, M]), (["--slower", "1601ms"], [A]),
    (["-S", "2026-11-24T12:00:00Z"], [O, N, A]), (["-U", "2026-11-24T12:00:00Z"], [H, M]),
    (["-S", "2026-11-24 11:00", "-U", "2026-11-24 13:00"], [A, H]), (["-S", "@1795528800"], [O]),
    (["-n", "2"], [O, N]), (["-r", "-n", "2"], [M, H]), (["-r"], [M, H, A, N, O]),
    (["-t", "@example.com", "--outcome", "aborted"], [A]), (["-f", "alice@example.net", "-S", "2026-11-24 11:00"], []),
    (["--outcome", "accepted", "-x", "nowhere"], []),
]
for args, want in filters:
    r = Run("list", "-j", *args)
    got = [x["id"] for x in r.objects()]
    ok(got == want and r.code == (0 if want else 1), "list " + " ".join(args), got, want, r.code, r.err)
is_([x["id"] for x in Run("export").objects()], [M, H, A, N, O], "export goes oldest first")
is_([x["id"] for x in Run("export", "-f", "<>").objects()], [H], "export takes filters")
ok("events" in Run("export", "-f", "<>").objects()[0], "export has the details")

# --- why ---
for word, want in ((M, [M]), ("4XyZQ10abcz1", [M]), ("xyzq10", [M]), ("one@example.net", [M]), ("192.0.2.10", [M]),
                   ("198.51.100.0/24", [O, N, A]), ("eve@elsewhere.example", [M]), ("carol@example.com", [O, A]),
                   ("example.com", [O, A, M]), ("@example.net", [M]), ("carol", [A]), ("<>", [H]),
                   ("mail.example.net", [M])):
    r = Run("why", "-j", word)
    got = sorted(x["id"] for x in r.objects())
    ok(got == sorted(want) and r.code == 0, "why " + word, got, want, r.err)
text = Run("why", "eve@elsewhere.example").out
ok("rejected, 554 5.7.1 <eve@elsewhere.example>: Relay access denied" in text and "certain: observed" in text,
   "why says what, and how it is known", text)
r = Run("why", "stranger@nowhere.example")
ok(r.code == 1 and "No such session" in r.out and "since 2026-11-24 10:00:00, 5 sessions seen" in r.out,
   "absence is an answer", r.out, r.err)
is_([x["id"] for x in Run("why", "-j", "example.com", "-f", "alice@example.net").objects()], [M],
    "why's word and its filters narrow each other")

# --- store ---
o = Run("store", "stat", "-j").objects()[0]
is_((o["transactions"], o["schema"], o["oldest"], [g["lost"] for g in o["gaps"]]),
    (5, 2, "2026-11-24T10:00:00.000000Z", [214]), "store stat")
is_(Run("store", "verify", "-j").objects()[0]["faults"], 0, "store verify")
is_(Run("store", "backup", work + "/copy").code, 0, "store backup")
is_([x["id"] for x in Run("-o", "store_directory=" + work + "/copy", "list", "-j").objects()], [O, N, A, H, M],
    "the copy holds the same")
holder = subprocess.Popen([TOOL, "lock", store], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=env)
is_(holder.stdout.readline(), b"locked\n", "(a writer holds the store)")
r = Run("store", "prune")
ok(r.code == 3 and "posttrace-recorder runs" in r.err and "stop it" in r.err, "prune says that the recorder runs, and what to do", r.err)
is_(Run("list").code, 0, "reading goes on beside it")
holder.communicate()
is_(Run("store", "compact", work + "/small").code, 0, "store compact")
is_(len(Run("-o", "store_directory=" + work + "/small", "list", "-j").objects()), 5, "and the compacted copy is whole")
is_(Run("store", "prune", "--older-than", "2026-11-24T12:00:00Z", "--dry-run").out, "2 transactions would go\n", "prune --dry-run")
is_(Run("-o", "store_directory=" + work + "/copy", "store", "prune", "--older-than", "2026-11-24T12:00:00Z").out,
    "2 transactions pruned\n", "store prune")
is_([x["id"] for x in Run("-o", "store_directory=" + work + "/copy", "list", "-j").objects()], [O, N, A], "took the oldest")
for args in ([], ["nonsense"], ["backup"], ["stat", "more"]):
    is_(Run("store", *args).code, 2, "store %s: usage" % " ".join(args))

# --- follow ---
r = Run("follow")
ok(r.code == 3 and "does posttrace-recorder run" in r.err, "follow without a recorder", r.err)


def follow(*args):
    path = store + "/recorder.sock"
    if os.path.exists(path):
        os.unlink(path)
    peer = subprocess.Popen([TOOL, "follow", path], stdout=subprocess.PIPE, env=env)
    peer.stdout.readline()
    run = Run("follow", *args)
    peer.stdout.close()
    ok(peer.wait(timeout=10) == 0, "(the recorder's part)")
    return run


r = follow("-j")
o = r.objects()
is_([(x["id"], x["event"]) for x in o], [(H, {"type": "tx-rcpt", "time": "2026-11-24T11:00:00.001500Z"})], "follow -j")
ok("31 events" in r.err, "follow states drops", r.err)
r = follow()
ok("tx-rcpt" in r.out and "450 4.2.0" in r.out and "31 events" in r.out and tame(r.raw), "follow as text", r.out)
r = follow("--outcome", "accepted")
ok(r.code == 1 and "tx-rcpt" not in r.out, "follow filters", r.out)
os.unlink(store + "/recorder.sock")

# --- usage ---
for command in ("why", "list", "show", "follow", "export", "attach", "detach", "store"):
    r = Run(command, "-h")
    ok(r.code == 0 and r.out.startswith("Usage: posttrace " + command) and "--help" in r.out, command + " -h", r.out)
r = Run("-h")
ok(r.code == 0 and all(c in r.out for c in ("why", "list", "show", "follow", "export", "attach", "detach", "store")), "-h lists the commands")
is_(Run("--version").code, 0, "--version")
is_(Run("li", "-j").raw, Run("list", "-j").raw, "an unambiguous start of a name will do")
is_(Run("s").code, 2, "an ambiguous one will not")
ok("show or store" in Run("s").err, "and names the choice")
for args in (["frob"], ["list", "--frob"], ["list", "-Z"], ["list", "-n"], ["list", "-n", "x"], ["list", "-n", "-3"],
             ["list", "extra"], ["list", "--outcome", "maybe"], ["list", "--client", "1.2.3.4/99"], ["list", "-S", "noonish"],
             ["list", "--slower", "soon"], ["list", "--color", "red"], ["-o", "nonsense=1", "list"], ["export", "-j"]):
    r = Run(*args)
    ok(r.code == 2 and r.err.startswith("posttrace: fatal: ") and r.out == "", "usage: " + " ".join(args), r.code, r.err)
ok('"noonish"' in Run("list", "-S", "noonish").err, "a time that was not understood is quoted")
ok('"--frob"' in Run("list", "--frob").err and '"-Z"' in Run("list", "-Z").err, "a wrong option is named")

manual = open(os.environ.get("top_srcdir", os.path.dirname(os.path.abspath(__file__)) + "/../..") + "/doc/man/posttrace.1").read()
commands_listed = re.findall(r"^  (\w+)  ", Run("-h").out.split("\n\n")[1], re.M)
ok(len(commands_listed) >= 6, "(the help lists commands)", commands_listed)
for command in commands_listed:
    names = re.findall(r"--([a-z-]+)", "".join(x[:31] for x in Run(command, "-h").out.splitlines(True)))
    missing = [n for n in names if not re.search(r"Fl -%s\b" % n, manual)]
    ok(names and not missing and "Ic " + command in manual, "the manual knows %s and its options" % command, missing)
is_(Run("why", "-v", "carol", "-j").err, "Read as login.\n", "why -v says how it read the word")
is_(Run("list", "--cause", "cause-7").code, 1, "--cause takes what the JSON says")

# --- times against systemd ---
analyze = shutil.which("systemd-analyze")
now = 1795514400
ours = lambda text: subprocess.run([TOOL, "time", str(now), text], capture_output=True, text=True,
                                   env={**env, "TZ": "Europe/Berlin"})
if analyze:
    for text in ("2026-11-23 18:15", "2026-11-23 18:15:22", "2026-11-23", "26-11-23 18:15:22", "@1395716396",
                 "2026-07-01 12:00:00 UTC", "Mon 2026-11-23 18:15:22",
                 "2026-03-29 12:00", "2026-10-25 12:00"):
        p = subprocess.run([analyze, "timestamp", text], capture_output=True, text=True,
                           env={**env, "TZ": "Europe/Berlin", "SYSTEMD_COLORS": "0"})
        stamp = re.search(r"UNIX seconds: @(\d+)", p.stdout)
        got = ours(text)
        ok(stamp and got.stdout.strip() == stamp.group(1) + "000000", "systemd reads the same: " + text, got.stdout, p.stdout)
    for text in ("3h30min", "1M", "1y 12h", "90s", "1.5h", "2 weeks 3 days"):
        p = subprocess.run([analyze, "timespan", text], capture_output=True, text=True, env={**env, "LC_ALL": "C.UTF-8"})
        us = re.search(r"s: (\d+)", p.stdout)
        got = ours(text)
        ok(us and int(got.stdout) == now * 1000000 - int(us.group(1)), "systemd reads the same span: " + text, got.stdout, p.stdout)

# --- colour and pager ---
ok("\x1b[" not in Run("list").out, "no colours into a pipe")
ok("\x1b[" in Run("list", "--color", "always").out, "--color always")


def on_terminal(*args, extra=None):
    pid, fd = pty.fork()
    if pid == 0:
        os.execve(POSTTRACE, [POSTTRACE, "-C", work + "/posttrace.cf", *args], {**env, "TERM": "xterm", **(extra or {})})
    out = b""
    while True:
        try:
            data = os.read(fd, 65536)
        except OSError:
            break
        if not data:
            break
        out += data
    os.waitpid(pid, 0)
    return out


paged = {"POSTTRACE_PAGER": "sed s/^/PAGED:/"}
ok(b"PAGED:" in on_terminal("list", extra=paged), "a pager on a terminal")
ok(b"\x1b[" in on_terminal("list", extra=paged), "colours on a terminal")
ok(b"\x1b[" not in on_terminal("list", extra={**paged, "NO_COLOR": "1"}), "NO_COLOR")
ok(b"PAGED:" not in on_terminal("list", "--no-pager", extra=paged), "--no-pager")
ok(b"PAGED:" not in on_terminal("list", "-j", extra=paged), "none for JSON")
ok(b"PAGED:" in on_terminal("list", extra={"PAGER": "sed s/^/PAGED:/"}), "PAGER")
ok(b"PAGED:" not in on_terminal("list", extra={"PAGER": "sed s/^/PAGED:/", "POSTTRACE_PAGER": "cat"}), "cat is none")
ok("PAGED:" not in Run("list", extra=paged).out, "no pager into a pipe")

# --- the summary ---
r = Run()
ok(r.code == 0 and "the recorder does not run" in r.out and "5 transactions since 2026-11-24 10:00:00" in r.out, "bare posttrace", r.out)

shutil.rmtree(work)
print("1..%d" % count)
sys.exit(failed != 0)
