/* backup.store: a copy of the store beside it, for the command line to read as root. */
#include <errno.h>
#include <sys/stat.h>

#include "agent/verbs.h"

#define STEP_MS 10 /* a hundred thousand users take seconds: others have their turn in between */

struct copy {
    struct pfx_store_copying *copying;
    int64_t made_ms;
};

static void forget(void *work)
{
    struct copy *c = work;
    pfx_store_copy_free(c->copying);
    free(c);
}

static pfx_result send_item(struct pfx_asker *asker, const struct copy *c, struct pfx_error *err)
{
    char *path PFX_AUTOFREE = pfx_asprintf("%s/" PFX_STORE_COPY, asker->agent->store->dir);
    struct stat st;
    if (stat(path, &st) != 0)
        return pfx_fail_errno(err, errno, "read copy", path, "check the state folder");
    struct pfx_msg *item = pfx_asker_body(asker);
    pfx_msg_set_str(item, "file", PFX_STORE_COPY);
    pfx_msg_set_int(item, "size", st.st_size);
    pfx_msg_set_int(item, "made", c->made_ms);
    pfx_asker_item(asker, item);
    return PFX_OK;
}

static void step(struct pfx_asker *asker, int64_t now_ms)
{
    struct pfx_error err = PFX_ERROR_NONE;
    struct copy *c = asker->work;
    bool done = false;
    (void)now_ms;
    pfx_result r = pfx_store_copy_some(c->copying, STEP_MS, &done, &err);
    if (pfx_ok(r) && done)
        r = send_item(asker, c, &err);
    if (pfx_failed(r))
        pfx_asker_fail(asker, &err);
    else if (done)
        pfx_asker_end(asker, 0, NULL);
}

void pfx_verb_backup(struct pfx_agent *agent, struct pfx_asker *asker, const struct pfx_msg *args,
                     int64_t now_ms)
{
    struct pfx_error err = PFX_ERROR_NONE;
    struct copy *c = pfx_alloc(sizeof(*c));
    char *path PFX_AUTOFREE = pfx_asprintf("%s/" PFX_STORE_COPY, agent->store->dir);
    (void)args;
    c->made_ms = now_ms; /* its beginning: what was ordered since may not be in it */
    asker->work = c;
    asker->work_free = forget;
    pfx_result r = PFX_OK;
    if (pfx_counter_works(agent->counter, asker, step))
        r = pfx_fail(&err, PFX_CLASS_TRANSIENT, "backup store", path, "",
                     "another backup is being made; try again when it is through");
    /* The note goes into the copy, too: what the log is told has happened in both. */
    if (pfx_ok(r))
        r = pfx_asker_noted(asker, now_ms, &err);
    if (pfx_ok(r))
        r = pfx_store_copy_begin(agent->store->db, path, now_ms, &c->copying, &err);
    if (pfx_failed(r))
        pfx_asker_fail(asker, &err);
    else
        asker->step = step;
}
