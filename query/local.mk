bin_PROGRAMS += posttrace
posttrace_SOURCES = \
	%D%/main.c %D%/cmd.h \
	%D%/attach.h %D%/attach_edit.c %D%/attach_edit.h %D%/attach_out.c %D%/attach_files.c %D%/attach_hooks.c \
	%D%/attach_run.h %D%/attach_run.c \
	%D%/cmd_attach.c \
	%D%/cmd_detach.c \
	%D%/cmd_export.c \
	%D%/cmd_follow.c \
	%D%/cmd_list.c \
	%D%/cmd_show.c \
	%D%/cmd_store.c \
	%D%/cmd_summary.c \
	%D%/cmd_why.c \
	%D%/filter.c %D%/filter.h \
	%D%/find.c %D%/find.h \
	%D%/pager.c %D%/pager.h \
	%D%/render.h %D%/render_json.c %D%/render_text.c \
	%D%/timeline.c %D%/timeline.h \
	%D%/timespec.c %D%/timespec.h
posttrace_LDADD = $(BASE_LIBS) $(JSON_LIBS) $(SMARTCOLS_LIBS)
