/*
 * Approvals: what two people sign before pfx-hsm does something dangerous, and the record of it
 * that stands in the operation log, so that anybody can check it again.
 *
 * Signed is the statement, canonical JSON without a line end:
 *   {"args_hash":"<sha256>","command":"key.destroy","expiry":"2026-11-23T15:00:00.000Z",
 *    "nonce":"<64 hex digits>","origin":"host/pfx-agent"}
 * by `ssh-keygen -Y sign -n pfx-agent`. args_hash is over the arguments, canonical JSON too, which
 * name everything that the command will do.
 *
 * The record is one element of an entry's "approvals":
 *   {"args":"{...}","asker":"ann","given":[{"at":"...","line":"bob ssh-ed25519 AAAA...",
 *    "principal":"bob","signature":"-----BEGIN SSH SIGNATURE-----\n..."},...],"mode":"ssh",
 *    "needed":2,"statement":"{...}","uid":1001}
 * In mode uid (laboratories) nothing is signed: an approval is {"at","principal":"uid:1002","uid"}.
 */
#ifndef PFX_CRYPTO_APPROVAL_H
#define PFX_CRYPTO_APPROVAL_H

#include "crypto/checkpoint.h"
#include "crypto/roster.h"

#define PFX_APPROVAL_NAMESPACE "pfx-agent"
#define PFX_APPROVAL_ARGS_MAX 6144
#define PFX_APPROVAL_COMMAND_SIZE 48
#define PFX_APPROVERS_LEAST 2
#define PFX_APPROVERS_MOST 4
#define PFX_STATEMENT_MAX 1024
#define PFX_APPROVAL_RECORD_MAX 24000 /* bytes of a record */

/*
 * The commands that need approvals, a line each: pfx-hsm asks for no other's, and pfx-audit looks for
 * those of each. A new one is a line here, and pfx_approvals_require before it changes anything.
 */
enum pfx_dangerous_when {
    PFX_DANGEROUS,         /* always */
    PFX_DANGEROUS_ADOPTED, /* where the key is one that others made (reason "adopted") */
    PFX_DANGEROUS_READ,    /* where user keys may need the generation to be read: it was in force */
};
struct pfx_dangerous {
    const char *command; /* as it stands in the statement */
    const char *event;   /* of the entry that has the approvals: an intent, or a note */
    enum pfx_dangerous_when when;
    bool bare; /* done without, and called weak, where the policy names nobody who approves */
};
/* By the command, or by the entry's event; NULL: it needs none. */
const struct pfx_dangerous *pfx_dangerous_command(const char *command);
const struct pfx_dangerous *pfx_dangerous_event(const char *event, size_t len);

struct pfx_statement {
    char args_hash[65]; /* SHA-256, hex */
    char command[PFX_APPROVAL_COMMAND_SIZE];
    int64_t expiry_ms;
    char nonce[65];
    char origin[PFX_ORIGIN_SIZE];
};
/* Appends what is signed. False: a member can't stand in it. */
PFX_MUST_USE bool pfx_statement_write(const struct pfx_statement *statement, struct pfx_buf *out);
/* Only what pfx_statement_write writes. REFUSED says what is wrong. */
PFX_MUST_USE pfx_result pfx_statement_parse(struct pfx_bytes text, struct pfx_statement *ret,
                                            struct pfx_error *err);
/* SHA-256 of arguments, in hex. USAGE: not one canonical JSON object, or too long. */
PFX_MUST_USE pfx_result pfx_approval_args(struct pfx_bytes args, char ret_hash[65],
                                          struct pfx_error *err);

struct pfx_given { /* strings are owned */
    int64_t at_ms;
    int64_t uid;                        /* -1: signed */
    char principal[PFX_PRINCIPAL_SIZE]; /* "uid:1002" in mode uid */
    char *line;                         /* of the roster, without comment */
    char *signature;                    /* armored */
};
struct pfx_approval {
    bool by_uid; /* mode uid */
    unsigned needed;
    int64_t uid;                    /* who asked ... */
    char asker[PFX_PRINCIPAL_SIZE]; /* ... and who that is: never one of those who approve */
    struct pfx_statement statement;
    struct pfx_buf args;
    struct pfx_given given[PFX_APPROVERS_MOST];
    size_t n_given;
};
void pfx_approval_init(struct pfx_approval *approval);
void pfx_approval_done(struct pfx_approval *approval); /* usable as cleanup */
/* The canonical record, appended; false: over the ceiling. */
PFX_MUST_USE bool pfx_approval_write(const struct pfx_approval *approval, struct pfx_buf *out);
/* ret was initialised; on failure it may hold a part. REFUSED says what is wrong. */
PFX_MUST_USE pfx_result pfx_approval_parse(struct pfx_bytes json, struct pfx_approval *ret,
                                           struct pfx_error *err);
/* "bob ssh-ed25519 AAAA...", with the options that bind the key; free it. */
char *pfx_roster_text(const struct pfx_roster_line *line);

#define PFX_SIGNER_SIZE 96
/* Type and fingerprint of the key that signed, as ssh-keygen -l has them: "ssh-ed25519 SHA256:..." ;
 * "" in mode uid, where nobody signed, or where the roster's line can't be read. Returns buf. */
char *pfx_given_signer(const struct pfx_given *given, char buf[PFX_SIGNER_SIZE]);

/* May this one count beside the first n of the record? Its signature is over the statement, its
 * roster line allows it at the time it was given, it came before the expiry, and it is neither the
 * asker nor somebody who has approved. REFUSED; codes: those of pfx_sshsig_verify and
 * pfx_roster_allows, "expired", "self", "same person". */
PFX_MUST_USE pfx_result pfx_given_check(const struct pfx_approval *approval, size_t n,
                                        const struct pfx_given *given, struct pfx_error *err);
/* All of it at that time: hash, expiry, each approval, and whether there are enough ("too few"). */
PFX_MUST_USE pfx_result pfx_approval_check(const struct pfx_approval *approval, int64_t at_ms,
                                           struct pfx_error *err);

#endif
