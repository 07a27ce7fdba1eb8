/*
 * The pool: sessions are opened when they are first needed, looked at before each use, replaced
 * when the token dropped them. A token that is lost is opened anew with its whole module.
 *
 * A token that isn't logged in keeps no session open: the running agent holds none on the
 * encryption token between ceremonies.
 */
#include <stdio.h>
#include <string.h>

#include "crypto/mem.h"
#include "pkcs11/pool.h"

#define RETRY_AWAY_MS 2000 /* a token that stays away doesn't reset its neighbours more often */

CK_SESSION_HANDLE pfx_session_handle(const struct pfx_session *session)
{
    return session->handle;
}

CK_FUNCTION_LIST *pfx_session_module(const struct pfx_session *session)
{
    return session->token->module->functions;
}

struct pfx_token *pfx_session_token(const struct pfx_session *session)
{
    return session->token;
}

uint64_t pfx_session_serial(const struct pfx_session *session)
{
    return session->serial;
}

/* What an answer says about the session and the token. */
static void judge(CK_RV rv, bool *ret_session, bool *ret_token, bool *ret_suspect)
{
    switch (rv) {
    case CKR_GENERAL_ERROR: /* SoftHSM's answer to much, also when its folder was removed */
    case CKR_FUNCTION_FAILED:
        *ret_suspect = true;
        break;
    case CKR_SESSION_HANDLE_INVALID:
    case CKR_SESSION_CLOSED:
    case CKR_USER_NOT_LOGGED_IN: /* a fresh session shows the login as it really is */
    case CKR_OPERATION_ACTIVE:
    case CKR_OPERATION_NOT_INITIALIZED:
    case CKR_BUFFER_TOO_SMALL: /* leaves the operation open */
    case PFX_CKR_NONSENSE:
        *ret_session = true;
        break;
    case CKR_SLOT_ID_INVALID:
    case CKR_DEVICE_ERROR:
    case CKR_DEVICE_REMOVED:
    case CKR_TOKEN_NOT_PRESENT:
    case CKR_TOKEN_NOT_RECOGNIZED:
    case CKR_CRYPTOKI_NOT_INITIALIZED:
    /* Our handles are looked up anew in each epoch, so a bad one means that the token changed under
     * us: SoftHSM answers this when its folder was removed, and only C_Initialize recovers. */
    case CKR_OBJECT_HANDLE_INVALID:
    case CKR_KEY_HANDLE_INVALID:
    case CKR_WRAPPING_KEY_HANDLE_INVALID:
    case CKR_UNWRAPPING_KEY_HANDLE_INVALID:
        *ret_token = true;
        break;
    default:
        break;
    }
}

void pfx_session_saw(struct pfx_session *session, CK_RV rv)
{
    bool bad_session = false, bad_token = false, suspect = false;
    judge(rv, &bad_session, &bad_token, &suspect);
    if (!bad_session && !bad_token && !suspect)
        return;
    pthread_mutex_lock(&session->token->module->lock);
    session->stale = session->stale || bad_session || bad_token;
    session->suspect = session->suspect || suspect;
    if (bad_token)
        session->token->lost = true;
    pthread_mutex_unlock(&session->token->module->lock);
}

static uint64_t next_serial(void)
{
    static uint64_t last;
    return __atomic_add_fetch(&last, 1, __ATOMIC_RELAXED);
}

CK_RV pfx_session_open_raw(struct pfx_token *token, bool write, CK_SESSION_HANDLE *ret_handle)
{
    CK_SESSION_HANDLE handle = CK_INVALID_HANDLE;
    CK_RV rv = PFX_C(token->module->functions, C_OpenSession, token->slot,
                     CKF_SERIAL_SESSION | (write ? CKF_RW_SESSION : 0), NULL, NULL, &handle);
    if (rv == CKR_OK && handle == CK_INVALID_HANDLE)
        rv = PFX_CKR_NONSENSE;
    if (rv == CKR_OK)
        *ret_handle = handle;
    return rv;
}

static void close_handle(struct pfx_token *token, CK_SESSION_HANDLE handle)
{
    if (handle != CK_INVALID_HANDLE)
        (void)PFX_C(token->module->functions, C_CloseSession, handle);
}

/* The new session first: closing the last one would log out. */
static CK_RV replace(struct pfx_session *s)
{
    CK_SESSION_HANDLE fresh = CK_INVALID_HANDLE, old = s->handle;
    bool read_only = false;
    CK_RV rv = pfx_session_open_raw(s->token, true, &fresh);
    if (rv == CKR_SESSION_COUNT && old != CK_INVALID_HANDLE) {
        close_handle(s->token, old);
        s->handle = old = CK_INVALID_HANDLE;
        rv = pfx_session_open_raw(s->token, true, &fresh);
    }
    if (rv == CKR_TOKEN_WRITE_PROTECTED) {
        read_only = true;
        rv = pfx_session_open_raw(s->token, false, &fresh);
    }
    if (rv != CKR_OK)
        return rv;
    close_handle(s->token, old);
    s->handle = fresh;
    s->serial = next_serial();
    s->read_only = read_only;
    s->stale = false;
    s->generation = s->want_generation;
    return CKR_OK;
}

static bool is_own(const struct pfx_session *s)
{
    return s->in_use && pthread_equal(s->owner, pthread_self());
}

/* A session of this module that the calling thread holds keeps C_Finalize from being called. */
static bool holds_one(const struct pfx_module *module)
{
    for (const struct pfx_token *t = module->tokens; t; t = t->next) {
        for (size_t i = 0; i < t->n_sessions; i++) {
            if (is_own(t->sessions[i]))
                return true;
        }
    }
    return false;
}

static void forget_sessions(struct pfx_token *token)
{
    for (size_t i = 0; i < token->n_sessions; i++) {
        struct pfx_session *s = token->sessions[i];
        if (!s->in_use && s->generation != token->module->generation) {
            s->handle = CK_INVALID_HANDLE;
            s->serial = 0;
        }
    }
}

static pfx_result look_again(struct pfx_token *token, CK_SLOT_ID *ret_slot, struct pfx_error *err)
{
    struct pfx_slot_row row;
    PFX_TRY(pfx_slots_find(token->module, token->uri, token->what, PFX_CLASS_DEVICE, &row, err));
    if (!pfx_token_is(token, &row.info)) {
        char label[33], serial[17];
        pfx_padded(label, sizeof label, row.info.label, sizeof row.info.label);
        pfx_padded(serial, sizeof serial, row.info.serialNumber, sizeof row.info.serialNumber);
        return pfx_fail(err, PFX_CLASS_INTEGRITY, "find token", token->facts.label, "",
                        "Another token is in its place: \"%s\" (serial %s) instead of serial %s. "
                        "Bring the old one back, or restart pfx-hsm if the change is meant.", label,
                        serial, token->facts.serial);
    }
    *ret_slot = row.slot;
    return PFX_OK;
}

/* Finds the token again, with the lock held (given up meanwhile). */
static pfx_result settle(struct pfx_token *token, int64_t deadline, struct pfx_error *err)
{
    struct pfx_module *module = token->module;
    token->settling = true;
    pfx_result r = PFX_OK;
    bool reopen = !module->initialised ||
                  (token->lost && token->generation == module->generation);
    if (reopen && holds_one(module)) {
        r = pfx_fail(err, PFX_CLASS_DEVICE, "reopen token", token->facts.label, "",
                     "The token was lost in the middle of an operation. It is opened anew at the "
                     "next call.");
    } else if (reopen && token->away && module->tokens->next &&
               pfx_monotonic_ms() < module->reopened_ms + RETRY_AWAY_MS) {
        r = pfx_fail(err, PFX_CLASS_DEVICE, "find token", token->facts.label, "",
                     "The token isn't there. It is looked for every %d s.", RETRY_AWAY_MS / 1000);
    } else if (reopen) {
        r = pfx_module_reopen(module, deadline, err);
    }
    if (pfx_ok(r)) {
        uint64_t generation = module->generation;
        CK_SLOT_ID slot = 0;
        module->busy++;
        pthread_mutex_unlock(&module->lock);
        r = look_again(token, &slot, err);
        pthread_mutex_lock(&module->lock);
        module->busy--;
        token->away = pfx_failed(r);
        /* Found or not, this generation has been looked at: the next try needs a new one. */
        token->generation = generation;
        token->lost = pfx_failed(r);
        if (pfx_ok(r)) {
            token->slot = slot;
            token->epoch++;
            token->session_limit = 0;
            forget_sessions(token);
        }
    }
    token->settling = false;
    pthread_cond_broadcast(&module->changed);
    return r;
}

/* An open one if there is, else one to open; the lock is held. */
static struct pfx_session *free_session(struct pfx_token *token)
{
    struct pfx_session *closed = NULL;
    size_t used = 0;
    for (size_t i = 0; i < token->n_sessions; i++) {
        struct pfx_session *s = token->sessions[i];
        if (s->in_use) {
            used++;
            continue;
        }
        if (s->handle != CK_INVALID_HANDLE)
            return s;
        if (!closed)
            closed = s;
    }
    if (token->session_limit > 0 && used >= token->session_limit)
        return NULL;
    if (closed || token->n_sessions >= token->max_sessions)
        return closed;
    struct pfx_session *s = pfx_alloc(sizeof *s);
    s->token = token;
    token->sessions[token->n_sessions++] = s;
    return s;
}

/* Opens, replaces or checks it; it is in use, so nobody else touches it. */
static pfx_result make_ready(struct pfx_session *s, struct pfx_error *err)
{
    const char *label = s->token->facts.label;
    CK_SESSION_INFO info;
    for (int tries = 0;; tries++) {
        if (s->generation != s->want_generation)
            s->handle = CK_INVALID_HANDLE; /* C_Finalize closed it */
        if (s->handle == CK_INVALID_HANDLE || s->stale) {
            CK_RV rv = replace(s);
            if (rv != CKR_OK) {
                pfx_session_saw(s, rv);
                return pfx_ckr_fail(err, rv, "C_OpenSession", label, "%s", "");
            }
        }
        memset(&info, 0, sizeof info);
        CK_RV rv = PFX_C(s->token->module->functions, C_GetSessionInfo, s->handle, &info);
        if (rv == CKR_OK)
            break;
        pfx_session_saw(s, rv);
        if (tries > 0 || !s->stale)
            return pfx_ckr_fail(err, rv, "C_GetSessionInfo", label, "%s", "");
    }
    if (s->suspect) {
        s->suspect = false;
        PFX_TRY(pfx_token_present(s, err));
    }
    if (s->write && s->read_only)
        return pfx_ckr_fail(err, CKR_TOKEN_WRITE_PROTECTED, "C_OpenSession", label, "%s", "");
    bool in = info.state == CKS_RO_USER_FUNCTIONS || info.state == CKS_RW_USER_FUNCTIONS;
    if (!in && s->want_login && (s->token->facts.flags & CKF_LOGIN_REQUIRED))
        return pfx_login_again(s, err);
    return PFX_OK;
}

static bool must_settle(const struct pfx_token *token)
{
    return token->lost || !token->module->initialised ||
           token->generation != token->module->generation;
}

/* One free session, marked as used; the lock is held. NULL with r set, or NULL with PFX_OK: look
 * again. */
static struct pfx_session *take(struct pfx_token *token, bool write, bool *settled,
                                int64_t deadline, pfx_result *r, struct pfx_error *err)
{
    struct pfx_module *module = token->module;
    *r = PFX_OK;
    struct pfx_session *s = NULL;
    if (token->settling || (module->reopening && !holds_one(module))) {
        s = NULL;
    } else if (must_settle(token)) {
        if (*settled) {
            *r = pfx_fail(err, PFX_CLASS_DEVICE, "reopen token", token->facts.label, "",
                          "The token was lost again at once. It is tried again.");
            return NULL;
        }
        *settled = true;
        *r = settle(token, deadline, err);
        return NULL;
    } else {
        s = free_session(token);
    }
    if (!s) {
        if (!pfx_module_wait(module, deadline))
            *r = pfx_fail(err, PFX_CLASS_TRANSIENT, "get session", token->facts.label, "",
                          "All %zu sessions have been in use for %d s. Raise 'sessions' in the "
                          "policy if this happens often.", token->max_sessions, PFX_WAIT_MS / 1000);
        return NULL;
    }
    s->in_use = true;
    s->write = write;
    s->owner = pthread_self();
    s->want_login = token->logged_in;
    s->want_generation = token->generation;
    module->busy++;
    return s;
}

static void put_back(struct pfx_session *s)
{
    struct pfx_token *token = s->token;
    struct pfx_module *module = token->module;
    pthread_mutex_lock(&module->lock);
    bool shut = !token->logged_in && s->handle != CK_INVALID_HANDLE &&
                s->generation == module->generation;
    pthread_mutex_unlock(&module->lock);
    if (shut) {
        close_handle(token, s->handle);
        s->handle = CK_INVALID_HANDLE;
        s->serial = 0;
    }
    pthread_mutex_lock(&module->lock);
    s->in_use = false;
    module->busy--;
    pthread_cond_broadcast(&module->changed);
    pthread_mutex_unlock(&module->lock);
}

pfx_result pfx_session_acquire(struct pfx_token *token, bool write,
                               struct pfx_session **ret_session, struct pfx_error *err)
{
    struct pfx_module *module = token->module;
    int64_t deadline = pfx_monotonic_ms() + PFX_WAIT_MS;
    bool settled = false;
    for (;;) {
        pfx_result r = PFX_OK;
        pthread_mutex_lock(&module->lock);
        struct pfx_session *s = take(token, write, &settled, deadline, &r, err);
        pthread_mutex_unlock(&module->lock);
        PFX_TRY(r);
        if (!s)
            continue;
        struct pfx_error first = PFX_ERROR_NONE;
        r = make_ready(s, &first);
        if (pfx_ok(r) && write)
            r = pfx_module_write_begin(module, &first);
        if (pfx_ok(r)) {
            *ret_session = s;
            return PFX_OK;
        }
        pthread_mutex_lock(&module->lock);
        bool again = !settled && must_settle(token);
        /* Fewer sessions than we would like: wait for one of those that there are. */
        if (strcmp(first.code, "CKR_SESSION_COUNT") == 0) {
            size_t used = 0;
            for (size_t i = 0; i < token->n_sessions; i++)
                used += token->sessions[i]->in_use && token->sessions[i] != s;
            token->session_limit = used;
            again = used > 0;
        }
        pthread_mutex_unlock(&module->lock);
        s->write = false;
        put_back(s);
        if (again)
            continue; /* the token was found lost only now: open it anew, once */
        return pfx_fail(err, r.cls, first.op, first.object, first.code, "%s", first.text);
    }
}

void pfx_session_release(struct pfx_session *session)
{
    if (!session)
        return;
    if (session->write)
        pfx_module_write_end(session->token->module);
    session->write = false;
    put_back(session);
}

bool pfx_session_serial_alive(struct pfx_token *token, uint64_t serial)
{
    bool alive = false;
    pthread_mutex_lock(&token->module->lock);
    for (size_t i = 0; i < token->n_sessions; i++) {
        const struct pfx_session *s = token->sessions[i];
        alive = alive || (s->serial == serial && s->handle != CK_INVALID_HANDLE &&
                          s->generation == token->module->generation && token->module->initialised);
    }
    pthread_mutex_unlock(&token->module->lock);
    return alive;
}

/* An object that won't go ends with its session: that one is replaced before its next use. */
static void condemn(struct pfx_token *token, uint64_t serial)
{
    pthread_mutex_lock(&token->module->lock);
    for (size_t i = 0; i < token->n_sessions; i++) {
        struct pfx_session *s = token->sessions[i];
        if (s->serial == serial && (!s->in_use || is_own(s)))
            s->stale = true;
    }
    pthread_mutex_unlock(&token->module->lock);
}

/* A token that mixes its handles up may have answered one of a standing key where a session object
 * was made: only what says that it is a session object is destroyed. */
static CK_RV destroy(struct pfx_token *token, CK_SESSION_HANDLE session, CK_OBJECT_HANDLE handle)
{
    CK_BBOOL kept = CK_TRUE;
    CK_ATTRIBUTE at = {.type = CKA_TOKEN, .pValue = &kept, .ulValueLen = sizeof kept};
    CK_FUNCTION_LIST *functions = token->module->functions;
    CK_RV rv = PFX_C(functions, C_GetAttributeValue, session, handle, &at, 1);
    if (rv != CKR_OK)
        return rv;
    return kept == CK_FALSE ? PFX_C(functions, C_DestroyObject, session, handle)
                            : CKR_OBJECT_HANDLE_INVALID;
}

void pfx_session_object_destroy(struct pfx_token *token, uint64_t serial, CK_OBJECT_HANDLE handle)
{
    struct pfx_module *module = token->module;
    if (!pfx_session_serial_alive(token, serial))
        return; /* it ended with its session */
    /* Any session of the application may destroy it. Its own may be in another thread's hands, so
     * it is used only by its holder or when it is idle; one that this thread holds comes first,
     * since an idle one may have been dropped by the token meanwhile. */
    pthread_mutex_lock(&module->lock);
    struct pfx_session *use = NULL;
    bool borrowed = false;
    for (size_t i = 0; i < 2 * token->n_sessions && !use; i++) {
        bool first = i < token->n_sessions;
        struct pfx_session *s = token->sessions[i % token->n_sessions];
        if (s->handle == CK_INVALID_HANDLE || s->generation != module->generation)
            continue;
        if (first && is_own(s)) {
            use = s;
        } else if (!first && !s->in_use && !module->reopening) {
            use = s;
            borrowed = s->in_use = true;
            s->owner = pthread_self();
            module->busy++;
        }
    }
    bool bare = !use && !module->reopening;
    if (bare)
        module->busy++;
    pthread_mutex_unlock(&module->lock);
    CK_SESSION_HANDLE own = CK_INVALID_HANDLE;
    CK_RV rv = CKR_SESSION_HANDLE_INVALID;
    if (use)
        rv = destroy(token, use->handle, handle);
    else if (bare && pfx_session_open_raw(token, false, &own) == CKR_OK)
        rv = destroy(token, own, handle);
    close_handle(token, own);
    if (rv != CKR_OK)
        condemn(token, serial);
    if (borrowed || bare) {
        pthread_mutex_lock(&module->lock);
        if (borrowed)
            use->in_use = false;
        module->busy--;
        pthread_cond_broadcast(&module->changed);
        pthread_mutex_unlock(&module->lock);
    }
}
