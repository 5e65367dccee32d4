#include "shared/base/arena.h"

#include <stdlib.h>

#define BLOCK_BYTES 4000

struct arena_block {
	struct arena_block *next;
	size_t size, used;
	_Alignas(max_align_t) unsigned char data[];
};

static void *proto_alloc(void *arena, size_t size)
{
	return arena_alloc(arena, size);
}

static void proto_free(void *arena, void *ptr)
{
	(void)arena;
	(void)ptr;
}

void arena_init(struct arena *arena, size_t cap_bytes)
{
	*arena = (struct arena){.cap = cap_bytes};
	arena->allocator = (ProtobufCAllocator){proto_alloc, proto_free, arena};
}

static void free_chain(struct arena_block *block)
{
	struct arena_block *next;

	for (; block; block = next) {
		next = block->next;
		free(block);
	}
}

void arena_fini(struct arena *arena)
{
	free_chain(arena->head);
	arena->head = NULL;
	arena->used = 0;
}

void arena_reset(struct arena *arena)
{
	struct arena_block *keep = arena->head;

	arena->used = 0;
	if (!keep)
		return;
	free_chain(keep->next);
	keep->next = NULL;
	keep->used = 0;
	if (keep->size > BLOCK_BYTES) {
		free(keep);
		arena->head = NULL;
	}
}

void *arena_alloc(struct arena *arena, size_t size)
{
	struct arena_block *block = arena->head;
	void *out;

	if (size > arena->cap)
		return NULL;
	size = (size + _Alignof(max_align_t) - 1) & ~(_Alignof(max_align_t) - 1);
	if (arena->used + size > arena->cap)
		return NULL;
	if (!block || block->size - block->used < size) {
		size_t want = size > BLOCK_BYTES ? size : BLOCK_BYTES;

		block = malloc(sizeof(*block) + want);
		if (!block)
			return NULL;
		block->size = want;
		block->used = 0;
		block->next = arena->head;
		arena->head = block;
	}
	out = block->data + block->used;
	block->used += size;
	arena->used += size;
	return memset(out, 0, size);
}

struct span arena_span(struct arena *arena, struct span span)
{
	char *copy = arena_alloc(arena, span.len + 1);

	if (!copy)
		return (struct span){NULL, 0};
	if (span.len)
		memcpy(copy, span.ptr, span.len);
	return span_make(copy, span.len);
}
