/* journal-dump DIRECTORY milter|policy - every event of a journal, one a line: the type, then name=value, separated by
 * tabs, with the names of record.proto and values escaped. For tests. */
#include <stdio.h>

#include "shared/base/text.h"
#include "shared/journal/journal.h"

static void print_bytes(struct strbuf *out, const char *name, Bytes bytes)
{
	strbuf_addf(out, "\t%s=", name);
	text_escape(out, span_from(bytes));
}

static void print_attributes(struct strbuf *out, const char *prefix, Attribute **list, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		strbuf_addf(out, "\t%s", prefix);
		text_escape(out, span_from(list[i]->name));
		strbuf_addch(out, '=');
		text_escape(out, span_from(list[i]->value));
	}
}

static void print_event(struct strbuf *out, const Event *event)
{
	const ProtobufCMessageDescriptor *descriptor = event->base.descriptor;

	strbuf_adds(out, event_type_name(event->type));
	for (unsigned i = 0; i < descriptor->n_fields; i++) {
		const ProtobufCFieldDescriptor *field = &descriptor->fields[i];
		const void *member = (const char *)event + field->offset;
		size_t n = field->label == PROTOBUF_C_LABEL_REPEATED
			       ? *(const size_t *)(const void *)((const char *)event + field->quantifier_offset)
			       : 1;

		if (field->type == PROTOBUF_C_TYPE_BYTES && field->label == PROTOBUF_C_LABEL_REPEATED) {
			for (size_t j = 0; j < n; j++)
				print_bytes(out, field->name, (*(Bytes *const *)member)[j]);
		} else if (field->type == PROTOBUF_C_TYPE_BYTES) {
			if (((const Bytes *)member)->len)
				print_bytes(out, field->name, *(const Bytes *)member);
		} else if (field->type == PROTOBUF_C_TYPE_UINT64 || field->type == PROTOBUF_C_TYPE_FIXED64) {
			if (*(const uint64_t *)member)
				strbuf_addf(out, "\t%s=%llu", field->name, (unsigned long long)*(const uint64_t *)member);
		} else if (field->type == PROTOBUF_C_TYPE_UINT32) {
			if (*(const uint32_t *)member)
				strbuf_addf(out, "\t%s=%lu", field->name, (unsigned long)*(const uint32_t *)member);
		} else if (field->type == PROTOBUF_C_TYPE_BOOL) {
			if (*(const protobuf_c_boolean *)member)
				strbuf_addf(out, "\t%s=yes", field->name);
		}
	}
	if (event->outcome)
		strbuf_addf(out, "\toutcome=%s", outcome_name(event->outcome));
	print_attributes(out, "attribute.", event->attributes, event->n_attributes);
	print_attributes(out, "header.", event->headers, event->n_headers);
	strbuf_addch(out, '\n');
}

int main(int argc, char **argv)
{
	const struct journal_place start = {0, 0, 0};
	Posttrace__Source source = argc == 3 && strcmp(argv[2], "policy") == 0 ? POSTTRACE__SOURCE__SOURCE_POLICY
									       : POSTTRACE__SOURCE__SOURCE_MILTER;
	struct journal_reader *reader = NULL;
	struct strbuf line = STRBUF_INIT;
	struct errinfo err = {""};
	struct arena arena;
	enum status status;
	Event *event;
	uint64_t run;

	if (argc != 3) {
		fprintf(stderr, "usage: journal-dump DIRECTORY milter|policy\n");
		return 2;
	}
	arena_init(&arena, 8u << 20);
	status = journal_reader_open(argv[1], source, &start, &reader, &err);
	while (status == STATUS_OK) {
		arena_reset(&arena);
		status = journal_read(reader, &arena, &event, &run, &err);
		if (status != STATUS_OK)
			break;
		strbuf_reset(&line);
		print_event(&line, event);
		fwrite(line.buf, 1, line.len, stdout);
	}
	if (status != STATUS_ABSENT)
		fprintf(stderr, "journal-dump: %s\n", err.text);
	journal_reader_close(reader);
	arena_fini(&arena);
	strbuf_fini(&line);
	return status == STATUS_ABSENT ? 0 : 1;
}
