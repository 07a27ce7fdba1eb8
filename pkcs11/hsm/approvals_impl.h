/* What the files of approvals.h share; for them alone. */
#ifndef PFX_HSM_APPROVALS_IMPL_H
#define PFX_HSM_APPROVALS_IMPL_H

#include "pkcs11/hsm/approvals.h"

#define PFX_QUESTIONS_MOST 16
#define PFX_QUESTIONS_OF_ONE 6 /* of one user */
#define PFX_QUESTION_ID_SIZE 9
#define PFX_NOT_LOGGED UINT64_MAX /* asked while no log took it */

struct pfx_question {
    struct pfx_approval approval;
    char id[PFX_QUESTION_ID_SIZE]; /* how the nonce begins */
    uint64_t seq;                  /* of its approval.ask */
    bool taken;                    /* a command with it is about to begin */
    unsigned refused;              /* approvals of it: so many are noted */
};
struct pfx_approvals {
    const struct pfx_hsm_policy *policy;
    struct pfx_roster roster;
    pthread_mutex_t lock; /* for what follows; held over an append, which waits for the disk */
    struct pfx_question *list[PFX_QUESTIONS_MOST];
    size_t n;
};
void pfx_question_free(struct pfx_question *question);
/* Of its line in the file, without the LF; parsed into one whose approval was initialised. */
PFX_MUST_USE bool pfx_question_write(const struct pfx_question *question, struct pfx_buf *out);
PFX_MUST_USE bool pfx_question_parse(struct pfx_bytes line, struct pfx_question *question);
/* All with the lock held. */
struct pfx_question *pfx_question_find(struct pfx_approvals *approvals, const char *id);
void pfx_question_drop(struct pfx_approvals *approvals, struct pfx_question *question);
/* The file as the list is. */
PFX_MUST_USE pfx_result pfx_questions_store(const struct pfx_hsm *hsm, struct pfx_error *err);
/* The record as the array that stands in entries, appended. */
PFX_MUST_USE bool pfx_question_array(const struct pfx_approval *approval, struct pfx_buf *out);

#endif
