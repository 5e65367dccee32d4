check_PROGRAMS += tests/daemon/journal-dump
tests_daemon_journal_dump_SOURCES = %D%/journal-dump.c
tests_daemon_journal_dump_LDADD = $(BASE_LIBS)

daemon_tests = %D%/t2-milter.py %D%/t2-policy.py %D%/t9-constants.py
TESTS += $(daemon_tests)
EXTRA_DIST += $(daemon_tests) %D%/hook.py
