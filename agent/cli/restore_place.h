/*
 * Where a backup goes back to: folders that are renamed into place as a whole once everything in
 * them is on disk, and the configuration's files one by one. What is there already is set aside by
 * a rename or left alone, never overwritten and never deleted.
 */
#ifndef PFX_AGENT_CLI_RESTORE_PLACE_H
#define PFX_AGENT_CLI_RESTORE_PLACE_H

#include <sys/types.h>

#include "agent/cli/backup.h"

enum restore_there {
    RESTORE_FREE,  /* nothing is there, or an empty folder */
    RESTORE_SAME,  /* what would be written, with owner and mode: an earlier restore got so far */
    RESTORE_OTHER, /* something else */
};
struct restore_place {
    char *path;
    char *stage; /* path.restoring */
    enum restore_there there;
    bool folder;
    const struct backup_item *item; /* of a file */
};

/* The uid and gid of "user:group". USAGE: this host doesn't have one of them. */
PFX_MUST_USE pfx_result restore_owner(const char *owner, uid_t *ret_uid, gid_t *ret_gid,
                                      struct pfx_error *err);
/* What is at path now. wanted: the files that belong below it (name: the path from there on); sorted
 * then. */
struct restore_want {
    const char *name;
    const struct backup_item *item;
};
PFX_MUST_USE pfx_result restore_look_folder(const char *path, struct restore_want *wanted, size_t n,
                                            enum restore_there *ret,
                                            struct pfx_error *err);
PFX_MUST_USE pfx_result restore_look_file(const char *path, const struct backup_item *item,
                                          enum restore_there *ret, struct pfx_error *err);
/* Removes what an earlier restore, that was cut off, left at path.restoring. */
PFX_MUST_USE pfx_result restore_clear(const char *stage, struct pfx_error *err);
/* Each missing folder down to this one, 0755; those that are there stay as they are. */
PFX_MUST_USE pfx_result restore_make_parents(const char *path, struct pfx_error *err);
/* Owner and mode, as far as they differ; of a descriptor. */
PFX_MUST_USE pfx_result restore_own(int fd, const char *shown, const char *owner, unsigned mode,
                                    struct pfx_error *err);
/* Sets aside what is there, if it is other, and puts the stage in its place; on disk. */
PFX_MUST_USE pfx_result restore_commit(const struct restore_place *place, const char *aside,
                                       struct pfx_error *err);

#endif
