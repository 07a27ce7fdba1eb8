/* The state of meaning.c, which the rules in meaning_state.c read and change. */
#ifndef PFX_AUDIT_MEANING_STATE_H
#define PFX_AUDIT_MEANING_STATE_H

#include "agent/audit/audit.h"
#include "agent/audit/events.h"
#include "agent/audit/meaning.h"
#include "agent/audit/policy.h"

/* Intents without a result so far. A host has as many at once as it has threads and a queue: more
 * than this is a broken log, and said so. */
#define PFX_OPEN_BITS 13
#define PFX_OPEN_SLOTS (1u << PFX_OPEN_BITS)
#define PFX_OPEN_MOST (PFX_OPEN_SLOTS / 2)
#define PFX_POLICIES_MOST 4096
#define PFX_PINS_MOST 64

struct pfx_life;      /* meaning_life.c */
struct pfx_standings; /* meaning_standing.c */
struct pfx_questions; /* questions.c */
struct pfx_records;   /* meaning_records.c */

struct pfx_open {
    uint64_t seq;
    uint32_t process; /* counts starts */
    uint8_t event;    /* 0: the slot is free */
    bool has_spki, has_ticket, has_id, has_cert;
    uint8_t op[26];
    uint8_t spki[32]; /* of the key, or of the pin */
    uint8_t payload[PFX_MATCH_PAYLOAD];
    int64_t generation;
};
struct pfx_ended {
    char origin[PFX_ORIGIN_SIZE];
    struct pfx_policy_facts facts; /* of the policy in force at its end */
};
struct pfx_pin {
    int64_t generation;
    uint8_t spki[32];
};
struct pfx_meaning {
    struct pfx_report *report;
    struct pfx_match *match;
    uint32_t log;
    struct pfx_life *life;
    struct pfx_standings *standings;
    struct pfx_questions *questions;
    struct pfx_records *records;
    struct pfx_source *source; /* of this log; NULL: there are no texts */
    struct pfx_open *open; /* open addressing by seq */
    size_t n_open;
    bool overflow;

    uint32_t process; /* starts so far */
    uint64_t from;    /* the first entry that was examined */
    bool first;       /* the next entry is that one */
    bool begun;       /* `from` is 0 and it was log.begin: nothing came before */
    bool under_way;   /* something was read that an init's "before" notes can't follow */
    bool known_pins, known_policy, known_boot, known_n;
    struct pfx_pin active, previous; /* generation 0: none */
    uint64_t active_since;           /* seq of the entry that made it active */
    uint64_t unsealed_proof;         /* builds whose pin isn't known */
    uint8_t policy[32];
    bool policy_pending; /* a start named another policy; policy.changed must follow */
    uint64_t policy_pending_seq;
    uint8_t policy_before[32]; /* the one before that start */
    bool force;                /* a policy is in force, and changes by approvals only */
    bool has_policy_text;      /* of policy_text policy_facts was read */
    uint8_t policy_text[32];
    struct pfx_policy_facts policy_facts;
    uint8_t boot[40];
    size_t boot_len;
    bool boot_expected; /* log.segment came with another boot: a start must follow */
    uint64_t boot_seq;
    char day[10]; /* of the last entry, and when it began */
    int64_t day_ms;
    int64_t last_up, last_offset;
    bool has_time, stepped;
    int64_t n; /* pfx-agentd's last */

    struct pfx_meaning_policy *policies;
    size_t n_policies;
    bool policies_over;
    struct pfx_ended *ended; /* logs of the set that were read to their end */
    size_t n_ended;
    uint8_t (*nonces)[32]; /* of approvals that were spent, in all logs of the set */
    size_t n_nonces;
    bool nonces_over;
    uint64_t n_approved; /* commands of this log that people signed */
    uint64_t retained, last_start, unknown_members, unknown_events;
};

void pfx_meaning_tell(struct pfx_meaning *meaning, enum pfx_finding_level level, uint64_t seq,
                      const char *fmt, ...) PFX_PRINTF(4, 5);

/* What an ok entry of its event must say. */
void pfx_meaning_form(struct pfx_meaning *meaning, uint64_t seq, enum pfx_event event,
                      const struct pfx_entry *entry);
/* Rules about state: process, boot, clock, policy, pins, pfx-agentd's numbers. */
void pfx_meaning_process(struct pfx_meaning *meaning, uint64_t seq, enum pfx_event event,
                         const struct pfx_entry *entry);
void pfx_meaning_policy(struct pfx_meaning *meaning, uint64_t seq, enum pfx_event event,
                        const struct pfx_entry *entry);
/* What the text of this policy says, as far as it is there and can be read; never NULL, and the
 * caller's until the next call. */
const struct pfx_policy_facts *pfx_meaning_policy_facts(struct pfx_meaning *meaning,
                                                        const uint8_t sha256[32]);
/* The same of the log that a log.reopen follows; NULL: that wasn't read before this one. */
const struct pfx_policy_facts *pfx_meaning_before(const struct pfx_meaning *meaning,
                                                  const struct pfx_entry *entry);
void pfx_meaning_policy_end(struct pfx_meaning *meaning);
void pfx_meaning_segment(struct pfx_meaning *meaning, uint64_t seq, const struct pfx_entry *entry);
void pfx_meaning_agentd(struct pfx_meaning *meaning, uint64_t seq, const struct pfx_entry *entry);
/* pins of log.segment and token.ready. */
void pfx_meaning_pins(struct pfx_meaning *meaning, uint64_t seq, const struct pfx_entry *entry);
/* A result of ceremony.pin, or a note of one before the log existed (intent: all zero). */
void pfx_meaning_pinned(struct pfx_meaning *meaning, uint64_t seq, const struct pfx_entry *entry,
                        const struct pfx_open *intent);
/* A PFX was sealed: to what was active? */
void pfx_meaning_sealed(struct pfx_meaning *meaning, uint64_t seq, const struct pfx_entry *entry,
                        const struct pfx_open *intent);
/* Ok results about a user key; open has what intent and result say of the key together. */
PFX_MUST_USE pfx_result pfx_meaning_made(struct pfx_meaning *meaning, uint64_t seq,
                                         const struct pfx_entry *entry,
                                         const struct pfx_open *open, struct pfx_error *err);
PFX_MUST_USE pfx_result pfx_meaning_rewrapped(struct pfx_meaning *meaning, uint64_t seq,
                                              const struct pfx_open *open, struct pfx_error *err);
PFX_MUST_USE pfx_result pfx_meaning_built(struct pfx_meaning *meaning, uint64_t seq,
                                          const struct pfx_entry *entry,
                                          const struct pfx_open *open, struct pfx_error *err);
PFX_MUST_USE pfx_result pfx_meaning_destroyed(struct pfx_meaning *meaning, uint64_t seq,
                                              const struct pfx_entry *entry,
                                              const struct pfx_open *open, struct pfx_error *err);
/* Generations of the encryption key and their moves. An entry that writes pins: its result; a list
 * of pins: its serial, and each of them (spki: SHA-256, or NULL). */
struct pfx_life *pfx_life_new(void); /* free() it */
void pfx_life_reset(struct pfx_life *life);
bool pfx_event_pins(enum pfx_event event);
void pfx_life_written(struct pfx_meaning *meaning, uint64_t seq, enum pfx_event event,
                      const struct pfx_entry *entry);
void pfx_life_seen(struct pfx_meaning *meaning, uint64_t seq, const struct pfx_entry *entry);
void pfx_life_listed(struct pfx_meaning *meaning, uint64_t seq, int64_t number,
                     struct pfx_bytes state, const uint8_t *spki);
void pfx_life_listed_all(struct pfx_meaning *meaning); /* that was the list */
/* Generations of the standing keys: a result of standing.*. */
struct pfx_standings *pfx_standings_new(void); /* free() it */
void pfx_standings_reset(struct pfx_standings *standings);
void pfx_standing_written(struct pfx_meaning *meaning, uint64_t seq, enum pfx_event event,
                          const struct pfx_entry *entry);
/* May user keys need this generation to be read: was it in force? False, too, if it isn't known. */
bool pfx_standing_read(struct pfx_meaning *meaning, const struct pfx_entry *entry);
/* Changes of keys, and the records of their ceremonies. */
struct pfx_records *pfx_records_new(void); /* free() it */
void pfx_records_reset(struct pfx_records *records);
void pfx_records_entry(struct pfx_meaning *meaning, uint64_t seq, enum pfx_event event,
                       const struct pfx_entry *entry);
void pfx_records_end(struct pfx_meaning *meaning); /* what is left without one */
struct pfx_open *pfx_meaning_open_find(struct pfx_meaning *meaning, uint64_t seq);

#endif
