/* backup.store: a copy of the store beside it, for the command line to read as root. */
#include <errno.h>
#include <sys/stat.h>

#include "agent/verbs.h"

static pfx_result copy(struct pfx_asker *asker, int64_t now_ms, struct pfx_error *err)
{
    struct pfx_store *store = asker->agent->store;
    char *path PFX_AUTOFREE = pfx_asprintf("%s/" PFX_STORE_COPY, store->dir);
    struct stat st;
    /* The note goes into the copy, too: what the log is told has happened in both. */
    PFX_TRY(pfx_asker_noted(asker, now_ms, err));
    PFX_TRY(pfx_store_copy(store->db, path, now_ms, err));
    if (stat(path, &st) != 0)
        return pfx_fail_errno(err, errno, "read copy", path, "check the state folder");
    struct pfx_msg *item = pfx_asker_body(asker);
    pfx_msg_set_str(item, "file", PFX_STORE_COPY);
    pfx_msg_set_int(item, "size", st.st_size);
    pfx_msg_set_int(item, "made", now_ms);
    pfx_asker_item(asker, item);
    return PFX_OK;
}

void pfx_verb_backup(struct pfx_agent *agent, struct pfx_asker *asker, const struct pfx_msg *args,
                     int64_t now_ms)
{
    struct pfx_error err = PFX_ERROR_NONE;
    (void)agent, (void)args;
    if (pfx_failed(copy(asker, now_ms, &err)))
        pfx_asker_fail(asker, &err);
    else
        pfx_asker_end(asker, 0, NULL);
}
