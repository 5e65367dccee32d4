/* Any bytes as a line of Postfix's log: what comes out points into the line or the arena, and can be packed and unpacked. */
#include <stdlib.h>

#include "recorder/logline.h"
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct logline_clock clock = {{0}, 0, 0};
	struct strbuf packed = STRBUF_INIT;
	struct logline_frame frame;
	struct logline out;
	struct arena arena;

	arena_init(&arena, 1 << 20);
	if (logline_frame(&clock, span_make(data, size), INT64_C(1795478400000000), &frame) == STATUS_OK &&
	    (frame.words.len > size || !frame.program.len))
		abort();
	if (logline_parse(&clock, span_make(data, size), INT64_C(1795478400000000), &arena, &out) == STATUS_OK) {
		event_encode(&out.event, &packed);
		if (out.event.type == POSTTRACE__EVENT_TYPE__EVENT_NONE || !event_decode(strbuf_span(&packed), &arena))
			abort();
	}
	strbuf_fini(&packed);
	arena_fini(&arena);
	return 0;
}
