noinst_LIBRARIES += libposttrace.a
libposttrace_a_SOURCES = \
	%D%/base/arena.c %D%/base/arena.h \
	%D%/base/clock.c %D%/base/clock.h \
	%D%/base/hash.c %D%/base/hash.h \
	%D%/base/log.c %D%/base/log.h \
	%D%/base/netaddr.c %D%/base/netaddr.h \
	%D%/base/span.h \
	%D%/base/status.c %D%/base/status.h \
	%D%/base/strbuf.c %D%/base/strbuf.h \
	%D%/base/text.c %D%/base/text.h \
	%D%/config/options.c %D%/config/options.h \
	%D%/daemon/daemon.c %D%/daemon/daemon.h \
	%D%/journal/journal.h \
	%D%/journal/journal_frame.h \
	%D%/journal/journal_read.c \
	%D%/journal/journal_write.c \
	%D%/model/correlate.c %D%/model/correlate.h \
	%D%/model/correlate_hooks.c \
	%D%/model/correlate_log.c \
	%D%/model/log_view.c \
	%D%/model/correlate_state.c \
	%D%/model/mailaddr.c %D%/model/mailaddr.h \
	%D%/model/session.c \
	%D%/model/session.h \
	%D%/model/tracepoint.c %D%/model/tracepoint.h \
	%D%/model/trace_id.c %D%/model/trace_id.h \
	%D%/model/tx.c %D%/model/tx.h \
	%D%/postfix/cflist.c %D%/postfix/cflist.h \
	%D%/postfix/postconf.c %D%/postfix/postconf.h \
	%D%/postfix/child.c %D%/postfix/child.h \
	%D%/store/store.c %D%/store/store.h \
	%D%/store/store_dictionary.c \
	%D%/store/store_guard.c \
	%D%/store/store_key.c %D%/store/store_key.h \
	%D%/store/store_private.h \
	%D%/store/store_record.c \
	%D%/store/store_scan.c \
	%D%/store/store_upkeep.c \
	%D%/model/smtp_event.c %D%/model/smtp_event.h

nodist_libposttrace_a_SOURCES = \
	%D%/model/record.pb-c.c %D%/model/record.pb-c.h

BUILT_SOURCES += %D%/model/record.pb-c.h
CLEANFILES += %D%/model/record.pb-c.c %D%/model/record.pb-c.h
EXTRA_DIST += %D%/model/record.proto

# One rule makes both files; the header waits for the source.
%D%/model/record.pb-c.c: %D%/model/record.proto
	$(AM_V_GEN)$(MKDIR_P) %D%/model && $(PROTOC_C) --proto_path=$(top_srcdir)/shared/model \
		--c_out=%D%/model $(top_srcdir)/shared/model/record.proto
%D%/model/record.pb-c.h: %D%/model/record.pb-c.c
	@touch $@

BASE_LIBS = libposttrace.a $(PROTOBUF_C_LIBS) $(ZLIB_LIBS) $(MD_LIBS) $(LMDB_LIBS)
