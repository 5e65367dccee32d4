sbin_PROGRAMS += posttrace-policyd
posttrace_policyd_SOURCES = \
	%D%/main.c \
	%D%/conn.c %D%/conn.h \
	%D%/reply.c %D%/reply.h \
	%D%/request.c %D%/request.h
posttrace_policyd_LDADD = $(BASE_LIBS) $(EVENT_LIBS)
