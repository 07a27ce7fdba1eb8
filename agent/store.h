/* The store: folder, lock, file, schema and its migrations; small values by name; what happened. */
#ifndef PFX_AGENT_STORE_H
#define PFX_AGENT_STORE_H

#include "agent/db.h"

struct pfx_store {
    struct pfx_db *db;
    int lock_fd;
    char *dir;
};

/* One step of the schema, from version n to n + 1. */
extern const char *const pfx_migrations[];
extern const size_t pfx_n_migrations;

/* Makes the folder (0700), takes its lock, opens store.db, brings the schema up to date. USAGE when
 * another pfx-agentd has it, or the store is of a newer version. */
PFX_MUST_USE pfx_result pfx_store_open(const char *dir, struct pfx_store **ret_store,
                                       struct pfx_error *err);
void pfx_store_close(struct pfx_store *store);
/* The schema alone, for pfx_store_open and tests: forward only, each step a transaction, a backup
 * store.db.v<old> without parcels before the first one. */
PFX_MUST_USE pfx_result pfx_store_migrate(struct pfx_db *db, const char *const *steps, size_t n,
                                          struct pfx_error *err);
/* A copy of the store as it stands, without parcels, at path (replaced; mode 0600), on disk. made_ms:
 * the time that the copy says of itself (restored.h). */
#define PFX_STORE_COPY "copy.db" /* in the state folder, for a backup */
PFX_MUST_USE pfx_result pfx_store_copy(struct pfx_db *db, const char *path, int64_t made_ms,
                                       struct pfx_error *err);
/* The same in steps of about most_ms, not within a transaction; the store may be written between them. A
 * copy that is given up leaves nothing behind. */
struct pfx_store_copying;
PFX_MUST_USE pfx_result pfx_store_copy_begin(struct pfx_db *db, const char *path, int64_t made_ms,
                                             struct pfx_store_copying **ret_copying,
                                             struct pfx_error *err);
PFX_MUST_USE pfx_result pfx_store_copy_some(struct pfx_store_copying *copying, int64_t most_ms,
                                            bool *ret_done, struct pfx_error *err);
void pfx_store_copy_free(struct pfx_store_copying *copying);
static inline void pfx_store_copy_freep(struct pfx_store_copying **copying)
{
    pfx_store_copy_free(*copying);
}
/* Empties the write-ahead log, so that what was erased is gone from it too. Best effort. */
void pfx_store_checkpoint(struct pfx_store *store);

/* Small values: times, flags, numbers. */
PFX_MUST_USE pfx_result pfx_meta_get(struct pfx_store *store, const char *key, int64_t *ret_value,
                                     struct pfx_error *err); /* 0 when absent */
PFX_MUST_USE pfx_result pfx_meta_set(struct pfx_store *store, const char *key, int64_t value,
                                     struct pfx_error *err);
PFX_MUST_USE pfx_result pfx_meta_text(struct pfx_store *store, const char *key, char **ret_text,
                                      struct pfx_error *err); /* NULL when absent */
PFX_MUST_USE pfx_result pfx_meta_set_text(struct pfx_store *store, const char *key,
                                          const char *text, struct pfx_error *err);

/* Every decision passes here: a line of the history and one of the program's log. enrolment 0 and
 * user NULL where it concerns none. In the caller's transaction. */
PFX_MUST_USE PFX_PRINTF(6, 7) pfx_result
    pfx_note(struct pfx_store *store, int64_t now_ms, int64_t enrolment, const char *user,
             struct pfx_error *err, const char *fmt, ...);

/* What is wrong and stays so until it is put right: scope "rule:<name>", "records", "poll", "hsm".
 */
PFX_MUST_USE pfx_result pfx_trouble_set(struct pfx_store *store, const char *scope, int64_t now_ms,
                                        const struct pfx_error *what, struct pfx_error *err);
PFX_MUST_USE pfx_result pfx_trouble_clear(struct pfx_store *store, const char *scope,
                                          struct pfx_error *err);

#endif
