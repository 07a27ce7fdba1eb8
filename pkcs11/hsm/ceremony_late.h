/* What the operation log has of a ceremony; for the files ceremony_late*.c. */
#ifndef PFX_HSM_CEREMONY_LATE_H
#define PFX_HSM_CEREMONY_LATE_H

#include "api/logdir/logdir.h"
#include "pkcs11/hsm/approvals.h"
#include "pkcs11/hsm/ceremony_record.h"
#include "pkcs11/hsm/roles.h"

struct pfx_late_op {
    char op[PFX_ULID_SIZE];
    const char *event; /* static */
    char name[65];     /* of the key */
    char key_id[129], algorithm[33], spki[65], certificate[65], found[33]; /* "" where not there */
    bool has_intent;
    uint64_t intent;
    bool done;    /* its result says ok */
    bool unknown; /* there is none, or it says so: the process ended in the middle of it */
    struct pfx_buf approvals;
    bool weak;
    bool names_key, destroys, certifies, overlaps; /* of the event; certifies: nothing but that */
    bool told, certified;                          /* stands on the page already */
};
struct pfx_late_ops {
    size_t n;
    struct pfx_late_op *list;
    bool happened; /* something was done, or began and nobody knows how it ended */
    bool covered;  /* a page of this name stands in the log */
    bool pins;     /* the pins were changed */
    int64_t at_ms, uid; /* of the first entry */
};
void pfx_late_done(struct pfx_late_ops *ops); /* usable as cleanup */
/* Operations of ceremonies whose first entry is in [from, to), with their results wherever they are. */
PFX_MUST_USE pfx_result pfx_late_scan(const char *log_dir, const char *name, uint64_t from,
                                      uint64_t to, struct pfx_late_ops *ret, struct pfx_error *err);
/* By its ULID; NULL: it isn't there. */
struct pfx_late_op *pfx_late_find(struct pfx_late_ops *ops, const char *op);

#endif
