#include "shared/base/clock.h"

#include <time.h>

static int64_t fixed_us;

static int64_t read_us(clockid_t id)
{
	struct timespec ts;

	clock_gettime(id, &ts);
	return (int64_t)ts.tv_sec * US_PER_SEC + ts.tv_nsec / 1000;
}

int64_t clock_now_us(void)
{
	return fixed_us ? fixed_us : read_us(CLOCK_REALTIME);
}

int64_t clock_mono_us(void)
{
	return read_us(CLOCK_MONOTONIC);
}

void clock_fix_us(int64_t now_us)
{
	fixed_us = now_us;
}
