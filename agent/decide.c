/* The decision for one user under one rule. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/pass.h"
#include "agent/timing.h"
#include "api/conf/product.h"
#include "crypto/encode.h"

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
    free(verdict->common_name);
    free(verdict->pseudonym);
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
    pfx_utf8_mend(v->why);
    v->decision = decision;
}

static const char *day(int64_t ms, char buf[PFX_TIME_SIZE])
{
    pfx_time_format(ms, false, buf);
    buf[10] = '\0';
    return buf;
}

static bool refuse_absent(struct pfx_verdict *v, const char *what, const char *product)
{
    settle(v, PFX_DECIDE_REFUSE,
           "the user has no %s, and %s needs it. Next: set it in Entra ID, or use "
           "secure_email_mailbox for this group.",
           what, product);
    return false;
}

/* Which names the product takes: first and last name, the whole name (the older products), or a
 * pseudonym, which is the display name. */
static bool names_ok(struct pfx_names *names, const struct pfx_case *c, struct pfx_verdict *v)
{
    const struct pfx_product *product = pfx_product_find(c->rule->product);
    const struct pfx_user_row *u = c->user;
    const char *indicator = c->rule->common_name_indicator;
    bool pseudonym = indicator && strcmp(indicator, "pseudonym") == 0;
    /* Where it may stand, it must not contradict what the rule wants the common name to be. */
    bool common = product && (product->common_name == PFX_NEED_MUST ||
                              (product->common_name == PFX_NEED_MAY && !pseudonym));
    struct pfx_error err = PFX_ERROR_NONE;
    if (product && (product->individual || common)) {
        char *first PFX_AUTOFREE = NULL, *last PFX_AUTOFREE = NULL;
        bool whole = common ||
                     (indicator && strcmp(indicator, "given_name_surname") == 0);
        if (pfx_failed(pfx_names_person(names, u->given, u->surname, product->name, whole, &first,
                                        &last, &err))) {
            settle(v, PFX_DECIDE_REFUSE, "%s", err.text);
            return false;
        }
        if (common)
            v->common_name = pfx_asprintf("%s %s", first, last);
        if (product->individual) {
            v->first_name = PFX_TAKE(first);
            v->last_name = PFX_TAKE(last);
        }
    }
    if (product && pseudonym) {
        if (!u->display || !*u->display)
            return refuse_absent(v, "display name", "common_name: pseudonym");
        if (pfx_failed(pfx_names_ascii(names, "display name", u->display, &v->pseudonym, &err))) {
            settle(v, PFX_DECIDE_REFUSE, "%s", err.text);
            return false;
        }
    }
    return true;
}

/* A name that the certificate writes otherwise than the directory is seen before it is paid for. */
static void show_name(const struct pfx_case *c, struct pfx_verdict *v)
{
    const struct pfx_user_row *u = c->user;
    char *person PFX_AUTOFREE = NULL, *given PFX_AUTOFREE = NULL;
    if (v->first_name)
        person = pfx_asprintf("%s %s", v->first_name, v->last_name);
    else if (v->common_name)
        person = pfx_strdup(v->common_name);
    if (person)
        given = pfx_asprintf("%s %s", u->given, u->surname);
    size_t n = strlen(v->why);
    if (person && strcmp(person, given) != 0)
        snprintf(v->why + n, sizeof(v->why) - n, "; written as %s", person);
    n = strlen(v->why);
    if (v->pseudonym && strcmp(v->pseudonym, u->display) != 0)
        snprintf(v->why + n, sizeof(v->why) - n, "; its pseudonym is written as %s", v->pseudonym);
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
    const struct pfx_mailboxes *shared = c->mailboxes;
    if (shared && shared->too_many) {
        settle(v, PFX_DECIDE_REFUSE,
               "the user may open shared mailboxes with far more than the %d addresses of one "
               "certificate. Next: take this account out of the group, or full access away from it "
               "in Exchange, or use a rule without shared_mailboxes.",
               PFX_MAX_ADDRESSES);
        return false;
    }
    for (size_t i = 0; shared && i < shared->address.n; i++) {
        char *from PFX_AUTOFREE = pfx_asprintf("the shared mailbox %.200s", shared->id.v[i]);
        if (pfx_ok(pfx_address_add(&v->addresses, shared->address.v[i], from, &err)))
            continue;
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
    if (c->user->damaged)
        settle(v, PFX_DECIDE_REFUSE,
               "the user's row in the store is damaged (salt). Next: restore the store from a "
               "backup.");
    else if (!c->user->enabled)
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
    else if (c->active_revoked && c->active_expires > horizon)
        settle(v, PFX_DECIDE_SKIP,
               "the certificate of enrolment %lld was revoked at the CA; pfx-agent enrolment retry "
               "%lld enrols again",
               (long long)c->active, (long long)c->active);
    else if (c->active_expires > horizon && c->active_at >= c->records_started)
        settle(v, PFX_DECIDE_SKIP, "enrolment %lld is valid until %s", (long long)c->active,
               day(c->active_expires, when));
    else if (c->active_expires > horizon && !c->active_keyless)
        settle(
            v, PFX_DECIDE_REBUILD,
            "enrolment %lld is valid until %s, but its record is gone from Intune: imported again",
            (long long)c->active, day(c->active_expires, when));
    else if (c->parked)
        settle(v, PFX_DECIDE_SKIP,
               "enrolment %lld was %.200s; pfx-agent enrolment retry %lld takes it up again",
               (long long)c->parked, c->parked_why, (long long)c->parked);
    else if (now_ms < pfx_reorder_at(c->ended, c->ended_at, conf->reorder_after_ms))
        settle(v, PFX_DECIDE_WAIT, "ended without a certificate %u time%s; next attempt on %s",
               c->ended, c->ended == 1 ? "" : "s",
               day(pfx_reorder_at(c->ended, c->ended_at, conf->reorder_after_ms), when));
    else if (now_ms < pfx_reorder_at(c->replaced, c->replaced_at, conf->reorder_after_ms))
        settle(v, PFX_DECIDE_WAIT,
               "the CA revoked %u of its certificates in 90 days; next attempt on %s, sooner with: "
               "pfx-agent enrolment retry %s",
               c->replaced + 1,
               day(pfx_reorder_at(c->replaced, c->replaced_at, conf->reorder_after_ms), when),
               c->user->upn);
    else if (c->mailboxes && !c->mailboxes->read)
        settle(v, PFX_DECIDE_WAIT, "the shared mailboxes couldn't be read yet");
    else if (!pfx_case_data(names, c, v))
        return;
    else if (!pfx_budget_left(c->in_pass, conf->max_orders_per_pass, c->today,
                              conf->max_orders_per_day))
        settle(v, PFX_DECIDE_HOLD, "over the limit of %u orders a %s",
               c->in_pass >= conf->max_orders_per_pass ? conf->max_orders_per_pass
                                                       : conf->max_orders_per_day,
               c->in_pass >= conf->max_orders_per_pass ? "pass" : "day");
    else if (c->revoked && c->exposed)
        settle(v, PFX_DECIDE_ORDER,
               "the user key of enrolment %lld was sealed to a compromised encryption key",
               (long long)c->revoked);
    else if (c->revoked)
        settle(v, PFX_DECIDE_ORDER, "the certificate of enrolment %lld was revoked at the CA",
               (long long)c->revoked);
    else if (c->active_keyless && c->active_expires > horizon)
        settle(v, PFX_DECIDE_ORDER,
               "the record of enrolment %lld is gone from Intune, and its key was destroyed after "
               "delivery",
               (long long)c->active);
    else if (c->active && c->active_expires > now_ms)
        settle(v, PFX_DECIDE_ORDER, "its certificate ends on %s", day(c->active_expires, when));
    else if (c->record_expires)
        settle(v, PFX_DECIDE_ORDER, "its record in Intune ends on %s",
               day(c->record_expires, when));
    else
        settle(v, PFX_DECIDE_ORDER, "has no record in Intune for this purpose");
    show_name(c, v);
}
