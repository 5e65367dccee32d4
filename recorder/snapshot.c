#include "recorder/snapshot.h"

#include <stdio.h>
#include <sys/stat.h>
#include <zlib.h>

#include "shared/base/clock.h"
#include "shared/base/hash.h"
#include "shared/postfix/child.h"

#define POSTCONF_US    (10 * US_PER_SEC)
#define POSTCONF_BYTES (4u << 20)

/* One postconf; flag NULL: every parameter. */
static enum status run_postconf(
    const char *config_directory, const char *flag, struct strbuf *out, struct errinfo *err)
{
	const char *argv[6] = {"postconf"};
	struct strbuf said = STRBUF_INIT;
	enum status status;
	int n = 1, code = 0;

	if (*config_directory) {
		argv[n++] = "-c";
		argv[n++] = config_directory;
	}
	if (flag)
		argv[n++] = flag;
	status = child_run(argv, POSTCONF_US, POSTCONF_BYTES, out, &said, &code, err);
	if (status == STATUS_OK && code != 0)
		status = errinfo_set(err, STATUS_IO, "postconf%s%s failed: %s", flag ? " " : "", flag ? flag : "",
		    said.len ? said.buf : "no reason given");
	strbuf_fini(&said);
	return status;
}

static Bytes squeeze(struct arena *arena, struct strbuf *text)
{
	uLongf len = compressBound(text->len);
	Bytef *buf = arena_alloc(arena, len);

	if (!buf || compress2(buf, &len, (const Bytef *)text->buf, text->len, 6) != Z_OK)
		return (Bytes){0, NULL};
	return (Bytes){len, buf};
}

enum status snapshot_take(
    const char *config_directory, struct arena *arena, Posttrace__Configuration *out, struct errinfo *err)
{
	static const char *const flags[] = {NULL, "-n", "-M", "-P"};
	struct strbuf texts[4] = {STRBUF_INIT, STRBUF_INIT, STRBUF_INIT, STRBUF_INIT}, all = STRBUF_INIT;
	Posttrace__Configuration conf = POSTTRACE__CONFIGURATION__INIT;
	enum status status = STATUS_OK;
	const char *version;

	for (int i = 0; i < 4 && status == STATUS_OK; i++) {
		status = run_postconf(config_directory, flags[i], &texts[i], err);
		/* the parts must not run into each other */
		strbuf_addf(&all, "%zu:", texts[i].len);
		strbuf_addspan(&all, strbuf_span(&texts[i]));
	}
	if (status == STATUS_OK) {
		conf.digest = hash_digest(strbuf_span(&all));
		conf.taken_us = (uint64_t)clock_now_us();
		conf.config_directory = bytes_of(arena_span(arena, span_of(config_directory)));
		conf.main_cf = squeeze(arena, &texts[0]);
		conf.main_cf_set = bytes_of(arena_span(arena, strbuf_span(&texts[1])));
		conf.master_cf = bytes_of(arena_span(arena, strbuf_span(&texts[2])));
		conf.overrides = bytes_of(arena_span(arena, strbuf_span(&texts[3])));
		version = strstr(texts[0].buf, "\nmail_version = ");
		if (version) {
			struct span rest = span_of(version + strlen("\nmail_version = ")), line = {NULL, 0};

			span_cut(&rest, '\n', &line);
			conf.mail_version = bytes_of(arena_span(arena, line));
		}
		*out = conf;
	}
	for (int i = 0; i < 4; i++)
		strbuf_fini(&texts[i]);
	strbuf_fini(&all);
	return status;
}

uint64_t snapshot_stamp(const char *config_directory)
{
	static const char *const names[] = {"main.cf", "master.cf"};
	const char *directory = *config_directory ? config_directory : "/etc/postfix";
	uint64_t stamp = 0;
	char path[4200];
	struct stat st;

	for (int i = 0; i < 2; i++) {
		snprintf(path, sizeof(path), "%s/%s", directory, names[i]);
		if (stat(path, &st) == 0) {
			uint64_t parts[4] = {(uint64_t)st.st_mtim.tv_sec, (uint64_t)st.st_mtim.tv_nsec, (uint64_t)st.st_size,
			    (uint64_t)st.st_ino};

			stamp = stamp * 31 + hash_bytes(span_make(parts, sizeof(parts)));
		}
	}
	return stamp;
}
