/*
 * The PIN guard: after a wrong PIN no second try with it, across restarts, so that a token is never
 * locked by a program that is started again and again.
 *
 * One file for each token (not for each role: roles that share a token share its PIN and its count
 * of tries). It holds a salt and one line for each PIN in question: 'T' and a count while C_Login
 * runs, written and synced before the call; 'R' when the token refused it. A good login takes its
 * line out.
 *
 * A 'T' that is found at start was left by a crash or by a watchdog: nobody knows what the token
 * answered. Such a PIN gets one more try, and only because the caller has looked at the token's
 * flags first (COUNT_LOW, FINAL_TRY and LOCKED forbid any login). A second 'T' gets none until the
 * credential changes or a person deletes the file. An answer other than a refusal (a device error)
 * takes the line out again: the token has spoken, and not about the PIN. A vendor's own code isn't
 * such an answer: it may be about the PIN, so its line stays a 'T'.
 *
 * What is kept of a PIN is scrypt (N = 2^15, r = 8, p = 1), readable for the owner only.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/rand.h>

#include "crypto/encode.h"
#include "crypto/mem.h"
#include "pkcs11/pool.h"

#define MAX_LINES 16
#define MAX_TRIES 2
#define SCRYPT_N 32768
#define SCRYPT_MEMORY (64u * 1024 * 1024)
#define MAGIC "pfx-pin-guard 1\n"

struct pfx_pin_guard {
    char *folder;
    int fd;
    pthread_mutex_t lock;
};

struct line {
    char state; /* 'T' or 'R' */
    unsigned count;
    uint8_t hash[PFX_PIN_HASH_SIZE];
};
struct record {
    char name[48];
    uint8_t salt[16];
    struct line lines[MAX_LINES];
    size_t n;
};

pfx_result pfx_pin_guard_open(const char *folder, struct pfx_pin_guard **ret_guard,
                              struct pfx_error *err)
{
    if (mkdir(folder, 0700) != 0 && errno != EEXIST)
        return pfx_fail_errno(err, errno, "open PIN guard", folder,
                              "pfx-hsm keeps refused PINs there; make its parent folder writable.");
    int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0)
        return pfx_fail_errno(err, errno, "open PIN guard", folder, "It must be a folder.");
    struct stat st;
    if (fstat(fd, &st) != 0 || (st.st_mode & 022) != 0 ||
        (st.st_uid != geteuid() && st.st_uid != 0)) {
        close(fd);
        return pfx_fail(err, PFX_CLASS_INTEGRITY, "open PIN guard", folder, "",
                        "Others may write to this folder, so what it says about PINs can't be "
                        "trusted. Make it pfx-hsm's own, with mode 0700.");
    }
    struct pfx_pin_guard *guard = pfx_alloc(sizeof *guard);
    guard->folder = pfx_strdup(folder);
    guard->fd = fd;
    pthread_mutex_init(&guard->lock, NULL);
    *ret_guard = guard;
    return PFX_OK;
}

void pfx_pin_guard_free(struct pfx_pin_guard *guard)
{
    if (!guard)
        return;
    close(guard->fd);
    pthread_mutex_destroy(&guard->lock);
    free(guard->folder);
    free(guard);
}

static pfx_result name_record(const struct pfx_token_facts *facts, struct record *record,
                              struct pfx_error *err)
{
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf text = pfx_buf_make(256);
    uint8_t digest[32];
    if (!pfx_buf_addf(&text, "%s\n%s\n%s\n%s\n", facts->manufacturer, facts->model, facts->serial,
                      facts->label) ||
        !pfx_sha256(text.data, text.len, digest))
        return pfx_fail(err, PFX_CLASS_INTERNAL, "PIN guard", facts->label, "",
                        "The file's name can't be made.");
    char hex[33];
    pfx_hex(digest, 16, hex);
    snprintf(record->name, sizeof record->name, "pin-%s", hex);
    return PFX_OK;
}

static pfx_result fail_record(const struct pfx_pin_guard *guard, const struct record *record,
                              struct pfx_error *err)
{
    return pfx_fail(
        err, PFX_CLASS_INTEGRITY, "PIN guard", record->name, "",
        "%s/%s can't be understood, so nobody knows whether the PIN was refused before. "
        "If you are sure that the PIN is right, delete that file.",
        guard->folder, record->name);
}

static bool unhex_exact(const char *text, size_t chars, uint8_t *out)
{
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf bytes = pfx_buf_make(64);
    if (!pfx_unhex(text, chars, &bytes) || bytes.len != chars / 2)
        return false;
    memcpy(out, bytes.data, bytes.len);
    return true;
}

/* "T1 " and 64 hexadecimal digits: lines of one width, so that a state is changed in place. */
#define LINE_LEN (3 + 2 * PFX_PIN_HASH_SIZE + 1)
#define HEAD_LEN (sizeof MAGIC - 1 + 32 + 1)

static bool parse(const char *text, size_t len, struct record *record)
{
    if (len < HEAD_LEN || (len - HEAD_LEN) % LINE_LEN != 0 ||
        memcmp(text, MAGIC, sizeof MAGIC - 1) != 0 ||
        !unhex_exact(text + sizeof MAGIC - 1, 32, record->salt) || text[HEAD_LEN - 1] != '\n')
        return false;
    record->n = (len - HEAD_LEN) / LINE_LEN;
    if (record->n > MAX_LINES)
        return false;
    for (size_t i = 0; i < record->n; i++) {
        const char *at = text + HEAD_LEN + i * LINE_LEN;
        struct line *line = &record->lines[i];
        if ((at[0] != 'T' && at[0] != 'R') || at[1] < '0' || at[1] > '9' || at[2] != ' ' ||
            at[LINE_LEN - 1] != '\n' || !unhex_exact(at + 3, 2 * PFX_PIN_HASH_SIZE, line->hash))
            return false;
        line->state = at[0];
        line->count = (unsigned)(at[1] - '0');
    }
    return true;
}

static pfx_result read_record(const struct pfx_pin_guard *guard, struct record *record,
                              struct pfx_error *err)
{
    int fd = openat(guard->fd, record->name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0 && errno == ENOENT) {
        record->n = 0;
        if (RAND_bytes(record->salt, sizeof record->salt) != 1)
            return pfx_fail(err, PFX_CLASS_INTERNAL, "PIN guard", record->name, "",
                            "OpenSSL has no random bytes.");
        return PFX_OK;
    }
    if (fd < 0)
        return pfx_fail_errno(err, errno, "read PIN guard", record->name, "");
    char text[HEAD_LEN + MAX_LINES * LINE_LEN + 1];
    size_t len = 0;
    while (len < sizeof text) {
        ssize_t n = read(fd, text + len, sizeof text - len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            break;
        len += (size_t)n;
    }
    close(fd);
    if (len == sizeof text || !parse(text, len, record))
        return fail_record(guard, record, err);
    return PFX_OK;
}

static bool write_all(int fd, const uint8_t *data, size_t len)
{
    while (len > 0) {
        ssize_t n = write(fd, data, len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return false;
        data += n;
        len -= (size_t)n;
    }
    return true;
}

/* in_place: only states differ. The old blocks are written again, so that a refusal is kept on a
 * full disk too. */
static pfx_result write_record(const struct pfx_pin_guard *guard, const struct record *record,
                               bool in_place, struct pfx_error *err)
{
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf text = pfx_buf_make(4096);
    char hex[2 * PFX_PIN_HASH_SIZE + 1];
    bool ok = pfx_buf_addf(&text, "%s%s\n", MAGIC, pfx_hex(record->salt, 16, hex));
    for (size_t i = 0; ok && i < record->n; i++)
        ok = pfx_buf_addf(&text, "%c%u %s\n", record->lines[i].state, record->lines[i].count % 10,
                          pfx_hex(record->lines[i].hash, PFX_PIN_HASH_SIZE, hex));
    char fresh[64];
    snprintf(fresh, sizeof fresh, "%s.new", record->name);
    const char *name = in_place ? record->name : fresh;
    int flags = in_place ? O_WRONLY : O_WRONLY | O_CREAT | O_TRUNC;
    int fd = ok ? openat(guard->fd, name, flags | O_CLOEXEC | O_NOFOLLOW, 0600) : -1;
    ok = fd >= 0 && write_all(fd, text.data, text.len) && fsync(fd) == 0;
    int errnum = errno;
    if (fd >= 0)
        close(fd);
    if (ok && !in_place) {
        ok = renameat(guard->fd, fresh, guard->fd, record->name) == 0 && fsync(guard->fd) == 0;
        errnum = errno;
    }
    if (ok)
        return PFX_OK;
    return pfx_fail_errno(
        err, errnum, "write PIN guard", guard->folder,
        "No login is tried unless the folder can be written: make room or make it "
        "writable.");
}

static pfx_result hash_pin(const struct record *record, const struct pfx_secret *pin,
                           uint8_t hash[PFX_PIN_HASH_SIZE], struct pfx_error *err)
{
    if (EVP_PBE_scrypt((const char *)pfx_secret_bytes(pin), pfx_secret_len(pin), record->salt,
                       sizeof record->salt, SCRYPT_N, 8, 1, SCRYPT_MEMORY, hash,
                       PFX_PIN_HASH_SIZE) == 1)
        return PFX_OK;
    return pfx_fail(err, PFX_CLASS_INTERNAL, "PIN guard", record->name, "",
                    "OpenSSL can't do scrypt; it needs 32 MiB of memory.");
}

static struct line *find_line(struct record *record, const uint8_t hash[PFX_PIN_HASH_SIZE])
{
    for (size_t i = 0; i < record->n; i++) {
        if (CRYPTO_memcmp(record->lines[i].hash, hash, PFX_PIN_HASH_SIZE) == 0)
            return &record->lines[i];
    }
    return NULL;
}

static void drop_line(struct record *record, size_t i)
{
    memmove(&record->lines[i], &record->lines[i + 1],
            (record->n - i - 1) * sizeof record->lines[0]);
    record->n--;
}

static pfx_result begin(struct pfx_pin_guard *guard, const struct pfx_token_facts *facts,
                        const struct pfx_secret *pin, enum pfx_pin_from from,
                        uint8_t hash[PFX_PIN_HASH_SIZE], struct pfx_error *err)
{
    struct record record = {.n = 0};
    PFX_TRY(name_record(facts, &record, err));
    PFX_TRY(read_record(guard, &record, err));
    PFX_TRY(hash_pin(&record, pin, hash, err));
    struct line *line = find_line(&record, hash);
    if (line && line->state == 'R')
        return pfx_fail(err, PFX_CLASS_REFUSED, "C_Login", facts->label, "CKR_PIN_INCORRECT",
                        "The token has refused this PIN before, so it isn't tried again. %s; if "
                        "the token's PIN was set to this one since, delete %s/%s.",
                        from == PFX_PIN_GIVEN
                            ? "Give the command again with the right PIN"
                            : "Put the right PIN into the role's pin_file, or into the credential "
                              "that it names",
                        guard->folder, record.name);
    if (line && line->count >= MAX_TRIES)
        return pfx_fail(
            err, PFX_CLASS_REFUSED, "C_Login", facts->label, "",
            "Two logins with this PIN ended without an answer that can be understood (crash, "
            "time-out, or a vendor's own code), so it isn't tried again. Check the token with the "
            "HSM's own tool, then delete %s/%s.",
            guard->folder, record.name);
    if (!line) {
        if (record.n == MAX_LINES)
            drop_line(&record, 0);
        line = &record.lines[record.n++];
        *line = (struct line){.state = 'T'};
        memcpy(line->hash, hash, PFX_PIN_HASH_SIZE);
    }
    line->count++;
    return write_record(guard, &record, false, err);
}

pfx_result pfx_pin_guard_begin(struct pfx_pin_guard *guard, const struct pfx_token_facts *facts,
                               const struct pfx_secret *pin, enum pfx_pin_from from,
                               uint8_t ret_hash[PFX_PIN_HASH_SIZE], struct pfx_error *err)
{
    pthread_mutex_lock(&guard->lock);
    pfx_result r = begin(guard, facts, pin, from, ret_hash, err);
    pthread_mutex_unlock(&guard->lock);
    return r;
}

static bool refuses(CK_RV verdict)
{
    return verdict == CKR_PIN_INCORRECT || verdict == CKR_PIN_LOCKED ||
           verdict == CKR_PIN_INVALID || verdict == CKR_PIN_LEN_RANGE;
}

static pfx_result end(struct pfx_pin_guard *guard, const struct pfx_token_facts *facts,
                      const uint8_t hash[PFX_PIN_HASH_SIZE], CK_RV verdict, struct pfx_error *err)
{
    struct record record = {.n = 0};
    PFX_TRY(name_record(facts, &record, err));
    PFX_TRY(read_record(guard, &record, err));
    struct line *line = find_line(&record, hash);
    if (!line)
        return fail_record(guard, &record, err);
    if (refuses(verdict)) {
        line->state = 'R';
        return write_record(guard, &record, true, err);
    }
    if (verdict & CKR_VENDOR_DEFINED)
        return PFX_OK;
    drop_line(&record, (size_t)(line - record.lines));
    return write_record(guard, &record, false, err);
}

pfx_result pfx_pin_guard_end(struct pfx_pin_guard *guard, const struct pfx_token_facts *facts,
                             const uint8_t hash[PFX_PIN_HASH_SIZE], CK_RV verdict,
                             struct pfx_error *err)
{
    pthread_mutex_lock(&guard->lock);
    pfx_result r = end(guard, facts, hash, verdict, err);
    pthread_mutex_unlock(&guard->lock);
    return r;
}
