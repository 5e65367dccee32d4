/* journal_frame.h - the bytes of a segment; shared by journal_write.c and journal_read.c only.
 *
 * A segment starts with a header of 32 bytes; frames follow. All numbers are big-endian.
 *
 *   header:  "PTJ1"  source u32  run u64  number u32  reserved u32  started_us u64
 *   frame:   length u32  crc32 u32 (of the payload)  payload (a packed Event)
 */
#ifndef POSTTRACE_JOURNAL_FRAME_H
#define POSTTRACE_JOURNAL_FRAME_H

#include <stdint.h>
#include <stdio.h>

#include "shared/model/smtp_event.h"

#define SEGMENT_MAGIC  "PTJ1"
#define SEGMENT_HEADER 32
#define FRAME_HEADER   8
#define SEGMENT_NAME_MAX 64

static inline void put_u32(uint8_t *p, uint32_t v)
{
	for (int i = 3; i >= 0; i--, v >>= 8)
		p[i] = (uint8_t)v;
}

static inline void put_u64(uint8_t *p, uint64_t v)
{
	put_u32(p, (uint32_t)(v >> 32));
	put_u32(p + 4, (uint32_t)v);
}

static inline uint32_t get_u32(const uint8_t *p)
{
	return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static inline uint64_t get_u64(const uint8_t *p)
{
	return (uint64_t)get_u32(p) << 32 | get_u32(p + 4);
}

static inline void segment_name(char out[SEGMENT_NAME_MAX], Posttrace__Source source, uint64_t run, uint32_t number)
{
	snprintf(out, SEGMENT_NAME_MAX, "%s.%016llx.%08x.seg", source_name(source), (unsigned long long)run, number);
}

/* False when the name is not that of a segment of this source. */
static inline bool segment_parse(const char *name, Posttrace__Source source, uint64_t *run, uint32_t *number)
{
	char again[SEGMENT_NAME_MAX];
	unsigned long long r;
	unsigned n;
	const char *dot = strchr(name, '.');

	if (!dot || sscanf(dot, ".%16llx.%8x.seg", &r, &n) != 2)
		return false;
	segment_name(again, source, r, n);
	if (strcmp(again, name) != 0)
		return false;
	*run = r;
	*number = n;
	return true;
}

#endif
