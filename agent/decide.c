/* The decision for one user under one rule. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/pass.h"
#include "agent/timing.h"

const char *pfx_decision_word(enum pfx_decision decision)
{
    switch (decision) {
    case PFX_DECIDE_ORDER:
        return "order";
    case PFX_DECIDE_HOLD:
        return "hold";
    case PFX_DECIDE_REBUILD: /* nothing is ordered */
    case PFX_DECIDE_SKIP:
        return "skip";
    case PFX_DECIDE_WAIT:
        return "wait";
    case PFX_DECIDE_REFUSE:
        return "refuse";
    }
    return "?";
}

void pfx_verdict_done(struct pfx_verdict *verdict)
{
    pfx_strings_done(&verdict->addresses);
    free(verdict->first_name);
    free(verdict->last_name);
    memset(verdict, 0, sizeof(*verdict));
}

const char *pfx_rule_intune(const struct pfx_rule_conf *rule)
{
    return rule->intune == PFX_PURPOSE_SIGNING ? "smimeSigning" : "smimeEncryption";
}

static void PFX_PRINTF(3, 4)
    settle(struct pfx_verdict *v, enum pfx_decision decision, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    vsnprintf(v->why, sizeof(v->why), fmt, args);
    va_end(args);
    v->decision = decision;
}

static const char *day(int64_t ms, char buf[PFX_TIME_SIZE])
{
    pfx_time_format(ms, false, buf);
    buf[10] = '\0';
    return buf;
}

/* Names go into the certificates of the sponsor's product only. */
static bool names_ok(struct pfx_names *names, const struct pfx_case *c, struct pfx_verdict *v)
{
    if (strcmp(c->rule->product, "secure_email_sponsor") != 0)
        return true;
    const struct pfx_user_row *u = c->user;
    struct pfx_error err = PFX_ERROR_NONE;
    if (!u->given || !*u->given || !u->surname || !*u->surname) {
        settle(
            v, PFX_DECIDE_REFUSE,
            "the user has no %s, and secure_email_sponsor needs it. Next: set it in Entra ID, or "
            "use secure_email_mailbox for this group.",
            !u->given || !*u->given ? "given name" : "surname");
        return false;
    }
    if (pfx_failed(pfx_names_ascii(names, "given name", u->given, &v->first_name, &err)) ||
        pfx_failed(pfx_names_ascii(names, "surname", u->surname, &v->last_name, &err))) {
        settle(v, PFX_DECIDE_REFUSE, "%s", err.text);
        return false;
    }
    return true;
}

static bool addresses_ok(const struct pfx_case *c, struct pfx_verdict *v)
{
    PFX_AUTOSTRINGS struct pfx_strings proxies = {0};
    struct pfx_error err = PFX_ERROR_NONE;
    if (!pfx_strings_parse(c->user->proxies, &proxies)) {
        settle(v, PFX_DECIDE_REFUSE,
               "the proxy addresses in the store are damaged. Next: restore the "
               "store from a backup.");
        return false;
    }
    if (pfx_failed(pfx_addresses(c->user->mail, (const char *const *)proxies.v, proxies.n,
                                 &v->addresses, &err))) {
        settle(v, PFX_DECIDE_REFUSE, "%s", err.text);
        return false;
    }
    return true;
}

bool pfx_case_data(struct pfx_names *names, const struct pfx_case *c, struct pfx_verdict *v)
{
    return addresses_ok(c, v) && names_ok(names, c, v);
}

void pfx_decide(const struct pfx_agent_conf *conf, struct pfx_names *names,
                const struct pfx_case *c, int64_t now_ms, struct pfx_verdict *v)
{
    char when[PFX_TIME_SIZE];
    int64_t horizon = now_ms + conf->renew_before_ms;
    *v = (struct pfx_verdict){0};
    if (!c->user->enabled)
        settle(v, PFX_DECIDE_SKIP, "the account is disabled");
    else if (!c->rule_read)
        settle(v, PFX_DECIDE_WAIT, "the group couldn't be read in this pass");
    else if (pfx_hire_waits(c->user->hire_date, now_ms))
        settle(v, PFX_DECIDE_WAIT, "starts work on %s", day(c->user->hire_date, when));
    else if (c->flight)
        settle(v, PFX_DECIDE_SKIP, "enrolment %lld is in work (%s)", (long long)c->flight,
               c->flight_state);
    else if (c->record_expires == INT64_MAX)
        settle(v, PFX_DECIDE_SKIP, "has a record in Intune without an end");
    else if (c->record_expires > horizon)
        settle(v, PFX_DECIDE_SKIP, "has a record in Intune until %s", day(c->record_expires, when));
    else if (!c->records_read)
        settle(v, PFX_DECIDE_WAIT, "Intune's records couldn't be read in this pass");
    else if (c->active_expires > horizon && c->active_at >= c->records_started)
        settle(v, PFX_DECIDE_SKIP, "enrolment %lld is valid until %s", (long long)c->active,
               day(c->active_expires, when));
    else if (c->active_expires > horizon)
        settle(
            v, PFX_DECIDE_REBUILD,
            "enrolment %lld is valid until %s, but its record is gone from Intune: imported again",
            (long long)c->active, day(c->active_expires, when));
    else if (now_ms < pfx_reorder_at(c->ended, c->ended_at, conf->reorder_after_ms))
        settle(v, PFX_DECIDE_WAIT, "ended without a certificate %u time%s; next attempt on %s",
               c->ended, c->ended == 1 ? "" : "s",
               day(pfx_reorder_at(c->ended, c->ended_at, conf->reorder_after_ms), when));
    else if (!pfx_case_data(names, c, v))
        return;
    else if (!pfx_budget_left(c->in_pass, conf->max_orders_per_pass, c->today,
                              conf->max_orders_per_day))
        settle(v, PFX_DECIDE_HOLD, "over the limit of %u orders a %s",
               c->in_pass >= conf->max_orders_per_pass ? conf->max_orders_per_pass
                                                       : conf->max_orders_per_day,
               c->in_pass >= conf->max_orders_per_pass ? "pass" : "day");
    else if (c->active && c->active_expires > now_ms)
        settle(v, PFX_DECIDE_ORDER, "its certificate ends on %s", day(c->active_expires, when));
    else if (c->record_expires)
        settle(v, PFX_DECIDE_ORDER, "its record in Intune ends on %s",
               day(c->record_expires, when));
    else
        settle(v, PFX_DECIDE_ORDER, "has no record in Intune for this purpose");
}
