/* The milter's callbacks in any order, with any words and macros, as a libmilter with a hostile peer would call them.
 * Each event fits a journal, every answer lets the mail go on, and the session ends without a leak. The first byte holds
 * the options, then comes one byte a call and its words, each ended by a newline. */
#include <netinet/in.h>
#include <stdlib.h>

#include "milter/callbacks.h"
#include "milter/headers.h"
#include "shared/journal/journal_frame.h"
#include "tests/fuzz/fuzz.h"

#define WORDS 80

static void *priv;
static char *macros[8]; /* given out in turn: which name gets which is no matter */
static unsigned asked;
static struct strbuf packed = STRBUF_INIT;

int smfi_setpriv(SMFICTX *ctx, void *data)
{
	(void)ctx;
	priv = data;
	return MI_SUCCESS;
}

void *smfi_getpriv(SMFICTX *ctx)
{
	(void)ctx;
	return priv;
}

char *smfi_getsymval(SMFICTX *ctx, char *name)
{
	(void)ctx;
	return macros[(asked + (unsigned char)name[1] + (unsigned char)name[strlen(name) - 1]) % 8];
}

int smfi_setsymlist(SMFICTX *ctx, int where, char *list)
{
	(void)ctx;
	return where >= 0 && list ? MI_SUCCESS : MI_FAILURE;
}

void journal_append(struct journal *journal, const Event *event)
{
	(void)journal;
	strbuf_reset(&packed);
	event_encode(event, &packed);
	if (packed.failed || packed.len > JOURNAL_EVENT_MAX)
		abort();
}

/* The next word of the input, as a string of its own. */
static char *word(struct span *rest)
{
	struct span w;

	return span_cut(rest, '\n', &w) ? strndup(w.ptr, w.len) : strdup("");
}

static void call(const struct smfiDesc *milter, unsigned what, struct span *rest)
{
	struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = 55};
	struct sockaddr_in6 in6 = {.sin6_family = AF_INET6, .sin6_port = 77};
	unsigned long wanted[4] = {0};
	char *args[WORDS + 1] = {NULL};
	sfsistat answer = SMFIS_CONTINUE;
	unsigned n = what >> 4 < 15 ? 1 + (what >> 4) : WORDS;
	char *at;

	for (unsigned i = 0; i < n; i++)
		args[i] = word(rest);
	switch (what & 15) {
	case 0:
		answer = milter->xxfi_connect(NULL, args[0], what & 32 ? (_SOCK_ADDR *)&in : what & 64 ? (_SOCK_ADDR *)&in6 : NULL);
		break;
	case 1:
		answer = milter->xxfi_helo(NULL, args[0]);
		break;
	case 2:
		answer = milter->xxfi_envfrom(NULL, args);
		break;
	case 3:
		answer = milter->xxfi_envrcpt(NULL, args);
		break;
	case 4:
		answer = milter->xxfi_data(NULL);
		break;
	case 5:
	case 6:
		/* a long value, as unfolded headers may be */
		at = args[1] ? args[1] : args[0];
		answer = milter->xxfi_header(NULL, args[0], at);
		break;
	case 7:
		answer = milter->xxfi_eoh(NULL);
		break;
	case 8:
		answer = milter->xxfi_body(NULL, (unsigned char *)args[0], strlen(args[0]));
		break;
	case 9:
		answer = milter->xxfi_eom(NULL);
		break;
	case 10:
		answer = milter->xxfi_abort(NULL);
		break;
	case 11:
		answer = milter->xxfi_unknown(NULL, args[0]);
		break;
	case 12:
		answer = milter->xxfi_close(NULL);
		break;
	case 13:
		(void)milter->xxfi_negotiate(NULL, 0x1ff, strtoul(args[0], NULL, 16), 0, 0, &wanted[0], &wanted[1], &wanted[2], &wanted[3]);
		if (wanted[0])
			abort(); /* it asks for no right to change anything */
		break;
	default:
		free(macros[what >> 4 & 7]);
		macros[what >> 4 & 7] = what & 128 ? NULL : strdup(args[0]);
		asked++;
	}
	if (answer != SMFIS_CONTINUE && answer != SMFIS_NOREPLY)
		abort();
	for (unsigned i = 0; i < n; i++)
		free(args[i]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct span rest = span_make(data, size);
	struct callbacks_settings settings;
	struct config config;
	struct smfiDesc milter;

	if (!size)
		return 0;
	config_init(&config);
	config.header_limit = 64u << (data[0] & 7);
	config.record_subject = data[0] & 8;
	settings = (struct callbacks_settings){&config, data[0] & 16};
	milter = callbacks_start(&settings);
	callbacks_set_journal((struct journal *)(void *)&config); /* journal_append above looks at nothing of it */
	rest = span_skip(rest, 1);
	while (rest.len) {
		unsigned what = (unsigned char)rest.ptr[0];

		rest = span_skip(rest, 1);
		call(&milter, what, &rest);
	}
	milter.xxfi_close(NULL);
	if (priv || callbacks_open_transactions())
		abort();
	for (int i = 0; i < 8; i++) {
		free(macros[i]);
		macros[i] = NULL;
	}
	asked = 0;
	config_fini(&config);
	return 0;
}
