/*
 * Questions for approvals, as the log tells them: asked, answered, spent. What was spent must have
 * been asked in this log, each answer must stand there by itself, and all of them must be about the
 * same: without signatures (mode uid) nothing else binds the answers to the question.
 */
#ifndef PFX_AUDIT_QUESTIONS_H
#define PFX_AUDIT_QUESTIONS_H

#include "agent/audit/meaning_state.h"
#include "crypto/approval.h"

struct pfx_questions *pfx_questions_new(void);
void pfx_questions_free(struct pfx_questions *questions);
void pfx_questions_reset(struct pfx_questions *questions);
/* An approval.ask, an approval.give (its one approval is the record's first), and a command that
 * was done with the record. before: it happened before this log was opened, and the question may be
 * lost with the process that asked. */
void pfx_question_asked(struct pfx_meaning *meaning, uint64_t seq,
                        const struct pfx_approval *approval);
void pfx_question_given(struct pfx_meaning *meaning, uint64_t seq, bool before,
                        const struct pfx_approval *approval);
void pfx_question_spent(struct pfx_meaning *meaning, uint64_t seq,
                        const struct pfx_approval *approval);

#endif
