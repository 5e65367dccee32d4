/* replay - run a fuzz target over its corpus, each file whole and cut short at every byte; TAP.
 * The folder is argv[1], or tests/fuzz/corpus/NAME of the source tree for a program fuzz_NAME. */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/fuzz/fuzz.h"

static void run(const uint8_t *data, size_t size)
{
	/* A copy of just that size: a sanitizer sees each byte read behind the end. */
	uint8_t *copy = malloc(size ? size : 1);

	if (!copy)
		exit(1);
	if (size)
		memcpy(copy, data, size);
	LLVMFuzzerTestOneInput(copy, size);
	free(copy);
}

int main(int argc, char **argv)
{
	static uint8_t data[1 << 17];
	const char *top = getenv("top_srcdir"), *name = strrchr(argv[0], '/');
	char folder[4096], path[8192];
	struct dirent *entry;
	int n = 0;
	DIR *dir;

	name = name ? name + 1 : argv[0];
	snprintf(folder, sizeof(folder), "%s/tests/fuzz/corpus/%s", top ? top : ".",
	    strncmp(name, "fuzz_", 5) == 0 ? name + 5 : name);
	dir = opendir(argc > 1 ? argv[1] : folder);
	if (!dir) {
		printf("Bail out! no corpus in %s\n", argc > 1 ? argv[1] : folder);
		return 1;
	}
	while ((entry = readdir(dir))) {
		FILE *in;
		size_t size;

		if (entry->d_name[0] == '.')
			continue;
		snprintf(path, sizeof(path), "%s/%s", argc > 1 ? argv[1] : folder, entry->d_name);
		in = fopen(path, "rb");
		if (!in) {
			printf("Bail out! can't read %s\n", path);
			return 1;
		}
		size = fread(data, 1, sizeof(data), in);
		fclose(in);
		for (size_t cut = 0; cut <= size; cut += size > 8192 ? 97 : 1)
			run(data, cut);
		run(data, size);
		printf("ok %d - %s\n", ++n, entry->d_name);
	}
	closedir(dir);
	printf("1..%d\n", n);
	return n == 0;
}
