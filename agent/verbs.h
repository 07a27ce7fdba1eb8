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
/* Asks pfx-hsm for a report, and looks whether it came. One that was on its way already may be older than
 * the command that put another key in force: then one more is asked for. Uses select.refused. */
PFX_MUST_USE pfx_result pfx_verbs_ask_report(struct pfx_asker *asker, int64_t now_ms,
                                             struct pfx_error *err);
PFX_MUST_USE pfx_result pfx_verbs_report_there(struct pfx_asker *asker, int64_t now_ms,
                                               bool *ret_there, struct pfx_error *err);
/* key records, once pfx-hsm was asked; select.user: not NULL: it gave no answer. */
void pfx_verbs_needs(struct pfx_asker *asker);
/* Who asks, for the history: "operator NAME (uid 1000)". */
const char *pfx_verbs_who(const struct pfx_asker *asker, char *buf, size_t size);
#define PFX_WHO_SIZE 80

#endif
