/* What the files of the CLI's verbs share. */
#ifndef PFX_AGENT_VERBS_H
#define PFX_AGENT_VERBS_H

#include "agent/counter.h"

/* Takes the selection of the request, which has to say which, and acts on a few of them in each
 * step. Ends the request if that can't be. */
void pfx_verbs_act(struct pfx_asker *asker, const struct pfx_msg *args, pfx_act_fn act);
/* Sends one as an item. */
PFX_MUST_USE pfx_result pfx_verbs_item(struct pfx_asker *asker, const struct pfx_enrolment *e,
                                       bool history, struct pfx_error *err);
/* Who asks, for the history: "operator NAME (uid 1000)". */
const char *pfx_verbs_who(const struct pfx_asker *asker, char *buf, size_t size);
#define PFX_WHO_SIZE 80

#endif
