/* Which entries show and stats take: what was given must all hold. */
#ifndef PFX_AUDIT_FILTER_H
#define PFX_AUDIT_FILTER_H

#include "agent/audit/audit.h"
#include "agent/audit/walk.h"

#define PFX_FILTER_USERS 32
struct pfx_filter {
    uint64_t from_seq, to_seq; /* both with them */
    int64_t from_ms, to_ms;
    const char *event, *outcome, *tier, *src, *op; /* lists of patterns; NULL: all */
    bool by_user;
    size_t n_users;
    char users[PFX_FILTER_USERS][65];
    char key[129]; /* first digits of an id or SPKI hash; "" for all */
    const char *order;
    int64_t uid;                /* -1: all */
    int64_t enrolment, attempt; /* -1: all */
};
/* Borrows from the options. USAGE says which value isn't right. A user whom the name map doesn't
 * have is USAGE, too, with what to do. */
PFX_MUST_USE pfx_result pfx_filter_make(const struct pfx_audit_options *options,
                                        const struct pfx_walk *walk, struct pfx_filter *ret,
                                        struct pfx_error *err);
bool pfx_filter_takes(const struct pfx_filter *filter, const struct pfx_walk_item *item);

/* Hashes of the users that the text names, at most PFX_FILTER_USERS; 64 hex digits are a hash as
 * they stand. 0: nobody is known by that. */
size_t pfx_filter_users(const struct pfx_walk *walk, const char *text, char ret_users[][65]);
/* Decimal digits alone, at most 15. */
bool pfx_filter_number(const char *text, size_t len, int64_t *ret);
/* At least 8 hex digits, as lower case into ret (129 bytes); false: something else. */
bool pfx_filter_key(const char *text, char *ret);
/* Does the key of the facts begin with these digits? */
bool pfx_filter_has_key(const struct pfx_facts *facts, const char *key);
/* Order number or transaction of a CA. */
bool pfx_filter_has_order(const struct pfx_facts *facts, const char *order);

#endif
