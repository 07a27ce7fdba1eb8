/* The probe: what each role needs of its token, tried. */
#include "pkcs11/probe.h"

#include <string.h>

#include "crypto/mem.h"
#include "pkcs11/try.h"

static void try_encryption(struct pfx_try *t)
{
    struct pfx_probe *p = t->probe;
    PFX_AUTOKEY struct pfx_key *key = NULL;
    pfx_try_rsa_sizes(t);
    if (!pfx_try_key(t, PFX_USE_ENCRYPTION, PFX_KEY_RSA_2048, &key)) {
        pfx_try_missing(t, "RSA key pairs that only decrypt");
        return;
    }
    static const char use[] = "the encryption key opens PFX passwords";
    p->oaep_sha256 = pfx_try_oaep(t, key, PFX_HASH_SHA256, use);
    p->oaep_sha384 = pfx_try_oaep(t, key, PFX_HASH_SHA384, use);
    p->oaep_sha512 = pfx_try_oaep(t, key, PFX_HASH_SHA512, use);
    p->raw_rsa = pfx_try_raw(t, key, "opens OAEP with unpadding on the host");
    bool all = p->oaep_sha256 && p->oaep_sha384 && p->oaep_sha512;
    if (!all && p->raw_rsa)
        pfx_try_conflict(t,
                         "OAEP with SHA-256, 384 or 512 is done by raw RSA with unpadding on the "
                         "host, so the encryption key has to allow raw RSA. For tests only.");
    if (!p->oaep_sha256 && !p->oaep_sha384 && !p->oaep_sha512 && !p->raw_rsa)
        pfx_try_missing(t, "RSA-OAEP decryption with SHA-256, 384 or 512, or raw RSA");
}

static void try_service(struct pfx_try *t)
{
    static const struct {
        CK_MECHANISM_TYPE mechanism;
        const char *use;
    } pss[] = {
        {CKM_SHA256_RSA_PKCS_PSS, "client assertions (PS256)"},
        {CKM_RSA_PKCS_PSS, "client assertions (PS256), hashed on the host"},
        {CKM_RSA_X_509, "client assertions (PS256), padded on the host"},
    };
    struct pfx_probe *p = t->probe;
    PFX_AUTOKEY struct pfx_key *client = NULL, *secrets = NULL;
    pfx_try_rsa_sizes(t);
    if (!pfx_try_key(t, PFX_USE_CLIENT, PFX_KEY_RSA_2048, &client)) {
        pfx_try_missing(t, "RSA key pairs that only sign");
        return;
    }
    if (pfx_try_sign(t, client, CKM_RSA_PKCS, "client certificates and RS256"))
        p->sign_rsa = CKM_RSA_PKCS;
    else if (pfx_try_sign(t, client, CKM_SHA256_RSA_PKCS, "RS256, hashed in the token"))
        p->sign_rsa = CKM_SHA256_RSA_PKCS;
    for (size_t i = 0; i < 3 && p->sign_pss == CK_UNAVAILABLE_INFORMATION; i++) {
        if (pfx_try_sign(t, client, pss[i].mechanism, pss[i].use))
            p->sign_pss = pss[i].mechanism;
    }
    if (p->sign_rsa != CKM_RSA_PKCS)
        pfx_try_missing(t, "CKM_RSA_PKCS signatures, for client certificates");
    if (p->sign_pss == CK_UNAVAILABLE_INFORMATION)
        pfx_try_conflict(t, "No PSS signature works: set 'entra.algorithm: RS256'.");
    if (!pfx_try_key(t, PFX_USE_SECRETS, PFX_KEY_RSA_2048, &secrets)) {
        pfx_try_missing(t, "RSA key pairs that only decrypt");
        return;
    }
    p->oaep_sha256 = pfx_try_oaep(t, secrets, PFX_HASH_SHA256, "service secrets");
    if (!p->oaep_sha256)
        p->raw_rsa = pfx_try_raw(t, secrets, "service secrets, unpadded on the host");
    if (!p->oaep_sha256 && !p->raw_rsa)
        pfx_try_missing(t, "RSA-OAEP decryption with SHA-256, or raw RSA, for service secrets");
}

/* The anchors are keys whose label says how far the log is. */
static bool try_anchor(struct pfx_try *t)
{
    PFX_AUTOKEY struct pfx_key *anchor = NULL;
    if (!pfx_try_key(t, PFX_USE_ANCHOR, PFX_KEY_RSA_2048, &anchor))
        return false;
    static const char wish[] = "pfx-hsm probe 2";
    struct pfx_template label = {.n = 0};
    pfx_template_add(&label, CKA_LABEL, wish, sizeof wish - 1);
    struct pfx_probe_row *row = pfx_try_row(t, CKM_GENERIC_SECRET_KEY_GEN, CKF_GENERATE,
                                            "the anchor keeps the log's head in its label");
    CK_RV rv = PFX_S(t->session, C_SetAttributeValue, anchor->handle, label.at, label.n);
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf back = pfx_buf_make(256);
    if (rv == CKR_OK)
        rv = pfx_attr_read(t->session, anchor->handle, CKA_LABEL, 256, &back);
    bool kept = back.len == sizeof wish - 1 && memcmp(back.data, wish, back.len) == 0;
    return pfx_try_done(row, rv, kept, "the label didn't change");
}

static bool try_ed25519(struct pfx_try *t)
{
    PFX_AUTOKEY struct pfx_key *key = NULL;
    if (!pfx_try_key(t, PFX_USE_LOG_ED25519, PFX_KEY_EC_P256, &key))
        return false;
    struct pfx_probe_row *row =
        pfx_try_row(t, CKM_EDDSA, CKF_SIGN, "checkpoints, second signature (Ed25519)");
    struct pfx_error err = PFX_ERROR_NONE;
    static const uint8_t message[] = "pfx-hsm probe";
    PFX_CLEANUP(pfx_buf_done) struct pfx_buf signature = pfx_buf_make(256);
    pfx_result r = pfx_key_sign_digest(t->session, key, PFX_HASH_SHA256,
                                       (struct pfx_bytes){message, sizeof message - 1}, &signature,
                                       &err);
    return pfx_try_result(row, r, &err);
}

static void try_log(struct pfx_try *t)
{
    struct pfx_probe *p = t->probe;
    PFX_AUTOKEY struct pfx_key *key = NULL;
    if (pfx_try_key(t, PFX_USE_LOG, PFX_KEY_EC_P256, &key))
        p->ecdsa = pfx_try_sign(t, key, CKM_ECDSA, "checkpoints (ECDSA P-256)");
    p->key_types[PFX_KEY_EC_P256] = p->ecdsa;
    if (!p->ecdsa)
        pfx_try_missing(t, "ECDSA with P-256 for the log key");
    p->eddsa = try_ed25519(t);
    if (!try_anchor(t))
        pfx_try_missing(t, "a secret key whose label can be changed, for the log's anchors");
}

static void prefer(CK_MECHANISM_TYPE *into, CK_MECHANISM_TYPE found)
{
    if (found != CK_UNAVAILABLE_INFORMATION)
        *into = found;
}

static enum pfx_tier better(enum pfx_tier a, enum pfx_tier b)
{
    return a > b ? a : b;
}

/* What only the users role finds, as this probe says. */
static void replace(struct pfx_probe *m, struct pfx_caps *caps, const struct pfx_try *t)
{
    const struct pfx_probe *p = t->probe;
    m->seals = p->seals;
    m->way_in = p->way_in;
    m->kwp = p->kwp;
    m->blob_rsa = p->blob_rsa;
    m->blob_ec = p->blob_ec;
    memcpy(m->tier, p->tier, sizeof m->tier);
    memcpy(m->key_types, p->key_types, sizeof m->key_types);
    caps->kek_hash = t->kek_hash;
    caps->tampered_rv = t->tampered_rv;
}

static void fill(CK_MECHANISM_TYPE *into, CK_MECHANISM_TYPE found)
{
    if (*into == CK_UNAVAILABLE_INFORMATION)
        *into = found;
}

/* The same after a probe that was disturbed: what an earlier one has proven stays, and isn't
 * replaced by what this one fell back to. */
static void add(struct pfx_probe *m, struct pfx_caps *caps, const struct pfx_try *t)
{
    const struct pfx_probe *p = t->probe;
    m->seals |= p->seals;
    if (m->way_in == PFX_WAY_NONE) {
        m->way_in = p->way_in;
        caps->kek_hash = t->kek_hash;
    }
    fill(&m->kwp, p->kwp);
    fill(&m->blob_rsa, p->blob_rsa);
    fill(&m->blob_ec, p->blob_ec);
    fill(&caps->tampered_rv, t->tampered_rv);
    for (int i = 0; i < PFX_PROFILE_COUNT; i++) {
        m->tier[i].rsa = better(m->tier[i].rsa, p->tier[i].rsa);
        m->tier[i].ec = better(m->tier[i].ec, p->tier[i].ec);
    }
    for (int i = 0; i < PFX_KEY_TYPE_COUNT; i++)
        m->key_types[i] |= p->key_types[i];
}

/* Roles that share a token see what any of them found; a later probe of a role replaces what only
 * it finds. before: as it was when the probe began, which tries its finds through the same place. */
static void keep(struct pfx_try *t, enum pfx_role role, const struct pfx_caps *before, bool doubted)
{
    struct pfx_token *token = t->token;
    const struct pfx_probe *p = t->probe;
    pthread_mutex_lock(&token->caps_lock);
    struct pfx_probe *m = &token->caps.merged;
    *m = before->merged;
    token->caps.tampered_rv = before->tampered_rv;
    m->oaep_sha256 |= p->oaep_sha256;
    m->oaep_sha384 |= p->oaep_sha384;
    m->oaep_sha512 |= p->oaep_sha512;
    m->raw_rsa |= p->raw_rsa;
    m->ecdsa |= p->ecdsa;
    m->eddsa |= p->eddsa;
    m->hmac |= p->hmac;
    prefer(&m->sign_rsa, p->sign_rsa);
    prefer(&m->sign_pss, p->sign_pss);
    m->modifiable_kept = p->modifiable_kept;
    m->allowed_mechanisms_kept = p->allowed_mechanisms_kept;
    if (role == PFX_ROLE_USERS && p->passing && before->probed[role])
        add(m, &token->caps, t);
    else if (role == PFX_ROLE_USERS)
        replace(m, &token->caps, t);
    token->caps.probed[role] = true;
    token->caps.complete[role] = !p->missing_any || (before->complete[role] && p->passing);
    token->caps.doubted[role] = doubted;
    pthread_mutex_unlock(&token->caps_lock);
}

/* Did an earlier probe prove more? A token seldom unlearns while it is in use: the first time that is
 * taken for trouble, which may pass, so that one wrong answer takes no role away for good. */
static bool found_less(const struct pfx_caps *before, enum pfx_role role, const struct pfx_probe *p)
{
    const struct pfx_probe *m = &before->merged;
    if (before->complete[role] && p->missing_any)
        return true;
    if (role != PFX_ROLE_USERS || !before->probed[role])
        return false;
    bool less = (m->seals && !p->seals) ||
                (m->way_in != PFX_WAY_NONE && p->way_in == PFX_WAY_NONE) ||
                (m->kwp != CK_UNAVAILABLE_INFORMATION && p->kwp == CK_UNAVAILABLE_INFORMATION) ||
                (m->blob_rsa != CK_UNAVAILABLE_INFORMATION &&
                 p->blob_rsa == CK_UNAVAILABLE_INFORMATION) ||
                (m->blob_ec != CK_UNAVAILABLE_INFORMATION &&
                 p->blob_ec == CK_UNAVAILABLE_INFORMATION);
    for (int i = 0; i < PFX_PROFILE_COUNT; i++)
        less = less || m->tier[i].rsa > p->tier[i].rsa || m->tier[i].ec > p->tier[i].ec;
    for (int i = 0; i < PFX_KEY_TYPE_COUNT; i++)
        less = less || (m->key_types[i] && !p->key_types[i]);
    return less;
}

enum pfx_tier pfx_probe_tier(const struct pfx_probe *probe, enum pfx_profile profile,
                             enum pfx_key_type type)
{
    if ((unsigned)profile >= PFX_PROFILE_COUNT)
        return PFX_TIER_NONE;
    return pfx_key_type_is_rsa(type) ? probe->tier[profile].rsa : probe->tier[profile].ec;
}

void pfx_token_proven(struct pfx_token *token, struct pfx_probe *ret_proven)
{
    pthread_mutex_lock(&token->caps_lock);
    *ret_proven = token->caps.merged;
    pthread_mutex_unlock(&token->caps_lock);
}

pfx_result pfx_probe_run(struct pfx_token *token, enum pfx_role role, struct pfx_probe *ret_probe,
                         struct pfx_error *err)
{
    static void (*const tries[PFX_ROLE_COUNT])(struct pfx_try *) = {
        [PFX_ROLE_ENCRYPTION] = try_encryption,
        [PFX_ROLE_USERS] = pfx_try_users,
        [PFX_ROLE_SERVICE] = try_service,
        [PFX_ROLE_LOG] = try_log,
    };
    if ((unsigned)role >= PFX_ROLE_COUNT)
        return pfx_fail(err, PFX_CLASS_INTERNAL, "probe", "", "", "There is no such role.");
    PFX_AUTOSESSION struct pfx_session *session = NULL;
    PFX_TRY(pfx_session_acquire(token, true, &session, err));
    struct pfx_probe *probe PFX_AUTOFREE = pfx_alloc(sizeof *probe);
    probe->role = role;
    probe->sign_rsa = probe->sign_pss = probe->kwp = CK_UNAVAILABLE_INFORMATION;
    probe->blob_rsa = probe->blob_ec = CK_UNAVAILABLE_INFORMATION;
    const struct pfx_caps before = pfx_token_caps(token);
    struct pfx_try t = {
        .session = session,
        .token = token,
        .probe = probe,
        .kek_hash = PFX_HASH_SHA1,
        .tampered_rv = CK_UNAVAILABLE_INFORMATION,
    };
    tries[role](&t);
    pfx_try_attributes(&t);
    pthread_mutex_lock(&token->module->lock);
    bool lost = token->lost;
    session->stale = true; /* replaced before its next use: whatever session object is left dies */
    pthread_mutex_unlock(&token->module->lock);
    for (size_t i = 0; i < probe->n_rows; i++)
        probe->passing |= probe->rows[i].passing;
    /* What a row explains says nothing about the rest. */
    bool doubted = probe->passing ? before.doubted[role]
                                  : found_less(&before, role, probe) && !before.doubted[role];
    probe->passing |= doubted;
    if (lost) {
        pthread_mutex_lock(&token->caps_lock);
        token->caps.merged = before.merged;
        token->caps.tampered_rv = before.tampered_rv;
        pthread_mutex_unlock(&token->caps_lock);
        return pfx_fail(err, PFX_CLASS_DEVICE, "probe", token->facts.label, "",
                        "The token was lost during the probe, so its answers count for nothing. It "
                        "is opened anew at the next call.");
    }
    keep(&t, role, &before, doubted);
    *ret_probe = *probe;
    return PFX_OK;
}
