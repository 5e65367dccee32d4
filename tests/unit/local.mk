# Each unit test is one program, test_MODULE, that prints TAP.
UNIT_LIBS = $(BASE_LIBS) $(CMOCKA_LIBS)

if HAVE_CMOCKA
unit_tests += tests/unit/test_base
tests_unit_test_base_SOURCES = %D%/test_base.c %D%/unit.h
tests_unit_test_base_LDADD = $(UNIT_LIBS)

unit_tests += tests/unit/test_journal
tests_unit_test_journal_SOURCES = %D%/test_journal.c %D%/unit.h
tests_unit_test_journal_LDADD = $(UNIT_LIBS)

unit_tests += tests/unit/test_store
tests_unit_test_store_SOURCES = %D%/test_store.c %D%/unit.h
tests_unit_test_store_LDADD = $(UNIT_LIBS)

unit_tests += tests/unit/test_store_faults
tests_unit_test_store_faults_SOURCES = %D%/test_store_faults.c %D%/unit.h
tests_unit_test_store_faults_LDADD = $(UNIT_LIBS)

unit_tests += tests/unit/test_store_size
tests_unit_test_store_size_SOURCES = %D%/test_store_size.c %D%/unit.h
tests_unit_test_store_size_LDADD = $(UNIT_LIBS)

unit_tests += tests/unit/test_correlate
tests_unit_test_correlate_SOURCES = %D%/test_correlate.c %D%/unit.h
tests_unit_test_correlate_LDADD = $(UNIT_LIBS)

unit_tests += tests/unit/test_logline
tests_unit_test_logline_SOURCES = %D%/test_logline.c %D%/unit.h
tests_unit_test_logline_LDADD = librecorder.a $(UNIT_LIBS)

unit_tests += tests/unit/test_cflist
tests_unit_test_cflist_SOURCES = %D%/test_cflist.c %D%/unit.h
tests_unit_test_cflist_LDADD = $(UNIT_LIBS)

unit_tests += tests/unit/test_request
tests_unit_test_request_SOURCES = %D%/test_request.c %D%/unit.h policyd/request.c policyd/request.h
tests_unit_test_request_LDADD = $(UNIT_LIBS)

unit_tests += tests/unit/test_follow
tests_unit_test_follow_SOURCES = %D%/test_follow.c %D%/unit.h
tests_unit_test_follow_LDADD = librecorder.a $(UNIT_LIBS) $(SYSTEMD_LIBS)

check_PROGRAMS += $(unit_tests)
TESTS += $(unit_tests)
endif
