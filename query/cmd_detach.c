#include "query/attach_run.h"

static struct attach_choice choice = {.out = true, .position = 1};

const struct option_row detach_options[] = {
    {ATTACH_OPT_ALL, "all-instances", NULL, "this instance and those of its multi_instance_directories"},
    {'d', "dry-run", NULL, "show the diff and change nothing"},
    {ATTACH_OPT_RELOAD, "reload", NULL, "tell Postfix to read its configuration anew"},
    {0, NULL, NULL, NULL},
};

bool detach_set(struct query *query, int id, const char *value, struct errinfo *err)
{
	(void)query;
	return attach_choose(&choice, id, value, err);
}

int cmd_detach(struct query *query, int argc, char **argv)
{
	(void)argc;
	(void)argv;
	return attach_run(query, &choice);
}
