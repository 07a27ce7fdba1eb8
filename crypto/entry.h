/*
 * Entries of the operation log: the members there are, one row each, and the one way to write and
 * to read them. Members that the table doesn't know are taken when read (a newer writer) as long as
 * the whole is canonical JSON; they are counted, never interpreted.
 */
#ifndef PFX_CRYPTO_ENTRY_H
#define PFX_CRYPTO_ENTRY_H

#include "crypto/canon.h"
#include "crypto/tree.h"

#define PFX_ENTRY_MAX 65535 /* bytes */
#define PFX_ENTRY_VERSION 1

/* group_member; top-level members have no group. In canonical order. */
enum pfx_field {
    PFX_F_ACTOR_PID,     /* int: of the line's peer, as the kernel says */
    PFX_F_ACTOR_ROLE,    /* word: self, agentd, uploader, operator */
    PFX_F_ACTOR_UID,     /* int */
    PFX_F_APPROVALS,     /* raw array: signatures of people, whole */
    PFX_F_AT,            /* time: when pfx-agentd noted it; src agentd */
    PFX_F_BEFORE,        /* bool: happened before the log existed */
    PFX_F_BOOT,          /* str: the kernel's boot id */
    PFX_F_CERT_SHA256,   /* hash: of a DER certificate */
    PFX_F_CLOCK_STEP,    /* int: ms that the wall clock went off by */
    PFX_F_COUNT,         /* int: how many */
    PFX_F_EVENT,         /* word: key.make, pfx.build, ... */
    PFX_F_FAIL_CODE,     /* word-like: CKR name, errno name, HTTP status: never an error's text */
    PFX_F_FAIL_OP,       /* what was being done when it failed */
    PFX_F_FOUND,         /* word: what was there before: key, blob, nothing, lost */
    PFX_F_KEY_ALG,       /* word */
    PFX_F_KEY_ID,        /* hex: CKA_ID that the key has, or will have */
    PFX_F_KEY_SPKI,      /* hash: of the DER SubjectPublicKeyInfo */
    PFX_F_LOG_ANCHOR,    /* int: anchored size */
    PFX_F_LOG_BEFORE,    /* text: predecessor's last checkpoint, the whole note */
    PFX_F_LOG_KEYS,      /* raw array of strings: key lines that sign from the next checkpoint on */
    PFX_F_LOG_N,         /* int: pfx-agentd's last number so far */
    PFX_F_LOG_OPEN,      /* raw array of ints: intents without a result so far */
    PFX_F_LOG_ORIGIN,    /* str */
    PFX_F_LOG_RAN,       /* int: ms that the host was seen to run since the log began */
    PFX_F_LOG_RESTORED,  /* int: size of what was restored */
    PFX_F_LOG_ROOT,      /* hash */
    PFX_F_LOG_SIZE,      /* int */
    PFX_F_N,             /* int: pfx-agentd's own number of this note, from 1, without gaps */
    PFX_F_OP,            /* ULID of the operation */
    PFX_F_OUT_SHA256,    /* hash: of what is released */
    PFX_F_OUTCOME,       /* enum pfx_outcome */
    PFX_F_PHASE,         /* enum pfx_phase */
    PFX_F_PIN_GENERATION,/* int: of the encryption key */
    PFX_F_PIN_SERIAL,    /* int: of the pins' file; grows with each write */
    PFX_F_PIN_SPKI,      /* hash */
    PFX_F_PIN_STATE,     /* word: making, staged, active, ... */
    PFX_F_PINS,          /* raw array of {generation, spki, state}: all pins as they stand */
    PFX_F_POLICY_FORCE,  /* hash: of policy and roster that only approvals can change */
    PFX_F_POLICY_SHA256, /* hash: of the policy file */
    PFX_F_PREV,          /* hash: leaf hash of the entry before */
    PFX_F_REASON,        /* word: why, as the operator said it */
    PFX_F_REF,           /* int: seq of the intent that a result ends */
    PFX_F_RV,            /* CKR name */
    PFX_F_SEAL_BY,       /* word: token or openssl */
    PFX_F_SEAL_GENERATION, /* int */
    PFX_F_SEAL_HASH,     /* word: of the OAEP */
    PFX_F_SEAL_SHA256,   /* hash: of the sealed password */
    PFX_F_SEAL_SPKI,     /* hash: of the key that it is sealed to */
    PFX_F_SEQ,           /* int: index of the leaf */
    PFX_F_SOFTWARE_EXE,  /* hash: of the executable */
    PFX_F_SOFTWARE_MODULES, /* raw array of {firmware, role, sha256, version} */
    PFX_F_SOFTWARE_VERSION, /* str */
    PFX_F_SRC,           /* enum pfx_src */
    PFX_F_STANDING_SERIAL, /* int: of the file of the standing keys' generations */
    PFX_F_STANDING_STATE, /* word: staged, active, previous, destroyed */
    PFX_F_TARGET_ATTEMPT, /* int */
    PFX_F_TARGET_ENROLMENT, /* int */
    PFX_F_TARGET_NAME,   /* str: standing key, app, secret, command, record */
    PFX_F_TARGET_ORDER,  /* int: DigiCert order */
    PFX_F_TARGET_THUMBPRINT, /* hex: of the certificate, as Intune names it */
    PFX_F_TARGET_TRANSACTION, /* str: of a CMP order */
    PFX_F_TARGET_USER,   /* hash: SHA-256(salt | object id) */
    PFX_F_TICKET,        /* hash: of the ticket that key.make gave and pfx.build took */
    PFX_F_TIER,          /* word */
    PFX_F_TIME,          /* time: UTC, ms */
    PFX_F_TOKEN_LABEL,   /* str */
    PFX_F_TOKEN_SERIAL,  /* str */
    PFX_F_UP,            /* int: ms since boot, CLOCK_BOOTTIME */
    PFX_F_V,             /* int: 1 */
    PFX_F_WEAK,          /* bool: permitted in a way that the documents call weak */
    PFX_FIELD_COUNT
};
enum pfx_field_type {
    PFX_T_INT,  /* |x| < 2^53 */
    PFX_T_BOOL,
    PFX_T_STR,  /* UTF-8 */
    PFX_T_TEXT, /* UTF-8, of several lines */
    PFX_T_WORD, /* [A-Za-z0-9._-]+ */
    PFX_T_HASH, /* 64 lower-case hex digits */
    PFX_T_HEX,  /* pairs of lower-case hex digits */
    PFX_T_ULID, /* 26 of Crockford's base 32, upper case, first 0 to 7 */
    PFX_T_TIME, /* 2026-11-22T08:00:00.120Z */
    PFX_T_RAW,  /* an array */
};
struct pfx_field_info {
    const char *group; /* "" at the top */
    const char *name;
    enum pfx_field_type type;
    uint16_t max;      /* bytes of text without escapes; 0: the type's own */
};
extern const struct pfx_field_info pfx_fields[PFX_FIELD_COUNT];
/* "key.id" or "event"; false: no such member. */
PFX_MUST_USE bool pfx_field_find(const char *dotted, enum pfx_field *ret);

enum pfx_src { PFX_SRC_HSM, PFX_SRC_AGENTD };
enum pfx_phase { PFX_PHASE_INTENT, PFX_PHASE_RESULT, PFX_PHASE_NOTE };
/* pending: an intent's. unknown: the process ended before the result. The rest are an operation's,
 * by the class of its failure. */
enum pfx_outcome {
    PFX_OUTCOME_PENDING,
    PFX_OUTCOME_OK,
    PFX_OUTCOME_USAGE,
    PFX_OUTCOME_REFUSED,
    PFX_OUTCOME_TRANSIENT,
    PFX_OUTCOME_DEVICE,
    PFX_OUTCOME_INTEGRITY,
    PFX_OUTCOME_INTERNAL,
    PFX_OUTCOME_LOST,
    PFX_OUTCOME_UNKNOWN,
};
const char *pfx_src_name(enum pfx_src src);
const char *pfx_phase_name(enum pfx_phase phase);
const char *pfx_outcome_name(enum pfx_outcome outcome);
enum pfx_outcome pfx_outcome_of(enum pfx_class cls);

/* An entry with borrowed values. */
struct pfx_entry {
    uint64_t has[2]; /* a bit for each field */
    struct pfx_entry_value {
        struct pfx_bytes text; /* all but INT and BOOL; strings with escapes as they stand, and
                                * then `escaped` */
        int64_t number;        /* INT, BOOL; SRC, PHASE, OUTCOME: the enum */
        bool escaped;
    } values[PFX_FIELD_COUNT];
    unsigned n_unknown; /* members that the table doesn't know */
};
static inline bool pfx_entry_has(const struct pfx_entry *entry, enum pfx_field field)
{
    return entry->has[field / 64] >> (field % 64) & 1;
}
static inline int64_t pfx_entry_int(const struct pfx_entry *entry, enum pfx_field field)
{
    return pfx_entry_has(entry, field) ? entry->values[field].number : 0;
}
static inline struct pfx_bytes pfx_entry_text(const struct pfx_entry *entry, enum pfx_field field)
{
    return pfx_entry_has(entry, field) ? entry->values[field].text : (struct pfx_bytes){NULL, 0};
}
/* Compares with escapes resolved; so does pfx_entry_plain, which appends (nothing where the member
 * isn't there) and is false when out is over its ceiling. */
bool pfx_entry_is(const struct pfx_entry *entry, enum pfx_field field, const char *text);
PFX_MUST_USE bool pfx_entry_plain(const struct pfx_entry *entry, enum pfx_field field,
                                  struct pfx_buf *out);
bool pfx_entry_hash(const struct pfx_entry *entry, enum pfx_field field, uint8_t ret[32]);
/* RFC 3339 to ms since 1970; the entry was read, so the form is right. */
int64_t pfx_entry_time(const struct pfx_entry *entry, enum pfx_field field);

/* REFUSED: not canonical, a known member of another type or too long, a mandatory one missing (v,
 * seq, src, time, up, boot, event, phase, outcome, actor.role, op, prev), a known group without
 * members, v isn't 1. Values are borrowed from json. Allocates nothing on success. With no unknown
 * members pfx_entry_write gives the same bytes again. An unknown group counts as one. */
PFX_MUST_USE pfx_result pfx_entry_read(struct pfx_bytes json, struct pfx_entry *ret,
                                       struct pfx_error *err);

/* An entry that is being written; values are copied in. A value that its row doesn't allow is a
 * defect of the program and ends it, and so is more than the store holds. Strings can come from
 * outside: pfx_draft_str cuts them at the row's length, puts U+FFFD for what isn't UTF-8 and drops
 * control characters (but line ends in TEXT). In a WORD, '_' stands for what it can't have; an empty
 * one, or NULL, leaves the member out. The draft can't be copied: values point into it. */
struct pfx_draft {
    struct pfx_entry entry;
    size_t used;
    char store[24576];
};
void pfx_draft_init(struct pfx_draft *draft, enum pfx_src src, const char *event,
                    enum pfx_phase phase, enum pfx_outcome outcome);
void pfx_draft_int(struct pfx_draft *draft, enum pfx_field field, int64_t value);
void pfx_draft_bool(struct pfx_draft *draft, enum pfx_field field, bool value);
void pfx_draft_str(struct pfx_draft *draft, enum pfx_field field, const char *text);
void pfx_draft_hex(struct pfx_draft *draft, enum pfx_field field, const void *data, size_t len);
void pfx_draft_time(struct pfx_draft *draft, enum pfx_field field, int64_t ms);
/* A canonical array that the caller made with pfx_canon. */
void pfx_draft_raw(struct pfx_draft *draft, enum pfx_field field, struct pfx_bytes json);
/* Appends the canonical JSON. USAGE: longer than PFX_ENTRY_MAX or a mandatory member missing. */
PFX_MUST_USE pfx_result pfx_entry_write(const struct pfx_entry *entry, struct pfx_buf *out,
                                        struct pfx_error *err);

/* A new ULID (ms of time, 80 random bits); ends the process without randomness. */
#define PFX_ULID_SIZE 27
char *pfx_ulid(int64_t ms, char buf[PFX_ULID_SIZE]); /* returns buf */

/* Records of segment and bundle files: uint16 big-endian length, entry. */
#define PFX_RECORD_HEAD 2
enum pfx_record { PFX_RECORD_WHOLE, PFX_RECORD_END, PFX_RECORD_SHORT };
/* The record at *offset; WHOLE moves *offset behind it. END: nothing more, or a length of 0 (a
 * preallocated file reads so). SHORT: it goes beyond the end of data. */
enum pfx_record pfx_record_next(struct pfx_bytes data, size_t *offset, struct pfx_bytes *ret_entry);

#endif
