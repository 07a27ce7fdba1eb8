/* Faults of the disk, or of the machine, at one call of the operation log's writer. */
#ifndef PFX_HSM_OPLOG_FAULTS_H
#define PFX_HSM_OPLOG_FAULTS_H

#include <pthread.h>

#include "hsm_oplog_rig.h"

#define KILLED 99
#define MAX_STEPS 96

enum fault {
    NONE,
    BEFORE, /* killed before the call */
    AFTER,  /* killed after it */
    TORN_1, /* killed after so many bytes of a write */
    TORN_2,
    TORN_HALF,
    TORN_LAST,  /* all but the last byte */
    TORN_LATE,  /* the second half is there, the first isn't */
    POWER,      /* killed before it, and what wasn't synced is lost */
    FULL,       /* ENOSPC once */
    FULL_LONG,  /* ENOSPC from here on, for all that needs space, until the process ends */
    FAILS,      /* EIO */
    FAILS_LOST, /* EIO of a sync, what wasn't synced is lost, and the first result that is let out
                 * after it is the last thing that the process does */
    N_FAULTS
};
extern const char *const fault_names[N_FAULTS];

/* Shared with the processes that die. */
struct fault_counts {
    unsigned calls[MAX_STEPS];
    bool hit;
};
extern struct fault_counts *fault_counts;

/* Which call is to be met, by step and number. */
extern const char *fault_step;
extern unsigned fault_nth;
extern enum fault fault_kind;
extern bool disk_full; /* from that call on */
bool needs_space(const char *step);
void lose(void); /* what no sync followed */

/* The next file made ahead is late: it waits here until the test has appended past its name. */
extern pthread_mutex_t late_lock;
extern pthread_cond_t late_change;
extern bool late, late_there;
extern unsigned refuse_in; /* the "allocate segment" of so many from now on finds the disk full */

extern const struct pfx_oplog_io fault_hooks;

#endif
