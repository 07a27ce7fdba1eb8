/*
 * pfx-audit: what its files share. Reads exported logs, offline; links libcrypto and nothing of the
 * HSM.
 *
 * Data goes to stdout, everything else to stderr. Exit codes: 0 verified or yes; 1 a finding, or
 * no; 2 usage; 6 tampering; 70 internal.
 */
#ifndef PFX_AUDIT_AUDIT_H
#define PFX_AUDIT_AUDIT_H

#include <stdio.h>

#include "agent/audit/source.h"

#define PFX_AUDIT_OK 0
#define PFX_AUDIT_FINDING 1
#define PFX_AUDIT_USAGE 2
#define PFX_AUDIT_TAMPERING 6

enum pfx_audit_format { PFX_AUDIT_TABLE, PFX_AUDIT_JSON, PFX_AUDIT_CSV };

/* One call of the program. All strings are borrowed from argv; a missing one is NULL. */
struct pfx_audit_options {
    const struct pfx_audit_command *command;
    const char *const *operands; /* what stands after the command, without options */
    size_t n_operands;
    enum pfx_audit_format format;

    const char *const *keys; /* --key FILE, several */
    size_t n_keys;
    const char *since;  /* --since CHECKPOINT: verify */
    const char *until;  /* --until CHECKPOINT|SIZE: verify */
    const char *anchor; /* --anchor LABEL|FILE */
    const char *names;  /* --names FILE: a name map that came another way */

    /* Filters of show and stats; those that are given must all hold (agent/audit/filter.h). */
    const char *from, *to, *event, *user, *key, *order, *operator_, *outcome, *tier, *src;
    const char *enrolment, *op;

    const char *out;   /* -o, --out FILE: prove, ceremony */
    const char *entry; /* --entry FILE: prove writes the entry's bytes there, check reads them */
    const char *log;   /* --log DIR: the export that check and ceremony compare with */
};

struct pfx_audit_command {
    const char *name;
    const char *operands; /* as the help shows them */
    unsigned min_operands, max_operands;
    const char *help; /* one sentence */
    const char *more; /* a paragraph for `help COMMAND` and the man page, or NULL */
    bool hidden;      /* for packaging; not in the help */
    /* The exit code; everything has been told. */
    int (*function)(const struct pfx_audit_options *options);
};
extern const struct pfx_audit_command pfx_audit_commands[]; /* in main.c; ends with name NULL */

int pfx_audit_verify(const struct pfx_audit_options *options);  /* DIR... */
int pfx_audit_show(const struct pfx_audit_options *options);    /* DIR */
int pfx_audit_history(const struct pfx_audit_options *options); /* DIR USER|KEY|ORDER */
int pfx_audit_prove(const struct pfx_audit_options *options);   /* DIR N */
int pfx_audit_check(const struct pfx_audit_options *options);   /* FILE */
int pfx_audit_ceremony(const struct pfx_audit_options *options); /* PAGE */
int pfx_audit_stats(const struct pfx_audit_options *options);   /* DIR */
int pfx_audit_help(const struct pfx_audit_options *options);    /* [COMMAND] */
int pfx_audit_man(const struct pfx_audit_options *options);
int pfx_audit_completion(const struct pfx_audit_options *options);

static inline const char *pfx_entries(uint64_t n)
{
    return n == 1 ? "entry" : "entries";
}
static inline const char *pfx_plural(uint64_t n)
{
    return n == 1 ? "" : "s";
}

/* Prints one line on stderr and returns the exit code of its class. */
int pfx_audit_fail(const struct pfx_error *err);

/* The auditor's public keys: each file holds key lines (name+id+key; empty lines and those with '#'
 * are passed over), or PEM public keys, which `origin` names then. USAGE: can't be read, nothing in
 * it, or a PEM key and no origin (NULL). */
#define PFX_AUDIT_KEYS 32
struct pfx_audit_keys {
    size_t n;
    struct pfx_vkey keys[PFX_AUDIT_KEYS];
};
PFX_MUST_USE pfx_result pfx_audit_keys_load(const char *const *files, size_t n, const char *origin,
                                            struct pfx_audit_keys *ret, struct pfx_error *err);
void pfx_audit_keys_done(struct pfx_audit_keys *keys); /* usable as cleanup; zeroed is fine */

/* A whole file by its path, at most max bytes; USAGE says what is wrong with it. */
PFX_MUST_USE pfx_result pfx_audit_file(const char *path, size_t max, struct pfx_buf *ret,
                                       struct pfx_error *err);

/* A new file, or one that says the same already; USAGE where another one is there. */
PFX_MUST_USE pfx_result pfx_audit_put(const char *path, struct pfx_bytes data,
                                      struct pfx_error *err);

#endif
