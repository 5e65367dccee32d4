/* LMDB trusts its pages. A damaged one can lead a reader anywhere, and a file that is cut short under it has no bytes to
 * give: both are signals. There is nothing to return to, so the user gets a sentence and the process ends. */
#include <signal.h>
#include <stdio.h>
#include <unistd.h>

#include "shared/store/store_private.h"

#define EXIT_DAMAGED 3 /* as any other trouble of the command */

static struct {
	const struct store *store;
	char sentence[4600];
	size_t len;
	struct sigaction bus, segv;
} guard;

static void say_and_end(void)
{
	ssize_t ignored = write(STDERR_FILENO, guard.sentence, guard.len);

	(void)ignored;
	_exit(EXIT_DAMAGED);
}

/* Where the signal struck says nothing: a page number of garbage leads out of any map. */
static void on_signal(int sig)
{
	(void)sig;
	say_and_end();
}

static void on_assert(MDB_env *env, const char *message)
{
	(void)env, (void)message;
	say_and_end();
}

void store_guard(const struct store *store)
{
	struct sigaction action = {.sa_handler = on_signal};
	int len;

	if (guard.store)
		return;
	len = snprintf(guard.sentence, sizeof(guard.sentence),
	    "posttrace: fatal: reading the store %s ended in a crash: most likely its data.mdb is damaged; restore a backup or move "
	    "it away, posttrace-recorder makes a new one. If it happens with that one too, the fault is ours: please report it\n",
	    store->directory);
	guard.len = len > 0 && (size_t)len < sizeof(guard.sentence) ? (size_t)len : 0;
	guard.store = store;
	mdb_env_set_assert(store->env, on_assert);
	sigaction(SIGBUS, &action, &guard.bus);
	sigaction(SIGSEGV, &action, &guard.segv);
}

void store_guard_end(const struct store *store)
{
	if (guard.store != store)
		return;
	sigaction(SIGBUS, &guard.bus, NULL);
	sigaction(SIGSEGV, &guard.segv, NULL);
	guard.store = NULL;
}
