/*
 * The page of a key ceremony against the operation log: what its seal proves, and whether the log's
 * own entries say the same as its lines.
 */
#ifndef PFX_AUDIT_CEREMONY_H
#define PFX_AUDIT_CEREMONY_H

#include "agent/audit/audit.h"
#include "crypto/minutes.h"

/* Of a section of the record. */
enum pfx_ceremony_match {
    PFX_PAGE_NONE,    /* nothing of it stands in the log, or it wasn't looked for */
    PFX_PAGE_AGREES,
    PFX_PAGE_DIFFERS,
    PFX_PAGE_ABSENT,  /* its entry should be there, and isn't */
    PFX_PAGE_UNSEEN,  /* entries that may have it weren't presented */
};
struct pfx_ceremony_found {
    enum pfx_ceremony_match match;
    uint64_t seq;        /* of the entry that says it */
    uint64_t since;      /* key: the first entry that names it; UINT64_MAX: none */
    int64_t since_ms;
    const char *what;    /* DIFFERS: static */
    char state[16];      /* a generation: that the entries up to here left it in */
    char maybe[16];      /* ... or that an operation which was cut off may have; "": none */
    uint64_t maybe_seq;
};
struct pfx_ceremony {
    struct pfx_buf text;
    struct pfx_minutes_page page;
    struct pfx_audit_keys keys;
    uint64_t index; /* of the ceremony.record entry */
    int64_t entry_ms;
    struct pfx_checkpoint checkpoint;
    uint64_t signers; /* a bit for each of keys */
    unsigned unknown; /* signature lines that no given key verifies */

    /* With an export: */
    struct pfx_source *source;
    bool compared;          /* its entries make the root that the page's checkpoint signs */
    uint64_t presented;     /* entries before this one weren't presented */
    uint64_t newest;        /* size of the export's own checkpoint */
    bool known_start;       /* a start was seen */
    struct pfx_ceremony_start { /* as the last start before the record says */
        uint8_t policy[32], exe[32];
        char version[65]; /* "": it says none */
        bool has_policy, has_exe;
    } start, done_by; /* ... and before the first entry that it names */
    bool late;        /* the page was written by another process than did the ceremony, or so */
    bool weak;              /* one of its keys was approved without signatures */
    const char *differs;    /* the head: static; NULL: agrees, or not looked at */
    struct pfx_ceremony_found *found; /* for each section */
};
void pfx_ceremony_done(struct pfx_ceremony *c); /* usable as cleanup; zeroed is fine */
/* For ceremony_log.c: an entry of pfx-hsm before the record, in order; and what is left then. */
void pfx_ceremony_take(struct pfx_ceremony *c, uint64_t seq, const struct pfx_entry *entry);
void pfx_ceremony_judge(struct pfx_ceremony *c);
/* The page alone, under the auditor's keys. INTEGRITY: it doesn't hold. */
PFX_MUST_USE pfx_result pfx_ceremony_page(struct pfx_ceremony *c, const char *path,
                                          const struct pfx_audit_options *options,
                                          struct pfx_error *err);
/* Against an export. INTEGRITY: its entries aren't those that the page's checkpoint signs. USAGE: it
 * ends before the record. */
PFX_MUST_USE pfx_result pfx_ceremony_export(struct pfx_ceremony *c, const char *path,
                                            struct pfx_error *err);

#endif
