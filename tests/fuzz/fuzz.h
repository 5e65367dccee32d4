/* fuzz.h - the entry of a fuzz target; libFuzzer calls it with --enable-fuzz, replay.c otherwise. */
#ifndef POSTTRACE_FUZZ_H
#define POSTTRACE_FUZZ_H

#include <stddef.h>
#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#endif
