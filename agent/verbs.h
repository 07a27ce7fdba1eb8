/* What the files of the CLI's verbs share. */
#ifndef PFX_AGENT_VERBS_H
#define PFX_AGENT_VERBS_H

#include "agent/counter.h"

/* Acts on one enrolment in the caller's transaction. REFUSED: it isn't in a state for it. */
typedef pfx_result (*pfx_act_fn)(struct pfx_asker *asker, struct pfx_enrolment *e, int64_t now_ms,
                                 struct pfx_error *err);

/* Takes the selection of the request; needed: it has to say which. Ends the request if it can't be;
 * else step goes on. */
void pfx_verbs_begin(struct pfx_asker *asker, const struct pfx_msg *args, bool needed,
                     void (*step)(struct pfx_asker *, int64_t));
/* A step that acts on the next few selected ones. */
void pfx_verbs_step(struct pfx_asker *asker, pfx_act_fn act, int64_t now_ms);
/* Sends one as an item. */
PFX_MUST_USE pfx_result pfx_verbs_item(struct pfx_asker *asker, const struct pfx_enrolment *e,
                                       bool history, struct pfx_error *err);
/* Who asks, for the history: "operator NAME (uid 1000)". */
const char *pfx_verbs_who(const struct pfx_asker *asker, char *buf, size_t size);
#define PFX_WHO_SIZE 80

#endif
