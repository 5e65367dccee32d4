"""The second half of ./quickstart: everything is built, now show it."""

import signal
import sys
import time

from hooks import Posttrace
from lab import LOGIN, Postfix
from smtp import Smtp


def say(text):
    print(f"\n\033[1m{text}\033[0m" if sys.stdout.isatty() else f"\n{text}", flush=True)


def shown(posttrace, *args):
    say(f"$ posttrace {' '.join(args)}")
    sys.stdout.write(posttrace.run(*args, check=(0, 1)))
    sys.stdout.flush()


def send_mix(postfix):
    """One mail of each kind; the text in front of each is what it is."""
    outside = ("--local-interface", "127.0.0.2", "--helo", "laptop.example.org")
    mails = (
        ("accepted", lambda: postfix.swaks("--from", "alice@example.org", "--to", "ok.bob@lab.test", *outside)),
        ("two recipients, one refused", lambda: postfix.swaks("--from", "alice@example.org", "--to",
                                                              "ok.bob@lab.test,ok.carol@far.test", *outside)),
        ("all recipients refused", lambda: postfix.swaks("--from", "spammer@example.net", "--to",
                                                         "ok.x@far.test,ok.y@later.test", *outside)),
        ("unknown user", lambda: postfix.swaks("--from", "alice@example.org", "--to", "nobody.here@lab.test", *outside)),
        ("connection dropped in the middle", lambda: drop(postfix)),
        ("submission with login and TLS", lambda: postfix.swaks("--from", LOGIN[0], "--to", "ok.carol@far.test", "--tls",
                                                                "--auth", "PLAIN", "--auth-user", LOGIN[0],
                                                                "--auth-password", LOGIN[1], server=postfix.submission)),
        ("local, by sendmail", lambda: postfix.sendmail("-f", "root@lab.test", "ok.bob@lab.test")),
    )
    for what, send in mails:
        print(f"  {what}", flush=True)
        send()


def drop(postfix):
    client = Smtp(postfix.smtp, source="127.0.0.3")
    client.reply()
    for command in ("EHLO flaky.example.org", "MAIL FROM:<dave@example.org>", "RCPT TO:<ok.bob@lab.test>", "DATA"):
        client.cmd(command)
    client.send("Subject: this will never be com")
    client.drop()


def keep(postfix, posttrace):
    command = f"{posttrace.build}/posttrace -C {posttrace.config} -c {postfix.conf}"
    host, port = postfix.smtp
    say("It stays up until you press Ctrl-C. In another terminal:")
    print(f"""
  swaks --server {host} --port {port} --local-interface 127.0.0.2 --from you@example.org --to ok.you@lab.test
  swaks --server {host} --port {port} --local-interface 127.0.0.2 --from you@example.org --to ok.you@far.test
      addresses that are taken: ok.ANYTHING@lab.test; refused: nobody.*, trap.*, grey.*, full.* there, and @far.test
  {command} list
  {command} why ok.you@far.test
  {command} follow
""", flush=True)
    try:
        signal.pause()
    except KeyboardInterrupt:
        print()


def main():
    began = time.monotonic()
    say("Starting a Postfix of our own")
    with Postfix() as postfix:
        host, port = postfix.smtp
        print(f"  it listens on {host} port {port} and logs to {postfix.log}")
        with Posttrace(postfix) as posttrace:
            posttrace.attach()
            say("Sending mail")
            send_mix(postfix)
            postfix.wait_idle()
            posttrace.wait_taken_in()
            shown(posttrace, "list")
            two = [t for t in posttrace.json("list", "--outcome", "accepted") if len(t["recipients"]) == 2]
            shown(posttrace, "show", two[0]["id"])
            shown(posttrace, "why", "nobody.here@lab.test")
            if "--keep" in sys.argv:
                keep(postfix, posttrace)
    say("To go on")
    print(f"""
  ./quickstart --keep      the same, and it stays up for mail of your own
  your own Postfix         make -C build-quickstart install, start the daemons (README.md), then
                           posttrace attach --dry-run; posttrace attach; and posttrace detach takes it out
  README.md                the rest

All of this was removed again, but for ./build-quickstart and the packages. ({time.monotonic() - began:.0f} s)""")


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
