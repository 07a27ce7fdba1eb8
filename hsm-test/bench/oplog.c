/*
 * How fast the operation log is: entries a second with so many threads that each wait until their
 * entry is covered by a signed checkpoint, against the bare disk: the same bytes, written and
 * synced twice for each batch (entries, checkpoint), by nothing but pwrite and fdatasync.
 *
 *   bench-oplog [FOLDER [THREADS [ENTRIES-OF-EACH]]]
 */
#include <fcntl.h>
#include <inttypes.h>
#include <openssl/ec.h>
#include <openssl/x509.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "pkcs11/hsm/oplog.h"

#define ORIGIN "bench/pfx-agent"

static EVP_PKEY *pkeys[2];
static struct pfx_vkey keys[2];

static double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

static void need(pfx_result r, const struct pfx_error *err)
{
    char line[1024];
    if (pfx_ok(r))
        return;
    fprintf(stderr, "%s\n", pfx_error_line(err, line, sizeof line));
    exit(1);
}

static pfx_result sign(void *ctx, size_t key, struct pfx_bytes text, uint8_t ret[PFX_SIGNATURE_MAX],
                       size_t *ret_len, struct pfx_error *err)
{
    (void)ctx;
    EVP_MD_CTX *md = EVP_MD_CTX_new();
    *ret_len = PFX_SIGNATURE_MAX;
    bool ok = EVP_DigestSignInit(md, NULL, key == 0 ? EVP_sha256() : NULL, NULL, pkeys[key]) == 1 &&
              EVP_DigestSign(md, ret, ret_len, text.data, text.len) == 1;
    EVP_MD_CTX_free(md);
    return ok ? PFX_OK : pfx_fail(err, PFX_CLASS_INTERNAL, "sign", "", "", "OpenSSL failed");
}

static pfx_result anchor_read(void *ctx, char ret_labels[2][65], struct pfx_error *err)
{
    (void)ctx;
    (void)err;
    ret_labels[0][0] = ret_labels[1][0] = '\0';
    return PFX_OK;
}

static pfx_result anchor_write(void *ctx, unsigned which, const char *label, struct pfx_error *err)
{
    (void)ctx;
    (void)which;
    (void)label;
    (void)err;
    return PFX_OK;
}

static void make_keys(struct pfx_draft *first)
{
    struct pfx_buf json PFX_CLEANUP(pfx_buf_done) = pfx_buf_make(4096);
    struct pfx_canon canon = pfx_canon_make(&json);
    pkeys[0] = EVP_EC_gen("P-256");
    pkeys[1] = EVP_PKEY_Q_keygen(NULL, NULL, "ED25519");
    pfx_canon_open(&canon, NULL, '[');
    for (int i = 0; i < 2; i++) {
        struct pfx_error err = PFX_ERROR_NONE;
        uint8_t *der = NULL;
        int len = i2d_PUBKEY(pkeys[i], &der);
        need(pfx_vkey_make(ORIGIN, (struct pfx_bytes){der, (size_t)len}, &keys[i], &err), &err);
        OPENSSL_free(der);
        char line[PFX_VKEY_LINE_SIZE];
        pfx_vkey_line(&keys[i], line);
        pfx_canon_str(&canon, NULL, (struct pfx_bytes){(const uint8_t *)line, strlen(line)});
    }
    pfx_canon_close(&canon, ']');
    pfx_draft_init(first, PFX_SRC_HSM, "log.begin", PFX_PHASE_NOTE, PFX_OUTCOME_OK);
    pfx_draft_str(first, PFX_F_ACTOR_ROLE, "self");
    pfx_draft_str(first, PFX_F_LOG_ORIGIN, ORIGIN);
    pfx_draft_raw(first, PFX_F_LOG_KEYS, pfx_buf_bytes(&json));
}

struct worker {
    struct pfx_oplog *log;
    unsigned n;
};

static void *append(void *ctx)
{
    const struct worker *worker = ctx;
    struct pfx_draft *draft PFX_AUTOFREE = pfx_alloc(sizeof *draft);
    uint8_t hash[32] = {7};
    for (unsigned i = 0; i < worker->n; i++) {
        struct pfx_error err = PFX_ERROR_NONE;
        pfx_draft_init(draft, PFX_SRC_HSM, "pfx.build", PFX_PHASE_NOTE, PFX_OUTCOME_OK);
        pfx_draft_str(draft, PFX_F_ACTOR_ROLE, "self");
        pfx_draft_hex(draft, PFX_F_KEY_SPKI, hash, sizeof hash);
        pfx_draft_hex(draft, PFX_F_OUT_SHA256, hash, sizeof hash);
        pfx_draft_str(draft, PFX_F_TOKEN_LABEL, "users");
        need(pfx_oplog_append(worker->log, draft, PFX_ROOM_ORDINARY, PFX_UNTIL_COVERED, NULL, &err),
             &err);
    }
    return NULL;
}

/* The same number of batches of the same bytes, and a slot after each. */
static double bare(const char *path, uint64_t batches, uint64_t bytes)
{
    static uint8_t slot[PFX_SLOT_SIZE];
    size_t batch = (size_t)(bytes / batches);
    uint8_t *data PFX_AUTOFREE = pfx_alloc(batch);
    memset(data, 'x', batch);
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0 || fallocate(fd, 0, 0, (off_t)(bytes + PFX_SLOT_SIZE)) != 0 || fsync(fd) != 0)
        exit(1);
    double from = now();
    for (uint64_t i = 0; i < batches; i++)
        if (pwrite(fd, data, batch, (off_t)(PFX_SLOT_SIZE + i * batch)) != (ssize_t)batch ||
            fdatasync(fd) != 0 || pwrite(fd, slot, sizeof slot, 0) != sizeof slot ||
            fdatasync(fd) != 0)
            exit(1);
    double seconds = now() - from;
    close(fd);
    unlink(path);
    return seconds;
}

int main(int argc, char **argv)
{
    const char *folder = argc > 1 ? argv[1] : ".";
    unsigned n_threads = argc > 2 ? (unsigned)strtoul(argv[2], NULL, 10) : 64;
    unsigned n = argc > 3 ? (unsigned)strtoul(argv[3], NULL, 10) : 500;
    char dir[] = "XXXXXX";
    if (n_threads < 1 || n_threads > 1000 || n < 1 || chdir(folder) != 0 || !mkdtemp(dir)) {
        fprintf(stderr, "usage: bench-oplog [FOLDER [THREADS [ENTRIES-OF-EACH]]]\n");
        return 2;
    }
    struct pfx_oplog_config config = {.dir = dir,
                                      .readers = (gid_t)-1,
                                      .segment_entries = 65536,
                                      .reserve = 1048576,
                                      .anchor_entries = 10000,
                                      .anchor_every_ms = 3600000};
    struct pfx_oplog *log;
    struct pfx_error err = PFX_ERROR_NONE;
    struct pfx_draft *first PFX_AUTOFREE = pfx_alloc(sizeof *first);
    make_keys(first);
    struct pfx_signer signer = {2, keys, sign, anchor_read, anchor_write, NULL};
    need(pfx_oplog_open(&config, &log, &err), &err);
    need(pfx_oplog_begin(log, ORIGIN, first, &signer, &err), &err);
    struct pfx_oplog_status before, after;
    pfx_oplog_status(log, &before);
    pthread_t *threads PFX_AUTOFREE = pfx_alloc_array(n_threads, sizeof *threads);
    struct worker worker = {log, n};
    double from = now();
    for (unsigned i = 0; i < n_threads; i++)
        if (pthread_create(&threads[i], NULL, append, &worker) != 0)
            return 1;
    for (unsigned i = 0; i < n_threads; i++)
        pthread_join(threads[i], NULL);
    double seconds = now() - from;
    pfx_oplog_status(log, &after);
    pfx_oplog_free(log);
    uint64_t entries = after.size - before.size, batches = after.checkpoints - before.checkpoints;
    char path[64];
    snprintf(path, sizeof path, "%s/bare", dir);
    double least = bare(path, batches, entries * 640);
    printf("%u threads, each entry waits for its checkpoint: %" PRIu64 " entries in %.2f s\n",
           n_threads, entries, seconds);
    printf("  %.0f entries a second, %.1f to a checkpoint (P-256 and Ed25519 by OpenSSL)\n",
           (double)entries / seconds, (double)entries / (double)batches);
    printf("  bare writes and syncs of as many batches: %.2f s, ratio %.2f\n", least,
           seconds / least);
    fflush(NULL);
    execlp("rm", "rm", "-rf", dir, (char *)NULL);
    return 1;
}
