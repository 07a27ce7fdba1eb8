/*
 * What an entry says, copied out for people: whom and what it was about, who asked, how it ended.
 * A result that names its intent has the intent's members where it has none of its own.
 */
#ifndef PFX_AUDIT_FACTS_H
#define PFX_AUDIT_FACTS_H

#include "agent/audit/source.h"

/* At least what pfx_fields allows for them, and a NUL. */
#define PFX_FACT_WORD 65
#define PFX_FACT_HEX 129
#define PFX_FACT_TEXT 257
struct pfx_facts {
    enum pfx_src src;
    enum pfx_phase phase;
    enum pfx_outcome outcome;
    int64_t time, up; /* ms: of the wall clock, since boot */
    int64_t at;       /* ms: when pfx-agentd noted it; -1: not said */
    char event[PFX_FACT_WORD], boot[PFX_FACT_WORD], op[27];
    char role[PFX_FACT_WORD];
    int64_t uid; /* -1 where there is none; so are all below */
    int64_t ref;
    char ref_event[PFX_FACT_WORD]; /* of the entry that it names, where that was found */

    /* What an intent hands on to its result. */
    char user[65], key_id[PFX_FACT_HEX], spki[65], cert[65];
    char name[PFX_FACT_TEXT], transaction[PFX_FACT_WORD], thumbprint[PFX_FACT_HEX];
    int64_t order, enrolment, attempt;

    char tier[PFX_FACT_WORD], out[65];
    char fail_op[PFX_FACT_WORD], fail_code[PFX_FACT_WORD], rv[PFX_FACT_WORD];
    int64_t generation; /* of the encryption key: sealed to, or pinned */
    int64_t count;
    bool weak;
};
void pfx_facts_of(const struct pfx_entry *entry, struct pfx_facts *ret);
/* Fills what `facts` lacks from its intent's. */
void pfx_facts_inherit(struct pfx_facts *facts, const struct pfx_facts *intent);

/* "2026-11-22 08:00:00" UTC; buf has PFX_TIME_SIZE bytes. */
const char *pfx_facts_time(int64_t ms, char *buf);
/* For a table, shown: "uid 1000", "agentd"; "e12.1 order 542772 key 0a1b2c3d direct gen 2 CKR_..."
 * without the user. */
void pfx_facts_who(const struct pfx_facts *facts, struct pfx_buf *out);
void pfx_facts_what(const struct pfx_facts *facts, bool with_enrolment, struct pfx_buf *out);
/* The user's name by the map, or the first digits of the hash, or nothing; shown. */
void pfx_facts_user(const struct pfx_facts *facts, struct pfx_names *names, struct pfx_buf *out);

#endif
