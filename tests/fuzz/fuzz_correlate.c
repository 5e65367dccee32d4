/* A row of any events, from any witness, some of them at once with a restart from what was stored: two bytes of length,
 * one of source and flags, a packed event. No order of facts may break the join, and what it hands over can be read
 * back. The bytes behind a length of 0 are a session's state as the store might have it. */
#include <stdlib.h>

#include "shared/base/clock.h"
#include "shared/model/correlate.h"
#include "shared/model/tx.h"
#include "tests/fuzz/fuzz.h"

#define KEPT 64

struct kept {
	uint64_t key;
	struct strbuf bytes;
};

struct world {
	struct correlate *correlate;
	struct kept records[KEPT], states[KEPT];
	uint64_t last_id;
};

static struct kept *slot(struct kept *list, uint64_t key)
{
	for (int i = 0; i < KEPT; i++)
		if (list[i].key == key)
			return &list[i];
	for (int i = 0; i < KEPT; i++)
		if (!list[i].key) {
			list[i].key = key;
			strbuf_init(&list[i].bytes);
			return &list[i];
		}
	return NULL;
}

static enum status new_id(void *arg, int64_t start_us, uint64_t *id)
{
	struct world *world = arg;

	*id = (uint64_t)start_us > world->last_id ? (uint64_t)start_us : world->last_id + 1;
	world->last_id = *id;
	return STATUS_OK;
}

static enum status put(void *arg, const Transaction *tx)
{
	struct world *world = arg;
	size_t size = posttrace__transaction__get_packed_size(tx);
	struct kept *kept = slot(world->records, tx->id);
	struct arena arena;

	if (!tx->id || tx->n_step_what != tx->n_step_at_us || tx->n_step_what != tx->n_step_ref)
		abort();
	if (!kept)
		return STATUS_OK;
	strbuf_reset(&kept->bytes);
	if (!strbuf_grow(&kept->bytes, size))
		abort();
	posttrace__transaction__pack(tx, (uint8_t *)kept->bytes.buf);
	strbuf_setlen(&kept->bytes, size);
	arena_init(&arena, 16 << 20);
	if (!posttrace__transaction__unpack(&arena.allocator, size, (uint8_t *)kept->bytes.buf))
		abort();
	arena_fini(&arena);
	return STATUS_OK;
}

static enum status put_open(void *arg, uint64_t key, struct span state)
{
	struct kept *kept = slot(((struct world *)arg)->states, key);

	if (!kept)
		return STATUS_OK;
	strbuf_reset(&kept->bytes);
	strbuf_addspan(&kept->bytes, state);
	return STATUS_OK;
}

static void notice(void *arg, Posttrace__EventType type, int64_t at_us, struct tx *tx)
{
	(void)arg;
	(void)type;
	(void)at_us;
	if (posttrace__transaction__get_packed_size(&tx->rec) == 0)
		abort();
}

static enum status load(void *arg, uint64_t id, struct arena *arena, Transaction **out)
{
	struct world *world = arg;

	for (int i = 0; i < KEPT; i++)
		if (world->records[i].key == id && id) {
			*out = posttrace__transaction__unpack(
			    &arena->allocator, world->records[i].bytes.len, (const uint8_t *)world->records[i].bytes.buf);
			return *out ? STATUS_OK : STATUS_INVALID;
		}
	return STATUS_ABSENT;
}

static void begin(struct world *world)
{
	const struct correlate_sink sink = {world, new_id, put, put_open, notice};

	world->correlate = correlate_new(&sink);
	if (!world->correlate)
		abort();
}

static void hand_over(struct world *world)
{
	if (correlate_flush(world->correlate) != STATUS_OK)
		abort();
	correlate_flushed(world->correlate, true);
	if (correlate_dirty(world->correlate))
		abort();
}

static void restart(struct world *world, bool orderly)
{
	if (orderly)
		hand_over(world);
	correlate_free(world->correlate);
	begin(world);
	for (int i = 0; i < KEPT; i++)
		if (world->states[i].key && world->states[i].bytes.len)
			(void)!correlate_restore(
			    world->correlate, world->states[i].key, strbuf_span(&world->states[i].bytes), load, world);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct world world = {.last_id = 0};
	struct arena arena;

	arena_init(&arena, 16 << 20);
	begin(&world);
	while (size > 3) {
		size_t len = (size_t)data[0] << 8 | data[1];
		unsigned flags = data[2];
		Event *event;

		data += 3;
		size -= 3;
		if (!len) {
			(void)!correlate_restore(world.correlate, 1000 + flags, span_make(data, size), load, &world);
			break;
		}
		len = len < size ? len : size;
		event = event_decode(span_make(data, len), &arena);
		data += len;
		size -= len;
		if (event) {
			event->at_us %= UINT64_C(4000000000000000); /* clocks are ours: up to the year 2096 */
			event->source = (Posttrace__Source)(flags & 3 ? flags & 3 : POSTTRACE__SOURCE__SOURCE_RECORDER);
			correlate_event(world.correlate, event, flags >> 2 & 1, flags & 8);
		}
		if (flags & 16)
			hand_over(&world);
		if (flags & 32)
			correlate_tick(world.correlate, event ? (int64_t)event->at_us : 0);
		if (flags & 64)
			restart(&world, flags & 128);
	}
	correlate_tick(world.correlate, INT64_C(4000000000000000));
	hand_over(&world);
	correlate_free(world.correlate);
	for (int i = 0; i < KEPT; i++) {
		if (world.records[i].key)
			strbuf_fini(&world.records[i].bytes);
		if (world.states[i].key)
			strbuf_fini(&world.states[i].bytes);
	}
	arena_fini(&arena);
	return 0;
}
