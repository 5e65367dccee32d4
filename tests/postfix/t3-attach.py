#!/usr/bin/env python3
"""attach and detach on configurations as people have them: accepted by Postfix, idempotent, and exactly undone."""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
TOP = os.path.dirname(os.path.dirname(HERE))
sys.path.insert(0, os.path.join(TOP, "tests/lib"))

import tap  # noqa: E402
from hooks import Posttrace  # noqa: E402
from lab import LOGIN, Postfix  # noqa: E402
from wait import wait_for  # noqa: E402

POSTTRACE = os.path.join(os.environ.get("POSTTRACE_BUILD", os.path.join(TOP, "build")), "posttrace")

NOBODY = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")
MASTER = "/usr/share/postfix/master.cf.dist"
PLAIN = """\
compatibility_level = 3.6
myhostname = mx.lab.test
mydestination = lab.test, localhost
"""

SUBMISSION = """
submission inet n       -       y       -       -       smtpd
  -o syslog_name=postfix/submission
# who logs in may send
  -o smtpd_relay_restrictions=permit_sasl_authenticated,reject
  -o milter_macro_daemon_name=ORIGINATING
submissions inet n      -       y       -       -       smtpd
  -o syslog_name=postfix/submissions
  -o { smtpd_relay_restrictions = permit_sasl_authenticated,
# in between
       reject }
  -o smtpd_milters=unix:opendkim/opendkim.sock
127.0.0.1:10026 inet n  -       n       -       10      smtpd
  -o smtpd_milters=
  -o smtpd_relay_restrictions=permit_mynetworks,reject
127.0.0.1:10027 inet n  -       n       -       10      smtpd -o smtpd_relay_restrictions=$mua_relay_restrictions
"""

# name: (main.cf, more of master.cf, a sed on main.cf that stands for an admin's later edit)
CASES = {
    "stock Debian": (None, "", r"s/^append_dot_mydomain = no/append_dot_mydomain = yes/"),
    "nothing but a name": (PLAIN, "", r"s/^mydestination.*/&, more.test/"),
    "existing milters and policy services": (PLAIN + """
smtpd_milters = unix:opendkim/opendkim.sock, { inet:127.0.0.1:8893, default_action=accept }
non_smtpd_milters = $smtpd_milters
milter_default_action = tempfail
smtpd_relay_restrictions = check_policy_service { unix:private/policyd, default_action=DUNNO }, permit_mynetworks,
    reject_unauth_destination
smtpd_recipient_restrictions = check_policy_service inet:127.0.0.1:10023
relay_domains = relay.test
""", "", r"s/^relay_domains = relay.test/relay_domains = other.test/"),
    "submission overrides": (PLAIN + """
mua_relay_restrictions = permit_sasl_authenticated,reject
smtpd_sasl_auth_enable = no
""", SUBMISSION, r"s/^smtpd_sasl_auth_enable = no/smtpd_sasl_auth_enable = yes/"),
    "restriction classes": (PLAIN + """
smtpd_restriction_classes = insiders, outsiders
insiders = permit_mynetworks, permit_sasl_authenticated
outsiders = reject_unknown_reverse_client_hostname
smtpd_relay_restrictions = insiders, outsiders, reject_unauth_destination
biff = no
""", "", r"s/^biff = no/biff = yes/"),
    "multi-line values with comments between, duplicates, no newline at the end": (PLAIN + """
smtpd_relay_restrictions = reject
# the one before is not in force: the last one wins
smtpd_relay_restrictions =
# our networks
    permit_mynetworks,
  # an indented comment

    permit_sasl_authenticated
# and the end
    reject_unauth_destination
smtpd_milters =
#   unix:old/old.sock
    unix:opendkim/opendkim.sock,
	{ unix:rspamd/milter.sock,
# slow
	  command_timeout=5s }
# a remark that stays
header_size_limit = 102400""", "", r"s/^mydestination.*/&, more.test/"),
}


class Instance:
    def __init__(self, root, name, main, master):
        self.dir = os.path.join(root, name)
        self.queue = os.path.join(root, name + ".queue")
        os.makedirs(self.dir)
        os.makedirs(self.queue)
        os.makedirs(os.path.join(root, name + ".data"))
        shutil.chown(os.path.join(root, name + ".data"), "postfix")
        if main is None:
            with open("/usr/share/postfix/main.cf.debian", encoding="utf-8") as file:
                main = file.read()
        own = f"queue_directory = {self.queue}\ndata_directory = {root}/{name}.data\nmaillog_file = {root}/{name}.log\n" \
              f"maillog_file_prefixes = {root}\n"
        with open(MASTER, encoding="utf-8") as file:
            self.write("master.cf", file.read() + master)
        self.write("main.cf", own + main)
        os.chmod(self.path("main.cf"), 0o640)
        shutil.chown(self.path("main.cf"), "root", "postfix")

    def path(self, name):
        return os.path.join(self.dir, name)

    def write(self, name, text):
        with open(self.path(name), "w", encoding="utf-8") as file:
            file.write(text)

    def read(self):
        out = []
        for name in ("main.cf", "master.cf"):
            with open(self.path(name), "rb") as file:
                out.append(file.read())
        return out

    def postconf(self, *args):
        done = subprocess.run(["postconf", "-c", self.dir, *args], capture_output=True, text=True, check=True)
        return done.stdout.strip()

    def trace(self, *args, wrapper=()):
        """posttrace's exit code, output and errors."""
        env = dict(os.environ, POSTTRACE_DATADIR=os.path.join(TOP, "postfix-snippets"), LC_ALL="C.UTF-8")
        env.pop("MAIL_CONFIG", None)
        sockets = [f"-o{hook}_listen=unix:{self.queue}/posttrace/{hook}.sock" for hook in ("milter", "policy")]
        done = subprocess.run([*wrapper, POSTTRACE, "-C", "/dev/null", "-c", self.dir, *sockets, *args], capture_output=True,
                              text=True, env=env, stdin=subprocess.DEVNULL)
        return done.returncode, done.stdout, done.stderr

    def meaning(self):
        """Everything set, expanded, without our elements and parameters: what must never change."""
        text = self.postconf("-x") + "\n" + self.postconf("-Px")
        text = re.sub(r"\{ unix:posttrace/milter\.sock[^}]*\}(, )?", "", text)
        text = re.sub(r"check_policy_service \{ unix:posttrace/policy\.sock[^}]*\}(, )?", "", text)
        return [line.rstrip(" ,") for line in text.splitlines() if not line.startswith(("posttrace_", "process_id "))]


def one_configuration(t, root, number, name):
    main, master, sed = CASES[name]
    inst = Instance(root, f"c{number}", main, master)
    before, meaning = inst.read(), inst.meaning()

    code, out, err = inst.trace("attach", "--dry-run")
    t.ok(code == 0 and "postconf -c" in out and "+++" in out and inst.read() == before,
         f"{name}: --dry-run shows commands and diff and changes nothing", code, out, err)
    commands = [line.replace(inst.dir, f"{root}/c{number}.by-hand") for line in out.splitlines()
                if line.startswith(("postconf -c ", "echo >>"))]

    code, out, err = inst.trace("attach")
    after = inst.read()
    t.ok(code == 0 and f"postfix -c {inst.dir} reload" in out and after != before, f"{name}: attach", code, out, err)
    backups = re.findall(r"backup: (.*)", out)
    t.ok(len(backups) == 2 and [open(path, "rb").read() for path in backups] == before,
         f"{name}: the backups are named and are what was there", out)
    stat = os.stat(inst.path("main.cf"))
    t.ok(stat.st_mode & 0o7777 == 0o640 and stat.st_gid != 0, f"{name}: main.cf keeps its mode and owner")

    shutil.copytree(inst.dir, f"{root}/c{number}.by-hand")
    for index, file in enumerate(("main.cf", "master.cf")):
        with open(f"{root}/c{number}.by-hand/{file}", "wb") as copy:
            copy.write(before[index])
    for line in commands:
        subprocess.run(["sh", "-c", line], check=True, capture_output=True)
    t.ok([open(f"{root}/c{number}.by-hand/{file}", "rb").read() for file in ("main.cf", "master.cf")] == after,
         f"{name}: the commands that --dry-run printed, typed by hand, give the same files", *commands)

    relay = inst.postconf("-h", "smtpd_relay_restrictions")
    t.ok(re.match(r"check_policy_service \{ unix:posttrace/policy\.sock, [^}]*default_action=DUNNO[^}]*"
                  r"policy_context=pt:main:relay:1:[0-9a-f]{16} \}, \S", relay),
         f"{name}: the tracepoint heads smtpd_relay_restrictions", relay)
    for parameter in ("smtpd_milters", "non_smtpd_milters"):
        value = inst.postconf("-xh", parameter)
        t.ok(re.match(r"\{ unix:posttrace/milter\.sock, [^}]*default_action=accept \}(, |$)", value)
             and value.count("posttrace/milter.sock") == 1, f"{name}: {parameter} has our milter once, first", value)
    t.ok(inst.meaning() == meaning, f"{name}: without our elements every value is what it was",
         *sorted(set(inst.meaning()) ^ set(meaning)))
    t.ok(subprocess.run(["postfix", "-c", inst.dir, "check"], capture_output=True).returncode == 0,
         f"{name}: postfix check")

    code, out, err = inst.trace("attach")
    t.ok(code == 0 and inst.read() == after and "nothing to do" in out, f"{name}: attach again changes nothing", code, out,
         err)

    code, out, err = inst.trace("detach")
    t.ok(code == 0 and inst.read() == before, f"{name}: detach gives both files back byte for byte", code, out, err)
    t.ok(not os.path.exists(inst.path("posttrace.attached")), f"{name}: no state is left behind")

    # an edit elsewhere, in both files
    inst.trace("attach")
    with open(inst.path("edit"), "wb") as copy:
        copy.write(before[0])
    for path in (inst.path("edit"), inst.path("main.cf")):
        subprocess.run(["sed", "-i", sed, path], check=True)
    want = open(inst.path("edit"), "rb").read()
    subprocess.run(["sed", "-i", "s/^pickup .*/# &/", inst.path("master.cf")], check=True)
    want_master = re.sub(rb"(?m)^(pickup .*)$", rb"# \1", before[1])
    code, out, err = inst.trace("detach")
    t.ok(code == 0 and want != before[0] and want_master != before[1] and inst.read() == [want, want_master],
         f"{name}: edited elsewhere since: the edits stay, all else is as before", code, out, err)

    # an edit of the very lists, and the state lost
    inst.write("main.cf", before[0].decode())
    inst.write("master.cf", before[1].decode())
    inst.trace("attach")
    subprocess.run(["postconf", "-c", inst.dir, "-e", "smtpd_milters = " + inst.postconf("-h", "smtpd_milters")
                    + ", unix:added/later.sock"], check=True)
    code, out, err = inst.trace("detach")
    left = inst.postconf("-n") + inst.postconf("-P")
    t.ok(code == 0 and "posttrace" not in left and inst.postconf("-h", "smtpd_milters").endswith("unix:added/later.sock"),
         f"{name}: edited in our own line: only our element goes", code, out, err, left)
    inst.write("main.cf", before[0].decode())
    inst.write("master.cf", before[1].decode())
    inst.trace("attach")
    os.unlink(inst.path("posttrace.attached"))
    code, out, err = inst.trace("detach")
    left = inst.postconf("-n") + inst.postconf("-P")
    t.ok(code == 0 and "posttrace" not in left and inst.meaning() == meaning,
         f"{name}: without a state, our elements are found and taken out", code, out, err,
         *sorted(set(inst.meaning()) ^ set(meaning)))


def services(t, root):
    main, master, _ = CASES["submission overrides"]
    inst = Instance(root, "services", main, master)
    code, out, err = inst.trace("attach", "-j")
    plan = json.loads(out)
    t.ok(code == 0 and plan["applied"] and plan["next"] and len(plan["backups"]) == 2, "-j: the plan as JSON", out, err)
    overrides = inst.postconf("-P")
    expanded = inst.postconf("-Px")
    for name in ("submission", "submissions", "127.0.0.1:10027"):
        want = name.replace(":", "_")
        t.ok(re.search(rf"(?m)^{re.escape(name)}/inet/smtpd_relay_restrictions = check_policy_service \{{ [^}}]*"
                       rf"policy_context=pt:{want}:relay:1:[0-9a-f]{{16}} \}}, permit_sasl_authenticated, ?reject$", expanded),
             f"service {name} has its own tracepoint", expanded)
    t.ok("127.0.0.1:10026/inet/smtpd_relay_restrictions = permit_mynetworks,reject" in overrides
         and "127.0.0.1:10026/inet/smtpd_milters =\n" in overrides + "\n"
         and any("10026" in note for note in plan["notes"]),
         "a service with empty -o smtpd_milters= is left alone, and the plan says so", overrides, plan["notes"])
    t.ok(re.search(r"(?m)^submissions/inet/smtpd_milters = \{ unix:posttrace/milter.sock.*\}, unix:opendkim/opendkim.sock$",
                   expanded), "a service's own milters stay behind ours", expanded)


def positions(t, root):
    main, master, _ = CASES["existing milters and policy services"]
    inst = Instance(root, "positions", main, master)
    before = inst.read()
    for where, index in (("last", 2), ("2", 1), ("9", 2), ("first", 0)):
        code, out, err = inst.trace("attach", "--position", where)
        value = inst.postconf("-h", "smtpd_milters")
        got = re.findall(r"\{[^}]*\}|[^\s,]+", value)
        t.ok(code == 0 and len(got) == 3 and "posttrace" in got[index], f"--position {where}, over what was there before",
             out, err, value)
    inst.trace("detach")
    t.ok(inst.read() == before, "detach after several positions gives back the first files")
    for bad in ("0", "x", "-1", "2x", ""):
        code, out, err = inst.trace("attach", "--position", bad)
        t.ok(code == 2 and inst.read() == before, f"--position {bad!r}: exit 2", code, err)


def refusals(t, root):
    inst = Instance(root, "broken", PLAIN, "broken line here\n")
    before = inst.read()
    code, out, err = inst.trace("attach")
    t.ok(code == 3 and "fatal" in err and inst.read() == before and len(os.listdir(inst.dir)) == 2,
         "a master.cf that Postfix does not accept: exit 3, nothing is touched", code, err, os.listdir(inst.dir))
    inst = Instance(root, "locked", PLAIN, "")
    fd = os.open(inst.dir, os.O_RDONLY)
    import fcntl
    fcntl.flock(fd, fcntl.LOCK_EX)
    code, out, err = inst.trace("attach")
    t.ok(code == 3 and "another" in err, "two at a time: the second one refuses", code, err)
    os.close(fd)
    code, out, err = inst.trace("detach")
    t.ok(code == 0 and "nothing to do" in out, "detach where nothing is attached has nothing to do", code, out, err)
    before = inst.read()
    os.chmod(inst.path("main.cf"), 0o600)
    code, out, err = inst.trace("attach", wrapper=NOBODY)
    t.ok(code == 3 and "main.cf" in err and inst.read() == before, "a main.cf that we may not read: exit 3", code, err)
    os.chmod(inst.path("main.cf"), 0o644)
    code, out, err = inst.trace("attach", "--dry-run", wrapper=NOBODY)
    t.ok(code == 0 and "+++" in out and inst.read() == before, "who may only read can have a --dry-run", code, out, err)
    code, out, err = inst.trace("attach", wrapper=NOBODY)
    t.ok(code == 3 and "can't write" in err and inst.read() == before and len(os.listdir(inst.dir)) == 2,
         "a directory that we may not write: exit 3, nothing is left there", code, err, os.listdir(inst.dir))
    inst = Instance(root, "half", CASES["submission overrides"][0], SUBMISSION)
    before = inst.read()
    # nothing can be renamed over a mount point: main.cf is replaced by then
    mounted = ("unshare", "-m", "sh", "-c", f'mount --bind {inst.dir}/master.cf {inst.dir}/master.cf && exec "$@"', "sh")
    code, out, err = inst.trace("attach", wrapper=mounted)
    t.ok(code == 3 and "can't write" in err and "master.cf" in err and inst.read() == before
         and not os.path.exists(inst.path("posttrace.attached")),
         "master.cf can't be replaced: main.cf is put back as it was, exit 3", code, err, os.listdir(inst.dir))
    inst.dir += ".absent"
    code, out, err = inst.trace("attach")
    t.ok(code == 3, "no such directory: exit 3", code, err)


def instances(t, root):
    first = Instance(root, "postfix", PLAIN, "")
    second = Instance(root, "postfix-out", PLAIN + "multi_instance_name = postfix-out\nmulti_instance_enable = no\n",
                      SUBMISSION)
    with open(first.path("main.cf"), "a", encoding="utf-8") as file:
        file.write(f"multi_instance_enable = yes\nmulti_instance_wrapper = ${{command_directory}}/postmulti -p --\n"
                   f"multi_instance_directories = {second.dir}\n")
    before = first.read(), second.read()
    code, out, err = first.trace("attach", "--dry-run")
    t.ok(code == 0 and f"{second.dir} is not attached" in err, "the other instance is named as not attached", code, err)
    code, out, err = first.trace("attach", "--all-instances", "-j")
    plans = [json.loads(line) for line in out.splitlines()]
    t.ok(code == 0 and [plan["config_directory"] for plan in plans] == [first.dir, second.dir],
         "--all-instances attaches each instance", code, out, err)
    t.ok("posttrace/milter.sock" in first.postconf("-h", "smtpd_milters")
         and f"unix:{first.queue}/posttrace/milter.sock" in second.postconf("-h", "smtpd_milters"),
         "an instance whose queue directory does not hold the socket gets the absolute path")
    t.ok(any("chrooted" in note for note in plans[1]["notes"]), "and the plan warns of its chrooted services",
         plans[1]["notes"])
    code, out, err = first.trace("detach", "--all-instances")
    t.ok(code == 0 and (first.read(), second.read()) == before, "detach --all-instances gives back all files", code, out,
         err)


def mail(t):
    """Real mail through what attach made, a service with its own list included; and past it again after detach."""
    def files():
        return [open(os.path.join(postfix.conf, name), "rb").read() for name in ("main.cf", "master.cf")]

    def send():
        host, port = postfix.submission
        codes = [postfix.swaks("--from", "a@from.test", "--to", "ok.b@lab.test,ok.c@far.test", "--local-interface",
                               "127.0.0.2")[0],
                 postfix.swaks("--from", LOGIN[0], "--to", "ok.c@far.test", "--tls", "--auth", "PLAIN", "--auth-user",
                               LOGIN[0], "--auth-password", LOGIN[1], server=(host, port))[0]]
        postfix.wait_idle()
        return codes

    with Postfix() as postfix, Posttrace(postfix) as posttrace:
        service = f"{postfix.submission[0]}:{postfix.submission[1]}/inet"
        postfix.postconf("-P", f"{service}/smtpd_relay_restrictions=permit_sasl_authenticated,reject")
        before = files()
        posttrace.attach()
        t.ok(send() == [0, 0], "attached, mail goes through")
        posttrace.wait_taken_in()
        # the recorder looks at Postfix's configuration every few seconds
        wait_for("the lists to be in the store", lambda: all(r["restriction"] for trace in posttrace.export()
                                                             for r in trace["restrictions"]), 20, pause=0.2)
        traces = {trace["sender"]: trace for trace in posttrace.export()}
        for sender, name in (("a@from.test", "main"), (LOGIN[0], service.split("/")[0].replace(":", "_"))):
            trace = traces.get(sender, {})
            t.ok(trace.get("outcome") == "accepted" and all(trace["sources"][w] for w in ("milter", "policy", "maillog")),
                 f"the mail of {sender} is traced by milter, policy service and log", trace)
            first = "permit_mynetworks" if name == "main" else "permit_sasl_authenticated"
            points = {(r["list"], r["position"], r["restriction"]) for r in trace.get("restrictions", ())}
            t.ok(points == {("relay", 1, first)}, f"and reached the tracepoint of {name}, read against its list", points)
        t.ok([r["outcome"] for r in traces["a@from.test"]["recipients"]] == ["accepted", "rejected"],
             "a relay that was refused stays refused", traces["a@from.test"]["recipients"])
        posttrace.run("detach")
        t.ok(files() == before, "detach gives both files back byte for byte")
        postfix.stop()
        postfix.start()
        log_before = len(postfix.read_log())
        t.ok(send() == [0, 0] and "posttrace" not in postfix.read_log()[log_before:],
             "mail goes on, and Postfix says nothing of us")
        t.ok(not [x for x in posttrace.export() if x["sources"]["policy"] and x["id"] not in
                  {trace["id"] for trace in traces.values()}], "no hook saw it")
        t.same(posttrace.complaints(), [], "no sanitizer complains")


def main(t):
    with tempfile.TemporaryDirectory(prefix="attach-test.") as root:
        os.chmod(root, 0o755)
        for number, name in enumerate(CASES):
            one_configuration(t, root, number, name)
        services(t, root)
        positions(t, root)
        refusals(t, root)
        instances(t, root)
    mail(t)
    t.done()


if os.geteuid() != 0:
    sys.exit("this test makes Postfix instances of its own: it needs root")
tap.run(main)
