/* When things happen: back-off, settling, the poll's window, the next attempt, the day's budget.
 * Pure; the clock and the dice are arguments. All times are milliseconds UTC. */
#ifndef PFX_AGENT_TIMING_H
#define PFX_AGENT_TIMING_H

#include <stdbool.h>
#include <stdint.h>

#define PFX_SECOND INT64_C(1000)
#define PFX_MINUTE (60 * PFX_SECOND)
#define PFX_HOUR (60 * PFX_MINUTE)
#define PFX_DAY (24 * PFX_HOUR)

/* How long to wait before try `tries` + 1: min doubling to max, 75 to 125 percent by the dice. */
int64_t pfx_backoff(unsigned tries, int64_t min_ms, int64_t max_ms, uint32_t dice);

/* A lost order is looked for five times over the grace period. Delay before look n (0, 1, ...). */
#define PFX_SETTLE_LOOKS 5
int64_t pfx_settle_delay(unsigned n, int64_t grace_ms);
/* Has it been looked for long and often enough? empty: looks that came back empty. */
bool pfx_settle_over(unsigned empty, int64_t since_ms, int64_t grace_ms, int64_t now_ms);

/* Minutes for the bulk poll. last_poll: start of the last successful one, 0: none. oldest: when the
 * oldest order that no poll has covered was sent, 0: none. *ret_gap: the window is longer than the
 * CA can look back, so each pending order must be asked for by itself. */
#define PFX_POLL_OVERLAP_MIN 5
#define PFX_POLL_MAX_MIN 10080
unsigned pfx_poll_minutes(int64_t last_poll_ms, int64_t oldest_ms, int64_t now_ms, bool *ret_gap);

#define PFX_REORDER_MAX (90 * PFX_DAY)
/* Earliest next attempt after `ended` attempts without a certificate, the last one at last_ms. */
int64_t pfx_reorder_at(unsigned ended, int64_t last_ms, int64_t reorder_after_ms);

/* Midnight UTC before now. */
int64_t pfx_day_start(int64_t now_ms);
/* May one more be ordered? */
bool pfx_budget_left(unsigned in_pass, unsigned max_pass, unsigned today, unsigned max_day);

/* More than one day ahead waits. 0: no date. */
bool pfx_hire_waits(int64_t hire_ms, int64_t now_ms);

#endif
