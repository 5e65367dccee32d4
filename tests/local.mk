include tests/unit/local.mk
include tests/cli/local.mk
include tests/daemon/local.mk
include tests/fuzz/local.mk
include tests/postfix/local.mk

TEST_EXTENSIONS = .sh .py
TEST_LOG_DRIVER = env AM_TAP_AWK='$(AWK)' $(SHELL) $(top_srcdir)/build-aux/tap-driver.sh
SH_LOG_DRIVER = $(TEST_LOG_DRIVER)
SH_LOG_COMPILER = $(SHELL)
PY_LOG_DRIVER = $(TEST_LOG_DRIVER)
PY_LOG_COMPILER = python3
AM_TESTS_ENVIRONMENT = top_srcdir='$(abs_top_srcdir)' top_builddir='$(abs_top_builddir)' MANDOC='$(MANDOC)'; export top_srcdir top_builddir MANDOC;

if !HAVE_CMOCKA
check-local:
	@echo 'make check needs cmocka. On Debian: apt-get install libcmocka-dev, then configure again.' >&2; exit 1
endif
