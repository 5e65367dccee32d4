/* clock.h - the only source of time. All times are microseconds. */
#ifndef POSTTRACE_CLOCK_H
#define POSTTRACE_CLOCK_H

#include <stdint.h>

#define US_PER_SEC INT64_C(1000000)

/* UTC since 1970. */
int64_t clock_now_us(void);
/* Never goes back; only differences mean anything. */
int64_t clock_mono_us(void);
/* Tests: every later clock_now_us gives this; 0 goes back to the real clock. */
void clock_fix_us(int64_t now_us);

#endif
