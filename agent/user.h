/* Users as the directory has them. */
#ifndef PFX_AGENT_USER_H
#define PFX_AGENT_USER_H

#include "agent/address.h"
#include "agent/store.h"
#include "api/wire/schema.h"

struct pfx_user_row {
    char *id; /* NULL: not found */
    char *hex;
    char *upn, *display, *given, *surname, *mail, *proxies;
    bool enabled;
    int64_t hire_date; /* 0: none */
    uint8_t salt[16];
    char *trouble;
    bool damaged; /* the row can't be used; the rest is there as far as it goes */
};
void pfx_user_done(struct pfx_user_row *user);
#define PFX_AUTOUSER __attribute__((cleanup(pfx_user_done)))

/* Object ids: 36 characters, lower-case hex and dashes. */
bool pfx_user_id_ok(const char *id);
/* Stores a member of the directory's answer. A salt is drawn when the user is seen first. INTEGRITY
 * for an id that isn't one. */
PFX_MUST_USE pfx_result pfx_user_put(struct pfx_store *store, const struct pfx_msg *member,
                                     int64_t pass, struct pfx_error *err);
/* Hashes for the operation log where they are missing: a store of an earlier version. At the start.
 */
PFX_MUST_USE pfx_result pfx_user_hash_all(struct pfx_store *store, struct pfx_error *err);
PFX_MUST_USE pfx_result pfx_user_load(struct pfx_store *store, const char *id,
                                      struct pfx_user_row *ret_user, struct pfx_error *err);

#endif
