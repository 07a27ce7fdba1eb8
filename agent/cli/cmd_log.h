/*
 * What the verbs of "log" share: where the log's folder is, how an entry is shown, and how an
 * exported log is written.
 */
#ifndef PFX_AGENT_CLI_CMD_LOG_H
#define PFX_AGENT_CLI_CMD_LOG_H

#include <stdio.h>
#include <sys/types.h>

#include "agent/cli/cli.h"
#include "api/logdir/logdir.h"

#define CLI_NOTE_MAX (64 * 1024) /* bytes of a small file of the log: key line, policy text */

/* By --log-dir, PFX_LOG_DIR, log.dir of hsm-policy.yaml, default. Free it. */
char *cli_log_path(const struct cli *cli);
/* Opens the folder and reads its newest checkpoint. */
PFX_MUST_USE pfx_result cli_log_open(const struct cli *cli, struct pfx_logdir **ret_dir,
                                     struct pfx_error *err);
#define CLI_AUTOLOG __attribute__((cleanup(pfx_logdir_closep)))

/* One entry on one line, as `log tail` shows it: at most the columns of the stream's terminal, all
 * of it where that isn't one. An entry that can't be read is shown as such. */
void cli_log_titles(FILE *to);
void cli_log_line(FILE *to, uint64_t seq, struct pfx_bytes entry, bool covered);
/* "2026-11-22" in local time, for the lines between days on a narrow terminal. */
#define CLI_DAY_SIZE 12
char *cli_log_day(struct pfx_bytes entry, char buf[CLI_DAY_SIZE]);
bool cli_log_narrow(FILE *to); /* times without the day */

/* A folder that is written to. Each file appears under its name only when it is complete. */
struct cli_folder {
    int fd;
    const char *path; /* borrowed, for messages */
    char made[256];   /* the sub-folder that was made last */
    uint64_t written; /* files */
};
/* Made, 0755, if it isn't there; its parent must be. *ret_empty: nothing is in it. */
PFX_MUST_USE pfx_result cli_folder_open(const char *path, struct cli_folder *ret, bool *ret_empty,
                                        struct pfx_error *err);
void cli_folder_done(struct cli_folder *folder); /* usable as cleanup; fd -1 is fine */
/* The whole of a file; *ret_there says whether there is one. */
PFX_MUST_USE pfx_result cli_folder_read(struct cli_folder *folder, const char *name, size_t max,
                                        struct pfx_buf *ret, bool *ret_there,
                                        struct pfx_error *err);
bool cli_folder_has(struct cli_folder *folder, const char *name);
/* Writes a file (0644) and its sub-folders, in place of one that is there. */
PFX_MUST_USE pfx_result cli_folder_put(struct cli_folder *folder, const char *name,
                                       struct pfx_bytes content, struct pfx_error *err);
/* The same in two steps: everything that can fail for want of space is done by the first. The file
 * is a descriptor for the caller to write to with cli_folder_write. */
PFX_MUST_USE pfx_result cli_folder_stage(struct cli_folder *folder, const char *name, mode_t mode,
                                         int *ret_fd, struct pfx_error *err);
PFX_MUST_USE pfx_result cli_folder_write(struct cli_folder *folder, int fd, const char *name,
                                         struct pfx_bytes content, struct pfx_error *err);
PFX_MUST_USE pfx_result cli_folder_staged(struct cli_folder *folder, int fd, const char *name,
                                          struct pfx_error *err); /* complete and on disk; closes */
PFX_MUST_USE pfx_result cli_folder_commit(struct cli_folder *folder, const char *name,
                                          struct pfx_error *err);
void cli_folder_unstage(struct cli_folder *folder, const char *name);
bool cli_folder_remove(struct cli_folder *folder, const char *name); /* false: there was none */
/* Removes the files of a sub-folder but for one, and the sub-folder when it is empty then. */
void cli_folder_sweep(struct cli_folder *folder, const char *sub, const char *keep);
/* Everything that was written is on disk. */
PFX_MUST_USE pfx_result cli_folder_sync(struct cli_folder *folder, struct pfx_error *err);

/* One export. */
struct cli_export {
    struct cli *cli;
    struct pfx_logdir *dir;
    const char *log_path;
    struct cli_folder folder;
    struct cli_progress progress;
    struct pfx_hasher *hasher;
    struct pfx_buf note; /* the checkpoint's bytes */
    struct pfx_checkpoint checkpoint;
    bool has_anchor;
    struct pfx_anchor_copy anchor;
    bool fresh;                /* nothing was in the folder */
    bool earlier;              /* the folder holds a whole export of this log ... */
    struct pfx_checkpoint had; /* ... under this checkpoint */
    struct pfx_buf had_note;
    uint64_t first;                  /* first entry that the export presents */
    uint64_t from;                   /* first entry that this call looked at */
    uint64_t count;                  /* entries when the head was taken, covered or not */
    uint64_t uncovered;              /* entries in "tail" */
    uint64_t damaged, first_damaged; /* bundles left out because they aren't what was signed */
    int64_t names;                   /* users in the name map; -1: none was written */
    char names_why[640];
};
/* Tiles and bundles below the checkpoint's size, from those on that the folder has already.
 * INTEGRITY: they don't give the checkpoint's root. */
PFX_MUST_USE pfx_result cli_export_tiles(struct cli_export *export, struct pfx_error *err);
/* Takes the partial tiles of earlier sizes away. */
void cli_export_prune(struct cli_export *export);
/* Stages names.jsonl from what pfx-agentd answers; not getting it is no failure: names stays -1,
 * and names_why says why. */
PFX_MUST_USE pfx_result cli_export_names(struct cli_export *export, struct pfx_error *err);
/* What was written, and what is missing; removes the earlier names.jsonl where --no-names says so.
 */
void cli_export_report(struct cli_export *export);

#endif
