/* followers.h - tell those who run "posttrace follow" what has just been stored.
 *
 * A follower connects to recorder.sock in the store's directory and sends "follow\n". It gets frames:
 *   length u32 (of what follows)  kind u8
 *     'E': event type u32, at_us u64, packed Transaction
 *     'D': number of notices dropped u64, because the follower read too slowly
 * All numbers are big-endian. Nobody waits for a follower: past FOLLOWER_BYTES notices are dropped, counted and told.
 */
#ifndef POSTTRACE_FOLLOWERS_H
#define POSTTRACE_FOLLOWERS_H

#include <event2/event.h>

#include "shared/model/smtp_event.h"

struct followers;

enum status followers_open(
    struct event_base *base, const char *directory, struct followers **out, struct errinfo *err) MUST_CHECK;
bool followers_any(const struct followers *followers);
void followers_tell(struct followers *followers, Posttrace__EventType type, int64_t at_us, const Transaction *tx);
void followers_close(struct followers *followers);

#endif
