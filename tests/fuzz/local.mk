# With --enable-fuzz a target is a libFuzzer program to be run by hand (make fuzz); without, it replays its corpus in
# make check. A new target: fuzz_NAME.c, corpus/NAME/, its name here and two lines below.
fuzz_targets = \
	tests/fuzz/fuzz_cflist \
	tests/fuzz/fuzz_config \
	tests/fuzz/fuzz_correlate \
	tests/fuzz/fuzz_journal \
	tests/fuzz/fuzz_logline \
	tests/fuzz/fuzz_milter \
	tests/fuzz/fuzz_record \
	tests/fuzz/fuzz_request \
	tests/fuzz/fuzz_words
EXTRA_DIST += %D%/corpus
FUZZ_SECONDS = 60

if FUZZ
FUZZ_MAIN =
else
FUZZ_MAIN = %D%/replay.c
endif

tests_fuzz_fuzz_cflist_SOURCES = %D%/fuzz_cflist.c %D%/fuzz.h $(FUZZ_MAIN)
tests_fuzz_fuzz_cflist_LDADD = $(BASE_LIBS)

tests_fuzz_fuzz_config_SOURCES = %D%/fuzz_config.c %D%/fuzz.h $(FUZZ_MAIN)
tests_fuzz_fuzz_config_LDADD = $(BASE_LIBS)

tests_fuzz_fuzz_correlate_SOURCES = %D%/fuzz_correlate.c %D%/fuzz.h $(FUZZ_MAIN)
tests_fuzz_fuzz_correlate_LDADD = $(BASE_LIBS)

tests_fuzz_fuzz_journal_SOURCES = %D%/fuzz_journal.c %D%/fuzz.h $(FUZZ_MAIN)
tests_fuzz_fuzz_journal_LDADD = $(BASE_LIBS)

tests_fuzz_fuzz_logline_SOURCES = %D%/fuzz_logline.c %D%/fuzz.h $(FUZZ_MAIN)
tests_fuzz_fuzz_logline_LDADD = librecorder.a $(BASE_LIBS)

tests_fuzz_fuzz_milter_SOURCES = %D%/fuzz_milter.c %D%/fuzz.h $(FUZZ_MAIN) \
	milter/callbacks.c milter/callbacks.h milter/headers.c milter/headers.h milter/macros.c milter/macros.h
tests_fuzz_fuzz_milter_LDADD = $(BASE_LIBS)

tests_fuzz_fuzz_record_SOURCES = %D%/fuzz_record.c %D%/fuzz.h $(FUZZ_MAIN) \
	query/filter.c query/render_json.c query/render_text.c query/timeline.c query/timespec.c
tests_fuzz_fuzz_record_LDADD = $(BASE_LIBS) $(JSON_LIBS) $(SMARTCOLS_LIBS)

tests_fuzz_fuzz_request_SOURCES = %D%/fuzz_request.c %D%/fuzz.h $(FUZZ_MAIN) policyd/request.c policyd/request.h
tests_fuzz_fuzz_request_LDADD = $(BASE_LIBS)

tests_fuzz_fuzz_words_SOURCES = %D%/fuzz_words.c %D%/fuzz.h $(FUZZ_MAIN) query/filter.c query/timespec.c
tests_fuzz_fuzz_words_LDADD = $(BASE_LIBS)

if FUZZ
noinst_PROGRAMS += $(fuzz_targets)
# each target alone: a program of the project must not be linked with libFuzzer's main
tests_fuzz_fuzz_cflist_LDFLAGS = $(FUZZ_LDFLAGS)
tests_fuzz_fuzz_config_LDFLAGS = $(FUZZ_LDFLAGS)
tests_fuzz_fuzz_correlate_LDFLAGS = $(FUZZ_LDFLAGS)
tests_fuzz_fuzz_journal_LDFLAGS = $(FUZZ_LDFLAGS)
tests_fuzz_fuzz_logline_LDFLAGS = $(FUZZ_LDFLAGS)
tests_fuzz_fuzz_milter_LDFLAGS = $(FUZZ_LDFLAGS)
tests_fuzz_fuzz_record_LDFLAGS = $(FUZZ_LDFLAGS)
tests_fuzz_fuzz_request_LDFLAGS = $(FUZZ_LDFLAGS)
tests_fuzz_fuzz_words_LDFLAGS = $(FUZZ_LDFLAGS)

fuzz: $(fuzz_targets)
	@for t in $(fuzz_targets); do name=$${t##*/fuzz_}; mkdir -p $$t.found && \
		$$t -max_total_time=$(FUZZ_SECONDS) -max_len=65536 -print_final_stats=1 $$t.found \
		$(top_srcdir)/tests/fuzz/corpus/$$name || exit 1; done
else
check_PROGRAMS += $(fuzz_targets)
TESTS += $(fuzz_targets)
endif
