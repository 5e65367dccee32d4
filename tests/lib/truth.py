"""Holds what posttrace says against what the clients saw and what Postfix's log says.

Three parties: the load's sessions (what each client sent and was told), the log as maillog.py reads it, and the objects
of `posttrace export`. Every transaction of the load has its own sender and recipients, so each object belongs to exactly
one of them or is invented.
"""

from collections import Counter


def unquoted(text):
    """A reply without its dsn: "5.7.1 <x>: no" -> ("5.7.1", "<x>: no")."""
    dsn, _, rest = text.partition(" ")
    return dsn, rest


def expected_outcome(transaction):
    if transaction.queue_id:
        return "accepted"
    if transaction.accepted:
        # told no at the end of data, or at DATA
        final = transaction.final or (transaction.data if transaction.data and transaction.data.code >= 400 else None)
        if final is None:
            return "aborted"
        return "deferred" if final.code < 500 else "rejected"
    if transaction.refused:
        return "deferred" if any(r.reply.code < 500 for r in transaction.refused) else "rejected"
    return "aborted"


def recipients_told(transaction):
    """(address, outcome, code, dsn, text) of each recipient; of an accepted one only the first two are compared."""
    rows = []
    for recipient in transaction.recipients:
        if recipient.reply is None:
            continue
        if recipient.reply.code == 250:
            rows.append((recipient.address, "accepted", None, None, None))
        else:
            dsn, text = unquoted(recipient.reply.text)
            outcome = "deferred" if recipient.reply.code < 500 else "rejected"
            rows.append((recipient.address, outcome, recipient.reply.code, dsn, text))
    return tuple(sorted(rows))


def recipients_said(trace):
    rows = []
    for recipient in trace["recipients"]:
        if recipient["outcome"] == "accepted":
            rows.append((recipient["address"], "accepted", None, None, None))
        else:
            rows.append((recipient["address"], recipient["outcome"], recipient["code"], recipient["dsn"], recipient["text"]))
    return tuple(sorted(rows, key=str))


def differences(got, want, limit=4):
    """What the multisets do not share, as lines."""
    got, want = Counter(got), Counter(want)
    lines = []
    for sign, rest in (("missing", want - got), ("invented", got - want)):
        if rest:
            lines.append(f"{sign}: {sum(rest.values())}")
            lines += [f"  {x!r:.600}" for x in sorted(rest, key=str)[:limit]]
    return lines


def same(tap, got, want, name):
    got, want = list(got), list(want)
    lines = differences(got, want)
    tap.ok(not lines, f"{name} ({len(want)})", *lines)


def mail(export):
    return [t for t in export if t["outcome"] != "no-mail"]


def check_whole(tap, label, sessions, log, export):
    """What the witnesses that saw these sessions can tell together is everything: it must be right, word by word."""
    began = [(s, t) for s in sessions for t in s.transactions if t.mail and t.mail.code == 250]
    traces = mail(export)
    if log:
        check_log(tap, label, log, export)
    same(tap, ((t["client"]["address"], t["client"]["port"], t["client"]["helo"], t["sender"], recipients_said(t)) for t in traces),
         ((s.client, s.port, s.helo, t.sender, recipients_told(t)) for s, t in began),
         f"{label}: each transaction once, in its session, with its recipients and their replies")
    same(tap, ((t["sender"], t["queue_id"], t["message_id"], t["outcome"]) for t in traces if t["outcome"] == "accepted"),
         ((t.sender, t.queue_id, f"{t.tag}@load.test", "accepted") for _, t in began if t.queue_id),
         f"{label}: what was accepted has its queue id and Message-ID")
    same(tap, ((t["client"]["port"], t["sender"], t["outcome"]) for t in traces),
         ((s.port, t.sender, expected_outcome(t)) for s, t in began), f"{label}: outcomes")
    same(tap, ((t["client"]["address"], t["client"]["port"]) for t in export if t["outcome"] == "no-mail"),
         ((s.client, s.port) for s in sessions if not any(t.mail and t.mail.code == 250 for t in s.transactions)),
         f"{label}: each session without a transaction once")
    same(tap, ((t["client"]["port"], t["sasl"]["username"]) for t in traces if t["sasl"]),
         ((s.port, "joe@lab.test") for s, _ in began if s.login), f"{label}: logins")
    same(tap, (t["client"]["port"] for t in traces if t["tls"]), (s.port for s, _ in began if s.tls), f"{label}: TLS")
    tap.ok(all(t["state"] == "done" for t in export), f"{label}: nothing is left open",
           *[f"{t['id']} {t['outcome']} {t['sender']}" for t in export if t["state"] != "done"][:5])


def check_log(tap, label, log, export):
    """The two sentences of the log alone: each client= once with its recipients, each reject line once."""
    ids = Counter(t["queue_id"] for t in export if t["queue_id"])
    clients = Counter(m.queue_id for m in log.clients())  # more than once: Postfix uses its short queue ids again
    same(tap, (i for i, n in ids.items() for _ in range(n) if i in clients), clients.elements(),
         f"{label}: each client= queue id is in exactly one transaction")
    counted = Counter((m.queue_id, m.nrcpt) for m in log.clients() if m.active)
    traced = Counter((t["queue_id"], len([r for r in t["recipients"] if r["outcome"] == "accepted"])) for t in export)
    tap.ok(counted and not counted - traced, f"{label}: as many accepted recipients as qmgr counted ({counted.total()})",
           *[f"{i}: {n}" for i, n in (counted - traced)][:5])
    same(tap, ((t["client"]["address"], t["client"]["helo"], t["sender"], r["address"], r["code"], r["dsn"], r["text"])
               for t in export for r in t["recipients"] if r["outcome"] in ("rejected", "deferred") and not at_end(t, r)),
         ((j["session"].address, j["helo"], j["sender"], j["recipient"], int(j["code"]), j["dsn"], j["text"])
          for j in log.rejects if j["stage"] == "RCPT"),
         f"{label}: each reject line is exactly one refused recipient, word by word")


def at_end(trace, recipient):
    """Refused with the whole message, after it had been accepted at RCPT."""
    return recipient.get("stage") not in (None, "RCPT")


def check_without_log(tap, label, sessions, log, export):
    """The hooks alone: who, what, which recipients and their fate. No reply code, a text that may lack its first word, and
    why an accepted message went nowhere is not known."""
    began = [(s, t) for s in sessions for t in s.transactions if t.mail and t.mail.code == 250]
    traces = mail(export)
    same(tap, ((t["client"]["address"], t["client"]["port"], t["client"]["helo"], t["sender"],
                tuple(r[:2] + r[3:4] for r in recipients_said(t))) for t in traces),
         ((s.client, s.port, s.helo, t.sender, tuple(r[:2] + r[3:4] for r in recipients_told(t))) for s, t in began),
         f"{label}: each transaction once, in its session, with its recipients and their dsn")
    told = {r[0]: r[4] for _, t in began for r in recipients_told(t) if r[4]}
    wrong = [(r["address"], r["text"]) for t in traces for r in t["recipients"]
             if r["outcome"] != "accepted" and not (r["text"] and told.get(r["address"], "").endswith(r["text"]))]
    tap.ok(not wrong, f"{label}: each refusal has the end of its text", *wrong[:5])
    tap.ok(not any(r["code"] for t in traces for r in t["recipients"] if r["outcome"] != "accepted"),
           f"{label}: no reply code is made up")
    same(tap, ((t["sender"], t["queue_id"], t["message_id"], "accepted") for t in traces if t["outcome"] == "accepted"),
         ((t.sender, t.queue_id, f"{t.tag}@load.test", "accepted") for _, t in began if t.queue_id),
         f"{label}: what was accepted has its queue id and Message-ID")
    lost = {"header-reject", "too-big"}
    same(tap, ((t["client"]["port"], t["sender"], t["outcome"]) for t in traces),
         ((s.port, t.sender, "aborted" if t.end in lost and t.accepted else expected_outcome(t)) for s, t in began),
         f"{label}: outcomes")
    tap.ok(all(t["sources"]["milter"] and not t["sources"]["maillog"] for t in export), f"{label}: sources say that the log is missing")


def check_without_milter(tap, label, sessions, log, export):
    """The log, and the policy service where it was asked: every queue id and every refusal; accepted recipients where a
    tracepoint was reached for them."""
    check_log(tap, label, log, export)
    tap.ok(all(t["sources"]["maillog"] and not t["sources"]["milter"] for t in export), f"{label}: sources say that the milter is missing")
    asked = [t for t in mail(export) if t["sources"]["policy"]]
    began = [(s, t) for s in sessions for t in s.transactions if t.mail and t.mail.code == 250]
    tap.ok(len(asked) > len(began) // 2, f"{label}: the policy service was asked about most of it", f"{len(asked)} of {len(began)}")
    truth = {(s.port, t.sender): (s, t) for s, t in began if t.sender}
    strange = [t for t in asked if t["sender"] and (t["client"]["port"], t["sender"]) not in truth]
    tap.ok(not strange, f"{label}: no transaction is in another's session", *strange[:3])
    invented = [(t["sender"], r["address"]) for t in asked if t["sender"] and t not in strange for r in t["recipients"]
                if r["address"] not in {x.address for x in truth[t["client"]["port"], t["sender"]][1].recipients}]
    tap.ok(not invented, f"{label}: no recipient is another transaction's", *invented[:5])
