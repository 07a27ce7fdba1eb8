/* Opening and closing of tokens; roles that name the same one share it. */
#include <stdio.h>
#include <string.h>

#include "crypto/mem.h"
#include "pkcs11/object.h"

static void read_facts(struct pfx_token *token, const CK_TOKEN_INFO *info)
{
    struct pfx_token_facts *f = &token->facts;
    pfx_padded(f->label, sizeof f->label, info->label, sizeof info->label);
    pfx_padded(f->serial, sizeof f->serial, info->serialNumber, sizeof info->serialNumber);
    pfx_padded(f->manufacturer, sizeof f->manufacturer, info->manufacturerID,
               sizeof info->manufacturerID);
    pfx_padded(f->model, sizeof f->model, info->model, sizeof info->model);
    snprintf(f->module, sizeof f->module, "%s", token->module->path);
    memcpy(f->module_sha256, token->module->sha256, sizeof f->module_sha256);
    memcpy(f->module_version, token->module->version, sizeof f->module_version);
    snprintf(f->firmware, sizeof f->firmware, "%u.%u", info->firmwareVersion.major,
             info->firmwareVersion.minor);
    f->flags = info->flags;
}

bool pfx_token_is(const struct pfx_token *token, const CK_TOKEN_INFO *info)
{
    char label[33], serial[17];
    pfx_padded(label, sizeof label, info->label, sizeof info->label);
    pfx_padded(serial, sizeof serial, info->serialNumber, sizeof info->serialNumber);
    return strcmp(label, token->facts.label) == 0 && strcmp(serial, token->facts.serial) == 0;
}

static struct pfx_token *make_token(struct pfx_module *module, const char *uri, const char *what,
                                    const struct pfx_slot_row *row)
{
    struct pfx_token *token = pfx_alloc(sizeof *token);
    token->module = module;
    token->uri = pfx_strdup(uri);
    snprintf(token->what, sizeof token->what, "%s", what);
    token->slot = row->slot;
    token->epoch = 1;
    pthread_mutex_init(&token->caps_lock, NULL);
    pthread_mutex_init(&token->login_lock, NULL);
    read_facts(token, &row->info);
    struct pfx_probe *m = &token->caps.merged;
    m->sign_rsa = m->sign_pss = m->kwp = CK_UNAVAILABLE_INFORMATION;
    m->blob_rsa = m->blob_ec = CK_UNAVAILABLE_INFORMATION;
    token->caps.no_local = module->nss;
    /* NSS takes these in session objects and answers CKR_GENERAL_ERROR when they are to be stored.
     */
    static const CK_ATTRIBUTE_TYPE unstored[] = {CKA_COPYABLE, CKA_ALLOWED_MECHANISMS};
    for (int half = 0; module->nss && half < 4; half++) {
        memcpy(token->caps.dropped[half], unstored, sizeof unstored);
        token->caps.n_dropped[half] = sizeof unstored / sizeof unstored[0];
    }
    /* It overrules usage flags of keys that come in; blob.c mends them, if the key may be changed.
     */
    if (module->nss)
        pfx_drop(token, PFX_HALF_UNWRAPPED, CKA_MODIFIABLE);
    return token;
}

/* Looks at the slots, and keeps C_Finalize out meanwhile. */
static pfx_result look(struct pfx_module *module, const char *uri, const char *what,
                       struct pfx_slot_row *ret_row, uint64_t *ret_generation,
                       struct pfx_error *err)
{
    int64_t deadline = pfx_monotonic_ms() + PFX_WAIT_MS;
    pthread_mutex_lock(&module->lock);
    while (module->reopening && pfx_module_wait(module, deadline))
        continue;
    pfx_result r = PFX_OK;
    if (!module->initialised)
        r = pfx_module_reopen(module, deadline, err);
    *ret_generation = module->generation;
    module->busy++;
    pthread_mutex_unlock(&module->lock);
    if (pfx_ok(r))
        r = pfx_slots_find(module, uri, what, PFX_CLASS_USAGE, ret_row, err);
    pthread_mutex_lock(&module->lock);
    module->busy--;
    pthread_cond_broadcast(&module->changed);
    pthread_mutex_unlock(&module->lock);
    return r;
}

static pfx_result find_slot(struct pfx_module *module, const char *uri, const char *what,
                            struct pfx_slot_row *ret_row, uint64_t *ret_generation,
                            struct pfx_error *err)
{
    struct pfx_error first = PFX_ERROR_NONE;
    pfx_result r = look(module, uri, what, ret_row, ret_generation, &first);
    if (r.cls == PFX_CLASS_DEVICE) {
        /* The module was in use before and has lost its state since. */
        pthread_mutex_lock(&module->lock);
        module->initialised = false;
        pthread_mutex_unlock(&module->lock);
        return look(module, uri, what, ret_row, ret_generation, err);
    }
    if (pfx_failed(r))
        return pfx_fail(err, r.cls, first.op, first.object, first.code, "%s", first.text);
    return PFX_OK;
}

static pfx_result open_locked(enum pfx_role role, const struct pfx_role_conf *conf,
                              const char *what, unsigned sessions, struct pfx_token **ret_token,
                              struct pfx_error *err)
{
    struct pfx_module *module = NULL;
    PFX_TRY(pfx_module_open(conf->module, conf->parameters, &module, err));
    struct pfx_slot_row row;
    uint64_t generation = 0;
    pfx_result r = find_slot(module, conf->uri, what, &row, &generation, err);
    if (pfx_failed(r)) {
        pfx_module_close(module);
        return r;
    }
    pthread_mutex_lock(&module->lock);
    struct pfx_token *token = module->tokens;
    while (token && !pfx_token_is(token, &row.info))
        token = token->next;
    bool shared = token != NULL;
    if (!token) {
        token = make_token(module, conf->uri, what, &row);
        token->generation = generation;
        token->next = module->tokens;
        module->tokens = token;
    }
    token->refs++;
    token->roles |= 1u << role;
    if (token->logged_in)
        token->needs |= 1u << role;
    /* Each role's workers get sessions of their own: one may hold two roles at once. A role that
     * is opened again on a token that others kept open has its share already. */
    if (sessions > token->granted[role]) {
        size_t more = token->max_sessions + (sessions - token->granted[role]);
        token->sessions = pfx_grow(token->sessions, more, sizeof token->sessions[0]);
        token->max_sessions = more;
        token->granted[role] = sessions;
    }
    pthread_mutex_unlock(&module->lock);
    if (shared)
        pfx_module_close(module); /* the token holds it already */
    *ret_token = token;
    return PFX_OK;
}

pfx_result pfx_token_open(enum pfx_role role, const struct pfx_role_conf *conf, unsigned sessions,
                          struct pfx_token **ret_token, struct pfx_error *err)
{
    static const char *const names[PFX_ROLE_COUNT] = {"encryption", "users", "service", "log"};
    if ((unsigned)role >= PFX_ROLE_COUNT || !conf->module || !conf->uri)
        return pfx_fail(err, PFX_CLASS_USAGE, "open token", "", "",
                        "The policy names no module and token for this role.");
    char what[64];
    snprintf(what, sizeof what, "%s token", names[role]);
    PFX_TRY(pfx_uri_check(conf->uri, what, err)); /* before a library is loaded for it */
    pfx_registry_lock();
    pfx_result r = open_locked(role, conf, what, sessions ? sessions : 1, ret_token, err);
    pfx_registry_unlock();
    return r;
}

static void free_token(struct pfx_token *token)
{
    for (size_t i = 0; i < token->n_sessions; i++)
        free(token->sessions[i]);
    free(token->sessions);
    pfx_secret_free(token->pin);
    pthread_mutex_destroy(&token->caps_lock);
    pthread_mutex_destroy(&token->login_lock);
    free(token->uri);
    free(token);
}

void pfx_token_close(struct pfx_token *token)
{
    if (!token)
        return;
    pfx_registry_lock();
    struct pfx_module *module = token->module;
    pthread_mutex_lock(&module->lock);
    bool last = --token->refs == 0;
    if (last) {
        struct pfx_token **pp = &module->tokens;
        while (*pp && *pp != token)
            pp = &(*pp)->next;
        if (*pp)
            *pp = token->next;
    }
    bool usable = module->initialised && token->generation == module->generation;
    pthread_mutex_unlock(&module->lock);
    if (last) {
        bool first = true;
        for (size_t i = 0; usable && i < token->n_sessions; i++) {
            struct pfx_session *s = token->sessions[i];
            if (!s->handle || s->generation != module->generation)
                continue;
            if (first && token->logged_in)
                (void)PFX_C(module->functions, C_Logout, s->handle);
            first = false;
            (void)PFX_C(module->functions, C_CloseSession, s->handle);
        }
        free_token(token);
        pfx_module_close(module);
    }
    pfx_registry_unlock();
}

const struct pfx_token_facts *pfx_token_facts(const struct pfx_token *token)
{
    return &token->facts;
}

bool pfx_token_same(const struct pfx_token *a, const struct pfx_token *b)
{
    return a == b;
}

uint64_t pfx_token_epoch(const struct pfx_token *token)
{
    pthread_mutex_lock(&token->module->lock);
    uint64_t epoch = token->epoch;
    pthread_mutex_unlock(&token->module->lock);
    return epoch;
}
