sbin_PROGRAMS += posttrace-milter
posttrace_milter_SOURCES = \
	%D%/main.c \
	%D%/callbacks.c %D%/callbacks.h \
	%D%/headers.c %D%/headers.h \
	%D%/macros.c %D%/macros.h
posttrace_milter_LDADD = $(BASE_LIBS) $(MILTER_LIBS)
