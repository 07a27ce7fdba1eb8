/* The login of a token, and its PIN. One thread at a time logs in; the guard is asked each time. */
#include <string.h>

#include "crypto/mem.h"
#include "pkcs11/pool.h"

void (*pfx_login_trace)(const struct pfx_token_facts *facts, unsigned roles, CK_RV rv);

CK_RV pfx_token_info_now(struct pfx_token *token, CK_TOKEN_INFO *ret_info)
{
    CK_TOKEN_INFO info;
    memset(&info, 0, sizeof info);
    CK_RV rv = PFX_C(token->module->functions, C_GetTokenInfo, token->slot, &info);
    if (rv == CKR_OK)
        *ret_info = info;
    return rv;
}

/* COUNT_LOW means that a wrong PIN was entered since the last good one, by whomever: a further
 * wrong one could lock the token, so a person looks first. */
static pfx_result check_flags(const struct pfx_token *token, CK_FLAGS flags, struct pfx_error *err)
{
    const char *label = token->facts.label;
    if (flags & CKF_USER_PIN_LOCKED)
        return pfx_ckr_fail(err, CKR_PIN_LOCKED, "C_Login", label, "%s", "");
    if (flags & CKF_USER_PIN_FINAL_TRY)
        return pfx_fail(err, PFX_CLASS_REFUSED, "C_Login", label, "CKF_USER_PIN_FINAL_TRY",
                        "The token says that one more wrong PIN locks it, so pfx-hsm doesn't try. "
                        "Log in once with the right PIN with the HSM's own tool, then try again.");
    if (flags & CKF_USER_PIN_COUNT_LOW)
        return pfx_fail(err, PFX_CLASS_REFUSED, "C_Login", label, "CKF_USER_PIN_COUNT_LOW",
                        "The token says that a wrong PIN was entered since the last good one, so "
                        "pfx-hsm doesn't try. Log in once with the right PIN with the HSM's own "
                        "tool, then try again.");
    if (!(flags & (CKF_USER_PIN_INITIALIZED | CKF_PROTECTED_AUTHENTICATION_PATH)))
        return pfx_ckr_fail(err, CKR_USER_PIN_NOT_INITIALIZED, "C_Login", label, "%s", "");
    return PFX_OK;
}

static bool about_pin(CK_RV rv)
{
    return rv == CKR_PIN_INCORRECT || rv == CKR_PIN_INVALID || rv == CKR_PIN_LEN_RANGE ||
           rv == CKR_PIN_EXPIRED;
}

/* The token counts, and says no number: what its flags tell after this try. */
static const char *tries_left(struct pfx_token *token)
{
    CK_TOKEN_INFO info;
    if (pfx_token_info_now(token, &info) != CKR_OK)
        return "How many more wrong PINs the token takes before it locks isn't known.";
    if (info.flags & CKF_USER_PIN_LOCKED)
        return "The token has locked the PIN with that: the security officer has to unlock it with "
               "the HSM's own tool.";
    if (info.flags & CKF_USER_PIN_FINAL_TRY)
        return "The token says that one more wrong PIN locks it: log in once with the right one "
               "with the HSM's own tool first.";
    if (info.flags & CKF_USER_PIN_COUNT_LOW)
        return "The token counts wrong PINs and says that there was one: log in once with the "
               "right one with the HSM's own tool first.";
    return "The token counts wrong PINs, and doesn't say how many more it takes before it locks.";
}

/* What it says of the PIN, where that came from, and what its owner does next. */
static pfx_result pin_refused(struct pfx_token *token, CK_RV rv, enum pfx_pin_from from,
                              struct pfx_error *err)
{
    bool given = from == PFX_PIN_GIVEN;
    return pfx_ckr_fail(err, rv, "C_Login", token->facts.label, "%s%s%s %s",
                        given ? "It is the one that was given with this command."
                              : "It is the one in the role's pin_file.",
                        rv == CKR_PIN_INCORRECT ? " " : "",
                        rv == CKR_PIN_INCORRECT ? tries_left(token) : "",
                        given ? "Give the command again, with the right PIN."
                              : "Put the right PIN into that file, or into the credential that it "
                                "names.");
}

/* With login_lock held. */
static pfx_result log_in(struct pfx_session *session, struct pfx_pin_guard *guard,
                         const struct pfx_secret *pin, enum pfx_pin_from from,
                         struct pfx_error *err)
{
    struct pfx_token *token = session->token;
    CK_TOKEN_INFO info;
    CK_RV rv = pfx_token_info_now(token, &info);
    if (rv != CKR_OK) {
        pfx_session_saw(session, rv);
        return pfx_session_fail(session, err, rv, "C_GetTokenInfo", "%s", "");
    }
    PFX_TRY(check_flags(token, info.flags, err));
    bool at_reader = (info.flags & CKF_PROTECTED_AUTHENTICATION_PATH) != 0;
    if (!at_reader && (!pin || !guard))
        return pfx_fail(err, PFX_CLASS_REFUSED, "C_Login", token->facts.label, "",
                        "The login was lost and the PIN isn't kept. Give the PIN again.");
    uint8_t hash[PFX_PIN_HASH_SIZE];
    if (!at_reader)
        PFX_TRY(pfx_pin_guard_begin(guard, &token->facts, pin, from, hash, err));
    /* C_Login's PIN isn't const in the standard's prototype; no module writes to it. */
    CK_UTF8CHAR *chars = at_reader ? NULL : (CK_UTF8CHAR *)(uintptr_t)pfx_secret_bytes(pin);
    rv = PFX_C(token->module->functions, C_Login, session->handle, CKU_USER, chars,
               at_reader ? 0 : pfx_secret_len(pin));
    if (rv == CKR_USER_ALREADY_LOGGED_IN)
        rv = CKR_OK;
    if (pfx_login_trace) {
        pthread_mutex_lock(&token->module->lock);
        unsigned roles = token->roles;
        pthread_mutex_unlock(&token->module->lock);
        pfx_login_trace(&token->facts, roles, rv);
    }
    pfx_result guarded = PFX_OK;
    struct pfx_error second = PFX_ERROR_NONE;
    if (!at_reader)
        guarded = pfx_pin_guard_end(guard, &token->facts, hash, rv, &second);
    if (rv != CKR_OK) {
        pfx_session_saw(session, rv);
        if (about_pin(rv) && !at_reader)
            return pin_refused(token, rv, from, err);
        return pfx_session_fail(session, err, rv, "C_Login", "%s", "");
    }
    if (pfx_failed(guarded))
        return pfx_fail(err, guarded.cls, second.op, second.object, second.code, "%s", second.text);
    return PFX_OK;
}

bool pfx_session_logged_in(struct pfx_session *session, CK_RV *ret_rv)
{
    CK_SESSION_INFO info;
    memset(&info, 0, sizeof info);
    *ret_rv = PFX_C(session->token->module->functions, C_GetSessionInfo, session->handle, &info);
    return *ret_rv == CKR_OK &&
           (info.state == CKS_RO_USER_FUNCTIONS || info.state == CKS_RW_USER_FUNCTIONS);
}

static void mark_logged_in(struct pfx_token *token, bool in)
{
    pthread_mutex_lock(&token->module->lock);
    token->logged_in = in;
    token->needs = in ? token->roles : 0;
    pthread_mutex_unlock(&token->module->lock);
}

pfx_result pfx_login_again(struct pfx_session *session, struct pfx_error *err)
{
    struct pfx_token *token = session->token;
    pthread_mutex_lock(&token->login_lock);
    CK_RV rv;
    pfx_result r = PFX_OK;
    if (!pfx_session_logged_in(session, &rv)) {
        r = log_in(session, token->guard, token->pin, PFX_PIN_FILE, err); /* none other is kept */
        if (pfx_ok(r)) {
            pthread_mutex_lock(&token->module->lock);
            token->epoch++; /* handles of private objects end with a login */
            pthread_mutex_unlock(&token->module->lock);
        } else if (r.cls == PFX_CLASS_REFUSED || r.cls == PFX_CLASS_USAGE) {
            /* It won't come back by itself. */
            mark_logged_in(token, false);
            pfx_secret_free(PFX_TAKE(token->pin));
        }
    }
    pthread_mutex_unlock(&token->login_lock);
    return r;
}

/* A second role on a token that is logged in: the token wouldn't look at its PIN any more, and a
 * wrong one would pass, and be tried when the login is made again. */
static pfx_result other_pin(const struct pfx_token *token, struct pfx_error *err)
{
    return pfx_fail(err, PFX_CLASS_USAGE, "C_Login", token->facts.label, "",
                    "Another role is logged in to this token with another PIN, and a token has "
                    "only one for all roles: give that one. If it was changed meanwhile, restart "
                    "pfx-hsm.");
}

/* Some modules know one login for all their tokens (opencryptoki's soft tokens): who logs in to one
 * finds itself logged in to the next one without its PIN, keys are written that can't be read again,
 * and a logout ends both. True with the label of the token whose login it is. */
static bool other_login(struct pfx_token *token, char label[33])
{
    bool found = false;
    pthread_mutex_lock(&token->module->lock);
    for (const struct pfx_token *t = token->module->tokens; t && !found; t = t->next) {
        found = t != token && t->logged_in && !token->logged_in;
        if (found)
            memcpy(label, t->facts.label, 33);
    }
    pthread_mutex_unlock(&token->module->lock);
    return found;
}

pfx_result pfx_token_login(struct pfx_token *token, struct pfx_pin_guard *guard,
                           const struct pfx_secret *pin, bool keep, struct pfx_error *err)
{
    if (!guard)
        return pfx_fail(err, PFX_CLASS_INTERNAL, "C_Login", token->facts.label, "",
                        "A login needs a PIN guard.");
    PFX_AUTOSECRET struct pfx_secret *copy = NULL;
    if (keep && pin)
        PFX_TRY(pfx_secret_copy(pfx_secret_bytes(pin), pfx_secret_len(pin), &copy, err));
    PFX_AUTOSESSION struct pfx_session *session = NULL;
    PFX_TRY(pfx_session_acquire(token, false, &session, err));
    pthread_mutex_lock(&token->login_lock);
    CK_RV rv;
    pfx_result r = PFX_OK;
    char other[33];
    bool needed = (token->facts.flags & CKF_LOGIN_REQUIRED) != 0;
    bool tried = needed && !pfx_session_logged_in(session, &rv);
    if (tried)
        r = log_in(session, guard, pin, keep ? PFX_PIN_FILE : PFX_PIN_GIVEN, err);
    else if (needed && other_login(token, other))
        r = pfx_fail(err, PFX_CLASS_REFUSED, "C_Login", token->facts.label, "",
                     "The login to the token %s counts for this one too: the module doesn't keep "
                     "its tokens apart. Put all roles of this module on one token, or give them "
                     "different modules.",
                     other);
    else if (pin && token->pin && token->pin_proven && !pfx_secret_equal(pin, token->pin))
        r = other_pin(token, err);
    if (pfx_ok(r)) {
        mark_logged_in(token, true);
        token->guard = guard;
        if (copy && (tried || !token->pin)) {
            pfx_secret_free(token->pin);
            token->pin = PFX_TAKE(copy);
            token->pin_proven = tried;
        }
    }
    pthread_mutex_unlock(&token->login_lock);
    return r;
}

/* Closes the sessions that nobody has in hand; those in use are closed when they come back. */
static void close_idle(struct pfx_token *token)
{
    struct pfx_module *module = token->module;
    for (;;) {
        struct pfx_session *idle = NULL;
        pthread_mutex_lock(&module->lock);
        for (size_t i = 0; i < token->n_sessions && !idle && !module->reopening; i++) {
            struct pfx_session *s = token->sessions[i];
            if (!s->in_use && s->handle != CK_INVALID_HANDLE &&
                s->generation == module->generation) {
                idle = s;
                s->in_use = true;
                s->owner = pthread_self();
                module->busy++;
            }
        }
        pthread_mutex_unlock(&module->lock);
        if (!idle)
            return;
        pfx_session_release(idle); /* not logged in: closes it */
    }
}

void pfx_token_logout(struct pfx_token *token, enum pfx_role role)
{
    struct pfx_module *module = token->module;
    pthread_mutex_lock(&module->lock);
    token->needs &= ~(1u << role);
    bool end = token->logged_in && token->needs == 0;
    pthread_mutex_unlock(&module->lock);
    if (!end)
        return;
    PFX_AUTOSESSION struct pfx_session *session = NULL;
    struct pfx_error ignored = PFX_ERROR_NONE;
    /* A token that is away has forgotten the login anyway. */
    pfx_result r = pfx_session_acquire(token, false, &session, &ignored);
    pthread_mutex_lock(&token->login_lock);
    if (pfx_ok(r))
        (void)PFX_C(module->functions, C_Logout, session->handle);
    pfx_secret_free(PFX_TAKE(token->pin));
    mark_logged_in(token, false);
    pthread_mutex_lock(&module->lock);
    token->epoch++;
    pthread_mutex_unlock(&module->lock);
    pthread_mutex_unlock(&token->login_lock);
    close_idle(token);
}

bool pfx_token_logged_in(const struct pfx_token *token)
{
    pthread_mutex_lock(&token->module->lock);
    bool in = token->logged_in;
    pthread_mutex_unlock(&token->module->lock);
    return in;
}

pfx_result pfx_token_present(struct pfx_session *session, struct pfx_error *err)
{
    struct pfx_token *token = session->token;
    CK_TOKEN_INFO info;
    CK_RV rv = pfx_token_info_now(token, &info);
    if (rv == CKR_OK && pfx_token_is(token, &info))
        return PFX_OK;
    /* Whatever it answers: SoftHSM says CKR_GENERAL_ERROR when the token's folder is gone. */
    pfx_session_saw(session, CKR_TOKEN_NOT_PRESENT);
    return pfx_fail(
        err, PFX_CLASS_DEVICE, "C_GetTokenInfo", token->facts.label,
        pfx_ckr_name(rv == CKR_OK ? CKR_TOKEN_NOT_PRESENT : rv),
        "The token doesn't show itself any more. It is opened anew at the next call; if "
        "this stays, bring it back.");
}
