/* Errors from CK_RV: one table of name, class and sentence, from PKCS#11 v2.40 and v3.0. */
#include "pkcs11/cryptoki.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pkcs11/call.h"

void (*pfx_cryptoki_trace)(const char *function, bool entering);

/* v3.0, not in p11-kit's header of Debian 12. */
#define CKR_AEAD_DECRYPT_FAILED 0x42UL
#define CKR_TOKEN_RESOURCE_EXCEEDED 0x201UL
#define CKR_OPERATION_CANCEL_FAILED 0x202UL
/* Withdrawn or newer ones that modules still answer. */
#define CKR_OBJECT_COUNT_TOO_MANY 0x84UL

#define AGAIN "It is tried again."
#define REOPEN                                                                                     \
    "The token is opened anew at the next call; if this stays, look at the HSM and its "           \
    "connection."
#define DEFECT                                                                                     \
    "This is a defect of the module or of pfx-hsm: run 'pfx-agent hsm test' and report "           \
    "what it prints."

static const struct row {
    CK_RV rv;
    const char *name;
    enum pfx_class cls;
    const char *text;
} rows[] = {
#define ROW(rv, cls, text) {rv, #rv, PFX_CLASS_##cls, text}
    ROW(CKR_CANCEL, TRANSIENT, "The call was canceled. " AGAIN),
    ROW(CKR_HOST_MEMORY, TRANSIENT, "The module found no memory on this host. " AGAIN),
    ROW(CKR_SLOT_ID_INVALID, DEVICE, "The slot is gone. " REOPEN),
    ROW(CKR_GENERAL_ERROR, TRANSIENT,
        "The module failed and says no reason; a read-only or full token folder does this. See the "
        "HSM's own log."),
    ROW(CKR_FUNCTION_FAILED, TRANSIENT,
        "The token couldn't do it and says no reason; a full disk does this. See the HSM's own "
        "log."),
    ROW(CKR_ARGUMENTS_BAD, INTERNAL, "The module doesn't take these arguments. " DEFECT),
    ROW(CKR_NO_EVENT, TRANSIENT, "No slot event. " AGAIN),
    ROW(CKR_NEED_TO_CREATE_THREADS, USAGE,
        "The module needs threads of its own and may not make them. Ask its vendor for a module "
        "that "
        "works without."),
    ROW(CKR_CANT_LOCK, USAGE,
        "The module can't be used from several threads. Ask its vendor for a thread-safe module."),
    ROW(CKR_ATTRIBUTE_READ_ONLY, REFUSED, "The attribute can't be changed."),
    ROW(CKR_ATTRIBUTE_SENSITIVE, REFUSED, "The attribute is sensitive and is never shown."),
    ROW(CKR_ATTRIBUTE_TYPE_INVALID, REFUSED,
        "The token doesn't know an attribute of the template; see 'pfx-agent hsm test'."),
    ROW(CKR_ATTRIBUTE_VALUE_INVALID, REFUSED,
        "The token doesn't take an attribute's value; see 'pfx-agent hsm test'."),
    ROW(CKR_ACTION_PROHIBITED, REFUSED,
        "The token's policy prohibits this on this object. Change the policy or the token."),
    ROW(CKR_DATA_INVALID, INTEGRITY, "The token says the data aren't valid for this operation."),
    ROW(CKR_DATA_LEN_RANGE, INTEGRITY, "The token says the data have a wrong length."),
    ROW(CKR_DEVICE_ERROR, DEVICE, "The HSM reports a device error. " REOPEN),
    ROW(CKR_DEVICE_MEMORY, TRANSIENT,
        "The HSM is full. Destroy keys that aren't needed, use 'users.keys: wrapped', or enlarge "
        "the "
        "partition."),
    ROW(CKR_DEVICE_REMOVED, DEVICE, "The HSM was removed. " REOPEN),
    ROW(CKR_ENCRYPTED_DATA_INVALID, INTEGRITY,
        "The ciphertext isn't one for this key and mechanism, or it was changed."),
    ROW(CKR_ENCRYPTED_DATA_LEN_RANGE, INTEGRITY, "The ciphertext has a wrong length for this key."),
    ROW(CKR_AEAD_DECRYPT_FAILED, INTEGRITY, "The ciphertext was changed, or the key is another."),
    ROW(CKR_FUNCTION_CANCELED, TRANSIENT, "The call was canceled. " AGAIN),
    ROW(CKR_FUNCTION_NOT_PARALLEL, INTERNAL, "No parallel call is running. " DEFECT),
    ROW(CKR_FUNCTION_NOT_SUPPORTED, REFUSED,
        "The module doesn't have this function; this token can't play this role."),
    ROW(CKR_KEY_HANDLE_INVALID, DEVICE, "The token no longer knows the key's handle. " REOPEN),
    ROW(CKR_KEY_SIZE_RANGE, REFUSED,
        "The token doesn't do keys of this size. Choose another type."),
    ROW(CKR_KEY_TYPE_INCONSISTENT, INTEGRITY,
        "The key isn't of the type that the mechanism needs."),
    ROW(CKR_KEY_NOT_NEEDED, INTERNAL, "A key was given where none is needed. " DEFECT),
    ROW(CKR_KEY_CHANGED, INTEGRITY, "The key isn't the one that the state was saved with."),
    ROW(CKR_KEY_NEEDED, INTERNAL, "A key is needed. " DEFECT),
    ROW(CKR_KEY_INDIGESTIBLE, REFUSED, "The token doesn't hash this key."),
    ROW(CKR_KEY_FUNCTION_NOT_PERMITTED, REFUSED,
        "The key's attributes don't permit this use. See 'pfx-agent key show'."),
    ROW(CKR_KEY_NOT_WRAPPABLE, REFUSED,
        "The token never wraps this key, whatever its attributes say. Look for a setting of the "
        "partition that allows private keys to be wrapped."),
    ROW(CKR_KEY_UNEXTRACTABLE, REFUSED,
        "The key isn't extractable, or only under a trusted wrapping key. It can't be exported."),
    ROW(CKR_MECHANISM_INVALID, REFUSED,
        "The token doesn't do this mechanism with this key; see 'pfx-agent hsm test'."),
    ROW(CKR_MECHANISM_PARAM_INVALID, REFUSED,
        "The token doesn't take the mechanism's parameters; see 'pfx-agent hsm test'."),
    ROW(CKR_OBJECT_HANDLE_INVALID, DEVICE,
        "The token no longer knows the object's handle. " REOPEN),
    ROW(CKR_OBJECT_COUNT_TOO_MANY, TRANSIENT, "The token holds too many objects. Destroy some."),
    ROW(CKR_OPERATION_ACTIVE, TRANSIENT,
        "The session still has an unfinished operation. The session is replaced; " AGAIN),
    ROW(CKR_OPERATION_NOT_INITIALIZED, TRANSIENT,
        "The session has lost the operation that was begun. The session is replaced; " AGAIN),
    ROW(CKR_PIN_INCORRECT, USAGE,
        "The PIN is wrong. No second try is made with it, so that the token isn't locked."),
    ROW(CKR_PIN_INVALID, USAGE,
        "The PIN has characters that the token doesn't take."),
    ROW(CKR_PIN_LEN_RANGE, USAGE,
        "The PIN is too short or too long for this token."),
    ROW(CKR_PIN_EXPIRED, USAGE,
        "The PIN has expired. Set a new one with the HSM's own tool."),
    ROW(CKR_PIN_LOCKED, REFUSED,
        "The PIN is locked after too many wrong tries. The security officer has to unlock it with "
        "the "
        "HSM's own tool."),
    ROW(CKR_SESSION_CLOSED, DEVICE, "The session was closed by the token. " REOPEN),
    ROW(CKR_SESSION_COUNT, TRANSIENT,
        "The token has no session left. Lower 'sessions', or end other programs that use the "
        "token."),
    ROW(CKR_SESSION_HANDLE_INVALID, DEVICE, "The token has dropped the session. " REOPEN),
    ROW(CKR_SESSION_PARALLEL_NOT_SUPPORTED, INTERNAL, "Parallel sessions don't exist. " DEFECT),
    ROW(CKR_SESSION_READ_ONLY, REFUSED,
        "The session may only read: the token is write-protected. Make it writable."),
    ROW(CKR_SESSION_EXISTS, TRANSIENT,
        "Another session is open that bars this. End other programs that use the token."),
    ROW(CKR_SESSION_READ_ONLY_EXISTS, TRANSIENT, "A read-only session is open that bars this."),
    ROW(CKR_SESSION_READ_WRITE_SO_EXISTS, TRANSIENT,
        "The security officer is logged in. End that program."),
    ROW(CKR_SIGNATURE_INVALID, INTEGRITY, "The signature isn't good."),
    ROW(CKR_SIGNATURE_LEN_RANGE, INTEGRITY, "The signature has a wrong length."),
    ROW(CKR_TEMPLATE_INCOMPLETE, REFUSED,
        "The token wants an attribute that the template lacks; see 'pfx-agent hsm test'."),
    ROW(CKR_TEMPLATE_INCONSISTENT, REFUSED,
        "The token doesn't take these attributes together; see 'pfx-agent hsm test'."),
    ROW(CKR_TOKEN_NOT_PRESENT, DEVICE, "The token isn't in its slot. Put it back. " REOPEN),
    ROW(CKR_TOKEN_NOT_RECOGNIZED, DEVICE, "The module doesn't recognise the token. " REOPEN),
    ROW(CKR_TOKEN_WRITE_PROTECTED, REFUSED, "The token is write-protected. Make it writable."),
    ROW(CKR_UNWRAPPING_KEY_HANDLE_INVALID, DEVICE,
        "The token no longer knows the unwrapping key's handle. " REOPEN),
    ROW(CKR_UNWRAPPING_KEY_SIZE_RANGE, REFUSED,
        "The token doesn't unwrap with a key of this size."),
    ROW(CKR_UNWRAPPING_KEY_TYPE_INCONSISTENT, INTEGRITY, "The unwrapping key has the wrong type."),
    ROW(CKR_USER_ALREADY_LOGGED_IN, TRANSIENT, "The user is logged in already. " AGAIN),
    ROW(CKR_USER_NOT_LOGGED_IN, DEVICE, "The login was lost. It is made again at the next call."),
    ROW(CKR_USER_PIN_NOT_INITIALIZED, USAGE,
        "The token has no user PIN yet. The security officer sets it with the HSM's own tool."),
    ROW(CKR_USER_TYPE_INVALID, USAGE, "The token doesn't know the role of an ordinary user."),
    ROW(CKR_USER_ANOTHER_ALREADY_LOGGED_IN, TRANSIENT,
        "The security officer is logged in. End that program."),
    ROW(CKR_USER_TOO_MANY_TYPES, TRANSIENT, "The token takes no further login at this time."),
    ROW(CKR_WRAPPED_KEY_INVALID, INTEGRITY,
        "The wrapped key can't be unwrapped: it was changed, or another key wrapped it."),
    ROW(CKR_WRAPPED_KEY_LEN_RANGE, INTEGRITY, "The wrapped key has a wrong length."),
    ROW(CKR_WRAPPING_KEY_HANDLE_INVALID, DEVICE,
        "The token no longer knows the wrapping key's handle. " REOPEN),
    ROW(CKR_WRAPPING_KEY_SIZE_RANGE, REFUSED, "The token doesn't wrap with a key of this size."),
    ROW(CKR_WRAPPING_KEY_TYPE_INCONSISTENT, INTEGRITY, "The wrapping key has the wrong type."),
    ROW(CKR_RANDOM_SEED_NOT_SUPPORTED, REFUSED, "The token's RNG takes no seed."),
    ROW(CKR_RANDOM_NO_RNG, REFUSED, "The token has no RNG; it can't play this role."),
    ROW(CKR_DOMAIN_PARAMS_INVALID, REFUSED,
        "The token doesn't do this curve. Choose another type."),
    ROW(CKR_CURVE_NOT_SUPPORTED, REFUSED, "The token doesn't do this curve. Choose another type."),
    ROW(CKR_BUFFER_TOO_SMALL, INTEGRITY,
        "The module wants more room than any right answer can need. " DEFECT),
    ROW(CKR_SAVED_STATE_INVALID, INTERNAL, "The saved state isn't valid. " DEFECT),
    ROW(CKR_INFORMATION_SENSITIVE, REFUSED, "The token keeps this information to itself."),
    ROW(CKR_STATE_UNSAVEABLE, INTERNAL, "The operation's state can't be saved. " DEFECT),
    ROW(CKR_CRYPTOKI_NOT_INITIALIZED, DEVICE, "The module has lost its state. " REOPEN),
    ROW(CKR_CRYPTOKI_ALREADY_INITIALIZED, INTERNAL, "The module was initialised already. " DEFECT),
    ROW(CKR_MUTEX_BAD, INTERNAL, "The module's locking is broken. " DEFECT),
    ROW(CKR_MUTEX_NOT_LOCKED, INTERNAL, "The module's locking is broken. " DEFECT),
    ROW(CKR_NEW_PIN_MODE, USAGE, "The token wants a new PIN. Set it with the HSM's own tool."),
    ROW(CKR_NEXT_OTP, USAGE, "The token wants a one-time password, which pfx-hsm doesn't give."),
    ROW(CKR_EXCEEDED_MAX_ITERATIONS, REFUSED, "The token doesn't do that many iterations."),
    ROW(CKR_FIPS_SELF_TEST_FAILED, INTEGRITY,
        "The HSM's own self test failed. Take it out of service and ask its vendor."),
    ROW(CKR_LIBRARY_LOAD_FAILED, USAGE,
        "The module can't load a library that it needs. Check its installation."),
    ROW(CKR_PIN_TOO_WEAK, USAGE, "The PIN is too weak for the token's policy. Choose another."),
    ROW(CKR_PUBLIC_KEY_INVALID, INTEGRITY, "The token says the public key isn't valid."),
    ROW(CKR_FUNCTION_REJECTED, REFUSED,
        "The token, or a person at it, rejected the call. See the HSM's own log."),
    ROW(CKR_TOKEN_RESOURCE_EXCEEDED, TRANSIENT, "The token has no resources left. " AGAIN),
    ROW(CKR_OPERATION_CANCEL_FAILED, TRANSIENT,
        "An operation couldn't be canceled. The session is replaced; " AGAIN),
#undef ROW
    {PFX_CKR_NONSENSE, "answer out of range", PFX_CLASS_INTEGRITY,
     "The module answered CKR_OK with a length or value that can't be. Its answer isn't "
     "used. " DEFECT},
};
#define N_ROWS (sizeof rows / sizeof rows[0])

static const struct row *find_row(CK_RV rv)
{
    for (size_t i = 0; i < N_ROWS; i++) {
        if (rows[i].rv == rv)
            return &rows[i];
    }
    return NULL;
}

const char *pfx_ckr_name(CK_RV rv)
{
    static _Thread_local char unknown[24];
    if (rv == CKR_OK)
        return "CKR_OK";
    const struct row *row = find_row(rv);
    if (row)
        return row->name;
    snprintf(unknown, sizeof unknown, "0x%08lx", rv);
    return unknown;
}

bool pfx_ckr_passes(CK_RV rv)
{
    const struct row *row = find_row(rv);
    if (rv == CKR_OK)
        return false;
    return !row || row->cls == PFX_CLASS_TRANSIENT || row->cls == PFX_CLASS_DEVICE;
}

CK_RV pfx_ckr_parse(const char *name)
{
    if (strcmp(name, "CKR_OK") == 0)
        return CKR_OK;
    for (size_t i = 0; i < N_ROWS; i++) {
        if (strcmp(rows[i].name, name) == 0)
            return rows[i].rv;
    }
    char *end = NULL;
    unsigned long value = strtoul(name, &end, 16);
    return strncmp(name, "0x", 2) == 0 && *end == '\0' ? value : CK_UNAVAILABLE_INFORMATION;
}

pfx_result pfx_ckr_fail(struct pfx_error *err, CK_RV rv, const char *function, const char *object,
                        const char *text, ...)
{
    if (rv == CKR_OK)
        return PFX_OK;
    const struct row *row = find_row(rv);
    char more[512];
    va_list ap;
    va_start(ap, text);
    if (vsnprintf(more, sizeof more, text, ap) < 0)
        more[0] = '\0';
    va_end(ap);
    /* A vendor's own code may stand for anything; most often for a device in trouble. */
    const char *sentence =
        row ? row->text
            : "The module answered with a code of its vendor's own. Look it up in "
              "the vendor's documents.";
    return pfx_fail(err, row ? row->cls : PFX_CLASS_TRANSIENT, function, object, pfx_ckr_name(rv),
                    "%s%s%s", sentence, more[0] ? " " : "", more);
}
