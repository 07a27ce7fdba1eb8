/* What an enrolment waits for, in words for people. */
#ifndef PFX_AGENT_WORDS_H
#define PFX_AGENT_WORDS_H

#include "agent/agent.h"
#include "agent/enrolment.h"

struct pfx_words {
    char why[1000];
    char next[639]; /* "": nobody needs to do anything */
};
void pfx_words_for(struct pfx_agent *agent, const struct pfx_enrolment *e,
                   struct pfx_words *ret_words);
/* Next step for a HELD one; which: its number or another way to name it for the command line. */
void pfx_words_held(const char *held_why, const char *held_job, const char *which, char *out,
                    size_t size);
/* Next step for one that the CA revoked after its delivery; removed: its record went, too. */
void pfx_words_revoked(const char *which, bool removed, char *out, size_t size);

#endif
