#include "agent/stale.h"

#include <string.h>

#include "agent/timing.h"
#include "api/conf/process.h"

#define MOST_STALE 100 /* in the history, in an hour */

const char *pfx_stale_because(const struct pfx_job_row *job, const char *role,
                              const char *incarnation, const struct pfx_msg *done)
{
    if (job->id == 0)
        return "there is no such job any more";
    if (strcmp(job->arm, role) != 0)
        return "it isn't a job of this arm";
    if (job->sent_at == 0 || job->lease != pfx_msg_int(done, "lease"))
        return "it isn't the lease that is out";
    if (!job->incarnation || strcmp(job->incarnation, incarnation) != 0)
        return "it was given to another process";
    return NULL;
}

pfx_result pfx_stale_note(struct pfx_agent *agent, const struct pfx_job_row *job,
                          const struct pfx_msg *done, const char *why, int64_t now_ms,
                          struct pfx_error *err)
{
    uint64_t untold;
    if (!pfx_limit_take(&agent->stale, MOST_STALE, PFX_HOUR, pfx_uptime_ms(), &untold))
        return PFX_OK;
    if (untold > 0)
        PFX_TRY(pfx_note(agent->store, now_ms, 0, NULL, err,
                         "%llu more stale answers came in an hour than are written down",
                         (unsigned long long)untold));
    return pfx_note(agent->store, now_ms, job->enrolment, NULL, err,
                    "stale answer not applied: job %lld lease %lld class %s: %s",
                    (long long)pfx_msg_int(done, "job"), (long long)pfx_msg_int(done, "lease"),
                    pfx_msg_str(done, "class"), why);
}
