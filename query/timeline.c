#include "query/timeline.h"

#include <stdlib.h>

static int by_time(const void *a, const void *b)
{
	const struct moment *left = a, *right = b;

	if (left->at_us != right->at_us)
		return left->at_us < right->at_us ? -1 : 1;
	return left->order < right->order ? -1 : left->order > right->order;
}

/* The refusal or note that belongs to a step is the one of the same moment and source. */
static void attach_text(struct moment *moment, const Transaction *tx, bool *refusal_used, bool *note_used)
{
	for (size_t i = 0; i < tx->n_refusals && moment->type == POSTTRACE__EVENT_TYPE__TX_REFUSED; i++) {
		if (refusal_used[i] || tx->refusals[i]->at_us != moment->at_us ||
		    tx->refusals[i]->source != moment->source)
			continue;
		moment->refusal = tx->refusals[i];
		refusal_used[i] = true;
		return;
	}
	for (size_t i = 0; i < tx->n_notes; i++) {
		if (note_used[i] || tx->notes[i]->at_us != moment->at_us || tx->notes[i]->source != moment->source)
			continue;
		moment->note = tx->notes[i];
		note_used[i] = true;
		return;
	}
}

struct moment *timeline_make(const Transaction *tx, struct arena *arena, size_t *n)
{
	size_t hits = 0, most, count = 0, steps = tx->n_step_what;
	struct moment *moments;
	bool *refusal_used, *note_used;

	*n = 0;
	if (steps > tx->n_step_at_us)
		steps = tx->n_step_at_us;
	for (size_t l = 0; l < tx->n_tracepoints; l++)
		hits += tx->tracepoints[l]->n_at_us;
	most = steps + hits + tx->n_refusals + tx->n_notes;
	moments = arena_alloc(arena, (most + 1) * sizeof(*moments));
	refusal_used = arena_alloc(arena, tx->n_refusals + 1);
	note_used = arena_alloc(arena, tx->n_notes + 1);
	if (!moments || !refusal_used || !note_used)
		return NULL;
	for (size_t i = 0; i < steps; i++) {
		struct moment *m = &moments[count];
		size_t ref = i < tx->n_step_ref ? tx->step_ref[i] : 0;

		m->type = (Posttrace__EventType)(tx->step_what[i] % 32);
		m->source = (Posttrace__Source)(tx->step_what[i] / 32);
		m->at_us = tx->step_at_us[i];
		/* the lists of tracepoints tell more than the bare steps */
		if (m->type == POSTTRACE__EVENT_TYPE__TRACEPOINT && hits)
			continue;
		if (ref && ref <= tx->n_recipients)
			m->recipient = tx->recipients[ref - 1];
		attach_text(m, tx, refusal_used, note_used);
		count++;
	}
	for (size_t l = 0; l < tx->n_tracepoints; l++) {
		const Posttrace__Tracepoints *list = tx->tracepoints[l];

		for (size_t i = 0; i < list->n_at_us && 2 * i + 1 < list->n_hits; i++) {
			size_t ref = list->hits[2 * i + 1];

			moments[count++] = (struct moment){.at_us = list->at_us[i],
			    .type = POSTTRACE__EVENT_TYPE__TRACEPOINT,
			    .source = POSTTRACE__SOURCE__SOURCE_POLICY,
			    .recipient = ref && ref <= tx->n_recipients ? tx->recipients[ref - 1] : NULL,
			    .list = list,
			    .position = list->hits[2 * i]};
		}
	}
	for (size_t i = 0; i < tx->n_refusals; i++)
		if (!refusal_used[i])
			moments[count++] = (struct moment){.at_us = tx->refusals[i]->at_us,
			    .type = POSTTRACE__EVENT_TYPE__TX_REFUSED,
			    .source = tx->refusals[i]->source,
			    .refusal = tx->refusals[i]};
	for (size_t i = 0; i < tx->n_notes; i++)
		if (!note_used[i])
			moments[count++] = (struct moment){.at_us = tx->notes[i]->at_us,
			    .type = POSTTRACE__EVENT_TYPE__LOG_NOTE,
			    .source = tx->notes[i]->source,
			    .note = tx->notes[i]};
	for (size_t i = 0; i < count; i++)
		moments[i].order = i;
	qsort(moments, count, sizeof(*moments), by_time);
	*n = count;
	return moments;
}

int64_t timeline_restriction_us(const Posttrace__Tracepoints *list, size_t hit)
{
	for (size_t i = hit + 1; i < list->n_at_us && 2 * i + 1 < list->n_hits; i++)
		if (list->hits[2 * i + 1] == list->hits[2 * hit + 1] && list->hits[2 * i] > list->hits[2 * hit])
			return list->at_us[i] - list->at_us[hit];
	return -1;
}

struct span timeline_restriction(struct span list_text, unsigned position)
{
	struct span rest = list_text, line = {NULL, 0};

	for (unsigned i = 0; i < position; i++)
		if (!span_cut(&rest, '\n', &line))
			return (struct span){NULL, 0};
	return span_trim(line);
}
