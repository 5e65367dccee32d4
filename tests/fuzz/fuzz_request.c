/* The policy request parser: any bytes give an event that packs, fits, and points into the request only. */
#include <stdlib.h>

#include "policyd/request.h"
#include "tests/fuzz/fuzz.h"

static void check_inside(Bytes bytes, const uint8_t *data, size_t size)
{
	if (bytes.len && (bytes.data < data || bytes.data + bytes.len > data + size))
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct request request;
	struct strbuf packed = STRBUF_INIT;

	if (request_parse(span_make(data, size), &request)) {
		const Event *event = &request.event;

		check_inside(event->recipient, data, size);
		check_inside(event->policy_context, data, size);
		for (size_t i = 0; i < event->n_attributes; i++) {
			check_inside(event->attributes[i]->name, data, size);
			check_inside(event->attributes[i]->value, data, size);
		}
		event_encode(event, &packed);
		/* A journal takes what a request can be; tags and lengths add a few bytes an attribute. */
		if (packed.failed || packed.len > size * 6 + 256)
			abort();
	} else if (request.event.n_attributes || request.event.has_sender) {
		abort();
	}
	strbuf_fini(&packed);
	return 0;
}
