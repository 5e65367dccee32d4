postfix_tests = %D%/t3-attach.py %D%/t3-away.py %D%/t3-faults.py %D%/t3-follow.py %D%/t3-journal.py \
	%D%/t3-kill.py %D%/t3-lab.py %D%/t3-logrotate.py %D%/t3-mail.py %D%/t3-truth.py

EXTRA_DIST += $(postfix_tests) %D%/measure-braces.py .ci/run \
	tests/lib/debian.sh tests/lib/hooks.py tests/lib/lab.py tests/lib/load.py tests/lib/maillog.py \
	tests/lib/peer.py tests/lib/probe.py tests/lib/quickstart.py tests/lib/smtp.py tests/lib/standin.py tests/lib/tap.py tests/lib/truth.py tests/lib/wait.py

# Real mail through a private Postfix: root, Postfix and a few minutes are needed, so it is not part of make check.
.PHONY: check-postfix
check-postfix: all
	@bad=0; for test in $(postfix_tests); do echo "# $$test"; \
		POSTTRACE_BUILD='$(abs_top_builddir)' $(top_srcdir)/$$test || bad=1; done; exit $$bad
