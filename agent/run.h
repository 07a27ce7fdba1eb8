/* The run that an operator started and watches. One at a time. */
#ifndef PFX_AGENT_RUN_H
#define PFX_AGENT_RUN_H

#include "agent/pass.h"

struct pfx_asker; /* counter.h */

/* REFUSED when another one is going on. The run ends with pfx_asker_end. */
PFX_MUST_USE pfx_result pfx_run_start(struct pfx_agent *agent, struct pfx_asker *asker, bool dry,
                                      int64_t wait_s, int64_t now_ms, struct pfx_error *err);
/* The asker is gone: the work goes on, nobody watches. */
void pfx_run_drop(struct pfx_agent *agent, const struct pfx_asker *asker);
/* What is due for the run: progress, polls, its end. */
void pfx_run_step(struct pfx_agent *agent, int64_t now_ms);
/* Is there one that reads for itself, or is about to? */
bool pfx_run_reads(const struct pfx_agent *agent);
/* Has it more to say, and its reader room for it? Then don't sleep. */
bool pfx_run_busy(const struct pfx_agent *agent);
/* One verdict of a pass that is being evaluated, shown to whoever watches. */
void pfx_run_plan(struct pfx_agent *agent, const struct pfx_case *c, const struct pfx_verdict *v);

#endif
