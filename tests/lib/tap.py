"""Test Anything Protocol, for tests that are programs: ok() per behaviour, done() at the end."""

import sys
import traceback


class Tap:
    any_failed = False

    def __init__(self):
        self.count = self.failed = 0

    def ok(self, good, name, *details):
        self.count += 1
        self.failed += not good
        print(f"{'ok' if good else 'not ok'} {self.count} - {name}", flush=True)
        if not good:
            Tap.any_failed = True
            for detail in details:
                for line in str(detail).splitlines():
                    print(f"#   {line}", flush=True)
        return bool(good)

    def same(self, got, want, name):
        """Two collections that must be equal; shows the first few that are not."""
        if got == want:
            return self.ok(True, name)
        details = [f"got:  {got!r:.300}", f"want: {want!r:.300}"]
        try:
            details = [f"missing {len(want - got)}: {sorted(map(str, want - got))[:5]}",
                       f"invented {len(got - want)}: {sorted(map(str, got - want))[:5]}"]
        except TypeError:
            pass
        return self.ok(False, name, *details)

    def note(self, text):
        for line in str(text).splitlines():
            print(f"# {line}", flush=True)

    def done(self):
        print(f"1..{self.count}", flush=True)
        sys.exit(1 if self.failed or not self.count else 0)


def run(main):
    """main(tap); an exception is a failed test, never a silent end."""
    tap = Tap()
    try:
        main(tap)
    except Exception:
        tap.ok(False, "the test came to its end", traceback.format_exc())
    tap.done()
