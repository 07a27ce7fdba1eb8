/*
 * What pfx-audit verify found: findings by class and level, facts about each log, and what was not
 * proven. All are counted; of each class and level the ones with the lowest entry numbers are kept,
 * so that memory stays the same however many there are.
 */
#ifndef PFX_AUDIT_REPORT_H
#define PFX_AUDIT_REPORT_H

#include <stdio.h>

#include "crypto/checkpoint.h"

enum pfx_finding_class {
    PFX_FOUND_FORM,        /* a file or an entry isn't what the format says */
    PFX_FOUND_SEQUENCE,    /* an entry's seq or prev isn't that of its place */
    PFX_FOUND_TREE,        /* entries or tiles don't make the root that was signed */
    PFX_FOUND_SIGNATURE,   /* of a checkpoint: bad, or missing */
    PFX_FOUND_CONSISTENCY, /* two signed checkpoints that don't belong to one log */
    PFX_FOUND_KEY,         /* who signed, and how keys followed each other */
    PFX_FOUND_ANCHOR,      /* log and anchor don't fit */
    PFX_FOUND_MISSING,     /* what should be presented isn't */
    PFX_FOUND_UNCOVERED,   /* entries behind the newest checkpoint */
    PFX_FOUND_MEANING,     /* what the entries say */
    PFX_FOUND_CLASSES
};
enum pfx_finding_level { PFX_LEVEL_TAMPERING, PFX_LEVEL_FINDING, PFX_LEVEL_WARNING, PFX_LEVELS };
const char *pfx_finding_class_name(enum pfx_finding_class cls);
const char *pfx_finding_level_name(enum pfx_finding_level level);

#define PFX_NO_ENTRY UINT64_MAX
#define PFX_NO_LOG UINT32_MAX
#define PFX_FINDINGS_KEPT 100 /* of a class and level */
#define PFX_FINDINGS_SHOWN 20 /* on a terminal */
#define PFX_FINDING_TEXT 400

/* What the verdict says about one log. */
struct pfx_report_log {
    const char *path; /* borrowed */
    char origin[PFX_ORIGIN_SIZE];
    uint64_t size;     /* of the newest checkpoint */
    uint64_t examined; /* entries that were read and checked */
    uint64_t first;    /* the first of them */
    uint64_t checkpoints;
    uint64_t tail;          /* entries that no checkpoint covers */
    int64_t from_ms, to_ms; /* wall clock of the first and last entry; 0: none */
    struct pfx_node root;
    char signers[160]; /* who signed the newest: "P-256, Ed25519" */
};
struct pfx_report;
struct pfx_report *pfx_report_new(void);
void pfx_report_free(struct pfx_report *report);
static inline void pfx_report_freep(struct pfx_report **pp)
{
    pfx_report_free(*pp);
}
/* Logs are told apart by their number, in the order of this call. Stays valid until free. */
struct pfx_report_log *pfx_report_log(struct pfx_report *report, const char *path);
uint32_t pfx_report_logs(const struct pfx_report *report);
struct pfx_report_log *pfx_report_log_at(struct pfx_report *report, uint32_t log);

/* log or entry may be PFX_NO_LOG, PFX_NO_ENTRY. Text is one sentence without its entry's number;
 * what is printed of a log's own words is cleaned. */
PFX_PRINTF(6, 7)
void pfx_report_add(struct pfx_report *report, enum pfx_finding_level level,
                    enum pfx_finding_class cls, uint32_t log, uint64_t entry, const char *fmt, ...);
uint64_t pfx_report_count(const struct pfx_report *report, enum pfx_finding_level level,
                          enum pfx_finding_class cls);
/* One sentence of "Not proven"; the same one stands there once. */
PFX_PRINTF(3, 4)
void pfx_report_open(struct pfx_report *report, uint32_t log, const char *fmt, ...);

/* 6 with tampering, 1 with a finding, else 0. */
int pfx_report_exit(const struct pfx_report *report);
void pfx_report_text(const struct pfx_report *report, FILE *out);
/* One canonical JSON object in one line: schema pfx-audit/verify/1. */
void pfx_report_json(const struct pfx_report *report, FILE *out);

/* For the two above. */
struct pfx_finding {
    uint32_t log;
    uint64_t entry;
    char *text;
};
struct pfx_findings {
    uint64_t count;
    size_t n;
    struct pfx_finding kept[PFX_FINDINGS_KEPT];
};
struct pfx_report {
    uint64_t weak; /* commands that somebody permitted without a signature */
    struct pfx_findings found[PFX_LEVELS][PFX_FOUND_CLASSES];
    struct pfx_report_log **logs;
    size_t n_logs;
    struct pfx_finding *open; /* not proven; entry isn't used */
    size_t n_open;
};

#endif
