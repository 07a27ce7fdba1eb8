/*
 * Reading entries of the operation log, against SHA-256 over the same bytes: what pfx-audit can't
 * do without. Prints both and their ratio.
 *
 *   bench-entry-scan [ENTRIES]      100,000 unless told, of about 600 bytes, in memory
 */
#include <inttypes.h>
#include <stdio.h>
#include <time.h>

#include "crypto/encode.h"
#include "crypto/entry.h"

#define MOST 4000000

static void add_entry(struct pfx_buf *out, int64_t seq)
{
    static struct pfx_draft draft;
    struct pfx_error err = PFX_ERROR_NONE;
    char ulid[PFX_ULID_SIZE];
    uint8_t hash[32];
    const int64_t ms = 1795334400120 + seq * 7;
    bool result = seq % 2 == 1;
    if (!pfx_sha256(&seq, sizeof seq, hash))
        pfx_die("no SHA-256");
    pfx_draft_init(&draft, PFX_SRC_HSM, "pfx.build", result ? PFX_PHASE_RESULT : PFX_PHASE_INTENT,
                   result ? PFX_OUTCOME_OK : PFX_OUTCOME_PENDING);
    pfx_draft_int(&draft, PFX_F_SEQ, seq);
    pfx_draft_time(&draft, PFX_F_TIME, ms);
    pfx_draft_int(&draft, PFX_F_UP, 8123456 + seq * 7);
    pfx_draft_str(&draft, PFX_F_BOOT, "8d6cbd7a-3fd5-4c3f-9d0c-0123456789ab");
    pfx_draft_str(&draft, PFX_F_ACTOR_ROLE, "agentd");
    pfx_draft_int(&draft, PFX_F_ACTOR_UID, 990);
    pfx_draft_int(&draft, PFX_F_ACTOR_PID, 1234);
    pfx_draft_str(&draft, PFX_F_OP, pfx_ulid(ms, ulid));
    pfx_draft_hex(&draft, PFX_F_PREV, hash, sizeof hash);
    pfx_draft_hex(&draft, PFX_F_KEY_ID, hash, 20);
    pfx_draft_hex(&draft, PFX_F_KEY_SPKI, hash, sizeof hash);
    if (result) {
        pfx_draft_int(&draft, PFX_F_REF, seq - 1);
        pfx_draft_str(&draft, PFX_F_TIER, "direct");
        pfx_draft_str(&draft, PFX_F_TOKEN_LABEL, "users");
        pfx_draft_str(&draft, PFX_F_TOKEN_SERIAL, "1a2b3c4d5e6f7081");
        pfx_draft_hex(&draft, PFX_F_OUT_SHA256, hash, sizeof hash);
        pfx_draft_str(&draft, PFX_F_SEAL_BY, "token");
        pfx_draft_str(&draft, PFX_F_SEAL_HASH, "sha256");
        pfx_draft_int(&draft, PFX_F_SEAL_GENERATION, 1);
    } else {
        pfx_draft_hex(&draft, PFX_F_TARGET_USER, hash, sizeof hash);
        pfx_draft_int(&draft, PFX_F_TARGET_ENROLMENT, seq);
        pfx_draft_int(&draft, PFX_F_TARGET_ATTEMPT, 1);
        pfx_draft_hex(&draft, PFX_F_TICKET, hash, sizeof hash);
    }
    size_t head = out->len;
    if (!pfx_buf_extend(out, PFX_RECORD_HEAD) ||
        pfx_failed(pfx_entry_write(&draft.entry, out, &err)))
        pfx_die("an entry can't be written");
    size_t len = out->len - head - PFX_RECORD_HEAD;
    out->data[head] = (uint8_t)(len >> 8);
    out->data[head + 1] = (uint8_t)len;
}

static double seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

int main(int argc, char **argv)
{
    int64_t n = argc > 1 ? strtoll(argv[1], NULL, 10) : 100000;
    if (n < 1 || n > MOST) {
        fprintf(stderr, "usage: bench-entry-scan [ENTRIES], at most %d\n", MOST);
        return 2;
    }
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf log = pfx_buf_make(SIZE_MAX / 4);
    for (int64_t i = 0; i < n; i++)
        add_entry(&log, i);
    struct pfx_hasher *hasher = pfx_hasher_new();
    struct pfx_error err = PFX_ERROR_NONE;
    struct pfx_entry entry;
    struct pfx_bytes json;
    struct pfx_node leaf;
    unsigned sum = 0;
    double began = seconds();
    for (size_t at = 0; pfx_record_next(pfx_buf_bytes(&log), &at, &json) == PFX_RECORD_WHOLE;) {
        pfx_hash_leaf(hasher, json, &leaf);
        sum += leaf.bytes[0];
    }
    double hashed = seconds();
    for (size_t at = 0; pfx_record_next(pfx_buf_bytes(&log), &at, &json) == PFX_RECORD_WHOLE;) {
        if (pfx_failed(pfx_entry_read(json, &entry, &err)))
            pfx_die("an entry that was written can't be read");
        sum += (unsigned)pfx_entry_int(&entry, PFX_F_SEQ);
    }
    double read = seconds();
    pfx_hasher_free(hasher);
    double bytes = (double)log.len / (double)n;
    printf("%" PRId64 " entries of %.0f bytes (check %u)\n", n, bytes, sum);
    printf("leaf hashes    %7.0f ns an entry, %6.0f MB/s\n", (hashed - began) * 1e9 / (double)n,
           (double)log.len / (hashed - began) / 1e6);
    printf("reading        %7.0f ns an entry, %6.0f MB/s\n", (read - hashed) * 1e9 / (double)n,
           (double)log.len / (read - hashed) / 1e6);
    printf("reading / leaf hashes: %.2f\n", (read - hashed) / (hashed - began));
    return 0;
}
