/* Checkpoint signatures and anchors by the token of the log role. */
#include "pkcs11/hsm/signer.h"

#include <stdio.h>
#include <string.h>

#include "crypto/encode.h"

#define MOST_GENERATIONS 256
#define MOST_GAP 16 /* generations that were destroyed, in a row */

struct pfx_log_signer {
    struct pfx_signer ops;
    struct pfx_token *token;
    uint64_t epoch; /* of the token, when the anchors were looked at */
    struct pfx_key *keys[2], *anchors[2];
    struct pfx_vkey vkeys[2];
    pthread_mutex_t lock;
    struct pfx_error lost; /* with lock held */
};

static _Thread_local bool here;

bool pfx_log_signer_here(void)
{
    return here;
}

static pfx_result sign_once(struct pfx_log_signer *signer, size_t index, struct pfx_bytes text,
                            struct pfx_buf *out, struct pfx_error *err)
{
    struct pfx_session *session PFX_AUTOSESSION = NULL;
    struct pfx_bytes message = text;
    uint8_t digest[32];
    if (signer->vkeys[index].type == PFX_NOTE_P256) {
        if (!pfx_sha256(text.data, text.len, digest))
            return pfx_fail(err, PFX_CLASS_INTERNAL, "sign checkpoint", "", "", "No SHA-256.");
        message = (struct pfx_bytes){digest, sizeof digest};
    }
    PFX_TRY(pfx_session_acquire(signer->token, false, &session, err));
    return pfx_key_sign_digest(session, signer->keys[index], PFX_HASH_SHA256, message, out, err);
}

static pfx_result sign(void *ctx, size_t index, struct pfx_bytes text,
                       uint8_t ret[PFX_SIGNATURE_MAX], size_t *ret_len, struct pfx_error *err)
{
    struct pfx_log_signer *signer = ctx;
    struct pfx_error why = PFX_ERROR_NONE;
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf out = pfx_buf_make(PFX_SIGNATURE_MAX);
    here = true;
    pfx_result result = sign_once(signer, index, text, &out, &why);
    if (result.cls == PFX_CLASS_DEVICE) {
        /* The pool replaces a session, or opens the token anew, at the next call: what can be had
         * by that needn't hold anything up. */
        struct pfx_error second = PFX_ERROR_NONE;
        pfx_buf_reset(&out);
        result = sign_once(signer, index, text, &out, &second);
        if (pfx_failed(result) && second.cls != PFX_CLASS_OK)
            why = second;
    }
    here = false;
    pthread_mutex_lock(&signer->lock);
    signer->lost = pfx_ok(result) ? PFX_ERROR_NONE : why;
    pthread_mutex_unlock(&signer->lock);
    if (pfx_failed(result)) {
        if (err && err->cls == PFX_CLASS_OK)
            *err = why;
        return result;
    }
    memcpy(ret, out.data, out.len);
    *ret_len = out.len;
    return PFX_OK;
}

static pfx_result label_of(struct pfx_session *session, struct pfx_key *anchor, char label[65],
                           struct pfx_error *err)
{
    char text[128];
    label[0] = '\0';
    if (!anchor)
        return PFX_OK;
    PFX_TRY(pfx_key_label(session, anchor, text, sizeof text, err));
    /* As `init` made it: it says nothing about a log yet. One that begins as ours do and is longer
     * than they can be is handed on cut, for the reader to refuse. */
    if (strncmp(text, PFX_ANCHOR_PREFIX, strlen(PFX_ANCHOR_PREFIX)) == 0)
        snprintf(label, 65, "%.64s", text);
    return PFX_OK;
}

static pfx_result labels_read(struct pfx_log_signer *signer, char ret_labels[2][65],
                              struct pfx_error *err)
{
    struct pfx_session *session PFX_AUTOSESSION = NULL;
    PFX_TRY(pfx_session_acquire(signer->token, false, &session, err));
    for (size_t i = 0; i < 2; i++)
        PFX_TRY(label_of(session, signer->anchors[i], ret_labels[i], err));
    return PFX_OK;
}

static pfx_result anchor_read(void *ctx, char ret_labels[2][65], struct pfx_error *err)
{
    here = true;
    pfx_result result = labels_read(ctx, ret_labels, err);
    here = false;
    return result;
}

static pfx_result label_write(struct pfx_log_signer *signer, unsigned which, const char *label,
                              struct pfx_error *err)
{
    struct pfx_session *session PFX_AUTOSESSION = NULL;
    if (which > 1 || !signer->anchors[which])
        return pfx_fail(err, PFX_CLASS_DEVICE, "write anchor", which ? "anchor-b-1" : "anchor-a-1",
                        "",
                        "The token has no such key any more: run pfx-agent init, which makes "
                        "it again.");
    PFX_TRY(pfx_session_acquire(signer->token, true, &session, err));
    return pfx_key_relabel(session, signer->anchors[which], label, err);
}

static pfx_result anchor_write(void *ctx, unsigned which, const char *label, struct pfx_error *err)
{
    here = true;
    pfx_result result = label_write(ctx, which, label, err);
    here = false;
    return result;
}

static pfx_result find(struct pfx_hsm *hsm, struct pfx_session *session, size_t index,
                       unsigned generation, struct pfx_key **ret_key, struct pfx_error *err)
{
    struct pfx_standing_key standing;
    pfx_standing_log(hsm->policy, index, generation, &standing);
    return pfx_key_find(session, standing.use, &standing.id, true, (struct pfx_bytes){NULL, 0},
                        ret_key, err);
}

static pfx_result session_of(struct pfx_hsm *hsm, struct pfx_session **ret_session,
                             struct pfx_error *err)
{
    if (!hsm->roles[PFX_ROLE_LOG].token)
        return pfx_hsm_needs(hsm, PFX_NEEDS(PFX_ROLE_LOG), err);
    return pfx_session_acquire(hsm->roles[PFX_ROLE_LOG].token, false, ret_session, err);
}

static pfx_result add_key(struct pfx_hsm *hsm, struct pfx_log_signer *signer,
                          struct pfx_session *session, size_t index, const char *origin,
                          unsigned generation, struct pfx_error *err)
{
    struct pfx_standing_key standing;
    char text[128];
    size_t n = signer->ops.n_keys;
    pfx_standing_log(hsm->policy, index, generation, &standing);
    PFX_TRY(find(hsm, session, index, generation, &signer->keys[n], err));
    if (!signer->keys[n])
        return pfx_fail(err, PFX_CLASS_INTEGRITY, "find key", standing.name, "",
                        "The token %s doesn't have this key of the operation log: is it the right "
                        "token? Restore it from its backup.",
                        pfx_token_text(signer->token, text));
    PFX_TRY(pfx_vkey_make(origin, pfx_key_spki(signer->keys[n]), &signer->vkeys[n], err));
    signer->ops.n_keys++;
    return PFX_OK;
}

pfx_result pfx_log_signer_new(struct pfx_hsm *hsm, const char *origin, unsigned generation,
                              bool ed25519, struct pfx_log_signer **ret_signer,
                              struct pfx_error *err)
{
    struct pfx_session *session PFX_AUTOSESSION = NULL;
    PFX_TRY(session_of(hsm, &session, err));
    PFX_CLEANUP(pfx_log_signer_freep) struct pfx_log_signer *signer = pfx_alloc(sizeof *signer);
    pthread_mutex_init(&signer->lock, NULL);
    signer->token = hsm->roles[PFX_ROLE_LOG].token;
    signer->epoch = pfx_token_epoch(signer->token);
    signer->ops = (struct pfx_signer){.keys = signer->vkeys,
                                      .sign = sign,
                                      .anchor_read = anchor_read,
                                      .anchor_write = anchor_write,
                                      .ctx = signer};
    PFX_TRY(add_key(hsm, signer, session, PFX_STANDING_LOG, origin, generation, err));
    if (ed25519)
        PFX_TRY(add_key(hsm, signer, session, PFX_STANDING_LOG_ED25519, origin, generation, err));
    for (size_t i = 0; i < 2; i++)
        PFX_TRY(find(hsm, session, PFX_STANDING_ANCHOR_A + i, 1, &signer->anchors[i], err));
    *ret_signer = PFX_TAKE(signer);
    return PFX_OK;
}

void pfx_log_signer_free(struct pfx_log_signer *signer)
{
    if (!signer)
        return;
    for (size_t i = 0; i < 2; i++) {
        pfx_key_free(signer->keys[i]);
        pfx_key_free(signer->anchors[i]);
        pfx_vkey_done(&signer->vkeys[i]);
    }
    pthread_mutex_destroy(&signer->lock);
    free(signer);
}

const struct pfx_signer *pfx_log_signer_ops(const struct pfx_log_signer *signer)
{
    return &signer->ops;
}

bool pfx_log_signer_lost(struct pfx_log_signer *signer, struct pfx_error *ret_why)
{
    pthread_mutex_lock(&signer->lock);
    *ret_why = signer->lost;
    pthread_mutex_unlock(&signer->lock);
    return ret_why->cls != PFX_CLASS_OK;
}

bool pfx_log_signer_stale(const struct pfx_log_signer *signer)
{
    return signer->epoch != pfx_token_epoch(signer->token);
}

pfx_result pfx_anchors_read(struct pfx_hsm *hsm, char ret_labels[2][65], struct pfx_error *err)
{
    struct pfx_session *session PFX_AUTOSESSION = NULL;
    PFX_TRY(session_of(hsm, &session, err));
    for (size_t i = 0; i < 2; i++) {
        struct pfx_key *anchor PFX_AUTOKEY = NULL;
        PFX_TRY(find(hsm, session, PFX_STANDING_ANCHOR_A + i, 1, &anchor, err));
        PFX_TRY(label_of(session, anchor, ret_labels[i], err));
    }
    return PFX_OK;
}

/* Is this public key one of the lines? */
static pfx_result named(const struct pfx_oplog_facts *facts, struct pfx_bytes spki,
                        enum pfx_note_type *ret_type, bool *ret_named, struct pfx_error *err)
{
    uint8_t digest[32];
    *ret_named = false;
    if (!pfx_sha256(spki.data, spki.len, digest))
        return pfx_fail(err, PFX_CLASS_INTERNAL, "find log key", "", "", "No SHA-256.");
    for (size_t i = 0; i < facts->n_keys && !*ret_named; i++) {
        PFX_CLEANUP(pfx_vkey_done) struct pfx_vkey line = {0};
        PFX_TRY(pfx_vkey_parse(facts->keys[i], &line, err));
        *ret_named = memcmp(line.spki_sha256, digest, sizeof digest) == 0;
        *ret_type = line.type;
    }
    return PFX_OK;
}

static pfx_result wants_ed25519(const struct pfx_oplog_facts *facts, bool *ret_wants,
                                struct pfx_error *err)
{
    *ret_wants = false;
    for (size_t i = 0; i < facts->n_keys; i++) {
        PFX_CLEANUP(pfx_vkey_done) struct pfx_vkey line = {0};
        PFX_TRY(pfx_vkey_parse(facts->keys[i], &line, err));
        *ret_wants = *ret_wants || line.type == PFX_NOTE_ED25519;
    }
    return PFX_OK;
}

pfx_result pfx_log_generation_find(struct pfx_hsm *hsm, const struct pfx_oplog_facts *facts,
                                   unsigned *ret_generation, bool *ret_ed25519,
                                   struct pfx_error *err)
{
    struct pfx_session *session PFX_AUTOSESSION = NULL;
    char text[128];
    PFX_TRY(session_of(hsm, &session, err));
    for (unsigned g = 1, gap = 0; g <= MOST_GENERATIONS && gap < MOST_GAP; g++) {
        struct pfx_key *key PFX_AUTOKEY = NULL;
        enum pfx_note_type type = PFX_NOTE_P256;
        bool ours = false;
        PFX_TRY(find(hsm, session, PFX_STANDING_LOG, g, &key, err));
        gap = key ? 0 : gap + 1;
        if (key)
            PFX_TRY(named(facts, pfx_key_spki(key), &type, &ours, err));
        if (!ours)
            continue;
        PFX_TRY(wants_ed25519(facts, ret_ed25519, err));
        *ret_generation = g;
        return PFX_OK;
    }
    return pfx_fail(err, PFX_CLASS_INTEGRITY, "find log key", facts->origin, "",
                    "The token %s has none of the keys that sign this operation log: is it the "
                    "right token, and the right folder (log.dir)? Bring the right one back, or "
                    "begin a successor with pfx-agent log reopen.",
                    pfx_token_text(hsm->roles[PFX_ROLE_LOG].token, text));
}

pfx_result pfx_log_generation_free(struct pfx_hsm *hsm, unsigned *ret_generation,
                                   struct pfx_error *err)
{
    struct pfx_session *session PFX_AUTOSESSION = NULL;
    PFX_TRY(session_of(hsm, &session, err));
    for (unsigned g = 1; g <= MOST_GENERATIONS; g++) {
        struct pfx_key *key PFX_AUTOKEY = NULL;
        PFX_TRY(find(hsm, session, PFX_STANDING_LOG, g, &key, err));
        if (!key) {
            *ret_generation = g;
            return PFX_OK;
        }
    }
    return pfx_fail(err, PFX_CLASS_REFUSED, "find log key", "log", "",
                    "The token has %d generations of this host's log key: destroy those that are "
                    "no longer in force with your HSM's own tool.",
                    MOST_GENERATIONS);
}
