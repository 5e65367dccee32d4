# The command on a prepared store, and its parts.
check_PROGRAMS += tests/cli/cli_tool
tests_cli_cli_tool_SOURCES = %D%/cli_tool.c query/timespec.c
tests_cli_cli_tool_LDADD = $(BASE_LIBS)

cli_tests = %D%/t1001-the-command-answers.py %D%/t1002-a-damaged-store.py
dist_check_SCRIPTS += $(cli_tests)
TESTS += $(cli_tests)

if HAVE_CMOCKA
unit_tests += tests/cli/test_timespec
tests_cli_test_timespec_SOURCES = %D%/test_timespec.c query/timespec.c
tests_cli_test_timespec_LDADD = $(UNIT_LIBS)
endif

# mandoc's lint is run only where configure found mandoc
EXTRA_DIST += %D%/mandoc-lint.sh
if HAVE_MANDOC
TESTS += %D%/mandoc-lint.sh
endif
