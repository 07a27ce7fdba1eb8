/* standing.list: generations of the standing keys, and what each waits for. */
#include <string.h>

#include "crypto/encode.h"
#include "pkcs11/hsm/rotation.h"
#include "pkcs11/hsm/verbs.h"

struct pfx_msg *pfx_standing_item(const struct pfx_hsm *hsm, struct pfx_task *task,
                                  const struct pfx_standing_key *key,
                                  const struct pfx_overlap *at, const char *text)
{
    char token[128];
    struct pfx_msg *item = pfx_task_item(task);
    pfx_msg_set_str(item, "kind", "key");
    pfx_msg_set_str(item, "role", pfx_role_name(key->role));
    pfx_msg_set_str(item, "name", key->name);
    pfx_msg_set_str(item, "algorithm", key->algorithm);
    pfx_msg_set_str(item, "state", pfx_overlap_state_name(at->state));
    if (at->since_ms > 0)
        pfx_msg_set_int(item, "since", at->since_ms);
    if (hsm->roles[key->role].token)
        pfx_msg_set_str(item, "token", pfx_token_text(hsm->roles[key->role].token, token));
    pfx_msg_set_str(item, "text", text);
    return item;
}

/* What the state asks of a person, or what it means. */
static const char *advice(bool client, enum pfx_overlap_state state)
{
    switch (state) {
    case PFX_OVERLAP_MAKING:
        return "its making was cut off: give pfx-agent standing rotate again";
    case PFX_OVERLAP_STAGED:
        return client ? "give its certificate to the app registration beside the old one, then "
                        "pfx-agent standing activate"
                      : "nothing uses it: pfx-agent standing activate puts it in force";
    case PFX_OVERLAP_ACTIVE:
        return "all that is new is made with it";
    case PFX_OVERLAP_PREVIOUS:
        return client
                   ? "no assertion is signed with it any more: take its certificate from the app "
                     "registration, then pfx-agent standing destroy"
                   : "what it made is still read: pfx-agent standing rewrap makes it anew, then "
                     "pfx-agent standing destroy";
    case PFX_OVERLAP_DESTROYED:
    case PFX_OVERLAP_STATES:
        break;
    }
    return "not found in this token";
}

pfx_result pfx_do_standing_list(struct pfx_worker *worker, struct pfx_task *task,
                                struct pfx_error *err)
{
    struct pfx_hsm *hsm = worker->hsm;
    PFX_TRY(pfx_hsm_needs(hsm, PFX_NEEDS(PFX_ROLE_USERS), err));
    for (size_t i = 0; i < pfx_standing_count(hsm->policy); i++) {
        struct pfx_overlap list[PFX_OVERLAP_MOST];
        struct pfx_standing_key key;
        if (!pfx_standing_rotates(i))
            continue;
        pfx_standing_describe(hsm->policy, i, &key);
        size_t n = pfx_rotation_of(hsm->rotation, key.stem, list);
        for (size_t k = 0; k < n; k++) {
            pfx_standing_generation(hsm->policy, i, list[k].number, &key);
            const char *text = advice(i >= PFX_STANDING_CLIENT, list[k].state);
            pfx_task_emit(task, pfx_standing_item(hsm, task, &key, &list[k], text));
        }
    }
    return PFX_OK;
}
