/* intake.h - journals and log in, group commits out.
 *
 * One round reads what waits in the two journals and the log, in the order of time, joins it, and commits the changed
 * records together with the place in each input, so that every event is in the store exactly once, whatever is killed
 * when. Log lines are held back a moment: what they confirm is then there already.
 */
#ifndef POSTTRACE_INTAKE_H
#define POSTTRACE_INTAKE_H

#include "recorder/followers.h"
#include "shared/config/options.h"
#include "shared/store/store.h"

struct intake;

enum status intake_open(const struct config *config, struct store *store, struct intake **out, struct errinfo *err) MUST_CHECK;
/* Becomes readable when the log may have grown; -1: look now and then. */
int intake_log_fd(struct intake *intake);
/* Where notices go; may be NULL. */
void intake_set_followers(struct intake *intake, struct followers *followers);
/* Take in what there is. *busy: more waits already. final: lines held back are taken as well (orderly stop). */
enum status intake_round(struct intake *intake, bool final, bool *busy, struct errinfo *err) MUST_CHECK;
/* When the next held-back line is due, microseconds from now; -1: none waits. */
int64_t intake_next_due_us(const struct intake *intake);
void intake_close(struct intake *intake);

#endif
