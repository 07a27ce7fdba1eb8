/*
 * A backup: one tar archive of everything that lies outside of the tokens.
 *
 *   config/...             the configuration files, and what they name in the same folder
 *   agent/store.db         the store, without parcels
 *   hsm/...                pfx-hsm's state: pins, certificates, sealed secrets, earlier logs
 *   log/...                the operation log up to a checkpoint, and the mark `copy`
 *   manifest               hash, size, owner and mode of each file above (below)
 *   entry.json             the log's entry `backup.create` whose out.sha256 is the manifest's hash
 *   receipt.tlog-proof     that entry's proof, with the checkpoint over it
 *
 * The manifest is a file for `sha256sum -c`, whose comments hold the rest:
 *   # pfx-agent backup v1
 *   # made 2026-11-23T08:00:00.000Z
 *   # log 1234 host/pfx-agent             entries of the log in the archive, and its origin
 *   # folder log 0750 pfx-hsm:adm /var/lib/pfx-hsm/log     config, agent, hsm, log
 *   # dir 0750 pfx-hsm:adm log/entries
 *   # file 0640 pfx-hsm:adm 4096
 *   <64 hex digits>  log/checkpoint.0
 *
 * An archive is read as hostile bytes: regular files with plain names only, each once, none longer
 * than the archive itself, no more of them than BACKUP_MOST.
 */
#ifndef PFX_AGENT_CLI_BACKUP_H
#define PFX_AGENT_CLI_BACKUP_H

#include "agent/cli/cli.h"
#include "crypto/checkpoint.h"
#include "crypto/entry.h"

#define BACKUP_MOST 300000 /* members; a log of 50 million entries has about 200,000 */
#define BACKUP_NAME 250    /* bytes of a member's name */
#define BACKUP_DEPTH 8     /* its parts */
#define BACKUP_OWNER 66    /* "user:group" with NUL */
#define BACKUP_MANIFEST_MAX ((size_t)128 * 1024 * 1024)
#define BACKUP_RECEIPT_MAX (64 * 1024)
#define BACKUP_KEYS 32

#define BACKUP_MANIFEST "manifest"
#define BACKUP_ENTRY "entry.json"
#define BACKUP_RECEIPT "receipt.tlog-proof"

enum backup_where { BACKUP_CONFIG, BACKUP_AGENT, BACKUP_HSM, BACKUP_LOG, BACKUP_FOLDERS };
extern const char *const backup_folder_names[BACKUP_FOLDERS];

struct backup_item { /* a file, or a sub-folder */
    char *name;      /* "log/entries/00000000000000000000" */
    char owner[BACKUP_OWNER];
    unsigned mode;
    bool folder;
    uint64_t size;
    uint8_t sha256[32];
};
struct backup_folder {
    char *path; /* where it was: absolute, without "." and ".." */
    char owner[BACKUP_OWNER];
    unsigned mode;
};
struct backup_manifest {
    int64_t made_ms;
    char origin[PFX_ORIGIN_SIZE];
    uint64_t log_size;
    struct backup_folder folders[BACKUP_FOLDERS];
    struct backup_item *items;
    size_t n, room;
};
void backup_manifest_done(struct backup_manifest *manifest); /* usable as cleanup */
/* A new item, zeroed but for its name (copied). */
struct backup_item *backup_manifest_add(struct backup_manifest *manifest, const char *name);
/* Of an archive's member: where it belongs. False: not a name that a backup has. */
PFX_MUST_USE bool backup_name_parse(const char *name, enum backup_where *ret_where);
/* What may be a part of a name: [A-Za-z0-9._:@+-], no dot at the beginning, 1 to 100 bytes. */
bool backup_part_ok(const char *part, size_t len);
PFX_MUST_USE bool backup_manifest_write(const struct backup_manifest *manifest,
                                        struct pfx_buf *out);
/* Strict. INTEGRITY says which line is wrong. Items are sorted by name then; none is there twice. */
PFX_MUST_USE pfx_result backup_manifest_parse(struct pfx_bytes text, struct backup_manifest *ret,
                                              struct pfx_error *err);

/* --- reading --- */
struct backup {
    const char *path; /* borrowed */
    int fd;
    uint64_t bytes; /* of the archive */
    struct backup_manifest manifest;
    uint8_t manifest_sha256[32];
    struct pfx_buf entry, receipt;
    size_t n_keys; /* that the archive brings itself */
    struct pfx_vkey keys[BACKUP_KEYS];
    struct pfx_checkpoint log, proof; /* the log's own last one; the one over the entry */
    uint64_t seq;                     /* of the entry */
    int64_t entry_ms;                 /* and its time */
};
void backup_done(struct backup *backup); /* usable as cleanup; fd -1 is fine */
/* Opens an archive, reads all of it and compares it with its manifest, the manifest with the entry,
 * the entry with the checkpoint. What isn't looked at is who signed that: backup_signed. INTEGRITY
 * says what isn't as it was made. */
PFX_MUST_USE pfx_result backup_read(const char *path, struct backup *ret, struct pfx_error *err);
/* INTEGRITY: none of these keys signed the checkpoint over the entry, or one did so badly. */
PFX_MUST_USE pfx_result backup_signed(const struct backup *backup, const struct pfx_vkey *keys,
                                      size_t n_keys, struct pfx_error *err);
/* The files once more, in the archive's order, for who puts them somewhere. Compares again: `end`
 * is called for a file that is whole, and a failure of either ends it. */
struct backup_visitor {
    pfx_result (*begin)(void *ctx, const struct backup_item *item, struct pfx_error *err);
    pfx_result (*data)(void *ctx, const void *data, size_t len, struct pfx_error *err);
    pfx_result (*end)(void *ctx, const struct backup_item *item, struct pfx_error *err);
    void *ctx;
};
PFX_MUST_USE pfx_result backup_extract(struct backup *backup, const struct backup_visitor *visitor,
                                       struct pfx_error *err);

/* --- writing --- */
struct backup_writer;
/* Writes to path.new; nothing may be at path. */
PFX_MUST_USE pfx_result backup_writer_new(const char *path, struct backup_writer **ret,
                                          struct pfx_error *err);
void backup_writer_free(struct backup_writer *writer); /* removes path.new unless it was finished */
struct backup_manifest *backup_writer_manifest(struct backup_writer *writer);
struct stat;
/* A file of the manifest, with owner and mode of st; from memory, or `size` bytes of a descriptor. */
PFX_MUST_USE pfx_result backup_put(struct backup_writer *writer, const char *name,
                                   const struct stat *st, struct pfx_bytes content,
                                   struct pfx_error *err);
PFX_MUST_USE pfx_result backup_put_fd(struct backup_writer *writer, const char *name,
                                      const struct stat *st, int fd, uint64_t size,
                                      struct pfx_error *err);
/* A sub-folder's owner and mode; or those of one of the four. */
PFX_MUST_USE pfx_result backup_put_dir(struct backup_writer *writer, const char *name,
                                       const struct stat *st, struct pfx_error *err);
/* One of the three that aren't in the manifest. */
PFX_MUST_USE pfx_result backup_put_plain(struct backup_writer *writer, const char *name,
                                         struct pfx_bytes content, struct pfx_error *err);
/* On disk, read back as backup_read does it, and under its name. */
PFX_MUST_USE pfx_result backup_writer_finish(struct backup_writer *writer, struct pfx_error *err);
void backup_owner(const struct stat *st, char ret_owner[BACKUP_OWNER]);

/* --- what goes in --- */
struct backup_sources {
    char *config_dir, *config[8]; /* the second: files, absolute; NULL: none */
    char *agent_dir, *hsm_dir, *log_dir;
    char *store; /* name of the copy in agent_dir */
};
PFX_MUST_USE pfx_result backup_collect(struct backup_writer *writer,
                                       const struct backup_sources *sources,
                                       struct pfx_error *err);
/* "/a/b/c": the part before the last slash; free it. */
char *backup_parent(const char *path);

#endif
