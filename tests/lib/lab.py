"""A private Postfix: own configuration, queue, data, log, address and ports.

Nothing of the system's Postfix is read or changed but its programs. Run as root: master wants it, and it is what lets
sendmail, postdrop and postqueue use a configuration directory that /etc/postfix/main.cf does not list.

    with Postfix() as postfix:
        Smtp(postfix.smtp) ...

Everything lives in one directory, which goes away at the end and stays, with its path printed, when the block or any test before failed.

What is refused, and by what (conf/ has the tables):

    client 127.0.0.9                    554 5.7.1  check_client_access
    HELO bad.helo.test                  550 5.7.1  check_helo_access
    sender @badsender.test              554 5.7.1  check_sender_access
    sender without a domain             504 5.5.2  reject_non_fqdn_sender
    recipient @far.test                 554 5.7.1  reject_unauth_destination, unless from 127.0.0.1 or logged in
    recipient @later.test               454 4.7.1  defer_unauth_destination (by a table), the same
    recipient trap.*@                   554 5.7.1  check_recipient_access REJECT
    recipient grey.*@                   450 4.7.1  check_recipient_access
    recipient full.*@                   552 5.2.2  check_recipient_access
    recipient bye.*@                    421 4.7.0  check_recipient_access; Postfix hangs up
    recipient nobody.*@lab.test         550 5.1.1  unknown local user
    recipient nobody.*@relay.test       550 5.1.1  unknown relay user
    recipient ok.*@, also 12ok.*@       taken, where the domain is ours or the client may relay
"""

import atexit
import ctypes
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile

from maillog import Log
from tap import Tap
from wait import wait_for

CONF_TABLES = {
    "client_access": "127.0.0.9 REJECT\n",
    "helo_access": "bad.helo.test 550 5.7.1 go away, bad helo\n",
    "sender_access": "badsender.test REJECT\n",
    "relay_access": "later.test defer_unauth_destination\n",
    "recipient_access": "/^trap\\./ REJECT this address is a trap\n"
                        "/^grey\\./ 450 4.7.1 greylisted, try later\n"
                        "/^full\\./ 552 5.2.2 mailbox is full\n"
                        "/^bye\\./ 421 4.7.0 enough for today\n",
    "local_recipients": "/^[0-9]*(ok|trap|grey|full|bye)\\..*@lab\\.test$/ x\n/^(root|postmaster|.*-owner)@lab\\.test$/ x\n",
    "relay_recipients": "/^(ok|trap|grey|full|bye)\\..*@relay\\.test$/ x\n",
    "header_checks": "/^X-Refuse-Me:/ REJECT header says so\n",
}

MAIN_CF = """\
# A private Postfix for tests.
compatibility_level = 3.6
queue_directory = {root}/queue
data_directory = {root}/data
maillog_file = {root}/maillog
maillog_file_prefixes = {root}
mail_owner = postfix
setgid_group = postdrop

myhostname = mx.lab.test
mydomain = lab.test
myorigin = lab.test
# Postfix knows no other loopback address; the services below name the one they listen on
inet_interfaces = loopback-only
inet_protocols = ipv4
mynetworks = 127.0.0.1/32
# PTR questions about loopback addresses would go to whatever resolver the machine has
smtpd_peername_lookup = no
disable_dns_lookups = yes

mydestination = lab.test, localhost
relay_domains = relay.test
local_recipient_maps = regexp:{conf}/local_recipients
relay_recipient_maps = regexp:{conf}/relay_recipients
alias_maps =
alias_database =
local_transport = discard:local
relay_transport = discard:relay
default_transport = discard:far

smtpd_client_restrictions =
	check_client_access texthash:{conf}/client_access
smtpd_helo_restrictions =
	check_helo_access texthash:{conf}/helo_access
smtpd_sender_restrictions =
	check_sender_access texthash:{conf}/sender_access,
	reject_non_fqdn_sender
smtpd_relay_restrictions =
	permit_mynetworks,
	permit_sasl_authenticated,
	check_recipient_access texthash:{conf}/relay_access,
	reject_unauth_destination
smtpd_recipient_restrictions =
	reject_non_fqdn_recipient,
	check_recipient_access regexp:{conf}/recipient_access
smtpd_data_restrictions =
	reject_multi_recipient_bounce
header_checks = regexp:{conf}/header_checks
message_size_limit = 1000000

smtpd_tls_security_level = may
smtpd_tls_cert_file = {conf}/cert.pem
smtpd_tls_key_file = {conf}/key.pem
smtpd_tls_loglevel = 1
smtpd_sasl_auth_enable = no
smtpd_sasl_type = cyrus
smtpd_sasl_path = smtpd
smtpd_sasl_local_domain = lab.test

# a test's client errs on purpose and in parallel
smtpd_soft_error_limit = 1000
smtpd_hard_error_limit = 1000
smtpd_junk_command_limit = 1000
smtpd_client_connection_count_limit = 0
default_process_limit = 200
in_flow_delay = 0
"""

MASTER_CF = """\
# service type  private unpriv  chroot  wakeup  maxproc command + args
{host}:{smtp} inet n - {jail} - - smtpd
{host}:{submission} inet n - {jail} - - smtpd
  -o syslog_name=postfix/submission
  -o smtpd_tls_security_level=may
  -o smtpd_sasl_auth_enable=yes
  -o smtpd_relay_restrictions=permit_sasl_authenticated,reject
  -o smtpd_recipient_restrictions=
  -o milter_macro_daemon_name=ORIGINATING
{host}:{smtps} inet n - {jail} - - smtpd
  -o syslog_name=postfix/smtps
  -o smtpd_tls_wrappermode=yes
  -o smtpd_sasl_auth_enable=yes
pickup    unix  n       -       {jail}  60      1       pickup
cleanup   unix  n       -       {jail}  -       0       cleanup
qmgr      unix  n       -       n       300     1       qmgr
tlsmgr    unix  -       -       {jail}  1000?   1       tlsmgr
rewrite   unix  -       -       {jail}  -       -       trivial-rewrite
bounce    unix  -       -       {jail}  -       0       bounce
defer     unix  -       -       {jail}  -       0       bounce
trace     unix  -       -       {jail}  -       0       bounce
verify    unix  -       -       {jail}  -       1       verify
flush     unix  n       -       {jail}  1000?   0       flush
proxymap  unix  -       -       n       -       -       proxymap
proxywrite unix -       -       n       -       1       proxymap
smtp      unix  -       -       {jail}  -       -       smtp
relay     unix  -       -       {jail}  -       -       smtp
showq     unix  n       -       {jail}  -       -       showq
error     unix  -       -       {jail}  -       -       error
retry     unix  -       -       {jail}  -       -       error
discard   unix  -       -       {jail}  -       -       discard
local     unix  -       n       n       -       -       local
virtual   unix  -       n       n       -       -       virtual
lmtp      unix  -       -       {jail}  -       -       lmtp
anvil     unix  -       -       {jail}  -       1       anvil
scache    unix  -       -       {jail}  -       1       scache
postlog   unix-dgram n  -       n       -       1       postlogd
"""

# name: (owner, group or None for root's, mode), as postfix-files has it
QUEUE_DIRS = {
    "active": ("postfix", "root", 0o700), "bounce": ("postfix", "root", 0o700), "corrupt": ("postfix", "root", 0o700),
    "defer": ("postfix", "root", 0o700), "deferred": ("postfix", "root", 0o700), "flush": ("postfix", "root", 0o700),
    "hold": ("postfix", "root", 0o700), "incoming": ("postfix", "root", 0o700), "private": ("postfix", "root", 0o700),
    "saved": ("postfix", "root", 0o700), "trace": ("postfix", "root", 0o700),
    "maildrop": ("postfix", "postdrop", 0o1730), "public": ("postfix", "postdrop", 0o710), "pid": ("root", "root", 0o755),
}

# the client that asks if Postfix answers; no load comes from there
PROBE = "127.0.0.254"
LOGIN = ("joe@lab.test", "secret")


def die_with_parent():
    """In a child about to run a program: a test that is killed takes its servers along."""
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)


def free_port(host, taken=()):
    while True:
        port = random.randint(10000, 32000)
        with socket.socket() as sock:
            try:
                sock.bind((host, port))
            except OSError:
                continue
        if port not in taken:
            return port


class Postfix:
    def __init__(self, root=None, host=None, main="", master="", chroot=False, services=None):
        """main and master are more lines for main.cf and master.cf; {root}, {conf}, {host} in them are filled in."""
        if os.geteuid() != 0:
            sys.exit("the private Postfix needs root")
        self.root = root or tempfile.mkdtemp(prefix="posttrace-lab.")
        os.makedirs(self.root, exist_ok=True)
        os.chmod(self.root, 0o755)
        self.conf = os.path.join(self.root, "conf")
        self.queue = os.path.join(self.root, "queue")
        self.log = os.path.join(self.root, "maillog")
        self.host = host or f"127.{random.randint(10, 250)}.{random.randint(1, 250)}.{random.randint(1, 250)}"
        ports = []
        for _ in range(3):
            ports.append(free_port(self.host, ports))
        self.smtp, self.submission, self.smtps = ((self.host, port) for port in ports)
        self.master = None
        self.keep = False
        fill = {"root": self.root, "conf": self.conf, "host": self.host, "smtp": ports[0], "submission": ports[1],
                "smtps": ports[2], "jail": "y" if chroot else "n"}
        self._directories()
        self.write_conf("main.cf", MAIN_CF.format(**fill) + main.format(**fill))
        self.write_conf("master.cf", MASTER_CF.format(**fill) + master.format(**fill))
        for name, text in CONF_TABLES.items():
            self.write_conf(name, text)
        self._credentials()
        if chroot:
            self._jail()

    # Setting up

    def write_conf(self, name, text):
        path = os.path.join(self.conf, name)
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        return path

    def _directories(self):
        for path, mode in ((self.conf, 0o755), (self.queue, 0o755), (os.path.join(self.root, "data"), 0o700)):
            os.makedirs(path, mode=mode)
        shutil.chown(os.path.join(self.root, "data"), "postfix")
        # postlogd would make it readable by root alone; on Debian mail.log is the adm group's, and the recorder's is in it
        with open(self.log, "x", encoding="utf-8"):
            pass
        shutil.chown(self.log, "root", "postfix")
        os.chmod(self.log, 0o640)
        for name, (owner, group, mode) in QUEUE_DIRS.items():
            path = os.path.join(self.queue, name)
            os.mkdir(path)
            shutil.chown(path, owner, group)
            os.chmod(path, mode)

    def _credentials(self):
        """A certificate of our own, and one login in a Cyrus sasldb."""
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
                        "-days", "2", "-subj", "/CN=mx.lab.test", "-keyout", f"{self.conf}/key.pem", "-out",
                        f"{self.conf}/cert.pem"], check=True, stdin=subprocess.DEVNULL, capture_output=True)
        # Debian's Postfix looks in config_directory/sasl, whatever cyrus_sasl_config_path says
        os.mkdir(f"{self.conf}/sasl")
        self.write_conf("sasl/smtpd.conf", "pwcheck_method: auxprop\nauxprop_plugin: sasldb\nmech_list: PLAIN LOGIN\n"
                        f"sasldb_path: {self.conf}/sasldb2\n")
        user, domain = LOGIN[0].split("@")
        subprocess.run(["saslpasswd2", "-p", "-c", "-f", f"{self.conf}/sasldb2", "-u", domain, user],
                       input=LOGIN[1].encode(), check=True, capture_output=True)
        shutil.chown(f"{self.conf}/sasldb2", "postfix")

    def _jail(self):
        """What a chrooted Postfix opens after it is locked in."""
        jail = os.path.join(self.queue, "etc")
        os.makedirs(jail, exist_ok=True)
        for name in ("hosts", "services", "resolv.conf", "nsswitch.conf", "localtime"):
            if os.path.exists(f"/etc/{name}"):
                shutil.copy(f"/etc/{name}", jail)

    # Running

    def env(self):
        return dict(os.environ, MAIL_CONFIG=self.conf, LC_ALL="C")

    def run(self, *args, **kwargs):
        """A Postfix command on this instance; its standard output, or CalledProcessError."""
        kwargs.setdefault("stdin", None if "input" in kwargs else subprocess.DEVNULL)
        return subprocess.run(args, env=self.env(), check=True, stdout=subprocess.PIPE, **kwargs).stdout.decode()

    def postconf(self, *args):
        return self.run("/usr/sbin/postconf", "-c", self.conf, *args)

    def sendmail(self, *args, text="Subject: local\n\nhello\n"):
        return self.run("/usr/sbin/sendmail", "-C", self.conf, *args, input=text.encode())

    def start(self):
        daemons = self.postconf("-xh", "daemon_directory").strip()
        self.master = subprocess.Popen([f"{daemons}/master", "-d", "-c", self.conf], env=self.env(),
                                       stdin=subprocess.DEVNULL, start_new_session=True, preexec_fn=die_with_parent)
        atexit.register(self.kill)
        wait_for("Postfix to answer", self._greets, timeout=30)
        return self

    def _greets(self):
        if self.master.poll() is not None:
            raise RuntimeError(f"Postfix did not start; its log:\n{self.read_log()}")
        try:
            with socket.create_connection(self.smtp, timeout=10, source_address=(PROBE, 0)) as sock:
                greeting = sock.recv(100)
                sock.sendall(b"QUIT\r\n")
                while sock.recv(1000):
                    pass
                return greeting.startswith(b"220")
        except OSError:
            return False

    def stop(self):
        if self.master and self.master.poll() is None:
            self.master.terminate()
            self.master.wait(timeout=20)
        atexit.unregister(self.kill)

    def kill(self):
        """The end in every case: a process group of our own, so nobody else's process is hit."""
        if self.master and self.master.poll() is None:
            os.killpg(self.master.pid, signal.SIGKILL)
            self.master.wait()

    def reload(self):
        before = self.read_log().count("reload -- version")
        self.master.send_signal(signal.SIGHUP)
        wait_for("the reload", lambda: self.read_log().count("reload -- version") > before)

    def smtp_source(self, messages, sessions=50, recipients=1, tag="source", again=True):
        """Postfix's own load generator; it stops with an error at the first reply it did not hope for."""
        args = ["smtp-source", "-s", str(sessions), "-m", str(messages), "-r", str(recipients), "-l", "1000",
                "-M", "source.helo.test", "-f", f"{tag}@from.test", "-t", f"ok.{tag}@lab.test"]
        return subprocess.Popen(args + ([] if again else ["-d"]) + [f"{self.smtp[0]}:{self.smtp[1]}"],
                                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                preexec_fn=die_with_parent)

    def swaks(self, *args, server=None):
        """One swaks run: (exit status, transcript). Refusals make the status, they raise nothing."""
        host, port = server or self.smtp
        done = subprocess.run(["swaks", "--server", host, "--port", str(port), "--timeout", "20", *args],
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        return done.returncode, done.stdout.decode("utf-8", "replace")

    # Looking

    def read_log(self):
        try:
            with open(self.log, encoding="utf-8", errors="surrogateescape") as file:
                return file.read()
        except FileNotFoundError:
            return ""

    def oracle(self):
        """The log as the tests understand it, without the lab's own questions."""
        return Log(self.read_log(), ignore=(PROBE,))

    def wait_log(self, pattern_found, what, timeout=20.0):
        return wait_for(what, lambda: pattern_found(self.read_log()), timeout)

    def wait_idle(self, timeout=60.0):
        """Every session has ended in the log, and the queue is empty: from here on the log does not grow."""
        def idle():
            text = self.read_log()
            begun = text.count("]: connect from ")
            return begun == text.count("]: disconnect from ") and not self.run("/usr/sbin/postqueue", "-c", self.conf, "-j")
        wait_for("Postfix to have nothing to do", idle, timeout, pause=0.05)

    # A block that cleans up

    def __enter__(self):
        try:
            return self.start()
        except BaseException:
            self.kill()
            self.clean(False)
            raise

    def __exit__(self, kind, value, trace):
        self.stop()
        self.clean(kind is None)

    def clean(self, good):
        if good and not self.keep and not Tap.any_failed:
            shutil.rmtree(self.root)
        else:
            print(f"# kept: {self.root}", flush=True)
