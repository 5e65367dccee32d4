/* arena.h - memory of one session, transaction or question: many small pieces, freed at once.
 *
 * Errors:  an arena has a byte cap; at the cap or out of memory, arena_alloc returns NULL.
 * Threads: one thread at a time.
 */
#ifndef POSTTRACE_ARENA_H
#define POSTTRACE_ARENA_H

#include <stddef.h>

#include <protobuf-c/protobuf-c.h>

#include "shared/base/span.h"

struct arena {
	struct arena_block *head;
	size_t used; /* bytes handed out since the last reset */
	size_t cap;
	ProtobufCAllocator allocator; /* for protobuf-c's unpack: nothing to free one by one */
};

void arena_init(struct arena *arena, size_t cap_bytes);
void arena_fini(struct arena *arena);
/* Free everything handed out; keeps one block for the next use. */
void arena_reset(struct arena *arena);
/* Aligned for any type, zeroed; NULL when there is no room. */
void *arena_alloc(struct arena *arena, size_t size);
/* A copy with a NUL behind it; .ptr is NULL when there is no room (and len 0). */
struct span arena_span(struct arena *arena, struct span span);

#endif
