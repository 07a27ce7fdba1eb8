/*
 * The record of a key ceremony: a page of text that people sign by hand, and an auditor checks
 * against the operation log.
 *
 *   pfx-agent ceremony record v1
 *     kind init; time 2026-11-23T13:00:00.000Z
 *     ...
 *   key wrapping-1
 *     role users; algorithm aes-256; how made
 *     ...
 *   end of record
 *   sha256 <of all bytes above, "end of record" and its LF with them>
 *   entry <the entry of the log that holds this hash, as it stands there>
 *   <receipt of that entry (checkpoint.h): index, hashes, checkpoint with its signatures>
 *
 * What stands in a record is one table of sections and fields here; writing, reading and the HTML
 * page all follow it. Nothing here does I/O.
 */
#ifndef PFX_CRYPTO_MINUTES_H
#define PFX_CRYPTO_MINUTES_H

#include "crypto/mem.h"

#define PFX_MINUTES_MAX 65536   /* bytes of a record's text */
#define PFX_MINUTES_PAGE_MAX (PFX_MINUTES_MAX + 160 * 1024) /* with its entry and receipt */
#define PFX_MINUTES_HTML_MAX (448 * 1024) /* as the wire takes it */
#define PFX_MINUTES_SECTIONS 160 /* most in one record */
#define PFX_MINUTES_VALUE 512    /* bytes of a value */

enum pfx_minutes_kind { /* of a section */
    PFX_MK_HEAD,        /* the first, exactly one */
    PFX_MK_WITNESS,     /* its name is the person's */
    PFX_MK_ROLE,        /* a token role */
    PFX_MK_KEY,
    PFX_MK_CERTIFICATE, /* of a client key */
    PFX_MK_PIN,         /* a generation of the encryption key, as it is pinned */
    PFX_MK_STANDING,    /* a generation of another key, as it stands after the ceremony */
    PFX_MK_APPROVAL,    /* its name is the person's */
    PFX_MK_ATTESTATION, /* what the HSM says of a key: its name is the key's, or the token role's */
    PFX_MK_NOTE,        /* its name is the sentence */
    PFX_MK_COUNT
};
enum pfx_minutes_field {
    PFX_MF_KIND,       /* head: init, or the verb */
    PFX_MF_TIME,
    PFX_MF_HOST,
    PFX_MF_LOG,        /* origin */
    PFX_MF_UID,        /* of whoever gave the command */
    PFX_MF_POLICY,     /* SHA-256 of the policy's text */
    PFX_MF_VERSION,
    PFX_MF_EXE,        /* SHA-256 of the executable */
    PFX_MF_LATE,       /* written then, after the process that did it had ended, or had failed */
    PFX_MF_TOKEN,      /* role: label */
    PFX_MF_SERIAL,
    PFX_MF_DEVICE,
    PFX_MF_MODULE,
    PFX_MF_MODULE_SHA256,
    PFX_MF_ROLE,       /* key */
    PFX_MF_ALGORITHM,
    PFX_MF_HOW,        /* made, found, pinned (its token wasn't opened), adopted, destroyed, gone
                          (nothing was found that could be destroyed); written late also: logged (as
                          the log's entry says, it wasn't looked at), cut-off (its operation began,
                          and the log doesn't say that it was done) */
    PFX_MF_ID,         /* CKA_ID, hex */
    PFX_MF_LABEL,      /* CKA_LABEL, as read back */
    PFX_MF_OPERATION,  /* ULID: the operation's entries in the log */
    PFX_MF_INTENT,     /* number of the first of them; none where there was no log yet */
    PFX_MF_SPKI,       /* SHA-256 of the SubjectPublicKeyInfo */
    PFX_MF_IS,         /* attributes that read back as true, without "CKA_" */
    PFX_MF_IS_NOT,     /* ... as false */
    PFX_MF_UNKNOWN,    /* ... that the token doesn't know */
    PFX_MF_MECHANISMS, /* CKA_ALLOWED_MECHANISMS */
    PFX_MF_SHA256,     /* certificate, attestation */
    PFX_MF_UNTIL,
    PFX_MF_GENERATION, /* pin */
    PFX_MF_STATE,
    PFX_MF_KEY_NAME,
    PFX_MF_PROVIDER,
    PFX_MF_SOURCE,     /* attestation: where it was taken from */
    PFX_MF_SIZE,
    PFX_MF_SINCE,      /* standing: in this state */
    PFX_MF_COMMAND,    /* approval: what was approved, when, and in which mode */
    PFX_MF_MODE,
    PFX_MF_ASKER,
    PFX_MF_NONCE,
    PFX_MF_SIGNER,     /* type and fingerprint of the key that signed it */
    PFX_MF_COUNT
};
struct pfx_minutes_section {
    enum pfx_minutes_kind kind;
    char *name;                  /* "" of the head */
    char *values[PFX_MF_COUNT];  /* NULL: not there */
};
struct pfx_minutes {
    size_t n;
    struct pfx_minutes_section *list;
};
void pfx_minutes_done(struct pfx_minutes *record); /* usable as cleanup; zeroed is fine */
/* A new section at the end; valid until the next one is added. NULL: there are too many. A record
 * begins with its head. What can't stand in a line of a page (control and invisible characters, ';')
 * is replaced, here and below, and long text is cut. */
struct pfx_minutes_section *pfx_minutes_add(struct pfx_minutes *record, enum pfx_minutes_kind kind,
                                          const char *name);
/* Sets a field of the section's kind; another field, or a value that its type doesn't allow, is a
 * defect of the program and ends it. Empty text, or NULL, leaves the field out. */
void pfx_minutes_set(struct pfx_minutes_section *section, enum pfx_minutes_field field,
                    const char *value);
void pfx_minutes_set_int(struct pfx_minutes_section *section, enum pfx_minutes_field field,
                        int64_t value);
void pfx_minutes_set_hex(struct pfx_minutes_section *section, enum pfx_minutes_field field,
                        const void *data, size_t len);
void pfx_minutes_set_time(struct pfx_minutes_section *section, enum pfx_minutes_field field,
                         int64_t ms);
/* "" where it isn't there. */
const char *pfx_minutes_get(const struct pfx_minutes_section *section, enum pfx_minutes_field field);
/* The first section of this kind and name (NULL: any); NULL: none. */
const struct pfx_minutes_section *pfx_minutes_find(const struct pfx_minutes *record,
                                                 enum pfx_minutes_kind kind, const char *name);
const char *pfx_minutes_kind_name(enum pfx_minutes_kind kind); /* "key" */

/* The text up to "end of record", appended. USAGE: a mandatory field is missing, or it is longer
 * than the buffer takes. */
PFX_MUST_USE pfx_result pfx_minutes_write(const struct pfx_minutes *record, struct pfx_buf *out,
                                         struct pfx_error *err);
/* The text of a record alone: only what pfx_minutes_write could have written. REFUSED says what is
 * wrong in which line. */
PFX_MUST_USE pfx_result pfx_minutes_parse(struct pfx_bytes text, struct pfx_minutes *ret,
                                         struct pfx_error *err);

/* A record with what seals it. */
struct pfx_minutes_page {
    struct pfx_minutes record;
    char sha256[65];
    struct pfx_bytes entry, receipt; /* borrowed from the text */
};
void pfx_minutes_page_done(struct pfx_minutes_page *page); /* usable as cleanup */
/* Appends to the record's text what seals it; false: over the buffer's ceiling. */
PFX_MUST_USE bool pfx_minutes_seal(struct pfx_buf *record_text, struct pfx_bytes entry,
                                  struct pfx_bytes receipt);
/* REFUSED: not a page. INTEGRITY: the hash on the page isn't that of its record. Whether entry and
 * receipt hold is for the caller to see. */
PFX_MUST_USE pfx_result pfx_minutes_page_parse(struct pfx_bytes text, struct pfx_minutes_page *ret,
                                              struct pfx_error *err);
/* The same page for a printer: one file without scripts, nothing in it is loaded from elsewhere, and
 * every value is escaped. False: over the buffer's ceiling. */
PFX_MUST_USE bool pfx_minutes_html(const struct pfx_minutes_page *page, struct pfx_buf *out);

/* --- for the files of record*.c --- */
enum pfx_minutes_type { /* of a value */
    PFX_MT_NAME, /* of a section: TEXT that may have ';' */
    PFX_MT_TEXT,
    PFX_MT_WORD, /* [A-Za-z0-9._/+-] */
    PFX_MT_HEX,
    PFX_MT_HASH, /* 64 hex digits */
    PFX_MT_ULID,
    PFX_MT_TIME,
    PFX_MT_INT,
};
struct pfx_minutes_row {
    enum pfx_minutes_kind kind;
    enum pfx_minutes_field field;
    const char *name;
    enum pfx_minutes_type type;
    bool joined;   /* stands in the line of the field before it */
    bool optional;
};
#define PFX_MINUTES_TITLE "pfx-agent ceremony record v1"
#define PFX_MINUTES_END "end of record"
extern const struct pfx_minutes_row pfx_minutes_rows[]; /* by kind, in order; name NULL at the end */
/* Could a record hold it as it stands? */
PFX_MUST_USE bool pfx_minutes_value_ok(enum pfx_minutes_type type, const char *value);

#endif
