/*
 * The roster: who may approve, as OpenSSH's allowed-signers file (ssh-keygen(1), ALLOWED SIGNERS),
 * a subset of which is taken, so that what pfx-hsm holds and what `ssh-keygen -Y verify` says is
 * the same: one plain principal a line, which is a person; the options namespaces=, valid-after=
 * and valid-before= (in UTC); no cert-authority.
 */
#ifndef PFX_CRYPTO_ROSTER_H
#define PFX_CRYPTO_ROSTER_H

#include "crypto/sshsig.h"

#define PFX_ROSTER_MAX 32768 /* bytes of the file */
#define PFX_ROSTER_LINES 128
#define PFX_PRINCIPAL_SIZE 129

struct pfx_roster_line {
    char principal[PFX_PRINCIPAL_SIZE];
    unsigned line;      /* of the file */
    uint8_t *key;       /* the blob; owned */
    size_t key_len;
    enum pfx_ssh_type type;
    char *namespaces;   /* patterns; NULL: any */
    int64_t after_ms;   /* 0: from ever on */
    int64_t before_ms;  /* 0: for ever */
};
struct pfx_roster {
    struct pfx_roster_line *lines;
    size_t n;
};
void pfx_roster_done(struct pfx_roster *roster); /* usable as cleanup; zeroed is fine */
/* REFUSED names line and reason; a key that stands there twice and two principals that differ in
 * case alone are reasons, too: one person must not count as two. */
PFX_MUST_USE pfx_result pfx_roster_parse(struct pfx_bytes text, struct pfx_roster *ret,
                                         struct pfx_error *err);
/* The line with this key, or NULL. */
const struct pfx_roster_line *pfx_roster_find(const struct pfx_roster *roster,
                                              struct pfx_bytes key);
bool pfx_roster_names(const struct pfx_roster *roster, const char *principal);
/* How many people there are. */
size_t pfx_roster_people(const struct pfx_roster *roster);
/* May this key sign in this namespace at this time? REFUSED: codes "namespace", "not yet",
 * "no longer". */
PFX_MUST_USE pfx_result pfx_roster_allows(const struct pfx_roster_line *line,
                                          const char *namespace, int64_t at_ms,
                                          struct pfx_error *err);

#endif
