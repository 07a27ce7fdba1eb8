/* Who may ask and who may approve, as policy and roster say it: is it enough? */
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "pkcs11/hsm/approvals_impl.h"

#define SOON_MS (INT64_C(30) * 24 * 3600 * 1000)

static bool good(const struct pfx_roster_line *line, int64_t at_ms)
{
    struct pfx_error ignored = PFX_ERROR_NONE;
    return at_ms == 0 || pfx_ok(pfx_roster_allows(line, PFX_APPROVAL_NAMESPACE, at_ms, &ignored));
}

/* People of the roster beside this one (NULL: all), who can sign at that time (0: ever). */
static size_t people_beside(const struct pfx_roster *roster, const char *asker, int64_t at_ms)
{
    size_t n = 0;
    for (size_t i = 0; i < roster->n; i++) {
        const struct pfx_roster_line *line = &roster->lines[i];
        bool counts = (!asker || strcasecmp(line->principal, asker) != 0) && good(line, at_ms);
        for (size_t j = 0; counts && j < i; j++) /* another key of the same person */
            counts = strcmp(roster->lines[j].principal, line->principal) != 0 ||
                     !good(&roster->lines[j], at_ms);
        n += counts;
    }
    return n;
}

/* The most that any of those who may ask has beside himself. */
static size_t people_at_best(const struct pfx_hsm_policy *policy, const struct pfx_roster *roster,
                             int64_t at_ms)
{
    size_t best = 0;
    for (size_t i = 0; i < policy->n_people; i++) {
        size_t n = people_beside(roster, policy->people[i].principal, at_ms);
        best = n > best ? n : best;
    }
    return best;
}

/* A policy under which nothing can be approved couldn't be changed any more either. */
static pfx_result enough(const struct pfx_hsm_policy *policy, const struct pfx_roster *roster,
                         struct pfx_error *err)
{
    size_t people = pfx_roster_people(roster), best = people_at_best(policy, roster, 0);
    if (people < policy->approvers)
        return pfx_fail(err, PFX_CLASS_USAGE, "read roster", policy->roster, "",
                        "It names %zu people, and approvals.needed of the policy is %u: nothing "
                        "could ever be approved.",
                        people, policy->approvers);
    if (best < policy->approvers)
        return pfx_fail(err, PFX_CLASS_USAGE, "read roster", policy->roster, "",
                        "Who asks can't approve, so beside each one of approvals.uids it must name "
                        "%u people, and beside none of them it names more than %zu: nothing could "
                        "ever be approved. Add people to it, or somebody else to approvals.uids.",
                        policy->approvers, best);
    return PFX_OK;
}

pfx_result pfx_approvals_new(const struct pfx_hsm_policy *policy, struct pfx_bytes text,
                             struct pfx_approvals **ret_approvals, struct pfx_error *err)
{
    PFX_CLEANUP(pfx_roster_done) struct pfx_roster roster = {NULL, 0};
    if (policy->approvals == PFX_APPROVALS_SSH) {
        struct pfx_error why = PFX_ERROR_NONE;
        if (pfx_failed(pfx_roster_parse(text, &roster, &why)))
            return pfx_fail(err, PFX_CLASS_USAGE, "read roster", policy->roster, "", "%s: %s",
                            why.object, why.text);
        PFX_TRY(enough(policy, &roster, err));
    }
    struct pfx_approvals *approvals = pfx_alloc(sizeof *approvals);
    approvals->policy = policy;
    approvals->roster = roster;
    roster = (struct pfx_roster){NULL, 0};
    pthread_mutex_init(&approvals->lock, NULL);
    *ret_approvals = approvals;
    return PFX_OK;
}

bool pfx_approvals_worry(const struct pfx_approvals *approvals, int64_t now_ms, char *out,
                         size_t size)
{
    const struct pfx_hsm_policy *policy = approvals->policy;
    if (policy->approvals != PFX_APPROVALS_SSH)
        return false;
    size_t soon = people_at_best(policy, &approvals->roster, now_ms + SOON_MS);
    if (soon < policy->approvers) {
        snprintf(out, size,
                 "In 30 days at the latest %zu people of the roster are left whose keys are good, "
                 "beside who asks, and %u are needed: then nothing can be approved any more, a "
                 "change of the roster neither. Put other keys, or other dates, into it now.",
                 soon, policy->approvers);
        return true;
    }
    for (size_t i = 0; i < policy->n_people; i++) {
        const char *name = policy->people[i].principal;
        if (people_beside(&approvals->roster, NULL, 0) >
            people_beside(&approvals->roster, name, 0))
            continue;
        snprintf(out, size,
                 "approvals.uids calls uid %u %s, and nobody is called so in the roster. If this "
                 "person approves under another name, it isn't seen that he approves what he asked "
                 "for.",
                 policy->people[i].uid, name);
        return true;
    }
    return false;
}
