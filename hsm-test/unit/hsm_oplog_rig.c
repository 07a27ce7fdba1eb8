#include "hsm_oplog_rig.h"

#include <fcntl.h>
#include <ftw.h>
#include <inttypes.h>
#include <openssl/ec.h>
#include <openssl/x509.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "crypto/encode.h"

struct rig_token *rig_token;

#define N_SETS 4
static struct {
    EVP_PKEY *pkeys[2];
    struct pfx_vkey keys[2];
} sets[N_SETS];
static const char *const origins[N_SETS] = {RIG_ORIGIN, RIG_ORIGIN, RIG_SUCCESSOR, RIG_OTHER};
static char base[64], current[128];
static unsigned n_fresh;
static int ask_fd = -1, answer_fd = -1;
static pid_t checker;

const char *rig_origin(unsigned which)
{
    return origins[which];
}

static void make_keys(void)
{
    for (unsigned i = 0; i < N_SETS; i++) {
        sets[i].pkeys[0] = EVP_EC_gen("P-256");
        sets[i].pkeys[1] = EVP_PKEY_Q_keygen(NULL, NULL, "ED25519");
        for (unsigned k = 0; k < 2; k++) {
            ERROR(err);
            uint8_t *der = NULL;
            int len = i2d_PUBKEY(sets[i].pkeys[k], &der);
            assert_true(len > 0);
            assert_ok(pfx_vkey_make(origins[i], (struct pfx_bytes){der, (size_t)len},
                                    &sets[i].keys[k], &err),
                      &err);
            OPENSSL_free(der);
        }
    }
}

static bool fails(int *left)
{
    if (*left > 0)
        (*left)--;
    else if (*left == 0)
        return false;
    return true;
}

static pfx_result sign(void *ctx, size_t key, struct pfx_bytes text, uint8_t ret[PFX_SIGNATURE_MAX],
                       size_t *ret_len, struct pfx_error *err)
{
    EVP_PKEY *pkey = sets[(uintptr_t)ctx].pkeys[key];
    __atomic_add_fetch(&rig_token->signs, 1, __ATOMIC_SEQ_CST);
    if (rig_token->delay_us > 0)
        usleep(rig_token->delay_us);
    if ((rig_token->dead >> (uintptr_t)ctx & 1) || fails(&rig_token->sign_fails))
        return pfx_fail(err, PFX_CLASS_DEVICE, "C_Sign", "token log", "CKR_DEVICE_REMOVED",
                        "The token is gone.");
    EVP_MD_CTX *md = EVP_MD_CTX_new();
    size_t len = PFX_SIGNATURE_MAX;
    bool ok = EVP_DigestSignInit(md, NULL, key == 0 ? EVP_sha256() : NULL, NULL, pkey) == 1 &&
              EVP_DigestSign(md, ret, &len, text.data, text.len - (rig_token->lies ? 1 : 0)) == 1;
    EVP_MD_CTX_free(md);
    *ret_len = len;
    return ok ? PFX_OK : pfx_fail(err, PFX_CLASS_INTERNAL, "sign", "", "", "OpenSSL failed");
}

static pfx_result anchor_read(void *ctx, char ret_labels[2][65], struct pfx_error *err)
{
    (void)ctx;
    (void)err;
    memcpy(ret_labels, rig_token->labels, sizeof rig_token->labels);
    return PFX_OK;
}

static pfx_result anchor_write(void *ctx, unsigned which, const char *label, struct pfx_error *err)
{
    (void)ctx;
    rig_token->anchors++;
    if (fails(&rig_token->anchor_fails))
        return pfx_fail(err, PFX_CLASS_DEVICE, "C_SetAttributeValue", "token log",
                        "CKR_DEVICE_ERROR", "The token didn't take it.");
    snprintf(rig_token->labels[which], sizeof rig_token->labels[which], "%s", label);
    return PFX_OK;
}

struct pfx_signer rig_signer(unsigned which)
{
    return (struct pfx_signer){.n_keys = 2,
                               .keys = sets[which].keys,
                               .sign = sign,
                               .anchor_read = anchor_read,
                               .anchor_write = anchor_write,
                               .ctx = (void *)(uintptr_t)which}; /* NOLINT */
}

static void start_checker(void)
{
    int ask[2], answer[2];
    assert_int_equal(pipe2(ask, O_CLOEXEC), 0);
    assert_int_equal(pipe2(answer, O_CLOEXEC), 0);
    checker = fork();
    if (checker == 0) {
        dup2(ask[0], 0);
        dup2(answer[1], 1);
        execl("/usr/bin/python3", "python3", "-B", LOG_CHECK, "--serve", (char *)NULL);
        _exit(127);
    }
    assert_true(checker > 0);
    close(ask[0]);
    close(answer[1]);
    ask_fd = ask[1];
    answer_fd = answer[0];
}

int rig_setup(void **state)
{
    (void)state;
    /* Memory where there is enough: a test is about order, not about a disk. */
    struct stat facts;
    bool memory = stat("/dev/shm", &facts) == 0 && access("/dev/shm", W_OK) == 0;
    snprintf(base, sizeof base, "%s/pfx-oplog-XXXXXX", memory ? "/dev/shm" : "/tmp");
    assert_non_null(mkdtemp(base));
    rig_token =
        mmap(NULL, sizeof *rig_token, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_ptr_not_equal(rig_token, MAP_FAILED);
    umask(077); /* as pfx-hsm has it */
    signal(SIGPIPE, SIG_IGN);
    make_keys();
    start_checker();
    return 0;
}

static int remove_one(const char *path, const struct stat *facts, int type, struct FTW *ftw)
{
    (void)facts;
    (void)type;
    (void)ftw;
    return remove(path);
}

void rig_remove(const char *path)
{
    nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

int rig_teardown(void **state)
{
    (void)state;
    close(ask_fd);
    close(answer_fd);
    waitpid(checker, NULL, 0);
    rig_remove(base);
    for (unsigned i = 0; i < N_SETS; i++)
        for (unsigned k = 0; k < 2; k++) {
            pfx_vkey_done(&sets[i].keys[k]);
            EVP_PKEY_free(sets[i].pkeys[k]);
        }
    munmap(rig_token, sizeof *rig_token);
    return 0;
}

const char *rig_fresh(void)
{
    char folder[96];
    snprintf(folder, sizeof folder, "%s/%u", base, n_fresh);
    rig_remove(folder);
    snprintf(folder, sizeof folder, "%s/%u", base, ++n_fresh);
    assert_int_equal(mkdir(folder, 0700), 0);
    snprintf(current, sizeof current, "%s/log", folder);
    memset(rig_token, 0, sizeof *rig_token);
    return current;
}

static char copy_to[256];
static size_t copy_from;
static int copy_one(const char *path, const struct stat *facts, int type, struct FTW *ftw)
{
    (void)ftw;
    char to[512];
    snprintf(to, sizeof to, "%s%s", copy_to, path + copy_from);
    if (type == FTW_D)
        return mkdir(to, facts->st_mode & 0777) == 0 ? 0 : -1;
    int in = open(path, O_RDONLY | O_CLOEXEC);
    int out = open(to, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, facts->st_mode & 0777);
    char piece[65536];
    ssize_t n = -1;
    while (in >= 0 && out >= 0 && (n = read(in, piece, sizeof piece)) > 0)
        if (write(out, piece, (size_t)n) != n)
            break;
    if (out >= 0)
        fchmod(out, facts->st_mode & 0777);
    close(in);
    close(out);
    return n == 0 ? 0 : -1;
}

void rig_copy(const char *from, const char *to)
{
    snprintf(copy_to, sizeof copy_to, "%s", to);
    copy_from = strlen(from);
    mode_t before = umask(0);
    assert_int_equal(nftw(from, copy_one, 16, FTW_PHYS), 0);
    umask(before);
}

struct pfx_oplog_config rig_config(const char *dir)
{
    return (struct pfx_oplog_config){.dir = dir,
                                     .readers = (gid_t)-1,
                                     .segment_entries = 256,
                                     .reserve = 65536,
                                     .anchor_entries = 1000000,
                                     .anchor_every_ms = 3600000};
}

struct pfx_oplog *rig_open(const struct pfx_oplog_config *config)
{
    ERROR(err);
    struct pfx_oplog *log = NULL;
    assert_ok(pfx_oplog_open(config, &log, &err), &err);
    return log;
}

struct pfx_oplog *rig_begun(const struct pfx_oplog_config *config)
{
    ERROR(err);
    struct pfx_draft *draft PFX_AUTOFREE = pfx_alloc(sizeof *draft);
    struct pfx_oplog *log = rig_open(config);
    struct pfx_signer signer = rig_signer(0);
    rig_first(draft, "log.begin", 0);
    assert_ok(pfx_oplog_begin(log, RIG_ORIGIN, draft, &signer, &err), &err);
    return log;
}

static void start_draft(struct pfx_draft *draft, const char *event, enum pfx_phase phase,
                        enum pfx_outcome outcome)
{
    pfx_draft_init(draft, PFX_SRC_HSM, event, phase, outcome);
    pfx_draft_str(draft, PFX_F_ACTOR_ROLE, "self");
}

static void add_keys(struct pfx_draft *draft, unsigned which)
{
    struct pfx_buf json PFX_CLEANUP(pfx_buf_done) = pfx_buf_make(4096);
    struct pfx_canon canon = pfx_canon_make(&json);
    char line[PFX_VKEY_LINE_SIZE];
    pfx_canon_open(&canon, NULL, '[');
    for (unsigned k = 0; k < 2; k++) {
        pfx_vkey_line(&sets[which].keys[k], line);
        pfx_canon_str(&canon, NULL, (struct pfx_bytes){(const uint8_t *)line, strlen(line)});
    }
    pfx_canon_close(&canon, ']');
    pfx_draft_raw(draft, PFX_F_LOG_KEYS, pfx_buf_bytes(&json));
}

void rig_first(struct pfx_draft *draft, const char *event, unsigned which)
{
    start_draft(draft, event, PFX_PHASE_NOTE, PFX_OUTCOME_OK);
    pfx_draft_str(draft, PFX_F_LOG_ORIGIN, origins[which]);
    add_keys(draft, which);
}

void rig_rotation(struct pfx_draft *draft, unsigned which)
{
    start_draft(draft, "log.rotate-key", PFX_PHASE_NOTE, PFX_OUTCOME_OK);
    add_keys(draft, which);
}

void rig_note(struct pfx_draft *draft, const char *text)
{
    start_draft(draft, "request.refused", PFX_PHASE_NOTE, PFX_OUTCOME_REFUSED);
    pfx_draft_str(draft, PFX_F_TARGET_NAME, text);
}

void rig_intent(struct pfx_draft *draft)
{
    start_draft(draft, "key.make", PFX_PHASE_INTENT, PFX_OUTCOME_PENDING);
    pfx_draft_hex(draft, PFX_F_KEY_ID, "0123456789abcdef", 16);
}

void rig_result(struct pfx_draft *draft, uint64_t ref)
{
    start_draft(draft, "key.make", PFX_PHASE_RESULT, PFX_OUTCOME_OK);
    pfx_draft_int(draft, PFX_F_REF, (int64_t)ref);
    pfx_draft_hex(draft, PFX_F_KEY_ID, "0123456789abcdef", 16);
}

pfx_result rig_operation(struct pfx_oplog *log, uint64_t *ret_result, struct pfx_error *err)
{
    struct pfx_draft *draft PFX_AUTOFREE = pfx_alloc(sizeof *draft);
    uint64_t intent;
    rig_intent(draft);
    PFX_TRY(pfx_oplog_append(log, draft, PFX_ROOM_ORDINARY, PFX_UNTIL_SYNCED, &intent, err));
    rig_result(draft, intent);
    return pfx_oplog_append(log, draft, PFX_ROOM_PROMISED, PFX_UNTIL_COVERED, ret_result, err);
}

unsigned rig_keys_of(struct pfx_oplog *log)
{
    struct pfx_oplog_facts facts;
    char line[PFX_VKEY_LINE_SIZE];
    pfx_oplog_facts(log, &facts);
    for (unsigned i = 0; i < N_SETS; i++)
        if (strcmp(facts.keys[0], pfx_vkey_line(&sets[i].keys[0], line)) == 0)
            return i;
    fail_msg("the log names none of the keys");
    return 0;
}

void rig_notes(struct pfx_oplog *log, size_t n)
{
    struct pfx_draft *drafts PFX_AUTOFREE = pfx_alloc_array(100, sizeof *drafts);
    while (n > 0) {
        ERROR(err);
        size_t now = n < 100 ? n : 100;
        for (size_t i = 0; i < now; i++)
            rig_note(&drafts[i], "filler");
        n -= now;
        assert_ok(pfx_oplog_append_all(log, drafts, now, PFX_ROOM_ORDINARY,
                                       n == 0 ? PFX_UNTIL_SYNCED : PFX_UNTIL_APPENDED, NULL, &err),
                  &err);
    }
}

static uint64_t number_after(const char *text, const char *name)
{
    char pattern[32];
    snprintf(pattern, sizeof pattern, "\"%s\": ", name);
    const char *at = strstr(text, pattern);
    return at ? strtoull(at + strlen(pattern), NULL, 10) : 0;
}

struct rig_verdict rig_ask(const char *dir, const char *released, bool torn)
{
    struct pfx_buf ask PFX_CLEANUP(pfx_buf_done) = pfx_buf_make(SIZE_MAX / 2);
    pfx_buf_addf(&ask,
                 "{\"dir\":\"%s\",\"labels\":[\"%s\",\"%s\"],\"released\":[%s],\"torn\":%s}\n", dir,
                 rig_token->labels[0], rig_token->labels[1], released ? released : "",
                 torn ? "true" : "false");
    for (size_t at = 0; at < ask.len;) {
        ssize_t n = write(ask_fd, ask.data + at, ask.len - at);
        if (n <= 0)
            fail_msg("the checker is gone");
        at += (size_t)n;
    }
    static char answer[262144];
    size_t got = 0;
    while (got < sizeof answer - 1 && (got == 0 || answer[got - 1] != '\n')) {
        ssize_t n = read(answer_fd, answer + got, sizeof answer - 1 - got);
        if (n <= 0)
            fail_msg("the checker is gone");
        got += (size_t)n;
    }
    answer[got] = '\0';
    struct rig_verdict verdict = {.size = number_after(answer, "size"),
                                  .covered = number_after(answer, "covered"),
                                  .first = number_after(answer, "first"),
                                  .tail = number_after(answer, "tail")};
    const char *open = strstr(answer, "\"open\": ["), *end = open ? strchr(open, ']') : NULL;
    if (open && open[9] != ']')
        for (verdict.n_open = 1; open < end; open++)
            verdict.n_open += *open == ',';
    const char *findings = strstr(answer, "\"findings\": [");
    if (!findings)
        fail_msg("the checker says: %s", answer);
    if (findings[13] != ']')
        snprintf(verdict.findings, sizeof verdict.findings, "%s", findings + 13);
    return verdict;
}

struct rig_verdict rig_check(const char *dir)
{
    struct rig_verdict verdict = rig_ask(dir, NULL, false);
    if (verdict.findings[0])
        fail_msg("%s", verdict.findings);
    return verdict;
}
