/* Any bytes as a posttrace.cf: what is taken can be printed, and reads the same again. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "shared/base/strbuf.h"
#include "shared/config/options.h"
#include "tests/fuzz/fuzz.h"

/* Into a file that exists in memory only; its name is good until the next call. */
static const char *as_file(const void *bytes, size_t size)
{
	static char name[64];
	static int fd = -1;

	if (fd < 0)
		fd = memfd_create("posttrace.cf", MFD_CLOEXEC);
	if (fd < 0 || ftruncate(fd, 0) != 0 || pwrite(fd, bytes, size, 0) != (ssize_t)size)
		abort();
	snprintf(name, sizeof(name), "/proc/self/fd/%d", fd);
	return name;
}

static void print(const struct config *config, char **text, size_t *len)
{
	FILE *out = open_memstream(text, len);

	if (!out)
		abort();
	config_print(config, false, out);
	fclose(out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct config config, again;
	struct listen_address address;
	struct errinfo err = {""};
	char *words = strndup((const char *)data, size);

	if (!words)
		abort();
	config_init(&config);
	if (config_load(&config, as_file(data, size), &err) == STATUS_OK) {
		char *one = NULL, *two = NULL;
		size_t n_one, n_two;

		print(&config, &one, &n_one);
		config_init(&again);
		if (config_load(&again, as_file(one, n_one), &err) != STATUS_OK)
			abort();
		print(&again, &two, &n_two);
		if (n_one != n_two || memcmp(one, two, n_one) != 0)
			abort();
		free(one);
		free(two);
		config_fini(&again);
	} else if (!err.text[0]) {
		abort();
	}
	(void)!config_assign(&config, words, &err);
	(void)!listen_address_parse(words, &address, &err);
	config_fini(&config);
	free(words);
	return 0;
}
