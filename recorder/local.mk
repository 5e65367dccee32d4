noinst_LIBRARIES += librecorder.a
librecorder_a_SOURCES = \
	%D%/follow.c %D%/follow.h \
	%D%/follow_choose.c %D%/follow_choose.h \
	%D%/follow_file.c \
	%D%/follow_journal.c \
	%D%/follow_source.h \
	%D%/logline.c %D%/logline.h \
	%D%/logline_frame.c

sbin_PROGRAMS += posttrace-recorder
posttrace_recorder_SOURCES = \
	%D%/followers.c %D%/followers.h \
	%D%/intake.c %D%/intake.h \
	%D%/main.c \
	%D%/lists.c %D%/lists.h %D%/snapshot.c %D%/snapshot.h
posttrace_recorder_LDADD = librecorder.a $(BASE_LIBS) $(EVENT_LIBS) $(SYSTEMD_LIBS)
