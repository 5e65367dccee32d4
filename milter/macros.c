#include "milter/macros.h"

#include <stdio.h>
#include <stdlib.h>

#include "shared/base/hash.h"
#include "shared/base/log.h"

enum kind { TEXT, NUMBER, PLAIN };

#define AT(stage) (1u << SMFIM_##stage)

/* AUTH and STARTTLS have no event of their own: their macros are looked at from the next command on. */
static const struct macro_row {
	const char *name;
	unsigned stages; /* where it is asked for */
	unsigned group;
	enum kind kind; /* PLAIN: fetched by name where it is needed */
	size_t offset;
} rows[] = {
    {"{client_addr}", AT(CONNECT) | AT(ENVFROM), MACRO_LINK, TEXT, offsetof(Event, client_address)},
    {"{client_port}", AT(CONNECT) | AT(ENVFROM), MACRO_LINK, NUMBER, offsetof(Event, client_port)},
    {"{client_name}", AT(CONNECT) | AT(ENVFROM), MACRO_LINK, TEXT, offsetof(Event, client_name)},
    {"{client_ptr}", AT(CONNECT), MACRO_LINK, TEXT, offsetof(Event, client_ptr)},
    {"{client_resolve}", AT(CONNECT), MACRO_LINK, TEXT, offsetof(Event, client_resolve)},
    {"{client_connections}", AT(CONNECT), 0, PLAIN, 0},
    {"{daemon_addr}", AT(CONNECT) | AT(ENVFROM), MACRO_LINK, TEXT, offsetof(Event, server_address)},
    {"{daemon_port}", AT(CONNECT) | AT(ENVFROM), MACRO_LINK, NUMBER, offsetof(Event, server_port)},
    {"{daemon_name}", AT(CONNECT) | AT(ENVFROM), MACRO_LINK, TEXT, offsetof(Event, daemon_name)},
    {"j", AT(CONNECT), MACRO_LINK, TEXT, offsetof(Event, host)},
    {"v", AT(CONNECT), 0, PLAIN, 0},
    {"{tls_version}", AT(HELO) | AT(ENVFROM), MACRO_TLS, TEXT, offsetof(Event, tls_protocol)},
    {"{cipher}", AT(HELO) | AT(ENVFROM), MACRO_TLS, TEXT, offsetof(Event, tls_cipher)},
    {"{cipher_bits}", AT(HELO) | AT(ENVFROM), MACRO_TLS, NUMBER, offsetof(Event, tls_bits)},
    {"{cert_subject}", AT(HELO) | AT(ENVFROM), MACRO_TLS, TEXT, offsetof(Event, ccert_subject)},
    {"{cert_issuer}", AT(HELO) | AT(ENVFROM), MACRO_TLS, TEXT, offsetof(Event, ccert_issuer)},
    {"{auth_type}", AT(ENVFROM), MACRO_AUTH, TEXT, offsetof(Event, sasl_method)},
    {"{auth_authen}", AT(ENVFROM), MACRO_AUTH, TEXT, offsetof(Event, sasl_username)},
    {"{auth_author}", AT(ENVFROM), MACRO_AUTH, TEXT, offsetof(Event, sasl_sender)},
    {"{rcpt_mailer}", AT(ENVRCPT), 0, PLAIN, 0},
    {"{rcpt_host}", AT(ENVRCPT), 0, PLAIN, 0},
    {"{rcpt_addr}", AT(ENVRCPT), 0, PLAIN, 0},
    {"i", AT(ENVFROM) | AT(ENVRCPT) | AT(DATA) | AT(EOH) | AT(EOM), MACRO_QUEUE, TEXT, offsetof(Event, queue_id)},
};
#define N_ROWS (sizeof(rows) / sizeof(rows[0]))

void macros_request(SMFICTX *ctx)
{
	for (int stage = SMFIM_FIRST; stage <= SMFIM_LAST; stage++) {
		char list[512] = "";
		size_t len = 0;

		for (size_t i = 0; i < N_ROWS; i++)
			if (rows[i].stages & 1u << stage && len < sizeof(list))
				len += (size_t)snprintf(list + len, sizeof(list) - len, "%s%s", len ? " " : "", rows[i].name);
		if (len && smfi_setsymlist(ctx, stage, list) != MI_SUCCESS)
			log_debug("libmilter takes no list of macros for stage %d", stage);
	}
}

struct span macro_value(SMFICTX *ctx, const char *name)
{
	return span_of(smfi_getsymval(ctx, (char *)(uintptr_t)name));
}

void macros_fill(SMFICTX *ctx, unsigned groups, Event *event)
{
	for (size_t i = 0; i < N_ROWS; i++) {
		struct span value;
		char *member = (char *)event + rows[i].offset;

		if (!(rows[i].group & groups))
			continue;
		value = macro_value(ctx, rows[i].name);
		if (!value.len)
			continue;
		if (rows[i].kind == NUMBER)
			*(uint32_t *)(void *)member = (uint32_t)strtoul(value.ptr, NULL, 10);
		else
			*(Bytes *)(void *)member = bytes_of(value);
	}
}

uint64_t macros_digest(SMFICTX *ctx, enum macro_group group)
{
	uint64_t digest = 0;

	for (size_t i = 0; i < N_ROWS; i++)
		if (rows[i].group == group) {
			struct span value = macro_value(ctx, rows[i].name);

			if (value.len)
				digest = digest * 31 + hash_bytes(value) + i;
		}
	return digest;
}
