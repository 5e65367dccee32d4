#include "query/attach_run.h"

static struct attach_choice choice = {.position = 1};

const struct option_row attach_options[] = {
    {ATTACH_OPT_ALL, "all-instances", NULL, "this instance and those of its multi_instance_directories"},
    {'d', "dry-run", NULL, "show the postconf commands and the diff, and change nothing"},
    {ATTACH_OPT_POSITION, "position", "WHERE", "our place among the milters: first (the default), last, or a number"},
    {ATTACH_OPT_RELOAD, "reload", NULL, "tell Postfix to read its configuration anew"},
    {0, NULL, NULL, NULL},
};

bool attach_set(struct query *query, int id, const char *value, struct errinfo *err)
{
	(void)query;
	return attach_choose(&choice, id, value, err);
}

int cmd_attach(struct query *query, int argc, char **argv)
{
	(void)argc;
	(void)argv;
	return attach_run(query, &choice);
}
