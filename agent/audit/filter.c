#include "agent/audit/filter.h"

#include <fnmatch.h>
#include <string.h>

#include "crypto/encode.h"

#define DAY_MS (INT64_C(24) * 3600 * 1000)
#define KEY_LEAST 8

bool pfx_filter_number(const char *text, size_t len, int64_t *ret)
{
    int64_t n = 0;
    if (len == 0 || len > 15)
        return false;
    for (size_t i = 0; i < len; i++) {
        if (text[i] < '0' || text[i] > '9')
            return false;
        n = n * 10 + (text[i] - '0');
    }
    *ret = n;
    return true;
}

/* A time, a day, or an entry number. A day as the end of a period belongs to it. */
static pfx_result read_when(const char *option, const char *text, bool end, int64_t *ret_ms,
                            uint64_t *ret_seq, struct pfx_error *err)
{
    int64_t n;
    if (pfx_filter_number(text, strlen(text), &n)) {
        *ret_seq = (uint64_t)n;
        return PFX_OK;
    }
    if (pfx_date_parse(text, ret_ms)) {
        *ret_ms += end ? DAY_MS - 1 : 0;
        return PFX_OK;
    }
    if (pfx_time_parse(text, ret_ms))
        return PFX_OK;
    return pfx_fail(err, PFX_CLASS_USAGE, "", "", "",
                    "%s is a day (2026-11-22), a time with its zone (2026-11-22T08:00:00Z), or an "
                    "entry number",
                    option);
}

static pfx_result read_enrolment(const char *text, struct pfx_filter *filter, struct pfx_error *err)
{
    const char *dot = strchr(text, '.');
    size_t len = dot ? (size_t)(dot - text) : strlen(text);
    if (pfx_filter_number(text, len, &filter->enrolment) &&
        (!dot || pfx_filter_number(dot + 1, strlen(dot + 1), &filter->attempt)))
        return PFX_OK;
    return pfx_fail(err, PFX_CLASS_USAGE, "", "", "",
                    "--enrolment is a number, or number.attempt: 12, 12.1");
}

bool pfx_filter_key(const char *text, char *ret)
{
    size_t len = strlen(text);
    if (len < KEY_LEAST || len > 128)
        return false;
    for (size_t i = 0; i <= len; i++) {
        char c = text[i];
        if (c >= 'A' && c <= 'F')
            c = (char)(c - 'A' + 'a');
        if (i < len && !((c >= '0' && c <= '9') || (c >= 'a' && c <= 'f')))
            return false;
        ret[i] = c;
    }
    return true;
}

size_t pfx_filter_users(const struct pfx_walk *walk, const char *text, char ret_users[][65])
{
    char digits[129];
    size_t n = 0;
    if (walk->names) {
        struct pfx_name *found PFX_AUTOFREE = pfx_alloc_array(PFX_FILTER_USERS, sizeof(*found));
        n = pfx_names_find(walk->names, text, found, PFX_FILTER_USERS);
        for (size_t i = 0; i < n; i++)
            memcpy(ret_users[i], found[i].user, sizeof(found[i].user));
    }
    if (n == 0 && strlen(text) == 64 && pfx_filter_key(text, digits)) {
        memcpy(ret_users[0], digits, 65);
        n = 1;
    }
    return n;
}

pfx_result pfx_filter_make(const struct pfx_audit_options *options, const struct pfx_walk *walk,
                           struct pfx_filter *ret, struct pfx_error *err)
{
    struct pfx_filter filter = {
        .to_seq = UINT64_MAX,
        .from_ms = INT64_MIN,
        .to_ms = INT64_MAX,
        .event = options->event,
        .outcome = options->outcome,
        .tier = options->tier,
        .src = options->src,
        .op = options->op,
        .order = options->order,
        .uid = -1,
        .enrolment = -1,
        .attempt = -1,
    };
    if (options->from)
        PFX_TRY(read_when("--from", options->from, false, &filter.from_ms, &filter.from_seq, err));
    if (options->to)
        PFX_TRY(read_when("--to", options->to, true, &filter.to_ms, &filter.to_seq, err));
    if (options->operator_ &&
        !pfx_filter_number(options->operator_, strlen(options->operator_), &filter.uid))
        return pfx_fail(err, PFX_CLASS_USAGE, "", "", "",
                        "--operator is a uid of the log's host, as a number: names of users "
                        "there aren't in the log");
    if (options->enrolment)
        PFX_TRY(read_enrolment(options->enrolment, &filter, err));
    if (options->key && !pfx_filter_key(options->key, filter.key))
        return pfx_fail(err, PFX_CLASS_USAGE, "", "", "",
                        "--key is a key's id or the SHA-256 of its public part, or at least the "
                        "first %d hex digits of one",
                        KEY_LEAST);
    if (options->user) {
        filter.by_user = true;
        filter.n_users = pfx_filter_users(walk, options->user, filter.users);
        if (filter.n_users == 0)
            return pfx_fail(err, PFX_CLASS_USAGE, "", "", "",
                            walk->names ? "no user of the name map has this object id, UPN or "
                                          "address; erased users are known by their hash only"
                                        : "there is no name map: give the user's hash of 64 hex "
                                          "digits, or the map with --names");
    }
    *ret = filter;
    return PFX_OK;
}

/* Does the word fit one of the list's patterns? NULL: no list, all fit. */
static bool fits(const char *list, const char *word)
{
    char pattern[PFX_FACT_TEXT];
    if (!list)
        return true;
    for (const char *p = list;; p++) {
        size_t len = strcspn(p, ",");
        if (len > 0 && len < sizeof(pattern)) {
            memcpy(pattern, p, len);
            pattern[len] = '\0';
            if (fnmatch(pattern, word, 0) == 0)
                return true;
        }
        p += len;
        if (*p == '\0')
            return false;
    }
}

bool pfx_filter_has_key(const struct pfx_facts *facts, const char *key)
{
    size_t len = strlen(key);
    return strncmp(facts->key_id, key, len) == 0 || strncmp(facts->spki, key, len) == 0;
}

bool pfx_filter_has_order(const struct pfx_facts *facts, const char *order)
{
    int64_t n;
    return (facts->order >= 0 && pfx_filter_number(order, strlen(order), &n) &&
            n == facts->order) ||
           (facts->transaction[0] && strcmp(facts->transaction, order) == 0);
}

static bool is_user(const struct pfx_filter *filter, const char *user)
{
    for (size_t i = 0; i < filter->n_users; i++)
        if (strcmp(filter->users[i], user) == 0)
            return true;
    return false;
}

/* A person asked, not one of the processes, whose uid may be the same. */
static bool asked_by(const struct pfx_facts *facts, int64_t uid)
{
    return facts->uid == uid && strcmp(facts->role, "self") != 0 &&
           strcmp(facts->role, "agentd") != 0 && strcmp(facts->role, "uploader") != 0;
}

bool pfx_filter_takes(const struct pfx_filter *filter, const struct pfx_walk_item *item)
{
    const struct pfx_facts *facts = &item->facts;
    return item->seq >= filter->from_seq && item->seq <= filter->to_seq &&
           facts->time >= filter->from_ms && facts->time <= filter->to_ms &&
           fits(filter->event, facts->event) &&
           fits(filter->outcome, pfx_outcome_name(facts->outcome)) &&
           fits(filter->tier, facts->tier) && fits(filter->src, pfx_src_name(facts->src)) &&
           fits(filter->op, facts->op) && (!filter->by_user || is_user(filter, facts->user)) &&
           (!filter->key[0] || pfx_filter_has_key(facts, filter->key)) &&
           (!filter->order || pfx_filter_has_order(facts, filter->order)) &&
           (filter->uid < 0 || asked_by(facts, filter->uid)) &&
           (filter->enrolment < 0 || facts->enrolment == filter->enrolment) &&
           (filter->attempt < 0 || facts->attempt == filter->attempt);
}
