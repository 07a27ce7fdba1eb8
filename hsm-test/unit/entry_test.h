/* An entry as the tests of entries and drafts take it, and small steps on entries. */
#ifndef PFX_ENTRY_TEST_H
#define PFX_ENTRY_TEST_H

#include <string.h>

#include "crypto/entry.h"
#include "crypto_test.h"

#define HASH_A "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
#define HASH_B "60303ae22b998861bce3b28f33eec1be758a213c86c93c076dbe9f558c11c752"
#define ULID "01ARYZ6S41TSV4RRFFQ69G5FAV"
/* The example of the format's description, with values where that has an ellipsis. */
#define EXAMPLE                                                                                    \
    "{\"actor\":{\"pid\":123,\"role\":\"operator\",\"uid\":990},"                                  \
    "\"boot\":\"8d6cbd7a-3fd5-4c3f-9d0c-0123456789ab\",\"event\":\"pfx.build\","                   \
    "\"key\":{\"alg\":\"rsa-2048\",\"id\":\"00ff10\",\"spki\":\"" HASH_A "\"},\"op\":\"" ULID      \
    "\",\"out\":{\"sha256\":\"" HASH_B "\"},\"outcome\":\"ok\",\"phase\":\"result\",\"prev\":\""   \
    "" HASH_A "\",\"ref\":1234,\"rv\":\"CKR_OK\",\"seq\":1235,\"src\":\"hsm\","                    \
    "\"target\":{\"order\":542772,\"user\":\"" HASH_B "\"},\"tier\":\"direct\","                   \
    "\"time\":\"2026-11-22T08:00:00.120Z\",\"token\":{\"label\":\"users\",\"serial\":\"0a1b\"},"   \
    "\"up\":8123456,\"v\":1}"

static inline struct pfx_bytes text_bytes(const char *text)
{
    return (struct pfx_bytes){(const uint8_t *)text, strlen(text)};
}

static inline bool reads(const char *text)
{
    struct pfx_entry entry;
    return pfx_ok(pfx_entry_read(text_bytes(text), &entry, NULL));
}

static inline bool same_text(const struct pfx_entry *entry, enum pfx_field field, const char *text)
{
    struct pfx_bytes have = pfx_entry_text(entry, field);
    return have.len == strlen(text) && memcmp(have.data, text, have.len) == 0;
}

/* EXAMPLE with one part of it replaced; free() it. */
static inline char *with(const char *part, const char *by)
{
    const char *at = strstr(EXAMPLE, part);
    if (!at)
        fail_msg("the example has no %s", part);
    return pfx_asprintf("%.*s%s%s", (int)(at - EXAMPLE), EXAMPLE, by, at + strlen(part));
}

/* A draft with the mandatory members. */
static inline void begin(struct pfx_draft *draft)
{
    pfx_draft_init(draft, PFX_SRC_HSM, "key.make", PFX_PHASE_INTENT, PFX_OUTCOME_PENDING);
    pfx_draft_int(draft, PFX_F_SEQ, 7);
    pfx_draft_time(draft, PFX_F_TIME, 1795334400120);
    pfx_draft_int(draft, PFX_F_UP, 0);
    pfx_draft_str(draft, PFX_F_BOOT, "b");
    pfx_draft_str(draft, PFX_F_ACTOR_ROLE, "self");
    pfx_draft_str(draft, PFX_F_OP, ULID);
    pfx_draft_str(draft, PFX_F_PREV, HASH_A);
}

static inline void write_line(const struct pfx_entry *entry, struct pfx_buf *lines)
{
    ERROR(err);
    assert_ok(pfx_entry_write(entry, lines, &err), &err);
    assert_true(pfx_buf_add(lines, "\n", 1));
}

#endif
