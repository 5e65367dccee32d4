/* attach_run.h - what the commands attach and detach have in common: which instances, and telling what was done. */
#ifndef POSTTRACE_ATTACH_RUN_H
#define POSTTRACE_ATTACH_RUN_H

#include "query/cmd.h"

enum { ATTACH_OPT_ALL = 400, ATTACH_OPT_POSITION, ATTACH_OPT_RELOAD };

struct attach_choice {
	bool out; /* detach */
	bool all;
	bool dry;
	bool reload;
	unsigned position; /* 0: last */
};

/* An option; false: err says what is wrong with the value. */
bool attach_choose(struct attach_choice *choice, int id, const char *value, struct errinfo *err);
/* The whole command; returns its exit code. */
int attach_run(struct query *query, const struct attach_choice *choice);

#endif
