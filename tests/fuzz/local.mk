# With --enable-fuzz a target is a libFuzzer program to be run by hand (make fuzz); without, it replays its corpus in
# make check. A new target: fuzz_NAME.c, corpus/NAME/, and four lines here.
fuzz_targets = tests/fuzz/fuzz_request
fuzz_corpus = %D%/corpus/request
EXTRA_DIST += $(fuzz_corpus)
FUZZ_SECONDS = 60

tests_fuzz_fuzz_request_SOURCES = %D%/fuzz_request.c %D%/fuzz.h policyd/request.c policyd/request.h
tests_fuzz_fuzz_request_LDADD = $(BASE_LIBS)

if FUZZ
noinst_PROGRAMS += $(fuzz_targets)
tests_fuzz_fuzz_request_LDFLAGS = $(FUZZ_LDFLAGS)

fuzz: $(fuzz_targets)
	@for t in $(fuzz_targets); do name=$${t##*/fuzz_}; mkdir -p $$t.found && \
		$$t -max_total_time=$(FUZZ_SECONDS) -max_len=65536 -print_final_stats=1 $$t.found \
		$(top_srcdir)/tests/fuzz/corpus/$$name || exit 1; done
else
tests_fuzz_fuzz_request_SOURCES += %D%/replay.c
check_PROGRAMS += $(fuzz_targets)
TESTS += $(fuzz_targets)
endif
